//! The predictor: embed and ask, thresholds, the configuration inside the model.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use common::{Letters, efficient, forms, model, on_sam2, toy};
use fusion_evf::{Encoder, EvfConfig, EvfError, EvfPredictor, Generation};
use pil_ops::Image;
use sam_vit::{Prediction, PromptSet};

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

/// What it hands out is made from the logits of the network's own forward pass.
#[test]
fn predicts_what_the_model_computes() {
    for config in forms() {
        let evf = predictor(&config);
        let (images, letterbox) = config.preprocess(&image(), &Device::flex()).unwrap();
        let batch = evf.model().tokens(&Letters, &["ab", "cde"]).unwrap();
        let logits = evf.model().forward(images, &batch, &[0, 0]).unwrap().logits;
        let want = Prediction::from_batch(logits, &letterbox, 0.0).unwrap();
        assert_eq!(evf.predict(&image(), &["ab", "cde"]).unwrap(), want, "{:?}", config.encoder);
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

/// On SAM, EfficientSAM and SAM-2: a sentence alone is what `ask` answers, clicks and boxes beside it move the logits.
#[test]
fn clicks_and_boxes_stand_beside_a_sentence() {
    for config in [toy(), efficient(), on_sam2(Generation::First), on_sam2(Generation::Second)] {
        let evf = predictor(&config);
        let kind = config.visual;
        let embedding = evf.embed(&image()).unwrap();
        let nothing = PromptSet::default();
        let sentences = ["ab", "cde", "f", "gh", "ijk", "l", "mno", "p", "cde"];
        let alone: Vec<_> = sentences.iter().map(|s| (Some(*s), &nothing)).collect();
        assert_eq!(evf.ask_with(&embedding, &alone).unwrap(), evf.ask(&embedding, &sentences).unwrap(), "{kind:?}");

        let (here, there) = (PromptSet::click(50.0, 30.0), PromptSet::default().with_point([50.0, 30.0], 0));
        let boxed = PromptSet::boxed([2.0, 3.0, 20.0, 30.0]).with_point([5.0, 5.0], 1);
        let mixed = [(Some("ab"), &here), (None, &here), (Some("ab"), &nothing), (Some("ab"), &there), (Some("cde"), &boxed)];
        let logits = evf.ask_logits(&embedding, &mixed).unwrap();
        assert_eq!((logits.len(), logits[0].size()), (5, (50, 70)));
        for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2)] {
            assert_ne!(logits[a].values(), logits[b].values(), "{kind:?}: {a} and {b}");
        }
        assert_eq!(evf.ask_with(&embedding, &mixed[2..3]).unwrap(), evf.ask(&embedding, &["ab"]).unwrap());
        for (bad, says) in [((Some("ab"), &PromptSet::click(f64::NAN, 1.0)), "finite"), ((None, &nothing), "is empty")] {
            let error = evf.ask_with(&embedding, &[(Some("ab"), &nothing), bad]).unwrap_err().to_string();
            assert!(error.contains("prompt 1") && error.contains(says), "{error}");
        }
    }
    let many = (0..7).fold(PromptSet::default(), |set, at| set.with_point([f64::from(at), 1.0], 1));
    let evf = predictor(&efficient());
    let error = evf.ask_with(&evf.embed(&image()).unwrap(), &[(Some("ab"), &many)]).unwrap_err().to_string();
    assert!(error.contains("7 points") && error.contains("EfficientSAM sees"), "{error}");
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
