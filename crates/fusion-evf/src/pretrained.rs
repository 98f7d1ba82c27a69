//! The layout in which EVF-SAM is published: `config.json`, weights and tokenizer in one folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use nn_ops::weights::{StateDict, export};
use serde_json::{Value, json};
use text_encoders::TextTokenizer;
use text_encoders::beit3::Beit3Config;
use text_encoders::tokenizer::{Beit3Tokenizer, ClipTokenizer, WordPiece};

use crate::config::{Encoder, EvfConfig};
use crate::error::EvfError;
use crate::model::EvfModel;
use crate::predict::EvfSam;

/// Name of the settings.
const CONFIG: &str = "config.json";
/// Names of the weights, the first one that exists counts.
const WEIGHTS: [&str; 3] = ["model.safetensors.index.json", "model.safetensors", "pytorch_model.bin"];
/// Key of `config.json` under which all of an [`EvfConfig`] stands, for models that the published keys cannot describe.
const OURS: &str = "saymask";
/// A file of more bytes is no `config.json`.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A folder such as a download of `YxZhang/evf-sam` or `YxZhang/evf-sam-multitask`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrained {
    /// Settings, as `config.json` says.
    pub config: EvfConfig,
    /// The weights: safetensors, its sharded index, or `pytorch_model.bin`.
    pub weights: PathBuf,
    /// The tokenizer's file; `added_tokens.json` beside it is read with it.
    pub vocabulary: PathBuf,
}

impl Pretrained {
    /// Looks a folder through. Weights are not read yet.
    ///
    /// # Errors
    /// A file that is missing or says something else than an EVF-SAM on SAM.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, EvfError> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let wrong = |what: String| EvfError::File { path: path.clone(), what };
        let large = path.metadata().map_err(|e| wrong(e.to_string()))?.len() > LARGEST_CONFIG;
        if large {
            return Err(wrong("is no configuration: it has more than a million bytes".into()));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("is not JSON: {e}")))?;
        let config = EvfConfig::from_published(&value).map_err(wrong)?;
        let names: &[&str] = match config.encoder {
            Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => {
                &["sentencepiece.bpe.model", "beit3.spm", "vocab.txt"]
            }
            Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => &["vocab.txt"],
            Encoder::ClipText | Encoder::ClipLate => &["tokenizer.json", "merges.txt", "vocab.txt"],
        };
        let find = |names: &[&str], what: &str| {
            let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| EvfError::File {
                path: folder.to_owned(),
                what: format!("has no {what}: none of {}", names.join(", ")),
            })
        };
        Ok(Self { config, weights: find(&WEIGHTS, "weights")?, vocabulary: find(names, "tokenizer")? })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// A file of another kind than its name says.
    pub fn tokenizer(&self) -> Result<Arc<dyn TextTokenizer>, EvfError> {
        let path = &self.vocabulary;
        Ok(match path.extension().and_then(|e| e.to_str()) {
            Some("model" | "spm") => Arc::new(Beit3Tokenizer::load(path)?),
            _ if path.file_name().is_some_and(|name| name == "vocab.txt") => Arc::new(WordPiece::load(path)?),
            _ => Arc::new(ClipTokenizer::load(path)?),
        })
    }
}

impl EvfConfig {
    /// Reads a published `config.json`, or one of [`EvfConfig::to_published`].
    ///
    /// # Errors
    /// A sentence that names the key, what was found and what would be right.
    pub fn from_published(value: &Value) -> Result<Self, String> {
        if let Some(ours) = value.get(OURS) {
            let config: Self = serde_json::from_value(ours.clone()).map_err(|e| format!("{OURS}: {e}"))?;
            config.validate().map_err(|e| format!("{OURS}: {e}"))?;
            return Ok(config);
        }
        let word = |key: &str, usual: &str| value.get(key).and_then(Value::as_str).unwrap_or(usual).to_owned();
        let architecture = value.pointer("/architectures/0").and_then(Value::as_str).unwrap_or("EvfSamModel");
        if architecture != "EvfSamModel" {
            return Err(format!("architectures: found {architecture}; EvfSamModel, EVF-SAM on SAM, is what can be read"));
        }
        let (scale, sam) = (word("mm_extractor_scale", "large"), word("sam_scale", "huge"));
        let beit3 = match scale.as_str() {
            "large" => Beit3Config::large(),
            "base" => Beit3Config::base(),
            other => return Err(format!("mm_extractor_scale: found {other:?}; \"large\" and \"base\" exist")),
        };
        if sam != "huge" {
            return Err(format!("sam_scale: found {sam:?}; \"huge\", SAM ViT-H, is what was published"));
        }
        let config = Self { beit3, ..Self::default() };
        for (key, right) in [("hidden_size", config.beit3.dim), ("out_dim", config.sam.prompt_dim())] {
            let found = value.get(key).and_then(Value::as_u64);
            if found.is_some_and(|found| found != right as u64) {
                return Err(format!("{key}: found {}; with mm_extractor_scale {scale:?} it is {right}", found.unwrap_or(0)));
            }
        }
        Ok(config)
    }

    /// The published keys, and all settings beside them under a key of our own.
    pub fn to_published(&self) -> Value {
        let scale = if self.beit3.dim == Beit3Config::base().dim { "base" } else { "large" };
        json!({
            "architectures": ["EvfSamModel"],
            "model_type": "evf",
            "mm_extractor_scale": scale,
            "sam_scale": "huge",
            "hidden_size": self.feature_width(),
            "out_dim": self.sam.prompt_dim(),
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            OURS: self,
        })
    }
}

impl EvfModel {
    /// Writes `config.json` and `model.safetensors` in the published layout, in half precision if asked, as the published
    /// files are. The tokenizer's files belong beside them.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save_pretrained(&self, config: &EvfConfig, folder: impl AsRef<Path>, half: bool) -> Result<(), EvfError> {
        let folder = folder.as_ref();
        let weights = export(self, &Self::names(config.encoder), "EVF-SAM");
        let (path, says) = (folder.join(WEIGHTS[1]), [("format", "pt")]);
        if half {
            weights.save_half(path, &says)?
        } else {
            weights.save(path, &says)?
        }
        let path = folder.join(CONFIG);
        let text = format!("{:#}\n", config.to_published());
        std::fs::write(&path, text).map_err(|e| EvfError::File { path, what: e.to_string() })
    }
}

impl EvfSam {
    /// Everything from one folder, without network.
    ///
    /// # Errors
    /// A file that is missing or damaged, or weights that do not fit `config.json`.
    pub fn from_pretrained(folder: impl AsRef<Path>, device: &Device) -> Result<Self, EvfError> {
        let found = Pretrained::open(folder)?;
        let model = found.config.init(device)?;
        let (model, _) = model.load(&found.config, &StateDict::open(&found.weights)?)?;
        let tokenizer = found.tokenizer()?;
        Self::new(found.config, &model, tokenizer)
    }
}
