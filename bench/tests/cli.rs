//! `bench methods` and `bench train` at the demonstrations' sizes, as a user would run them.

use test_support::{Session, json};

fn session() -> Session {
    Session::new(env!("CARGO_BIN_EXE_saymask-bench"))
}

#[test]
fn methods_and_training_steps_are_measured() {
    let s = session();
    let quick = ["--size", "tiny", "--repeat", "2", "--warm-up", "1", "--json", "figures.json"];
    let said = s.ok(&[&["methods"], &quick[..]].concat());
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

    let said = s.ok(&[&["train", "--batch", "1", "--batch", "3", "--method", "risam"], &quick[..]].concat());
    let figures = json(&s.path("figures.json"));
    let cases = figures["cases"].as_array().unwrap();
    assert_eq!(cases.iter().map(|c| c["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert!(cases[0]["parameters"][1].as_u64().unwrap() > 1000, "{figures}");
    assert!(said.contains("| risam | demonstration | 64 | 3 |") && said.contains("images/s"), "{said}");
}

/// What stands in for PyTorch prints figures of a model with this many parameters.
#[cfg(unix)]
#[test]
fn pytorchs_figures_stand_beside_ours_if_the_model_is_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let s = session();
    let said = s.ok(&["methods", "--method", "dit", "--size", "tiny", "--describe"]);
    let case: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((case["method"].as_str(), case["ids"][0].as_array().unwrap().len()), (Some("dit"), 14), "{case}");
    let python = s.path("python");
    let stand_in = |script: &str| {
        std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let line = |parameters: &str| {
        format!(
            "cat > case.json; echo '{{\"parameters\": {parameters}, \"label\": \"eager, f32\", \"versions\": \"PyTorch 0\", \
             \"first\": [0.5], \"further\": [0.25], \"seconds\": [2.0], \"host_bytes\": 3000000000}}'"
        )
    };
    let quick = ["--method", "dit", "--size", "tiny", "--repeat", "1", "--warm-up", "1", "--json", "figures.json", "--torch"];
    let quick = [&quick[..], &["--python", python.to_str().unwrap()]].concat();
    stand_in(&line("[711620, 711524]"));
    let said = s.ok(&[&["methods", "--torch-options", "", "--torch-options", "--compile"], &quick[..]].concat());
    assert!(said.contains("| 500.0 | 250.0 | 3.00 | 500.0 | 250.0 | 3.00 |"), "{said}");
    assert_eq!(json(&s.path("figures.json"))["cases"][0]["torch"].as_array().unwrap().len(), 2);
    assert_eq!(json(&s.path("case.json")), case);
    let said = s.ok(&[&["train"], &quick[..]].concat());
    assert!(said.contains("PyTorch (eager, f32): step, ms") && said.contains("| 2000 |"), "{said}");
    stand_in(&line("[711620, 5]"));
    let message = s.refused(&[&["train"], &quick[..]].concat());
    assert!(message.contains("trains 5 parameters and ours 711524"), "{message}");
    stand_in(&line("[7, 5]"));
    let message = s.refused(&[&["methods"], &quick[..]].concat());
    assert!(message.contains("has 7 parameters and ours 711620"), "{message}");
    stand_in("echo 'no torch here' >&2; exit 1");
    let message = s.refused(&[&["methods"], &quick[..]].concat());
    assert!(message.contains("no torch here") && message.contains("tools/bench_torch.py"), "{message}");
}

#[test]
fn measuring_nothing_is_refused() {
    let s = session();
    for (args, word) in [
        (vec!["methods", "--repeat", "0"], "--repeat"),
        (vec!["train", "--batch", "0"], "--batch"),
        (vec!["train", "--size", "tiny", "--method", "dit", "--set", "optim.lrr=1"], "optim.lrr"),
        (vec!["methods", "--device", "cuda:x"], "cuda[:N]"),
    ] {
        let message = s.refused(&args);
        assert!(message.contains(word), "{message}");
    }
}
