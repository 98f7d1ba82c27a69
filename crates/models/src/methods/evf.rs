//! EVF-SAM from a run config or a published folder: settings, tokenizer, first weights.

use burn::tensor::Device;
use fusion_evf::{Encoder, EvfConfig, EvfModel, VisualKind};
use nn_ops::weights::{KeyMap, StateDict};
use run_config::{Init, RunConfig, Tokenizer};
use sam_vit::Weights;
use serde_json::{Value, json};

use crate::ModelError;
use crate::source::FoundWeights;
use crate::tokenizer::RunTokenizer;

/// EVF-SAM: settings, tokenizer and first weights.
pub struct EvfMethod {
    /// Settings.
    pub config: EvfConfig,
    /// The tokenizer.
    pub tokenizer: RunTokenizer,
    pub(super) init: Init,
    weights: Weights,
}

impl EvfMethod {
    /// The config's EVF-SAM. `[model.evf]` gives sizes and choices; the longest sentence and the vocabulary follow from
    /// `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Settings that contradict each other, with the config's key.
    pub fn new(run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Self, ModelError> {
        let mut config: EvfConfig = run_config.method_section()?;
        super::expect_fit(run_config, config.fit())?;
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
        config.validate().map_err(|e| super::config_error(run_config, "model.evf", e))?;
        let side = run_config.data.image_size as usize;
        if side != config.input_size() {
            let key = match config.visual {
                VisualKind::Sam => "sam.image_encoder.image_size",
                VisualKind::EfficientSam => "efficient_sam.image_size",
                VisualKind::Sam2 => "sam2.image_encoder.image_size",
            };
            let expected = format!("{}, the side of model.evf.{key}", config.input_size());
            return Err(run_config.value_error("data.image_size", side, expected).into());
        }
        Ok(Self { config, tokenizer, init: run_config.model.init.clone(), weights: super::weights(run_config) })
    }

    /// The network with fresh weights, or those of the files that the config names.
    ///
    /// # Errors
    /// A weight file that does not fit.
    pub fn build(&self, device: &Device) -> Result<EvfModel, ModelError> {
        let (config, init) = (&self.config, &self.init);
        let mut model = config.init(device)?;
        // A whole model replaces everything: SAM's and the encoder's files need not be there.
        if let Some(path) = &init.method {
            return Ok(model.load_as(&StateDict::open_model(path)?, self.weights)?.0);
        }
        if let Some(path) = &init.sam {
            (model, _) = model.load_sam(&StateDict::open_model(path)?)?;
        }
        if let Some(path) = encoder_file(config, init) {
            (model, _) = model.load_encoder(&StateDict::open_model(path)?)?;
        }
        Ok(model)
    }

    /// The network with the weights that were found, its encoders' matrices kept as `eval.half_weights` says.
    ///
    /// # Errors
    /// Weights that are missing, do not fit, or are beyond half precision.
    pub fn open(&self, device: &Device, weights: &FoundWeights) -> Result<EvfModel, ModelError> {
        let net = weights.fill(self.build(device)?, &self.names())?;
        Ok(match self.weights {
            Weights::Single => net,
            Weights::Half => net.with_half_weights()?,
        })
    }

    /// As [`EvfMethod::open`], from a file that is open.
    ///
    /// # Errors
    /// As there.
    pub fn open_state_dict(&self, device: &Device, state_dict: &StateDict) -> Result<EvfModel, ModelError> {
        Ok(self.build(device)?.load_as(state_dict, self.weights)?.0)
    }

    /// Official names of the parameters.
    pub fn names(&self) -> KeyMap {
        self.config.names()
    }

    /// What else the authors' scripts look for in a published folder, by name.
    pub fn published_files(&self) -> Vec<(String, Vec<u8>)> {
        let config = tokenizer_config(&self.tokenizer.files());
        config.map(|config| ("tokenizer_config.json".to_owned(), format!("{config:#}\n").into_bytes())).into_iter().collect()
    }

    /// Fails unless the authors' scripts have a form for this model; `run_config` is the one that it was made from.
    ///
    /// # Errors
    /// The config's key, and what would be right.
    pub fn check_published(&self, run_config: &RunConfig) -> Result<(), ModelError> {
        if self.tokenizer.kind != Tokenizer::Sentencepiece {
            let expected = "\"sentencepiece\", BEiT-3's, which the authors' scripts read";
            return Err(run_config.value_error("text.tokenizer", format!("\"{}\"", self.tokenizer.kind.name()), expected).into());
        }
        self.config.check_published().map_err(|e| super::config_error(run_config, "model.evf", e))
    }

    /// Files that belong beside the weights, by name: the tokenizer and `config.json`, which make the published layout.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        super::folder_files(&self.tokenizer, &self.config.to_json())
    }
}

/// `tokenizer_config.json` of Hugging Face's tokenizers, which the authors' scripts open the folder with: the class that reads the
/// vocabulary's file. CLIP's merges alone are not enough for one.
fn tokenizer_config(files: &[(String, Vec<u8>)]) -> Option<Value> {
    let has = |name: &str| files.iter().any(|(file, _)| file == name);
    if has("sentencepiece.bpe.model") {
        return Some(json!({
            "tokenizer_class": "XLMRobertaTokenizer",
            "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
            "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
        }));
    }
    if has("vocab.txt") {
        return Some(json!({ "tokenizer_class": "BertTokenizer", "do_lower_case": true }));
    }
    has("tokenizer.json").then(|| json!({ "tokenizer_class": "CLIPTokenizerFast" }))
}

/// The weights that the chosen encoder starts from.
fn encoder_file<'a>(config: &EvfConfig, init: &'a Init) -> Option<&'a String> {
    match config.encoder {
        Encoder::ClipText | Encoder::ClipLate => init.clip.as_ref(),
        Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => init.vilt.as_ref(),
        Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => init.beit3.as_ref(),
    }
}
