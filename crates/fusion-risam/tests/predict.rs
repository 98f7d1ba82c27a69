//! The predictor: embed and ask, attention, folders, the configuration inside the model.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use common::{Letters, forms, model, toy};
use fusion_risam::{Interaction, RisamConfig, RisamError, RisamPredictor};
use pil_ops::Image;
use sam_vit::Prediction;
use text_encoders::TextTokenizer;
use text_encoders::tokenizer::{ClipTokenizer, WordPiece};

fn image(width: usize, height: usize) -> Image {
    Image::new(width, height, 3, (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect()).unwrap()
}

fn predictor(config: &RisamConfig) -> RisamPredictor {
    RisamPredictor::new(&model(config, &Device::flex()), Arc::new(Letters)).unwrap()
}

#[test]
fn predicts_at_the_images_own_size_whatever_the_batch() {
    let (risam, image) = (predictor(&toy()), image(70, 50));
    let both = risam.predict(&image, &["ab", "cde"]).unwrap();
    assert_eq!((both[0].mask.height(), both[0].mask.width()), (50, 70));
    assert_eq!(risam.predict(&image, &["cde"]).unwrap()[0].mask, both[1].mask);
    let area =
        |threshold: f64| risam.clone().with_threshold(threshold).unwrap().predict(&image, &["cde"]).unwrap()[0].mask.area();
    assert_eq!((area(1e-12), area(1.0 - 1e-12)), (50 * 70, 0));
    assert!(risam.clone().with_threshold(0.0).is_err());
    assert!(risam.predict(&image, &[]).unwrap().is_empty());
    assert!(matches!(risam.predict(&image, &["ab", ""]), Err(RisamError::Text(_))));
}

/// What it hands out is made from the logits of the network's own forward pass.
#[test]
fn predicts_what_the_model_computes() {
    let (device, image) = (Device::flex(), image(70, 50));
    for (name, config) in forms() {
        let risam = predictor(&config);
        let (values, letterbox) = config.preprocess(&image).unwrap();
        let input = Tensor::from_data(TensorData::new(values, [1, 3, 64, 64]), &device);
        let batch = risam.model().tokens(&Letters, &["ab", "cde"]).unwrap();
        let logits = config.answer(risam.model().forward(input, &batch, &[0, 0]).unwrap());
        let (letterbox, threshold) = (letterbox.rescaled(logits.dims()[3]), config.threshold_logit() as f32);
        let want = Prediction::from_batch(logits, &letterbox, threshold).unwrap();
        assert_eq!(risam.predict(&image, &["ab", "cde"]).unwrap(), want, "{name}");
    }
}

#[test]
fn an_embedding_is_asked_as_often_as_wanted() {
    let image = image(70, 50);
    for (name, config) in forms() {
        let risam = predictor(&config);
        let sentences = ["ab", "cde", "f", "gh", "ijk", "l", "mno", "p", "qr", "st"];
        let all = risam.predict(&image, &sentences).unwrap();
        let embedding = risam.embed(&image).unwrap();
        let mut asked = risam.ask(&embedding, &sentences[..7]).unwrap();
        asked.extend(risam.ask(&embedding.clone(), &sentences[7..]).unwrap());
        assert_eq!((all.len(), asked.len()), (10, 10));
        for (a, b) in all.iter().zip(&asked) {
            assert_eq!(a.mask, b.mask, "{name}");
            assert!((a.score - b.score).abs() < 1e-5, "{name}");
        }
    }
}

#[test]
fn attends_to_an_image() {
    let (risam, image) = (predictor(&toy()), image(64, 32));
    // Six tokens with start and end leave no place for the last letter of the last word.
    let found = risam.attention(&image, "ab c def").unwrap();
    assert_eq!(found.words, [("ab".to_owned(), 1..3), ("c".to_owned(), 3..4)]);
    assert_eq!((found.grid, found.area, found.blocks.len()), (4, [0.0, 0.0, 0.5, 1.0], 2));
    assert_eq!(found.blocks[1].regions.dims(), [1, 6, 16]);
    // The image fills the upper half of the 4 x 4 grid.
    assert_eq!([(0.0, 0.0), (0.99, 0.0), (0.3, 0.6), (1.0, 0.99)].map(|(x, y)| found.region(x, y)), [0, 3, 5, 7]);
    assert!(matches!(risam.attention(&image, ""), Err(RisamError::Text(_))));
    for (config, key) in [
        (RisamConfig { interaction: Interaction::Conv, ..toy() }, "interaction"),
        (RisamConfig { baseline: true, ..toy() }, "baseline"),
    ] {
        let error = predictor(&config).attention(&image, "ab").unwrap_err();
        assert!(matches!(&error, RisamError::Config(e) if e.key == key), "{error}");
    }
}

fn assert_same(saved: &RisamPredictor, folder: &Path) {
    let read = RisamPredictor::from_pretrained(folder, &Device::flex()).unwrap();
    assert_eq!(read.model().config(), saved.model().config());
    let sentences = ["red", "zebra"];
    let image = image(70, 50);
    assert_eq!(read.predict(&image, &sentences).unwrap(), saved.predict(&image, &sentences).unwrap());
}

#[test]
fn a_folder_is_written_and_read_back() {
    let words = WordPiece::train(["red zebra"], 30).unwrap();
    let text = words.vocabulary();
    let vocabulary = [("vocab.txt".to_owned(), text.into_bytes())];
    for (_, config) in forms() {
        let folder = tempfile::tempdir().unwrap();
        let risam = RisamPredictor::new(&model(&config, &Device::flex()), Arc::new(words.clone())).unwrap();
        risam.save_pretrained(folder.path(), &vocabulary).unwrap();
        assert_same(&risam, folder.path());
    }
    let folder = tempfile::tempdir().unwrap();
    let clip = ClipTokenizer::from_merges(vec![("r".into(), "e".into()), ("re".into(), "d</w>".into())]).unwrap();
    let mut config = toy();
    config.clip.vocab_size = clip.vocab_size();
    let risam = RisamPredictor::new(&model(&config, &Device::flex()), Arc::new(clip)).unwrap();
    let error = risam.save_pretrained(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("merges.txt"), "{error}");
    let merges = b"#version: 0.2\nr e\nre d</w>\n".to_vec();
    risam.save_pretrained(folder.path(), &[("merges.txt".into(), merges)]).unwrap();
    assert_same(&risam, folder.path());

    let refused = || RisamPredictor::from_pretrained(folder.path(), &Device::flex()).unwrap_err().to_string();
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, says) in [
        ("saymask-risam", "saymask-dit", "model_type is \"saymask-dit\": must be \"saymask-risam\""),
        ("\"tau\": 0.35", "\"tau\": 0.0", "`tau` is 0"),
        ("\"interaction\": \"full\"", "\"interaction\": \"conv\"", "missing in the file"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        assert!(refused().contains(says), "{}", refused());
    }
    std::fs::write(&path, text).unwrap();
    for (name, says) in [("model.safetensors", "has no weights"), ("merges.txt", "has no tokenizer")] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
        assert!(refused().contains(says), "{}", refused());
        risam.save_pretrained(folder.path(), &[("merges.txt".into(), b"#version: 0.2\nr e\nre d</w>\n".to_vec())]).unwrap();
    }
}

#[test]
fn clones_and_inference_models_keep_the_configuration() {
    let config = RisamConfig { threshold: 0.7, ..toy() };
    let model = config.init(&Device::flex().autodiff()).unwrap();
    assert_eq!(model.clone().config(), &config);
    assert_eq!(model.valid().config(), &config);
    assert_eq!(model.clone().freeze().config(), &config);
    assert_eq!(model.fork(&Device::flex().autodiff()).config(), &config);
}
