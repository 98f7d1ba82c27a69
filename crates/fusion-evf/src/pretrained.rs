//! EVF-SAM's published folder, read and written: `config.json`, weights and tokenizer (`YxZhang/evf-sam` and its siblings).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use efficient_sam::EfficientSamConfig;
use nn_ops::ConfigError;
use nn_ops::config::quoted;
use nn_ops::weights::{PretrainedFolder, StateDict, export};
use sam_vit::{SamConfig, Weights};
use sam2::Sam2Config;
use serde_json::{Value, json};
use text_encoders::TextTokenizer;
use text_encoders::beit3::Beit3Config;

use crate::config::{Encoder, EvfConfig, PromptFeature};
use crate::error::EvfError;
use crate::model::EvfModel;
use crate::predict::EvfPredictor;
use crate::visual::{Generation, VisualKind};

/// `model_type` in `config.json`.
const MODEL_TYPE: &str = "evf";
/// Key of `config.json` under which all of an [`EvfConfig`] stands, for models that the published keys cannot describe.
const OURS: &str = "saymask";
/// Of the published models on SAM-2 those of the second generation know one more token.
const ADDED_TOKENS: &str = "added_tokens.json";

/// A folder such as a download of `YxZhang/evf-sam`, `YxZhang/evf-sam-multitask`, `YxZhang/evf-sam2` or
/// `YxZhang/evf-sam2-multitask`, looked through.
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
    /// A file that is missing or says something else than an EVF-SAM.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, EvfError> {
        let folder = PretrainedFolder::find(folder)?;
        let config = EvfConfig::from_pretrained(folder.path())?;
        let (weights, vocabulary) = (folder.weights()?, config.tokenizer_kind().find(folder.path())?);
        Ok(Self { config, weights, vocabulary })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// A file of another kind than its name says.
    pub fn tokenizer(&self) -> Result<Arc<dyn TextTokenizer>, EvfError> {
        Ok(self.config.tokenizer_kind().load(&self.vocabulary)?)
    }
}

impl EvfConfig {
    /// Reads and checks a folder's `config.json`. Which [`Generation`] a published model on SAM-2 is of, the file does not say:
    /// the second one's folders hold `added_tokens.json`.
    ///
    /// # Errors
    /// A file that is missing, the configuration of another model, settings that contradict each other.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Self, EvfError> {
        let folder = PretrainedFolder::find(folder)?;
        let json = folder.config()?;
        let added_tokens = folder.path().join(ADDED_TOKENS).exists();
        Ok(Self::from_folder_json(&json, added_tokens).map_err(|e| folder.config_error(e))?)
    }

    /// As [`EvfConfig::from_pretrained`], of a `config.json` that is in memory; `added_tokens` says whether the folder holds
    /// `added_tokens.json`.
    ///
    /// # Errors
    /// As [`EvfConfig::from_json`].
    pub fn from_folder_json(value: &Value, added_tokens: bool) -> Result<Self, ConfigError> {
        let mut config = Self::from_json(value)?;
        if value.get(OURS).is_none() && config.visual == VisualKind::Sam2 && !added_tokens {
            config.generation = Generation::First;
        }
        Ok(config)
    }

    /// Reads the contents of a published `config.json`, or of one of [`EvfConfig::to_json`].
    ///
    /// # Errors
    /// The key, what was found and what would be right.
    pub fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let word = |key: &str, usual: &str| value.get(key).and_then(Value::as_str).unwrap_or(usual).to_owned();
        let architecture = value.pointer("/architectures/0").and_then(Value::as_str);
        let model = word("model_type", MODEL_TYPE);
        if model != MODEL_TYPE && architecture.is_none() {
            return Err(ConfigError::new("model_type", format!("{model:?}"), format!("{MODEL_TYPE:?}")));
        }
        if let Some(ours) = value.get(OURS) {
            let config: Self = serde_json::from_value(ours.clone())
                .map_err(|e| ConfigError::new(OURS, format!("not readable ({e})"), "the settings of an EVF-SAM"))?;
            config.validate().map_err(|e| e.below(OURS))?;
            return Ok(config);
        }
        let scale = word("mm_extractor_scale", "large");
        let base = match architecture {
            None | Some("EvfSamModel") => Self::default(),
            Some("EvfEffiSamModel") => Self::efficient_sam_small(),
            Some("EvfSam2Model") => Self::sam2_large(),
            Some(other) => {
                return Err(ConfigError::new("architectures", other, "EvfSamModel, EvfEffiSamModel or EvfSam2Model"));
            }
        };
        let beit3 = match scale.as_str() {
            "large" => Beit3Config::large(),
            "base" => Beit3Config::base(),
            _ => return Err(ConfigError::new("mm_extractor_scale", format!("{scale:?}"), "\"large\" or \"base\"")),
        };
        let config = Self { beit3, ..base.with_scale(value.get("sam_scale").and_then(Value::as_str))? };
        for (key, right) in [("hidden_size", config.beit3.dim), ("out_dim", config.prompt_dim())] {
            if let Some(found) = value.get(key).filter(|found| found.as_u64() != Some(right as u64)) {
                return Err(ConfigError::new(key, found, format!("{right} with mm_extractor_scale {scale:?}")));
            }
        }
        Ok(config)
    }

    /// The image model's size by its published word; without one as the preset has it.
    fn with_scale(self, scale: Option<&str>) -> Result<Self, ConfigError> {
        let Some(scale) = scale else { return Ok(self) };
        let expected = match (self.visual, scale) {
            (VisualKind::Sam, "huge") => return Ok(self),
            (VisualKind::EfficientSam, "small") => return Ok(Self { efficient_sam: EfficientSamConfig::small(), ..self }),
            (VisualKind::EfficientSam, "tiny") => return Ok(Self { efficient_sam: EfficientSamConfig::tiny(), ..self }),
            (VisualKind::Sam2, "large") => return Ok(Self { sam2: Sam2Config::hiera_large(), ..self }),
            (VisualKind::Sam2, "tiny") => return Ok(Self { sam2: Sam2Config::hiera_tiny(), ..self }),
            (VisualKind::Sam, _) => "\"huge\", SAM ViT-H",
            (VisualKind::EfficientSam, _) => "\"small\" or \"tiny\", EfficientSAM-S or -T",
            (VisualKind::Sam2, _) => "\"large\" or \"tiny\", SAM-2's Hiera-L or -T",
        };
        Err(ConfigError::new("sam_scale", format!("{scale:?}"), expected))
    }

    /// The contents of `config.json`: the published keys, and all settings beside them under a key of our own. Sizes have their
    /// published names where they are those sizes, and none where they are others.
    pub fn to_json(&self) -> Value {
        let architecture = match self.visual {
            VisualKind::Sam => "EvfSamModel",
            VisualKind::EfficientSam => "EvfEffiSamModel",
            VisualKind::Sam2 => "EvfSam2Model",
        };
        let mut json = json!({
            "architectures": [architecture],
            "model_type": MODEL_TYPE,
            "hidden_size": self.feature_width(),
            "out_dim": self.prompt_dim(),
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            OURS: self,
        });
        for (key, scale) in [("mm_extractor_scale", self.extractor_scale()), ("sam_scale", self.image_scale())] {
            if let Some(scale) = scale {
                json[key] = scale.into();
            }
        }
        json
    }

    /// The published name of BEiT-3's sizes, if they have one. What fresh weights are drawn from, and where the token table is kept,
    /// are no sizes.
    fn extractor_scale(&self) -> Option<&'static str> {
        let Beit3Config { init_std, host_table_above, .. } = self.beit3;
        let is = |sizes| self.beit3 == Beit3Config { init_std, host_table_above, ..sizes };
        match () {
            () if is(Beit3Config::large()) => Some("large"),
            () if is(Beit3Config::base()) => Some("base"),
            () => None,
        }
    }

    /// The published name of the image model's sizes, if they have one.
    fn image_scale(&self) -> Option<&'static str> {
        match self.visual {
            VisualKind::Sam => (self.sam == SamConfig::vit_h()).then_some("huge"),
            VisualKind::EfficientSam if self.efficient_sam == EfficientSamConfig::tiny() => Some("tiny"),
            VisualKind::EfficientSam => (self.efficient_sam == EfficientSamConfig::small()).then_some("small"),
            VisualKind::Sam2 if self.sam2 == Sam2Config::hiera_tiny() => Some("tiny"),
            VisualKind::Sam2 => (self.sam2 == Sam2Config::hiera_large()).then_some("large"),
        }
    }

    /// Whether the authors' scripts can build this model: BEiT-3 early fusion throughout, the image's `[CLS]`, published sizes, and
    /// images prepared as they were published.
    ///
    /// # Errors
    /// The first key for which they have no form, and what would be right.
    pub fn check_published(&self) -> Result<(), ConfigError> {
        if self.encoder != Encoder::Beit3Early {
            return Err(ConfigError::new(
                "encoder",
                quoted(&self.encoder),
                "\"beit3_early\", the only one the authors published",
            ));
        }
        if self.feature != PromptFeature::ImageCls {
            return Err(ConfigError::new("feature", quoted(&self.feature), "\"image_cls\", the only one the authors published"));
        }
        if self.extractor_scale().is_none() {
            let found = format!("{} wide, {} layers, {} token ids", self.beit3.dim, self.beit3.layers, self.beit3.vocab_size);
            return Err(ConfigError::new("beit3", found, "the published sizes of BEiT-3 large or base, fused in every layer"));
        }
        if self.image_scale().is_none() {
            let (key, expected) = match self.visual {
                VisualKind::Sam => ("sam", "the sizes of SAM ViT-H"),
                VisualKind::EfficientSam => ("efficient_sam", "the sizes of EfficientSAM-S or -T"),
                VisualKind::Sam2 => ("sam2", "the sizes of Hiera-L or -T"),
            };
            return Err(ConfigError::new(key, "of other sizes", expected));
        }
        match self.input {
            Some(input) => {
                Err(ConfigError::new("input", quoted(&input), "absent: the authors' scripts prepare images in one way"))
            }
            None => Ok(()),
        }
    }
}

impl EvfModel {
    /// Writes a folder in the published layout, which [`EvfPredictor::from_pretrained`] reads: settings, weights and the
    /// tokenizer's files by name. With [`Weights::Half`] numbers are rounded to f16, as those of the published files are.
    ///
    /// # Errors
    /// No tokenizer file among `tokenizer_files` or in the folder already, or a refusal of the system.
    pub fn save_pretrained(
        &self,
        folder: impl AsRef<Path>,
        tokenizer_files: &[(String, Vec<u8>)],
        weights: Weights,
    ) -> Result<(), EvfError> {
        let state_dict = export(self, &self.names(), "EVF-SAM");
        let folder = PretrainedFolder::new(folder);
        folder.save(&self.config().to_json(), &state_dict, weights == Weights::Half, tokenizer_files)?;
        self.config().tokenizer_kind().find(folder.path())?;
        Ok(())
    }
}

impl EvfPredictor {
    /// Everything from one folder: a published one, or one that [`EvfPredictor::save_pretrained`] wrote. Or
    /// `hf:OWNER/REPO`, a repository of the Hugging Face hub that holds one (`hf:YxZhang/evf-sam`).
    ///
    /// # Errors
    /// A file that is missing or damaged, the folder of another model, weights that do not fit `config.json`.
    pub fn from_pretrained(folder: impl AsRef<Path>, device: &Device) -> Result<Self, EvfError> {
        let found = Pretrained::open(folder)?;
        let tokenizer = found.tokenizer()?;
        let (model, _) = found.config.init(device)?.load(&StateDict::open(&found.weights)?)?;
        Self::new(&model, tokenizer)
    }

    /// Writes a folder that [`EvfPredictor::from_pretrained`] reads. `tokenizer_files` are the files that the tokenizer was
    /// read from, by name: `beit3.spm` and, where there is one, `added_tokens.json`; CLIP's `merges.txt` or
    /// `tokenizer.json`; `vocab.txt`.
    ///
    /// # Errors
    /// As [`EvfModel::save_pretrained`].
    pub fn save_pretrained(&self, folder: impl AsRef<Path>, tokenizer_files: &[(String, Vec<u8>)]) -> Result<(), EvfError> {
        self.model().save_pretrained(folder, tokenizer_files, Weights::Single)
    }
}
