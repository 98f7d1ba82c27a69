//! The predictor: embed and ask, prompts, attention, folders.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use common::{SENTENCES, model, toy, words};
use fusion_dit::{DitConfig, DitError, DitPredictor, EncoderAttention, Prompt, TextKind, Variant};
use nn_ops::formula;
use pil_ops::{Fit, Image, Letterbox, Normalisation};
use sam_vit::{Prediction, PromptSet};
use text_encoders::tokenizer::ClipTokenizer;

fn image() -> Image {
    let pixels = formula::uniform("toy", "pixels", 64 * 40 * 3).map(|u| ((u + 1.0) * 127.0) as u8).collect();
    Image::new(64, 40, 3, pixels).unwrap()
}

fn predictor(config: &DitConfig) -> DitPredictor {
    DitPredictor::new(&model(config), Arc::new(words())).unwrap()
}

fn vocabulary() -> Vec<(String, Vec<u8>)> {
    let text = words().vocabulary();
    vec![("vocab.txt".to_owned(), text.into_bytes())]
}

#[test]
fn predictions_and_attention_in_the_pixels_of_the_image() {
    let dit = predictor(&toy(Variant::LayerWise));
    let image = image();
    let prompts = [Prompt::Box([10.0, 4.0, 40.0, 36.0]), Prompt::Text("red".into())];
    let found = dit.predict_prompts(&image, &prompts).unwrap();
    assert_eq!((found.len(), found[0].mask.height(), found[0].mask.width()), (2, 40, 64));
    assert_eq!(found[1], dit.predict(&image, &["red"]).unwrap()[0]);

    let attention = dit.attention(&image, "the man in red").unwrap();
    assert_eq!(attention.words, ["the", "man", "in", "red"]);
    // 32 x 20 of 32 x 32, centred.
    assert_eq!((attention.grid, attention.area), (4, [6.0 / 32.0, 0.0, 26.0 / 32.0, 1.0]));
    assert_eq!((attention.layers.len(), attention.layers[0].len(), attention.layers[0][0].len()), (2, 4, 16));
    let error = predictor(&toy(Variant::DefaultSam)).attention(&image, "red").unwrap_err();
    assert!(matches!(&error, DitError::Config(e) if e.key == "variant"), "{error}");
    assert!(error.to_string().contains("mask decoder only"), "{error}");
}

/// What it hands out is made from the logits of the network's own forward pass.
#[test]
fn predicts_what_the_model_computes() {
    for variant in [Variant::LayerWise, Variant::DefaultSam] {
        let dit = predictor(&toy(variant));
        let letterbox = Letterbox::new(40, 64, 32, Fit::Centre).unwrap();
        let values = letterbox.normalise(&letterbox.resize(&image()).unwrap(), Normalisation::IMAGENET).unwrap();
        let input = Tensor::from_data(TensorData::new(values, [1, 3, 32, 32]), &Device::flex());
        let batch = dit.model().tokens(dit.tokenizer().as_ref(), &["red", "left zebra"]).unwrap();
        let logits = dit.model().forward(input, &batch, &[0, 0]).unwrap().logits;
        let threshold = dit.model().config().threshold_logit() as f32;
        let want = Prediction::from_batch(logits, &letterbox, threshold).unwrap();
        assert_eq!(dit.predict(&image(), &["red", "left zebra"]).unwrap(), want, "{variant:?}");
    }
}

#[test]
fn an_embedding_is_asked_as_often_as_wanted() {
    for variant in [Variant::LayerWise, Variant::DefaultSam] {
        let dit = predictor(&toy(variant));
        // More sentences than go through the network together.
        let sentences: Vec<&str> = SENTENCES.into_iter().cycle().take(10).collect();
        let all = dit.predict(&image(), &sentences).unwrap();
        let embedding = dit.embed(&image()).unwrap();
        let mut asked = dit.ask(&embedding, &sentences[..7]).unwrap();
        asked.extend(dit.ask(&embedding.clone(), &sentences[7..]).unwrap());
        assert_eq!(all.len(), 10);
        for (a, b) in all.iter().zip(&asked) {
            assert_eq!(a.mask, b.mask, "{variant:?}");
            assert!((a.score - b.score).abs() < 1e-5);
        }
        assert_ne!(all[0].score, all[1].score);
        assert!(dit.ask(&embedding, &[]).unwrap().is_empty());
        assert!(matches!(dit.ask(&embedding, &["red", ""]), Err(DitError::Text(_))));
    }
}

/// A sentence alone is what `ask` answers; clicks beside it move the logits, and order and grouping do not matter.
#[test]
fn clicks_and_boxes_stand_beside_a_sentence() {
    for variant in [Variant::LayerWise, Variant::DefaultSam] {
        let dit = predictor(&toy(variant));
        let embedding = dit.embed(&image()).unwrap();
        let nothing = PromptSet::default();
        let sentences: Vec<&str> = SENTENCES.into_iter().cycle().take(10).collect();
        let alone: Vec<_> = sentences.iter().map(|s| (Some(*s), &nothing)).collect();
        assert_eq!(dit.ask_with(&embedding, &alone).unwrap(), dit.ask(&embedding, &sentences).unwrap(), "{variant:?}");

        let (here, there) = (PromptSet::click(50.0, 30.0), PromptSet::default().with_point([50.0, 30.0], 0));
        let boxed = PromptSet::boxed([2.0, 3.0, 20.0, 30.0]).with_point([5.0, 5.0], 1);
        let mixed =
            [(Some("red"), &here), (None, &here), (Some("red"), &nothing), (Some("red"), &there), (Some("left zebra"), &boxed)];
        let logits = dit.ask_logits(&embedding, &mixed).unwrap();
        assert_eq!((logits.len(), logits[0].size()), (5, (40, 64)));
        for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2)] {
            assert_ne!(logits[a].values(), logits[b].values(), "{variant:?}: {a} and {b}");
        }
        for (question, logits) in mixed.iter().zip(&logits) {
            let one = dit.ask_logits(&embedding, &[*question]).unwrap();
            assert!(one[0].values().iter().zip(logits.values()).all(|(a, b)| (a - b).abs() < 1e-4), "{variant:?}");
        }
        assert_eq!(dit.ask_with(&embedding, &mixed[2..3]).unwrap(), dit.ask(&embedding, &["red"]).unwrap());
        for (bad, says) in [
            ((Some("red"), &PromptSet::click(f64::NAN, 1.0)), "finite"),
            ((Some("red"), &PromptSet::boxed([9.0, 1.0, 2.0, 3.0])), "x0 <= x1"),
            ((None, &nothing), "is empty"),
        ] {
            let error = dit.ask_with(&embedding, &[(Some("red"), &nothing), bad]).unwrap_err().to_string();
            assert!(error.contains("prompt 1") && error.contains(says), "{error}");
        }
    }
}

#[test]
fn the_threshold_is_a_probability() {
    let dit = predictor(&toy(Variant::LayerWise));
    let area =
        |threshold: f64| dit.clone().with_threshold(threshold).unwrap().predict(&image(), &["red"]).unwrap()[0].mask.area();
    assert_eq!((area(1e-12), area(1.0 - 1e-12)), (64 * 40, 0));
    for wrong in [0.0, 1.0, f64::NAN] {
        assert!(dit.clone().with_threshold(wrong).unwrap_err().to_string().contains("`threshold`"));
    }
}

fn assert_same(saved: &DitPredictor, folder: &Path) {
    let read = DitPredictor::from_pretrained(folder, &Device::flex()).unwrap();
    assert_eq!(read.model().config(), saved.model().config());
    assert_eq!(read.predict(&image(), &SENTENCES).unwrap(), saved.predict(&image(), &SENTENCES).unwrap());
}

#[test]
fn a_folder_is_written_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for config in [
        toy(Variant::LayerWise),
        toy(Variant::CrossAttentionFfn),
        DitConfig { attention: EncoderAttention::Windowed, threshold: 0.6, ..toy(Variant::E2e) },
    ] {
        let dit = predictor(&config);
        dit.save_pretrained(folder.path(), &vocabulary()).unwrap();
        assert_same(&dit, folder.path());
    }
    // BERT's last layer, which an absent key does not mean.
    let mut config = toy(Variant::LayerWise);
    config.bert.output_layer = None;
    predictor(&config).save_pretrained(folder.path(), &vocabulary()).unwrap();
    assert_eq!(DitConfig::from_pretrained(folder.path()).unwrap().bert.output_layer, Some(2));

    let config = DitConfig { text_encoder: TextKind::Clip, ..toy(Variant::LayerWise) };
    let folder = tempfile::tempdir().unwrap();
    let clip = ClipTokenizer::from_merges(vec![("r".into(), "e".into()), ("re".into(), "d</w>".into())]).unwrap();
    let dit = DitPredictor::new(&model(&config), Arc::new(clip)).unwrap();
    let merges = b"#version: 0.2\nr e\nre d</w>\n".to_vec();
    let error = dit.save_pretrained(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("merges.txt"), "{error}");
    dit.save_pretrained(folder.path(), &[("merges.txt".into(), merges)]).unwrap();
    assert_same(&dit, folder.path());
}

#[test]
fn folders_that_are_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || DitPredictor::from_pretrained(folder.path(), &Device::flex()).unwrap_err().to_string();
    assert!(refused().contains("config.json"));
    let dit = predictor(&toy(Variant::LayerWise));
    dit.save_pretrained(folder.path(), &vocabulary()).unwrap();

    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, says) in [
        ("saymask-dit", "saymask-risam", "model_type is \"saymask-risam\": must be \"saymask-dit\""),
        ("\"text_tokens\"", "\"text_tokns\"", "text_tokns"),
        ("\"threshold\": 0.35", "\"threshold\": 1.5", "`threshold` is 1.5"),
        ("\"layer_wise\"", "\"cross_attention\"", "missing in the file"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        assert!(refused().contains(says), "{}", refused());
    }
    std::fs::write(&path, text).unwrap();
    for (name, says) in [("model.safetensors", "has no weights"), ("vocab.txt", "has no tokenizer")] {
        std::fs::rename(folder.path().join(name), folder.path().join("away")).unwrap();
        assert!(refused().contains(says), "{}", refused());
        std::fs::rename(folder.path().join("away"), folder.path().join(name)).unwrap();
    }
    assert_same(&dit, folder.path());
}

#[test]
fn clones_and_inference_models_keep_the_configuration() {
    let config = DitConfig { threshold: 0.7, ..toy(Variant::E2e) };
    let model = config.init(&Device::flex().autodiff()).unwrap();
    assert_eq!(model.clone().config(), &config);
    assert_eq!(model.valid().config(), &config);
    assert_eq!(model.clone().freeze().config(), &config);
    assert_eq!(model.fork(&Device::flex().autodiff()).config(), &config);
}
