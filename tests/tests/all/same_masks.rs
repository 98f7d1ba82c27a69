//! `eval` and `predict` give the same masks, to the pixel, for the same image, sentence and weights.

use std::path::Path;
use std::sync::PoisonError;

use burn::tensor::Device;
use pil_ops::Image;
use run_config::Method;
use tests::{found, toy};
use trainer::data::EvalData;
use trainer::evaluate::{profile, sentence};
use trainer::methods::evaluator;

use crate::training::ONE_AT_A_TIME;

fn same(method: Method, folder: &Path, threshold: &str, set: &[&str]) {
    let what = format!("{} {set:?}", method.name());
    let own = format!("model.{}.threshold={threshold}", method.name());
    // Judged as prediction does it: logits at the image's own size above one threshold.
    let judged = ["eval.profile=saymask", "eval.threshold=0.5", "eval.limit=12", "run.seed=4", &own];
    let run_config = toy(method, folder, "same", &[&judged, set].concat());
    let (found, device) = (found(&run_config, None), Device::flex());
    let judge = evaluator(&found, &device).unwrap();
    let data = EvalData::open(&run_config, "val", judge.inputs()).unwrap();
    let (_, results) = judge.evaluate(&data, &profile(&run_config).unwrap(), None, &mut |_| {}).unwrap();
    let model = found.model(&device).unwrap();
    let (mut pixels, mut all) = (0, 0);
    for result in &results {
        let referent = &data.dataset.referents[data.items[result.item].referent];
        let image = Image::open(&data.dataset.images[referent.image].path).unwrap();
        let predicted = &model.predict(&image, &[sentence(&data, result.item)]).unwrap()[0];
        assert_eq!(result.mask, predicted.mask, "{what}: item {}", result.item);
        assert!((result.score - predicted.score).abs() < 1e-5, "{what}: {} against {}", result.score, predicted.score);
        pixels += predicted.mask.area();
        all += (image.width() * image.height()) as u64;
    }
    assert_eq!(results.len(), 12);
    assert!(pixels > 0 && pixels < all, "{what}: masks of {pixels} of {all} pixels could not differ");
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
    same(Method::Dit, folder.path(), "0.5", &[]);
    same(Method::Evf, folder.path(), "0.0", &[]);
    same(Method::Evf, folder.path(), "0.0", &clip);
    same(Method::Evf, folder.path(), "0.0", &vilt);
    same(Method::Risam, folder.path(), "0.5", &[]);
}
