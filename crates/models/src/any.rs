//! Any method with its weights, ready to be asked.

use burn::module::Module;
use burn::tensor::Device;
use fusion_dit::{DitEmbedding, DitModel, DitPredictor};
use fusion_evf::{EvfEmbedding, EvfModel, EvfPredictor};
use fusion_risam::{RisamEmbedding, RisamModel, RisamPredictor};
use nn_ops::weights::StateDict;
use pil_ops::Image;
use run_config::{Init, RunConfig};
use sam_vit::Prediction;
use text_encoders::Truncation;

use crate::attention::{self, Attention};
use crate::methods::{AnyMethod, pretrained_config_from_json};
use crate::source::FoundWeights;
use crate::tokenizer::RunTokenizer;
use crate::{ModelError, precision, with_method};

/// A text-prompted segmenter, whatever its method.
#[derive(Clone)]
pub enum AnyModel {
    /// Deep instruction tuning.
    Dit(DitPredictor),
    /// EVF-SAM.
    Evf(EvfPredictor),
    /// RISAM.
    Risam(RisamPredictor),
}

/// An image, encoded once and asked as often as wanted: [`AnyModel::embed`].
#[derive(Debug, Clone)]
pub enum AnyEmbedding {
    /// Of deep instruction tuning.
    Dit(DitEmbedding),
    /// Of EVF-SAM.
    Evf(EvfEmbedding),
    /// Of RISAM.
    Risam(RisamEmbedding),
}

impl AnyModel {
    /// The config's method with its weights, in the precision of `eval.precision`, with `eval.threshold` if it is set and the
    /// method's own threshold if not.
    ///
    /// # Errors
    /// Settings that contradict each other, weights that do not fit, a precision that the device does not have.
    pub fn open(
        run_config: &RunConfig,
        tokenizer: RunTokenizer,
        device: &Device,
        weights: &FoundWeights,
    ) -> Result<Self, ModelError> {
        let method = AnyMethod::for_weights(run_config, tokenizer, weights)?;
        with_method!(method, method => {
            ready(run_config, method.open(device, weights)?, &method.tokenizer, device)
        })
    }

    /// A model whose files are in memory: no file system, thread or network is touched. `config` is the text of a
    /// `config.toml` without `extends`, `tokenizer_files` are the tokenizer's by name, `weights` is a safetensors file under
    /// the method's official names, as `export` writes it.
    ///
    /// # Errors
    /// As [`AnyModel::open`].
    pub fn from_bytes(
        config: &str,
        tokenizer_files: &[(String, Vec<u8>)],
        weights: Vec<u8>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Self::from_config(RunConfig::resolve::<&str>(config, None, &[])?, tokenizer_files, weights, device)
    }

    /// As [`AnyModel::from_bytes`] for a folder that `export` wrote: `config` is the text of its `config.json`.
    pub(crate) fn from_exported(
        config: &str,
        tokenizer_files: &[(String, Vec<u8>)],
        weights: Vec<u8>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let names: Vec<&str> = tokenizer_files.iter().map(|(name, _)| name.as_str()).collect();
        Self::from_config(pretrained_config_from_json(config, &names)?, tokenizer_files, weights, device)
    }

    fn from_config(
        mut run_config: RunConfig,
        tokenizer_files: &[(String, Vec<u8>)],
        weights: Vec<u8>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        run_config.model.init = Init::default();
        let tokenizer = RunTokenizer::from_bytes(&run_config, tokenizer_files)?;
        let state_dict = StateDict::from_bytes("weights in memory", weights)?;
        let method = AnyMethod::new(&run_config, tokenizer)?;
        with_method!(method, method => {
            ready(&run_config, method.open_state_dict(device, &state_dict)?, &method.tokenizer, device)
        })
    }

    /// The same model with another threshold: a pixel belongs to a mask where its probability is above it.
    ///
    /// # Errors
    /// Unless it is between 0 and 1.
    pub fn with_threshold(self, threshold: f64) -> Result<Self, ModelError> {
        Ok(match self {
            Self::Dit(model) => Self::Dit(model.with_threshold(threshold)?),
            Self::Evf(model) => Self::Evf(model.with_threshold(threshold)?),
            Self::Risam(model) => Self::Risam(model.with_threshold(threshold)?),
        })
    }

    /// Encodes an image, to be asked by [`AnyModel::ask`].
    ///
    /// # Errors
    /// An image that the method refuses.
    pub fn embed(&self, image: &Image) -> Result<AnyEmbedding, ModelError> {
        Ok(match self {
            Self::Dit(model) => AnyEmbedding::Dit(model.embed(image)?),
            Self::Evf(model) => AnyEmbedding::Evf(model.embed(image)?),
            Self::Risam(model) => AnyEmbedding::Risam(model.embed(image)?),
        })
    }

    /// One mask per sentence, at the image's own size.
    ///
    /// # Errors
    /// A sentence that the method refuses, or an embedding of another method.
    pub fn ask(&self, embedding: &AnyEmbedding, sentences: &[&str]) -> Result<Vec<Prediction>, ModelError> {
        Ok(match (self, embedding) {
            (Self::Dit(model), AnyEmbedding::Dit(embedding)) => model.ask(embedding, sentences)?,
            (Self::Evf(model), AnyEmbedding::Evf(embedding)) => model.ask(embedding, sentences)?,
            (Self::Risam(model), AnyEmbedding::Risam(embedding)) => model.ask(embedding, sentences)?,
            _ => return Err(ModelError::Unsupported("use for an embedding that another method made")),
        })
    }

    /// [`AnyModel::embed`], then [`AnyModel::ask`].
    ///
    /// # Errors
    /// As both.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, ModelError> {
        self.ask(&self.embed(image)?, sentences)
    }

    /// What of a sentence is beyond the model's number of tokens and therefore not read; nothing if all of it is.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn truncation(&self, sentence: &str) -> Result<Option<Truncation>, ModelError> {
        let (tokenizer, max_tokens) = match self {
            Self::Dit(model) => (model.tokenizer(), model.model().max_tokens()),
            Self::Evf(model) => (model.tokenizer(), model.model().max_tokens()),
            Self::Risam(model) => (model.tokenizer(), model.model().max_tokens()),
        };
        Ok(tokenizer.truncation(sentence, max_tokens)?)
    }

    /// What is wrong with a token in brackets, such as `[semantic]`, that a sentence begins with: see
    /// [`split_token`](crate::tokenizer::split_token).
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn split_token(&self, sentence: &str) -> Result<Option<String>, ModelError> {
        let tokenizer = match self {
            Self::Dit(model) => model.tokenizer(),
            Self::Evf(model) => model.tokenizer(),
            Self::Risam(model) => model.tokenizer(),
        };
        crate::tokenizer::split_token(tokenizer.as_ref(), sentence)
    }

    /// Where text and image attend to each other, as the paper's figure shows it; of the default SAM inside of DIT, whose image encoder
    /// sees no text, where the image attends to itself.
    ///
    /// # Errors
    /// An image or a sentence that the method refuses, or a variant without such maps.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<Attention, ModelError> {
        match self {
            Self::Dit(model) => attention::of_dit(model, image, sentence),
            Self::Evf(model) => attention::of_evf(model, image, sentence),
            Self::Risam(model) => attention::of_risam(model, image, sentence, None),
        }
    }

    /// What one region of the image attends to: other regions (DIT), the words of the sentence (RISAM Fig. 7a). `place` is (x, y) in
    /// pixels of the image.
    ///
    /// # Errors
    /// As [`AnyModel::attention`]; a place outside of the image; EVF-SAM, whose figure has no regions.
    pub fn attention_of_region(&self, image: &Image, sentence: &str, place: [f32; 2]) -> Result<Attention, ModelError> {
        match self {
            Self::Dit(model) => attention::of_dit_image(model, image, sentence, Some(place)),
            Self::Evf(_) => Err(ModelError::Unsupported("attention of a region: its map is that of [CLS]")),
            Self::Risam(model) => attention::of_risam(model, image, sentence, Some(place)),
        }
    }
}

/// The network in the precision of `eval.precision`, with its tokenizer.
fn ready<N: Network>(run_config: &RunConfig, net: N, tokenizer: &RunTokenizer, device: &Device) -> Result<AnyModel, ModelError> {
    precision::check_evaluation(run_config, device)?;
    let model = precision::seen(&net, run_config.eval.precision).asked_with(tokenizer)?;
    match run_config.eval.threshold {
        Some(threshold) => model.with_threshold(threshold),
        None => Ok(model),
    }
}

/// What the three methods' networks have in common, beyond Burn's `Module`.
trait Network: Module {
    fn asked_with(&self, tokenizer: &RunTokenizer) -> Result<AnyModel, ModelError>;
}

impl Network for DitModel {
    fn asked_with(&self, tokenizer: &RunTokenizer) -> Result<AnyModel, ModelError> {
        Ok(AnyModel::Dit(DitPredictor::new(self, tokenizer.shared())?))
    }
}

impl Network for EvfModel {
    fn asked_with(&self, tokenizer: &RunTokenizer) -> Result<AnyModel, ModelError> {
        Ok(AnyModel::Evf(EvfPredictor::new(self, tokenizer.shared())?))
    }
}

impl Network for RisamModel {
    fn asked_with(&self, tokenizer: &RunTokenizer) -> Result<AnyModel, ModelError> {
        Ok(AnyModel::Risam(RisamPredictor::new(self, tokenizer.shared())?))
    }
}
