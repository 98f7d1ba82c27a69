//! EVF-SAM from a run config or a published folder: settings, tokenizer, first weights.

use std::path::Path;

use burn::tensor::Device;
use fusion_evf::{Encoder, EvfConfig, EvfModel, Pretrained};
use nn_ops::weights::{KeyMap, StateDict};
use pil_ops::Fit;
use run_config::{Init, RunConfig, Tokenizer};

use crate::ModelError;
use crate::tokenizer::RunTokenizer;

/// EVF-SAM: settings, tokenizer and first weights.
pub struct EvfMethod {
    /// Settings.
    pub config: EvfConfig,
    /// The tokenizer.
    pub tokenizer: RunTokenizer,
    init: Init,
}

impl EvfMethod {
    /// The config's EVF-SAM. `[model.evf]` gives sizes and choices; the longest sentence and the vocabulary follow from
    /// `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Settings that contradict each other, with the config's key.
    pub fn new(run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Self, ModelError> {
        super::expect_top_left(run_config)?;
        let mut config: EvfConfig = run_config.method_section()?;
        let pretrained = encoder_file(&config, &run_config.model.init).is_some();
        let (kind, name, rows) = match config.encoder {
            Encoder::ClipText | Encoder::ClipLate => (Tokenizer::Clip, "CLIP", &mut config.clip_text.vocab_size),
            Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => {
                (Tokenizer::Wordpiece, "ViLT", &mut config.vilt.vocab_size)
            }
            Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => {
                (Tokenizer::Sentencepiece, "BEiT-3", &mut config.beit3.vocab_size)
            }
        };
        tokenizer.expect(run_config, kind, name, pretrained)?;
        *rows = tokenizer.rows(*rows);
        config.max_tokens = run_config.text.max_tokens;
        config.validate().map_err(|e| run_config.value_error("model.evf", e, "settings that fit each other"))?;
        let side = run_config.data.image_size as usize;
        if side != config.input_size() {
            let expected = format!("{}, the side of model.evf.sam.image_encoder.image_size", config.input_size());
            return Err(run_config.value_error("data.image_size", side, expected).into());
        }
        Ok(Self { config, tokenizer, init: run_config.model.init.clone() })
    }

    /// The network with fresh weights, or those of the files that the config names.
    ///
    /// # Errors
    /// A weight file that does not fit.
    pub fn build(&self, device: &Device) -> Result<EvfModel, ModelError> {
        let (config, init) = (&self.config, &self.init);
        let mut model = config.init(device)?;
        if let Some(path) = &init.sam {
            (model, _) = model.load_sam(&StateDict::open(path)?)?;
        }
        if let Some(path) = encoder_file(config, init) {
            // BEiT-3's pretraining file keeps its tensors under `model`.
            (model, _) = model.load_encoder(config, &StateDict::open(path)?.strip_prefix("model.")?, device)?;
        }
        if let Some(path) = &init.method {
            (model, _) = model.load(config, &StateDict::open(path)?)?;
        }
        Ok(model)
    }

    /// Official names of the parameters.
    pub fn names(&self) -> KeyMap {
        EvfModel::names(self.config.encoder)
    }

    /// Files that belong beside the weights, by name: the tokenizer and `config.json`, which make the published layout.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let config = format!("{:#}\n", self.config.to_published());
        self.tokenizer.files().into_iter().chain([("config.json".into(), config.into_bytes())]).collect()
    }
}

/// The weights that the chosen encoder starts from.
fn encoder_file<'a>(config: &EvfConfig, init: &'a Init) -> Option<&'a String> {
    match config.encoder {
        Encoder::ClipText | Encoder::ClipLate => init.clip.as_ref(),
        Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => init.vilt.as_ref(),
        Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => init.beit3.as_ref(),
    }
}

/// The config of a published EVF-SAM: a folder with `config.json`, weights and tokenizer.
///
/// # Errors
/// A folder that is something else, or overrides that do not fit.
pub fn pretrained_config<S: AsRef<str>>(folder: &Path, overrides: &[S]) -> Result<RunConfig, ModelError> {
    let found = Pretrained::open(folder)?;
    let kind = match found.vocabulary.file_name().and_then(|n| n.to_str()) {
        Some("vocab.txt") => Tokenizer::Wordpiece,
        Some("merges.txt" | "tokenizer.json") => Tokenizer::Clip,
        _ => Tokenizer::Sentencepiece,
    };
    let run_config = serde_json::json!({
        "data": { "image_size": found.config.input_size(), "fit": Fit::TopLeft },
        "model": { "method": "evf", "evf": found.config, "init": { "method": found.weights } },
        "text": { "tokenizer": kind, "vocabulary": found.vocabulary, "max_tokens": found.config.max_tokens },
        "eval": { "profile": "evf" },
    });
    let path = folder.join("config.json");
    let unfit = |e: String| ModelError::File { path: path.clone(), what: e };
    let text = toml::to_string(&without_nulls(run_config)).map_err(|e| unfit(e.to_string()))?;
    Ok(RunConfig::resolve(&text, Some(&path), overrides)?)
}

/// TOML has no word for nothing.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        other => other,
    }
}
