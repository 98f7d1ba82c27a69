//! Points, boxes and sides: drawn anew in every step, and SAM judged under the former.

use std::path::Path;

use burn::tensor::Device;
use models::methods::DitMethod;
use nn_ops::weights::export;
use run_config::Method;
use tests::{parts, toy};
use trainer::segmenter::Segmenter;
use trainer::train::Summary;

use crate::training::{run, tensors};

/// Sides, kinds of prompt and points are drawn anew in every step; a resumed run draws the same.
#[test]
fn multi_scale_and_mixed_prompts_resume_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = ["train.multi_scale=[16, 24, 32]", "train.prompts=[\"text\", \"points\", \"box\"]"];
    let with = |name: &str, more: &[&str], drawn: &[&str], resume| {
        let common = ["train.steps=8", "train.eval_every=never", "train.save_every=4", "schedule.warmup_steps=0", "eval.limit=2"];
        run(&toy(Method::Dit, folder.path(), name, &[&common[..], drawn, more].concat()), resume)
    };
    let whole = with("whole", &[], &drawn, false);
    with("halves", &["train.stop_after=4"], &drawn, false);
    let halves = with("halves", &[], &drawn, true);
    let [a, b] = [&whole, &halves].map(|s| tensors(&s.dir.checkpoint_path(8).join("model.bpk")));
    assert!(a == b, "weights differ");
    let log = |s: &Summary| std::fs::read_to_string(s.dir.log()).unwrap();
    assert_eq!(log(&whole), log(&halves));
    for one in drawn {
        assert_ne!(log(&whole), log(&with(&one[6..9], &[], &[one], false)), "{one} alone changes nothing");
    }
}

/// SAM's own file is a whole model where nothing but points and boxes is asked, and for nothing else.
#[test]
fn sams_weights_are_judged_under_points_and_boxes_only() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let dit = |prompt: &str, weights: Option<&Path>| {
        let mut set = vec![format!("train.prompts=[{prompt:?}]"), format!("eval.prompt={prompt:?}")];
        set.extend(weights.map(|path| format!("model.init.method={}", path.display())));
        set.push("model.dit.variant=default_sam".into());
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let run_config = toy(Method::Dit, folder.path(), "sam", &set);
        DitMethod::new(&run_config, parts(&run_config).1).unwrap()
    };
    let fresh = dit("box", None);
    let sam = export(&fresh.init(&device).unwrap(), &fresh.names(), "sam");
    let of_sam = |name: &str| !name.starts_with("lang_encoder.") && !name.starts_with("text_proj.");
    let sam = sam.rename(|name| of_sam(name).then(|| name.replace("visual_", "image_"))).unwrap();
    let file = folder.path().join("sam.safetensors");
    sam.save(&file, &[]).unwrap();
    let net = dit("box", Some(&file)).init(&device).unwrap();
    let name = "visual_encoder.blocks.1.mlp.lin1.weight";
    assert_eq!(export(&net, &fresh.names(), "net").read(name).unwrap(), sam.read(&name.replace("visual_", "image_")).unwrap());
    let error = dit("text", Some(&file)).init(&device).unwrap_err().to_string();
    assert!(error.contains("visual_encoder") && error.contains("image_encoder"), "{error}");
}
