//! `bench methods` and `bench train` at the demonstration's sizes.

use super::{Session, json};

#[test]
fn methods_and_training_steps_are_measured() {
    let s = Session::new();
    let quick = ["--size", "tiny", "--repeat", "2", "--warm-up", "1", "--json", "figures.json"];
    let said = s.ok(&[&["bench", "methods"], &quick[..]].concat());
    let figures = json(&s.path("figures.json"));
    let cases = figures["cases"].as_array().unwrap();
    let methods: Vec<&str> = cases.iter().map(|c| c["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["dit", "evf", "risam"]);
    for case in cases {
        assert_eq!(case["first"].as_array().unwrap().len(), 2, "{case}");
        assert!(case["memory"]["host_bytes"].as_u64().is_some_and(|b| b > 1 << 20), "{case}");
    }
    assert!(figures["peak"]["flops"].as_f64().unwrap() > 1e8 && figures["origin"]["commit"].is_string(), "{figures}");
    assert!(said.contains("| dit | demonstration | 64 |") && said.contains("Matrix peak"), "{said}");
    assert!(said.contains("encodes the image again for every sentence"), "{said}");

    let said = s.ok(&[&["bench", "train", "--batch", "1", "--batch", "3", "--method", "risam"], &quick[..]].concat());
    let figures = json(&s.path("figures.json"));
    let cases = figures["cases"].as_array().unwrap();
    assert_eq!(cases.iter().map(|c| c["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert!(cases[0]["parameters"][1].as_u64().unwrap() > 1000, "{figures}");
    assert!(said.contains("| risam | demonstration | 64 | 3 |") && said.contains("images/s"), "{said}");
}

#[test]
fn measuring_nothing_is_refused() {
    let s = Session::new();
    for (args, word) in [
        (vec!["bench", "methods", "--repeat", "0"], "--repeat"),
        (vec!["bench", "train", "--batch", "0"], "--batch"),
        (vec!["bench", "train", "--size", "tiny", "--method", "dit", "--set", "optim.lrr=1"], "optim.lrr"),
        (vec!["bench", "methods", "--device", "cuda:x"], "cuda[:N]"),
    ] {
        let message = s.refused(&args);
        assert!(message.contains(word), "{message}");
    }
}
