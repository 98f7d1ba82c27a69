//! The run config of a folder with `config.json`, weights and tokenizer: a published EVF-SAM, or what `save_pretrained` and
//! `export` write of any method.

use std::fmt::Display;
use std::path::Path;

use fusion_dit::DitConfig;
use fusion_evf::EvfConfig;
use fusion_risam::RisamConfig;
use nn_ops::weights::PretrainedFolder;
use pil_ops::Fit;
use run_config::{RunConfig, Tokenizer};
use serde::de::DeserializeOwned;
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
    let config = match model_type(&json) {
        Some(DIT) => MethodConfig::Dit(DitConfig::from_pretrained(path)?),
        Some(RISAM) => MethodConfig::Risam(RisamConfig::from_pretrained(path)?),
        _ => MethodConfig::Evf(EvfConfig::from_pretrained(path)?),
    };
    let vocabulary = config.tokenizer_kind().find(path)?;
    config.run_config(&vocabulary, Some(&weights), &path.join("config.json"), overrides)
}

/// As [`pretrained_config`], of files that are in memory: the text of `config.json`, and the name of the tokenizer's file among
/// `names`.
pub(crate) fn pretrained_config_from_json(text: &str, names: &[&str]) -> Result<RunConfig, ModelError> {
    let file = Path::new("config.json");
    let unfit = |what: String| ModelError::File { path: file.to_owned(), what };
    let mut json: Value = serde_json::from_str(text).map_err(|e| unfit(format!("is not JSON: {e}")))?;
    let config = match model_type(&json) {
        Some(DIT) => MethodConfig::Dit(checked(&mut json, DitConfig::validate).map_err(unfit)?),
        Some(RISAM) => MethodConfig::Risam(checked(&mut json, RisamConfig::validate).map_err(unfit)?),
        _ => {
            let added_tokens = names.contains(&"added_tokens.json");
            MethodConfig::Evf(EvfConfig::from_folder_json(&json, added_tokens).map_err(|e| unfit(e.to_string()))?)
        }
    };
    let expected = config.tokenizer_kind().file_names();
    let Some(vocabulary) = expected.iter().find(|name| names.contains(name)) else {
        let what = format!("the tokenizer is missing: none of {} among {}", expected.join(", "), names.join(", "));
        return Err(unfit(what));
    };
    config.run_config(Path::new(vocabulary), None, file, &[] as &[&str])
}

const DIT: &str = "saymask-dit";
const RISAM: &str = "saymask-risam";

fn model_type(json: &Value) -> Option<&str> {
    json.get("model_type").and_then(Value::as_str)
}

/// A config without its `model_type`, checked.
fn checked<C: DeserializeOwned, E: Display>(json: &mut Value, validate: impl Fn(&C) -> Result<(), E>) -> Result<C, String> {
    if let Some(keys) = json.as_object_mut() {
        keys.remove("model_type");
    }
    let config = serde_json::from_value(json.take()).map_err(|e| e.to_string())?;
    validate(&config).map_err(|e| e.to_string())?;
    Ok(config)
}

/// The config of a method, as `config.json` holds it.
enum MethodConfig {
    Dit(DitConfig),
    Evf(EvfConfig),
    Risam(RisamConfig),
}

impl MethodConfig {
    fn tokenizer_kind(&self) -> TokenizerKind {
        match self {
            Self::Dit(config) => config.tokenizer_kind(),
            Self::Evf(config) => config.tokenizer_kind(),
            Self::Risam(_) => TokenizerKind::Clip,
        }
    }

    /// The whole run config, with the tokenizer's file and the weights that it starts from; `file` is named in errors.
    fn run_config<S: AsRef<str>>(
        self,
        vocabulary: &Path,
        weights: Option<&Path>,
        file: &Path,
        overrides: &[S],
    ) -> Result<RunConfig, ModelError> {
        let (name, image_size, fit, max_tokens, config) = match self {
            Self::Dit(config) => ("dit", config.input_size, Fit::Centre, config.text_tokens, json!(config)),
            Self::Evf(config) => ("evf", config.input_size(), config.fit(), config.max_tokens, json!(config)),
            Self::Risam(config) => ("risam", config.input_size, config.fit(), config.words, json!(config)),
        };
        let run_config = json!({
            "data": { "image_size": image_size, "fit": fit },
            "model": { "method": name, (name): config, "init": { "method": weights } },
            "text": text(vocabulary, max_tokens),
            "eval": { "profile": name },
        });
        let unfit = |e: String| ModelError::File { path: file.to_owned(), what: e };
        let toml = toml::to_string(&without_nulls(run_config)).map_err(|e| unfit(e.to_string()))?;
        Ok(RunConfig::resolve(&toml, Some(file), overrides)?)
    }
}

/// `[text]` of a tokenizer's file.
fn text(vocabulary: &Path, max_tokens: usize) -> Value {
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
