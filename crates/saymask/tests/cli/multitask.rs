//! `train --method evf-multitask`: a few steps on sentences, classes and parts, and a figure for each.

use test_support::json;

#[test]
fn every_kind_is_judged() {
    let s = super::session();
    let said = s.ok(&[
        "train",
        "--method",
        "evf-multitask",
        "data.root=data",
        "run.dir=runs",
        "data.synth.images=96",
        "data.synth.size=64",
        "data.image_size=32",
        "model.evf.sam.decoder_mlp_dim=16",
        "model.evf.sam.image_encoder.image_size=32",
        "model.evf.sam.image_encoder.embed_dim=16",
        "model.evf.sam.image_encoder.heads=2",
        "model.evf.sam.image_encoder.out_channels=16",
        "model.evf.sam.decoder_heads=2",
        "model.evf.beit3.dim=16",
        "model.evf.beit3.heads=2",
        "model.evf.beit3.ffn=32",
        "model.evf.beit3.image_size=16",
        "schedule.warmup_steps=2",
        "train.steps=4",
        "train.eval_every=4",
        "train.save_every=4",
        "eval.limit=16",
        "eval.figures=2",
    ]);
    for word in ["val of", "refcocog", "ade20k", "[semantic] {}", "partimagenet", "pascal_part", "masks of several parts"] {
        assert!(said.contains(word), "`{word}` is missing in:\n{said}");
    }
    let kinds = json(&s.path("runs/demo-evf-multitask/eval/kinds.json"));
    let names: Vec<_> = kinds.as_array().unwrap().iter().map(|k| k["dataset"].as_str().unwrap().to_owned()).collect();
    // Objects365 and human parsing have no validation split.
    assert_eq!(names, ["refcoco", "refcocog", "ade20k", "partimagenet", "pascal_part"]);
    let ade20k = &kinds[2];
    assert!(ade20k["samples"].as_u64().unwrap() > 4 && ade20k["several"]["samples"].as_u64().unwrap() > 0, "{kinds}");
    assert!(kinds[0]["several"].is_null());
    // The built-in names are told where another is asked for.
    let out = s.run(&["train", "--method", "lisa"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("dit, evf, risam, evf-multitask, risam-as-printed"));
}
