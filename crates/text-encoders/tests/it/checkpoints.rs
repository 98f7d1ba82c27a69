//! Official checkpoint names, old and new, with what published files hold besides.

use std::path::Path;

use burn::tensor::Device;
use nn_ops::weights::{StateDict, WeightsError, export, load_formula};
use text_encoders::TextEncoder;
use text_encoders::beit3::{Beit3, Beit3Config};
use text_encoders::bert::{Bert, BertConfig};
use text_encoders::clip::{ClipText, ClipTextConfig, ClipVision, ClipVisionConfig};
use text_encoders::vilt::{Vilt, ViltConfig};

use crate::{batch, difference, input};

const VOCAB: usize = 40;

/// Through a file, as a user would.
fn saved(state_dict: StateDict) -> StateDict {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    state_dict.save(&path, &[]).unwrap();
    // The file stays open: it may go.
    StateDict::open(&path).unwrap()
}

fn with(mut state_dict: StateDict, extra: &[&str]) -> StateDict {
    for name in extra {
        state_dict.insert(*name, &[2], vec![0.0; 2]);
    }
    state_dict
}

fn same(a: &dyn TextEncoder, b: &dyn TextEncoder) {
    let texts = batch(&[&[30, 5, 17, 39], &[30, 39]], 4, 0);
    let [a, b] = [a, b].map(|encoder| encoder.encode(&texts).unwrap());
    assert!(difference(a.tokens, b.tokens) == 0.0);
    assert!(difference(a.pooled, b.pooled) == 0.0);
}

fn mismatch(result: Result<(), WeightsError>, part: &str) {
    match result {
        Err(WeightsError::Mismatch { summary, .. }) => assert!(summary.contains(part), "{summary}"),
        other => panic!("{other:?} instead of a mismatch about {part}"),
    }
}

#[test]
fn bert_of_today_and_of_old() {
    let device = Device::flex();
    let config = BertConfig::tiny(VOCAB);
    let (model, _) = load_formula(config.init(&device), "a", &Bert::names());
    for prefix in ["", "bert."] {
        let file = export(&model, &Bert::names().with_prefix(prefix), "bert");
        assert!(file.shape(&format!("{prefix}encoder.layer.1.attention.output.LayerNorm.weight")).is_some());
        let heads = ["cls.predictions.bias", "cls.seq_relationship.weight"];
        let (loaded, report) = config.load(saved(with(file.clone(), &heads)), &device).unwrap();
        assert_eq!(report.unused, heads);
        same(&loaded, &model);
        let old = file.rename(|name| {
            let norm = name.contains("LayerNorm");
            let name = if norm { name.replace(".weight", ".gamma").replace(".bias", ".beta") } else { name.to_owned() };
            Some(name)
        });
        let old = saved(old.unwrap());
        assert!(old.shape(&format!("{prefix}embeddings.LayerNorm.beta")).is_some());
        same(&config.load(old, &device).unwrap().0, &model);
    }
    let file = export(&model, &Bert::names(), "bert");
    let headless = file.clone().rename(|name| (!name.starts_with("pooler.")).then(|| name.to_owned())).unwrap();
    let (loaded, report) = config.load(headless, &device).unwrap();
    assert_eq!(report.missing, ["pooler.dense.weight", "pooler.dense.bias"]);
    same(&loaded, &model);
    mismatch(config.load(with(file.clone(), &["decoder.weight"]), &device).map(drop), "`decoder.weight`");
    let cut = file.clone().rename(|name| (name != "embeddings.LayerNorm.bias").then(|| name.to_owned())).unwrap();
    mismatch(config.load(cut, &device).map(drop), "missing in the file: `embeddings.LayerNorm.bias`");
    mismatch(BertConfig::tiny(VOCAB + 1).load(file, &device).map(drop), "[40, 64]");
}

/// OpenAI's names and layouts for an exported tower.
fn openai(file: &StateDict, tower: &str, prefix: &str, projection: &str) -> StateDict {
    let mut out = StateDict::empty("openai");
    let turned = |name: &str| {
        let [to, from] = file.shape(name).unwrap() else { panic!("a matrix") };
        let values = file.read(name).unwrap();
        let flipped = (0..from * to).map(|at| values[at % to * from + at / to]).collect::<Vec<f32>>();
        (vec![*from, *to], flipped)
    };
    for name in file.names() {
        if name == format!("{projection}.weight") {
            let (shape, values) = turned(name);
            out.insert(if prefix.is_empty() { "text_projection" } else { "visual.proj" }, &shape, values);
            continue;
        }
        let short = name.strip_prefix(&format!("{tower}.")).unwrap();
        if let Some(rest) = short.strip_suffix("q_proj.weight").or(short.strip_suffix("q_proj.bias")) {
            let end = if short.ends_with("weight") { "weight" } else { "bias" };
            let mut fused = Vec::new();
            for part in ["q", "k", "v"] {
                fused.extend(file.read(&format!("{tower}.{rest}{part}_proj.{end}")).unwrap());
            }
            let mut shape = file.shape(name).unwrap().to_vec();
            shape[0] *= 3;
            let name = format!(
                "{prefix}{}in_proj_{end}",
                rest.replace("encoder.layers", "transformer.resblocks").replace("self_attn", "attn")
            );
            out.insert(name, &shape, fused);
        } else if !short.contains("k_proj") && !short.contains("v_proj") {
            let new = short
                .replace("encoder.layers", "transformer.resblocks")
                .replace("self_attn", "attn")
                .replace("layer_norm1", "ln_1")
                .replace("layer_norm2", "ln_2")
                .replace("mlp.fc1", "mlp.c_fc")
                .replace("mlp.fc2", "mlp.c_proj")
                .replace("final_layer_norm", "ln_final")
                .replace("pre_layrnorm", "ln_pre")
                .replace("post_layernorm", "ln_post")
                .replace("embeddings.position_embedding.weight", "positional_embedding")
                .replace("embeddings.token_embedding", "token_embedding")
                .replace("embeddings.class_embedding", "class_embedding")
                .replace("embeddings.patch_embedding", "conv1");
            out.insert(format!("{prefix}{new}"), file.shape(name).unwrap(), file.read(name).unwrap());
        }
    }
    out
}

#[test]
fn clip_of_hugging_face_and_of_openai() {
    let device = Device::flex();
    let (text_config, vision_config) = (ClipTextConfig::tiny(VOCAB), ClipVisionConfig::tiny());
    let (text, _) = load_formula(text_config.init(&device), "a", &ClipText::names());
    let (vision, _) = load_formula(vision_config.init(&device), "a", &ClipVision::names());
    let (text_file, vision_file) = (export(&text, &ClipText::names(), "t"), export(&vision, &ClipVision::names(), "v"));
    let image = input("image", [2, 3, 32, 32], &device);
    let check = |file: StateDict| {
        same(&text_config.load(file.clone(), &device).unwrap().0, &text);
        let loaded = vision_config.load(file, &device).unwrap().0;
        let [got, want] = [&loaded, &vision].map(|model| model.pool(model.tokens(image.clone()).unwrap()));
        assert!(difference(got, want) == 0.0);
    };
    let mut both = text_file.clone();
    both.merge(vision_file.clone());
    let extra = ["logit_scale", "text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"];
    check(saved(with(both, &extra)));
    let mut theirs = openai(&text_file, "text_model", "", "text_projection");
    theirs.merge(openai(&vision_file, "vision_model", "visual.", "visual_projection"));
    for name in ["transformer.resblocks.1.attn.in_proj_weight", "visual.proj", "ln_final.bias", "visual.ln_pre.weight"] {
        assert!(theirs.shape(name).is_some(), "{name} in {:?}", theirs.names().collect::<Vec<_>>());
    }
    assert_eq!(theirs.shape("text_projection").unwrap(), [64, 48]);
    let counters = ["logit_scale", "input_resolution", "context_length", "vocab_size"];
    check(saved(with(theirs.clone(), &counters)));
    mismatch(text_config.load(with(theirs, &["transformer.extra"]), &device).map(drop), "transformer.extra");
}

/// OpenAI publishes CLIP as TorchScript archives.
#[test]
fn clip_from_a_torchscript_archive() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nn-ops/tests/fixtures/scripted.pt");
    let config = ClipTextConfig {
        vocab_size: 7,
        width: 4,
        layers: 2,
        heads: 2,
        ffn: 8,
        max_positions: 6,
        projection_dim: 3,
        ..ClipTextConfig::default()
    };
    let (tower, report) = config.load(StateDict::open_model(&path).unwrap(), &Device::flex()).unwrap();
    assert_eq!((report.missing.len(), report.unused), (0, vec!["logit_scale".to_owned()]));
    let read = export(&tower, &ClipText::names(), "read");
    // x @ P there, P transposed here.
    let projection = read.read("text_projection.weight").unwrap();
    assert_eq!(projection, [0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0]);
    let keys = read.read("text_model.encoder.layers.1.self_attn.k_proj.weight").unwrap();
    assert!(keys.iter().enumerate().all(|(i, v)| *v == (16 + i) as f32 / 64.0), "{keys:?}");
}

#[test]
fn beit3_as_published() {
    let device = Device::flex();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/beit3-tiny.pth");
    let config = Beit3Config {
        vocab_size: 12,
        dim: 8,
        layers: 2,
        heads: 2,
        ffn: 16,
        image_size: 8,
        patch_size: 4,
        max_positions: 8,
        ..Beit3Config::default()
    };
    let file = StateDict::open_at(&path, Some("model")).unwrap();
    let (loaded, report) = config.load(&file, &device).unwrap();
    assert_eq!(report.unused, ["mim_head.bias", "mim_head.weight", "mlm_head.bias", "mlm_head.weight"]);
    assert!(report.missing.is_empty());
    let (want, _) = load_formula(config.init(&device), "pth", &Beit3::names().with_prefix("beit3."));
    let texts = batch(&[&[0, 9, 2], &[0, 2]], 3, 1);
    let image = input("image", [2, 3, 8, 8], &device);
    let [got, want] = [&loaded, &want].map(|model| model.joint(image.clone(), &texts, &[0, 1]).unwrap().sequence().unwrap());
    assert!(difference(got, want) == 0.0);
    mismatch(config.load(&with(file, &["beit3.encoder.extra"]), &device).map(drop), "`beit3.encoder.extra`");
}

#[test]
fn vilt_with_and_without_prefix() {
    let device = Device::flex();
    let config = ViltConfig { vocab_size: VOCAB, hidden: 32, layers: 2, heads: 4, ffn: 64, image_size: 64, ..ViltConfig::b32() };
    let (model, _) = load_formula(config.init(&device), "a", &Vilt::names());
    for prefix in ["", "vilt."] {
        let file = export(&model, &Vilt::names().with_prefix(prefix), "vilt");
        let heads = ["mlm_score.bias", "rank_output.weight"];
        let (loaded, report) = config.load(saved(with(file, &heads)), &device).unwrap();
        assert_eq!(report.unused, heads);
        same(&loaded, &model);
    }
}

#[test]
fn large_tables_go_straight_to_the_host() {
    let device = Device::flex();
    let config = BertConfig { host_table_above: Some(VOCAB as u64 * 64 * 4 - 1), ..BertConfig::tiny(VOCAB) };
    let (model, _) = load_formula(BertConfig::tiny(VOCAB).init(&device), "a", &Bert::names());
    let file = saved(export(&model, &Bert::names(), "bert"));
    let (loaded, _) = config.load(file.clone(), &device).unwrap();
    same(&loaded, &model);
    assert!(!nn_ops::weights::parameters(&loaded, &Bert::names()).iter().any(|p| p.name.contains("word_embeddings")));
    let wider = BertConfig { vocab_size: VOCAB + 1, ..config };
    let error = wider.load(file, &device).unwrap_err().to_string();
    assert!(error.contains("[40, 64]") && error.contains("[41, 64]"), "{error}");
}

/// No two parameters of a model have one name.
#[test]
fn names_are_distinct() {
    let device = Device::flex();
    let distinct = |mut names: Vec<String>| {
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    };
    let listed = |parameters: Vec<nn_ops::weights::Parameter>| parameters.into_iter().map(|p| p.name).collect::<Vec<_>>();
    distinct(listed(nn_ops::weights::parameters(&BertConfig::tiny(9).init(&device), &Bert::names())));
    distinct(listed(nn_ops::weights::parameters(&ClipTextConfig::tiny(9).init(&device), &ClipText::names())));
    distinct(listed(nn_ops::weights::parameters(&ClipVisionConfig::tiny().init(&device), &ClipVision::names())));
    distinct(listed(nn_ops::weights::parameters(&Beit3Config::tiny(9).init(&device), &Beit3::names())));
}
