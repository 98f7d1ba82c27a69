//! RISAM from a run config: settings, tokenizer, first weights.

use burn::tensor::Device;
use fusion_risam::{RisamConfig, RisamModel};
use nn_ops::weights::{KeyMap, StateDict};
use run_config::{Init, RunConfig, Tokenizer};
use sam_vit::Weights;

use crate::ModelError;
use crate::source::FoundWeights;
use crate::tokenizer::RunTokenizer;

/// RISAM: settings, tokenizer and first weights.
pub struct RisamMethod {
    /// Settings.
    pub config: RisamConfig,
    /// The tokenizer.
    pub tokenizer: RunTokenizer,
    pub(super) init: Init,
    weights: Weights,
}

impl RisamMethod {
    /// The config's RISAM. `[model.risam]` gives sizes and choices; the canvas, the number of words and the vocabulary follow
    /// from `data.image_size`, `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Settings that contradict each other, with the config's key.
    pub fn new(run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Self, ModelError> {
        tokenizer.expect(run_config, Tokenizer::Clip, "CLIP", run_config.model.init.clip.is_some())?;
        let mut config: RisamConfig = run_config.method_section()?;
        super::expect_fit(run_config, config.fit())?;
        config.input_size = run_config.data.image_size as usize;
        config.words = run_config.text.max_tokens;
        config.clip.vocab_size = tokenizer.rows(config.clip.vocab_size);
        config.validate().map_err(|e| super::config_error(run_config, "model.risam", e))?;
        Ok(Self { config, tokenizer, init: run_config.model.init.clone(), weights: super::weights(run_config) })
    }

    /// The network with fresh weights, or those of the files that the config names.
    ///
    /// # Errors
    /// A weight file that does not fit.
    pub fn build(&self, device: &Device) -> Result<RisamModel, ModelError> {
        let mut model = self.config.init(device)?;
        // A whole model replaces everything: the encoders' files need not be there.
        if let Some(path) = &self.init.method {
            return Ok(model.load_as(&StateDict::open_model(path)?, self.weights)?.0);
        }
        if let Some(path) = self.init.sam.as_ref().filter(|_| self.config.uses_sam()) {
            (model, _) = model.load_sam(&StateDict::open_model(path)?)?;
        }
        if let Some(path) = &self.init.swin {
            (model, _) = model.load_swin(&StateDict::open_model(path)?)?;
        }
        if let Some(path) = &self.init.clip {
            (model, _) = model.load_encoder(&StateDict::open_model(path)?)?;
        }
        Ok(model)
    }

    /// The network with the weights that were found, its encoders' matrices kept as `eval.half_weights` says.
    ///
    /// # Errors
    /// Weights that are missing, do not fit, or are beyond half precision.
    pub fn open(&self, device: &Device, weights: &FoundWeights) -> Result<RisamModel, ModelError> {
        let net = weights.fill(self.build(device)?, &self.names())?;
        Ok(match self.weights {
            Weights::Single => net,
            Weights::Half => net.with_half_weights()?,
        })
    }

    /// As [`RisamMethod::open`], from a file that is open.
    ///
    /// # Errors
    /// As there.
    pub fn open_state_dict(&self, device: &Device, state_dict: &StateDict) -> Result<RisamModel, ModelError> {
        Ok(self.build(device)?.load_as(state_dict, self.weights)?.0)
    }

    /// Official names of the parameters.
    pub fn names(&self) -> KeyMap {
        self.config.names()
    }

    /// Files that belong beside the weights, by name: the tokenizer and `config.json`.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        super::folder_files(&self.tokenizer, &self.config.to_json())
    }
}
