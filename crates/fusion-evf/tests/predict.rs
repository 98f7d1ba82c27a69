//! The predictor: embed and ask, thresholds, the configuration inside the model.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use common::{Letters, forms, model, toy};
use fusion_evf::{Encoder, EvfConfig, EvfError, EvfPredictor};
use pil_ops::Image;

fn image() -> Image {
    Image::new(70, 50, 3, (0..50 * 70 * 3).map(|i| (i * 31 % 251) as u8).collect()).unwrap()
}

fn predictor(config: &EvfConfig) -> EvfPredictor {
    EvfPredictor::new(&model(config, &Device::flex()), Arc::new(Letters)).unwrap()
}

#[test]
fn predicts_at_the_images_own_size_whatever_the_batch() {
    for config in forms() {
        let evf = predictor(&config);
        let sentences = ["ab", "cde", "f", "gh", "ijk", "l", "mno", "p", "cde"];
        let all = evf.predict(&image(), &sentences).unwrap();
        assert_eq!((all.len(), all[0].mask.height(), all[0].mask.width()), (9, 50, 70));
        assert_eq!(all[1].mask, all[8].mask, "the same sentence in two groups");
        let area =
            |threshold: f64| evf.clone().with_threshold(threshold).unwrap().predict(&image(), &["cde"]).unwrap()[0].mask.area();
        assert_eq!((area(1e-12), area(1.0 - 1e-12)), (50 * 70, 0));
        assert!(evf.predict(&image(), &[]).unwrap().is_empty());
        assert!(matches!(evf.predict(&image(), &["ab", ""]), Err(EvfError::Text(_))));
    }
}

#[test]
fn an_embedding_is_asked_as_often_as_wanted() {
    for encoder in [Encoder::Beit3Early, Encoder::ClipText, Encoder::ViltLate] {
        let evf = predictor(&EvfConfig { encoder, ..toy() });
        let sentences = ["ab", "cde", "f", "gh", "ijk", "l", "mno", "p", "qr", "st"];
        let all = evf.predict(&image(), &sentences).unwrap();
        let embedding = evf.embed(&image()).unwrap();
        let mut asked = evf.ask(&embedding, &sentences[..7]).unwrap();
        asked.extend(evf.ask(&embedding.clone(), &sentences[7..]).unwrap());
        assert_eq!((all.len(), asked.len()), (10, 10));
        for (a, b) in all.iter().zip(&asked) {
            assert_eq!(a.mask, b.mask, "{encoder:?}");
            assert!((a.score - b.score).abs() < 1e-5);
        }
        assert_ne!(all[0].score, all[1].score);
    }
}

#[test]
fn attention_belongs_to_the_joint_pass() {
    let error = predictor(&EvfConfig { encoder: Encoder::ViltEarly, ..toy() }).attention(&image(), "ab").unwrap_err();
    assert!(matches!(&error, EvfError::Config(e) if e.key == "encoder"), "{error}");
    assert!(error.to_string().contains("\"vilt_early\": must be \"beit3_early\""), "{error}");
}

#[test]
fn clones_and_inference_models_keep_the_configuration() {
    let config = EvfConfig { threshold: 0.7, ..toy() };
    let model = config.init(&Device::flex().autodiff()).unwrap();
    assert_eq!(model.clone().config(), &config);
    assert_eq!(model.valid().config(), &config);
    assert_eq!(model.clone().freeze().config(), &config);
    assert_eq!(model.fork(&Device::flex().autodiff()).config(), &config);
}
