//! The published layout: written, read back, and refused where it is something else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use fusion_evf::{Encoder, EvfConfig, EvfPredictor, Pretrained, PromptFeature};
use nn_ops::weights::load_formula;
use pil_ops::Image;
use sam_vit::{SamConfig, Weights};
use serde_json::{Value, json};
use text_encoders::TextTokenizer;
use text_encoders::beit3::Beit3Config;
use text_encoders::tokenizer::WordPiece;

fn save(folder: &Path, weights: Weights) -> EvfPredictor {
    let device = Device::flex();
    let words = WordPiece::train(["the zebra on the left", "the last zebra"], 60).unwrap();
    let config = common::small(words.vocab_size());
    let (model, _) = load_formula(config.init(&device).unwrap(), "toy", &config.names());
    let vocabulary = words.vocabulary();
    let files = [("vocab.txt".to_owned(), vocabulary.into_bytes())];
    let predictor = EvfPredictor::new(&model, Arc::new(words)).unwrap();
    match weights {
        Weights::Single => predictor.save_pretrained(folder, &files).unwrap(),
        Weights::Half => model.save_pretrained(folder, &files, weights).unwrap(),
    }
    predictor
}

#[test]
fn a_folder_is_written_and_read_back() {
    let photo = Image::new(50, 40, 3, (0..6000).map(|i| (i * 37 % 256) as u8).collect()).unwrap();
    for weights in [Weights::Single, Weights::Half] {
        let half = weights == Weights::Half;
        let folder = tempfile::tempdir().unwrap();
        let saved = save(folder.path(), weights);
        let read = EvfPredictor::from_pretrained(folder.path(), &Device::flex()).unwrap();
        assert_eq!(read.model().config(), saved.model().config());
        let [a, b] = [&saved, &read].map(|evf| evf.predict(&photo, &["the zebra", "left zebra"]).unwrap());
        for (a, b) in a.iter().zip(&b) {
            let worst = (a.score - b.score).abs();
            assert!(if half { worst < 1e-2 } else { a == b }, "half {half}: {worst}");
        }
        let size = folder.path().join("model.safetensors").metadata().unwrap().len();
        let parameters = 2 * if half { 1 } else { 2 } * parameters(&saved);
        assert!((parameters..parameters + 40_000).contains(&size), "{size} bytes for {parameters}");
    }
}

fn parameters(evf: &EvfPredictor) -> u64 {
    use burn::module::Module;
    evf.model().num_params() as u64
}

/// Encoders whose published tokenizer would be another take a vocabulary of their own.
#[test]
fn every_encoder_has_a_folder() {
    let device = Device::flex();
    let words = WordPiece::train(["red zebra"], 30).unwrap();
    let vocabulary = words.vocabulary();
    let files = [("vocab.txt".to_owned(), vocabulary.into_bytes())];
    let photo = Image::new(50, 40, 3, (0..6000).map(|i| (i * 37 % 256) as u8).collect()).unwrap();
    for encoder in [Encoder::ClipLate, Encoder::ViltText] {
        let folder = tempfile::tempdir().unwrap();
        let model = common::model(&EvfConfig { encoder, ..common::toy() }, &device);
        let saved = EvfPredictor::new(&model, Arc::new(words.clone())).unwrap();
        assert!(saved.save_pretrained(folder.path(), &[]).unwrap_err().to_string().contains("has no tokenizer"));
        saved.save_pretrained(folder.path(), &files).unwrap();
        let read = EvfPredictor::from_pretrained(folder.path(), &device).unwrap();
        assert_eq!(read.predict(&photo, &["red"]).unwrap(), saved.predict(&photo, &["red"]).unwrap(), "{encoder:?}");
    }
}

#[test]
fn published_keys_give_the_published_models() {
    let read = |value: Value| EvfConfig::from_json(&value);
    let large = read(json!({ "architectures": ["EvfSamModel"], "hidden_size": 1024, "mm_extractor_scale": "large",
        "out_dim": 256, "sam_scale": "huge", "torch_dtype": "float16" }));
    assert_eq!(large.unwrap(), EvfConfig::large());
    assert_eq!(read(json!({ "mm_extractor_scale": "base", "hidden_size": 768 })).unwrap(), EvfConfig::base());
    for (value, says) in [
        (json!({ "architectures": ["EvfSam3Model"] }), "EvfSam3Model"),
        (json!({ "architectures": ["EvfSam2Model"], "sam_scale": "huge" }), "`sam_scale` is \"huge\": must be \"large\""),
        (json!({ "architectures": ["EvfEffiSamModel"], "sam_scale": "huge" }), "\"small\" or \"tiny\""),
        (json!({ "mm_extractor_scale": "giant" }), "giant"),
        (json!({ "sam_scale": "tiny" }), "sam_scale"),
        (json!({ "mm_extractor_scale": "base", "hidden_size": 1024 }), "768"),
        (json!({ "saymask": { "encodr": 1 } }), "encodr"),
        (json!({ "saymask": { "threshold": 0.0 } }), "`saymask.threshold` is 0"),
        (json!({ "model_type": "saymask-dit" }), "`model_type` is \"saymask-dit\": must be \"evf\""),
    ] {
        let error = read(value).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn sizes_have_their_published_names_only_where_they_are_those() {
    let says = |config: &EvfConfig| {
        let json = config.to_json();
        assert_eq!(EvfConfig::from_json(&json).unwrap(), *config);
        ["architectures", "mm_extractor_scale", "sam_scale"].map(|key| match &json[key] {
            Value::Array(names) => names[0].as_str().map(str::to_owned),
            other => other.as_str().map(str::to_owned),
        })
    };
    let named = |names: [&str; 3]| names.map(|name| (!name.is_empty()).then(|| name.to_owned()));
    let other_sam = EvfConfig { sam: SamConfig::vit_b(), ..EvfConfig::base() };
    let efficient = EvfConfig { beit3: Beit3Config::base(), ..EvfConfig::efficient_sam_small() };
    for (config, names, refused) in [
        (EvfConfig::large(), ["EvfSamModel", "large", "huge"], None),
        (EvfConfig::base(), ["EvfSamModel", "base", "huge"], None),
        (EvfConfig::sam2_large(), ["EvfSam2Model", "large", "large"], None),
        (efficient, ["EvfEffiSamModel", "base", "small"], None),
        (EvfConfig::early_half(), ["EvfSamModel", "", "huge"], Some("beit3")),
        (other_sam, ["EvfSamModel", "base", ""], Some("sam")),
        (common::small(30), ["EvfSamModel", "", ""], Some("beit3")),
        (EvfConfig { encoder: Encoder::ClipText, ..EvfConfig::large() }, ["EvfSamModel", "large", "huge"], Some("encoder")),
        (EvfConfig { feature: PromptFeature::TextCls, ..EvfConfig::large() }, ["EvfSamModel", "large", "huge"], Some("feature")),
    ] {
        assert_eq!(says(&config), named(names));
        assert_eq!(config.check_published().err().map(|e| e.key), refused.map(str::to_owned));
    }
}

#[test]
fn folders_that_are_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || EvfPredictor::from_pretrained(folder.path(), &Device::flex()).unwrap_err().to_string();
    assert!(refused().contains("config.json"));
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(refused().contains("not JSON"));
    save(folder.path(), Weights::Half);
    std::fs::rename(folder.path().join("vocab.txt"), folder.path().join("words.txt")).unwrap();
    assert!(refused().contains("has no tokenizer"));
    std::fs::rename(folder.path().join("words.txt"), folder.path().join("vocab.txt")).unwrap();
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    assert!(refused().contains("model.safetensors"));
    std::fs::remove_file(&weights).unwrap();
    assert!(refused().contains("has no weights"));
    save(folder.path(), Weights::Half);
    assert!(Pretrained::open(folder.path()).unwrap().vocabulary.ends_with("vocab.txt"));
}

#[test]
fn cls_looks_at_patches() {
    let folder = tempfile::tempdir().unwrap();
    let evf = save(folder.path(), Weights::Single);
    let photo = Image::new(50, 40, 3, (0..6000).map(|i| (i * 37 % 256) as u8).collect()).unwrap();
    let seen = evf.attention(&photo, "the zebra").unwrap();
    assert_eq!((seen.grid, seen.heads.len()), (2, 4));
    for head in &seen.heads {
        let sum: f32 = head.iter().sum();
        assert!(head.len() == 4 && sum > 0.05 && sum < 1.0, "{head:?}");
    }
    assert_ne!(seen.mean(), evf.attention(&photo, "the last zebra").unwrap().mean());
}

/// 1,315,105,072 parameters and SAM's 256 fixed frequencies: needs 14 GB of memory and 3 GB of disk.
#[test]
#[ignore = "a model of 1.3 billion parameters"]
fn the_published_size_is_written_and_read_back() {
    use burn::module::Module;
    use nn_ops::weights::{StateDict, export};
    let (device, folder, config) = (Device::flex(), tempfile::tempdir().unwrap(), EvfConfig::large());
    let names = config.names();
    let (model, _) = load_formula(config.init(&device).unwrap(), "full", &names);
    assert_eq!(model.num_params(), 1_315_105_072 + 256);
    model.save_pretrained(folder.path(), &[("vocab.txt".into(), Vec::new())], Weights::Half).unwrap();
    drop(model);
    let found = Pretrained::open(folder.path()).unwrap();
    assert_eq!(found.config, config);
    let size = found.weights.metadata().unwrap().len();
    assert!((2_630_210_656..2_631_000_000).contains(&size), "{size} bytes");
    let file = StateDict::open(&found.weights).unwrap();
    let (model, report) = config.init(&device).unwrap().load(&file).unwrap();
    assert_eq!((report.missing.len(), report.unused.len(), report.matched.len()), (0, 0, file.len()));
    let read = export(&model, &names, "read back");
    for name in file.names() {
        assert!(read.read(name).unwrap() == file.read(name).unwrap(), "{name}");
    }
}
