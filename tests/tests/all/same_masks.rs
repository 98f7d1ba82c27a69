//! `eval` and `predict` give the same masks, to the pixel, for the same image, sentence and weights.

use std::path::Path;
use std::sync::PoisonError;

use burn::tensor::Device;
use models::{AnyModel, Found};
use pil_ops::Image;
use run_config::Method;
use tests::{found, toy};
use trainer::data::EvalData;
use trainer::evaluate::{profile, sentence};
use trainer::methods::evaluator;

use crate::training::ONE_AT_A_TIME;

fn same(method: Method, folder: &Path, set: &[&str]) {
    let what = format!("{} {set:?}", method.name());
    // Judged as prediction does it: logits at the image's own size above one threshold; one sentence at a time, for sums over
    // other batches round otherwise.
    let judged = ["eval.profile=saymask", "eval.batch_size=1", "eval.limit=12", "run.seed=4"];
    let run_config = toy(method, folder, "same", &[&judged, set].concat());
    let (device, weights) = (Device::flex(), folder.join("weights.safetensors"));
    found(&run_config, None).state_dict(&device).unwrap().save(&weights, &[]).unwrap();
    let run_config = run_config.with_overrides(&[format!("model.init.method={}", weights.display())]).unwrap();
    // Fresh weights may say foreground everywhere: the threshold is put between their probabilities.
    let middle = middle(&found(&run_config, None), &device);
    let run_config = run_config.with_overrides(&[format!("eval.threshold={middle}")]).unwrap();
    let found = found(&run_config, None);
    let judge = evaluator(&found, &device).unwrap();
    let data = EvalData::open(&run_config, "val", judge.inputs()).unwrap();
    let (_, results) = judge.evaluate(&data, &profile(&run_config).unwrap(), None, &mut |_| {}).unwrap();
    let model = found.model(&device).unwrap();
    let from_memory = in_memory(&found, folder, &device);
    let (mut pixels, mut all) = (0, 0);
    for result in &results {
        let image = Image::open(&data.dataset.image(&data.items[result.item]).path).unwrap();
        let sentence = sentence(&data, result.item);
        let sentence = sentence.as_ref();
        let predicted = &model.predict(&image, &[sentence]).unwrap()[0];
        assert_eq!(predicted, &from_memory.predict(&image, &[sentence]).unwrap()[0], "{what}: item {}", result.item);
        assert_eq!(result.mask, predicted.mask, "{what}: item {}", result.item);
        assert!((result.score - predicted.score).abs() < 1e-5, "{what}: {} against {}", result.score, predicted.score);
        pixels += predicted.mask.area();
        all += (image.width() * image.height()) as u64;
    }
    assert_eq!(results.len(), 12);
    assert!(pixels > 0 && pixels < all, "{what}: masks of {pixels} of {all} pixels could not differ");
}

/// A threshold above which about half of the first image lies.
fn middle(found: &Found, device: &Device) -> f64 {
    let data = EvalData::open(&found.run_config, "val", evaluator(found, device).unwrap().inputs()).unwrap();
    let image = Image::open(&data.dataset.image(&data.items[0]).path).unwrap();
    let said = sentence(&data, 0);
    let (model, words) = (found.model(device).unwrap(), [said.as_ref()]);
    let area = |threshold: f64| {
        let predicted = model.clone().with_threshold(threshold).unwrap().predict(&image, &words).unwrap();
        predicted[0].mask.area() as f64 / (image.width() * image.height()) as f64
    };
    let (mut low, mut high) = (1e-9, 1.0 - 1e-9);
    for _ in 0..30 {
        let half = (low + high) / 2.0;
        if area(half) > 0.5 { low = half } else { high = half }
    }
    (low + high) / 2.0
}

/// The model again, from the bytes of the files that `export` writes.
fn in_memory(found: &Found, folder: &Path, device: &Device) -> AnyModel {
    let path = folder.join("exported.safetensors");
    found.state_dict(device).unwrap().save(&path, &[]).unwrap();
    let config = found.run_config.to_toml().unwrap();
    AnyModel::from_bytes(&config, &found.tokenizer.files(), std::fs::read(path).unwrap(), device).unwrap()
}

#[test]
fn evaluation_and_prediction_agree_to_the_pixel() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let small = |prefix: &str| {
        ["width=16", "layers=1", "heads=2", "ffn=32", "projection_dim=16"].map(|size| format!("model.evf.{prefix}.{size}"))
    };
    let clip = [
        small("clip_text").to_vec(),
        small("clip_vision").to_vec(),
        vec!["model.evf.clip_vision.image_size=16".into(), "model.evf.clip_vision.patch_size=8".into()],
    ]
    .concat();
    let clip: Vec<&str> = clip.iter().map(String::as_str).chain(["model.evf.encoder=clip_late"]).collect();
    let vilt = [
        "model.evf.encoder=vilt_late",
        "model.evf.vilt.hidden=16",
        "model.evf.vilt.layers=1",
        "model.evf.vilt.heads=2",
        "model.evf.vilt.ffn=32",
        "model.evf.vilt.image_size=16",
        "model.evf.vilt.patch_size=8",
    ];
    same(Method::Dit, folder.path(), &[]);
    same(Method::Evf, folder.path(), &[]);
    same(Method::Evf, folder.path(), &clip);
    same(Method::Evf, folder.path(), &vilt);
    same(Method::Risam, folder.path(), &[]);
}
