//! DIT from a run config: sizes, tokenizer, first weights.

use burn::tensor::Device;
use fusion_dit::{DitConfig, DitModel, TextKind};
use nn_ops::weights::{KeyMap, StateDict};
use run_config::{Init, PromptKind, RunConfig, Tokenizer};
use sam_vit::Weights;

use crate::ModelError;
use crate::source::FoundWeights;
use crate::tokenizer::RunTokenizer;

/// DIT: sizes, tokenizer and first weights.
pub struct DitMethod {
    /// Sizes.
    pub config: DitConfig,
    /// The tokenizer.
    pub tokenizer: RunTokenizer,
    pub(super) init: Init,
    weights: Weights,
    /// Trained and judged without text.
    prompts_only: bool,
}

impl DitMethod {
    /// The config's DIT. `[model.dit]` gives sizes; the canvas, the number of text tokens and the vocabulary follow from
    /// `data.image_size`, `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Sizes that contradict each other or a tokenizer that the text encoder cannot use, with the config's key.
    pub fn new(run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Self, ModelError> {
        let mut config: DitConfig = run_config.method_section()?;
        config.input_size = run_config.data.image_size as usize;
        config.text_tokens = run_config.text.max_tokens;
        let init = &run_config.model.init;
        let (kind, name, table, file) = match config.text_encoder {
            TextKind::Bert => (Tokenizer::Wordpiece, "BERT", &mut config.bert.vocab_size, &init.bert),
            TextKind::Clip => (Tokenizer::Clip, "CLIP", &mut config.clip.vocab_size, &init.clip),
        };
        tokenizer.expect(run_config, kind, name, file.is_some())?;
        *table = tokenizer.rows(*table);
        config.validate().map_err(|e| super::config_error(run_config, "model.dit", e))?;
        let patch = config.sam.image_encoder.patch_size;
        if let Some((index, side)) =
            run_config.train.multi_scale.iter().enumerate().find(|(_, s)| !s.is_multiple_of(patch as u32))
        {
            let key = format!("train.multi_scale[{index}]");
            return Err(run_config.value_error(&key, side, format!("a multiple of {patch}, the side of a patch")).into());
        }
        let text = |kind: &PromptKind| *kind == PromptKind::Text;
        let prompts_only = !text(&run_config.eval.prompt) && !run_config.train.prompts.iter().any(text);
        Ok(Self { config, tokenizer, init: run_config.model.init.clone(), weights: super::weights(run_config), prompts_only })
    }

    /// The network with fresh weights, or those of the files that the config names.
    ///
    /// # Errors
    /// A weight file that does not fit.
    pub fn build(&self, device: &Device) -> Result<DitModel, ModelError> {
        let mut model = self.config.init(device)?;
        if let Some(path) = &self.init.method {
            let state_dict = StateDict::open_model(path)?;
            // Judged under points and boxes only, SAM itself is a whole model.
            let sam = self.prompts_only && state_dict.names().any(|name| name.starts_with("image_encoder."));
            let loaded = if sam { model.load_sam(&state_dict) } else { model.load_as(&state_dict, self.weights) };
            return Ok(loaded?.0);
        }
        if let Some(path) = &self.init.sam {
            (model, _) = model.load_sam(&StateDict::open_model(path)?)?;
        }
        let encoder = match self.config.text_encoder {
            TextKind::Bert => &self.init.bert,
            TextKind::Clip => &self.init.clip,
        };
        if let Some(path) = encoder {
            (model, _) = model.load_encoder(&StateDict::open_model(path)?)?;
        }
        Ok(model)
    }

    /// The network with the weights that were found, its encoders' matrices kept as `eval.half_weights` says.
    ///
    /// # Errors
    /// Weights that are missing, do not fit, or are beyond half precision.
    pub fn open(&self, device: &Device, weights: &FoundWeights) -> Result<DitModel, ModelError> {
        let net = weights.fill(self.build(device)?, &self.names())?;
        Ok(match self.weights {
            Weights::Single => net,
            Weights::Half => net.with_half_weights()?,
        })
    }

    /// As [`DitMethod::open`], from a file that is open.
    ///
    /// # Errors
    /// As there.
    pub fn open_state_dict(&self, device: &Device, state_dict: &StateDict) -> Result<DitModel, ModelError> {
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
