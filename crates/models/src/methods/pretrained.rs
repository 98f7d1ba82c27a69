//! The run config of a folder with `config.json`, weights and tokenizer: a published EVF-SAM, or what `save_pretrained` and
//! `export` write of any method.

use std::path::{Path, PathBuf};

use fusion_dit::DitConfig;
use fusion_evf::EvfConfig;
use fusion_risam::RisamConfig;
use nn_ops::weights::PretrainedFolder;
use pil_ops::Fit;
use run_config::{RunConfig, Tokenizer};
use serde_json::{Value, json};
use text_encoders::tokenizer::TokenizerKind;

use crate::ModelError;

/// The run config of a folder, told by its `model_type`; one without is EVF-SAM's.
///
/// # Errors
/// A folder that is something else, or overrides that do not fit.
pub fn pretrained_config<S: AsRef<str>>(path: &Path, overrides: &[S]) -> Result<RunConfig, ModelError> {
    let folder = PretrainedFolder::find(path)?;
    let json = folder.config()?;
    let weights = folder.weights()?;
    let run_config = match json.get("model_type").and_then(Value::as_str) {
        Some("saymask-dit") => {
            let config = DitConfig::from_pretrained(path)?;
            let text = text(config.tokenizer_kind().find(path)?, config.text_tokens);
            json!({
                "data": { "image_size": config.input_size, "fit": Fit::Centre },
                "model": { "method": "dit", "dit": config, "init": { "method": weights } },
                "text": text,
                "eval": { "profile": "dit" },
            })
        }
        Some("saymask-risam") => {
            let config = RisamConfig::from_pretrained(path)?;
            let text = text(TokenizerKind::Clip.find(path)?, config.words);
            json!({
                "data": { "image_size": config.input_size, "fit": config.fit() },
                "model": { "method": "risam", "risam": config, "init": { "method": weights } },
                "text": text,
                "eval": { "profile": "risam" },
            })
        }
        _ => {
            let config = EvfConfig::from_pretrained(path)?;
            let text = text(config.tokenizer_kind().find(path)?, config.max_tokens);
            json!({
                "data": { "image_size": config.input_size(), "fit": config.fit() },
                "model": { "method": "evf", "evf": config, "init": { "method": weights } },
                "text": text,
                "eval": { "profile": "evf" },
            })
        }
    };
    let unfit = |e: String| ModelError::File { path: path.join("config.json"), what: e };
    let toml = toml::to_string(&without_nulls(run_config)).map_err(|e| unfit(e.to_string()))?;
    Ok(RunConfig::resolve(&toml, Some(&path.join("config.json")), overrides)?)
}

/// `[text]` of a tokenizer's file.
fn text(vocabulary: PathBuf, max_tokens: usize) -> Value {
    let kind = match vocabulary.file_name().and_then(|n| n.to_str()) {
        Some("vocab.txt") => Tokenizer::Wordpiece,
        Some("merges.txt" | "tokenizer.json") => Tokenizer::Clip,
        _ => Tokenizer::Sentencepiece,
    };
    json!({ "tokenizer": kind, "vocabulary": vocabulary, "max_tokens": max_tokens })
}

/// TOML has no word for nothing.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        other => other,
    }
}
