//! DIT's folder, read and written: `config.json`, `model.safetensors` under the released keys, and the tokenizer's files.

use std::path::Path;

use burn::tensor::Device;
use nn_ops::weights::{PretrainedFolder, StateDict, export};
use sam_vit::Weights;
use serde_json::Value;

use crate::config::DitConfig;
use crate::error::DitError;
use crate::model::DitModel;
use crate::predict::DitPredictor;

/// `model_type` in `config.json`.
const MODEL_TYPE: &str = "saymask-dit";

impl DitConfig {
    /// The contents of `config.json`: every setting, and `"model_type": "saymask-dit"`.
    pub fn to_json(&self) -> Value {
        let mut config = self.clone();
        // A file that names no layer of BERT means the released one.
        config.bert.output_layer.get_or_insert(config.bert.layers);
        let mut json = serde_json::to_value(config).unwrap_or_default();
        json["model_type"] = MODEL_TYPE.into();
        json
    }

    /// Reads and checks a folder's `config.json`.
    ///
    /// # Errors
    /// A file that is missing, the configuration of another model, settings that contradict each other.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Self, DitError> {
        let folder = PretrainedFolder::find(folder)?;
        let json = folder.config_of(MODEL_TYPE)?;
        let config: Self = serde_json::from_value(json).map_err(|e| folder.config_error(e))?;
        config.validate().map_err(|e| folder.config_error(e))?;
        Ok(config)
    }
}

impl DitModel {
    /// Writes a folder that [`DitPredictor::from_pretrained`] reads: settings, weights and the tokenizer's files by name.
    /// With [`Weights::Half`] numbers are rounded to f16.
    ///
    /// # Errors
    /// No tokenizer file among `tokenizer_files` or in the folder already, or a refusal of the system.
    pub fn save_pretrained(
        &self,
        folder: impl AsRef<Path>,
        tokenizer_files: &[(String, Vec<u8>)],
        weights: Weights,
    ) -> Result<(), DitError> {
        let state_dict = export(self, &self.names(), "DIT");
        let folder = PretrainedFolder::new(folder);
        folder.save(&self.config().to_json(), &state_dict, weights == Weights::Half, tokenizer_files)?;
        self.config().tokenizer_kind().find(folder.path())?;
        Ok(())
    }
}

impl DitPredictor {
    /// Everything from one folder, as [`DitPredictor::save_pretrained`] writes it, or from a repository of the Hugging Face hub
    /// that holds one, `hf:OWNER/REPO`.
    ///
    /// # Errors
    /// A file that is missing or damaged, the folder of another model, weights that do not fit `config.json`.
    pub fn from_pretrained(folder: impl AsRef<Path>, device: &Device) -> Result<Self, DitError> {
        let folder = PretrainedFolder::find(folder)?;
        let config = DitConfig::from_pretrained(folder.path())?;
        let tokenizer = config.tokenizer_kind().open(folder.path())?;
        let (model, _) = config.init(device)?.load(&StateDict::open(folder.weights()?)?)?;
        Self::new(&model, tokenizer)
    }

    /// Writes a folder that [`DitPredictor::from_pretrained`] reads. `tokenizer_files` are the files that the tokenizer was
    /// read from, by name: `vocab.txt`, or CLIP's `merges.txt` or `tokenizer.json`.
    ///
    /// # Errors
    /// As [`DitModel::save_pretrained`].
    pub fn save_pretrained(&self, folder: impl AsRef<Path>, tokenizer_files: &[(String, Vec<u8>)]) -> Result<(), DitError> {
        self.model().save_pretrained(folder, tokenizer_files, Weights::Single)
    }
}
