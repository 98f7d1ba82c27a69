//! The small model that comes with the program: it answers before anything is trained, and says that it is the one.

use serde_json::Value;

use crate::session;

/// Drawings that the model has not seen: another seed than its training set's.
fn drawings(session: &test_support::Session) {
    session.ok(&["data", "synth", "data", "--images", "120", "--size", "128", "--seed", "4711"]);
}

#[test]
fn finds_what_sentences_mean_in_drawings_of_its_kind() {
    let s = session();
    drawings(&s);
    let text =
        s.ok(&["eval", "--data", "data", "--on", "refcoco", "--split", "train", "--format", "json", "--set", "eval.limit=200"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    let miou = report["reports"][0]["miou"].as_f64().unwrap();
    assert!(miou > 0.5, "mIoU {miou} on drawings of the training set's kind");
}

#[test]
fn says_which_weights_answer_and_gives_way_to_a_run() {
    let s = session();
    drawings(&s);
    let image = "data/images/train2014/COCO_train2014_000000000001.jpg";
    let predict = || s.run(&["predict", image, "the left one"]);
    let said = String::from_utf8(predict().stderr).unwrap();
    assert!(said.contains("the small model that comes with Saymask"), "{said}");
    std::fs::create_dir_all(s.path("runs/broken")).unwrap();
    std::fs::write(s.path("runs/broken/config.toml"), "").unwrap();
    let found = predict();
    assert!(!found.status.success(), "a run that is there and cannot be used must not be passed over");
}

#[test]
fn is_what_fine_tuning_starts_from() {
    let s = session();
    s.ok(&["data", "synth", "more", "--images", "16", "--size", "64", "--seed", "5"]);
    s.ok(&["data", "convert", "more", "photos", "--to", "jsonl", "--from", "refcoco"]);
    let text = s.ok(&["finetune", "photos", "--dry-run"]);
    assert!(text.contains("from the small model that comes with Saymask"), "{text}");
    let text = s.ok(&["finetune", "photos", "--dry-run", "--from", "scratch"]);
    assert!(text.contains("from fresh weights"), "{text}");
    let text = s.ok(&["finetune", "photos", "--dry-run", "--method", "evf"]);
    assert!(text.contains("from fresh weights"), "{text}");
}
