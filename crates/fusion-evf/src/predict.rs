//! `EvfPredictor`: an image and sentences in, masks out.

use std::sync::Arc;

use burn::module::Module;
use nn_ops::ConfigError;
use nn_ops::config::quoted;
use pil_ops::{Image, Letterbox};
use sam_vit::{Prediction, SamError};
use text_encoders::TextTokenizer;

use crate::encoder::MultimodalEncoder;
use crate::error::EvfError;
use crate::model::{EvfFeatures, EvfModel};

/// Sentences that go through the network together.
const SENTENCES_PER_PASS: usize = 8;

/// An EVF-SAM ready to use: weights and tokenizer.
#[derive(Clone)]
pub struct EvfPredictor {
    model: EvfModel,
    tokenizer: Arc<dyn TextTokenizer>,
}

/// An image, encoded once and asked as often as wanted: [`EvfPredictor::embed`].
#[derive(Debug, Clone)]
pub struct EvfEmbedding {
    /// What no sentence changes, of this one image.
    pub features: EvfFeatures,
    /// Where the image lies in the image model's input.
    pub letterbox: Letterbox,
}

impl std::fmt::Debug for EvfPredictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.model.config();
        write!(f, "EvfPredictor({:?} on {:?}, input {})", config.encoder, config.visual, config.input_size())
    }
}

impl EvfPredictor {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// A tokenizer that can put out ids without a row in the encoder's table.
    pub fn new(model: &EvfModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, EvfError> {
        model.config().validate()?;
        model.mm_extractor.text().check_tokenizer(tokenizer.as_ref())?;
        Ok(Self { model: model.valid(), tokenizer })
    }

    /// The weights, for inference.
    pub fn model(&self) -> &EvfModel {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<dyn TextTokenizer> {
        &self.tokenizer
    }

    /// Another threshold than the configuration's: the probability above which a pixel is foreground.
    ///
    /// # Errors
    /// Nothing between 0 and 1.
    pub fn with_threshold(mut self, threshold: f64) -> Result<Self, EvfError> {
        self.model.net.config.threshold = threshold;
        self.model.config().validate()?;
        Ok(self)
    }

    /// Encodes an image by the image model's encoder, and prepares the multimodal encoder's input.
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn embed(&self, image: &Image) -> Result<EvfEmbedding, EvfError> {
        let (images, letterbox) = self.model.config().preprocess(image, &self.model.device())?;
        Ok(EvfEmbedding { features: self.model.encode_images(images), letterbox })
    }

    /// One mask per sentence, at the image's own size.
    ///
    /// SAM's postprocessing: logits go to the input's size, lose the padding, go to the image's size and are compared with
    /// the threshold. Where the image fills the input, they go to the image's size in one step.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn ask(&self, embedding: &EvfEmbedding, sentences: &[&str]) -> Result<Vec<Prediction>, EvfError> {
        let EvfEmbedding { features, letterbox } = embedding;
        let threshold = self.model.config().threshold_logit() as f32;
        let mut predictions = Vec::with_capacity(sentences.len());
        for group in sentences.chunks(SENTENCES_PER_PASS) {
            let batch = self.model.tokens(self.tokenizer.as_ref(), group)?;
            let logits = self.model.forward_features(features, &batch, &vec![0; group.len()])?.logits;
            // A pixel of the input is one of the logits by their sides.
            let letterbox = letterbox.rescaled(logits.dims()[3]);
            predictions.extend(Prediction::from_batch(logits, &letterbox, threshold)?);
        }
        Ok(predictions)
    }

    /// [`EvfPredictor::embed`], then [`EvfPredictor::ask`].
    ///
    /// # Errors
    /// As both.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, EvfError> {
        self.ask(&self.embed(image)?, sentences)
    }

    /// Where the image's `[CLS]`, which becomes SAM's prompt, attends in BEiT-3's last layer (EVF-SAM Fig. 5).
    ///
    /// # Errors
    /// As [`EvfPredictor::predict`], or an encoder that does not read image and text together in BEiT-3.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<EvfAttention, EvfError> {
        let config = self.model.config();
        let MultimodalEncoder::Beit3Early(joint) = &self.model.mm_extractor else {
            let expected = "\"beit3_early\" for attention maps: the others have none of `[CLS]` over the image";
            return Err(ConfigError::new("encoder", quoted(&config.encoder), expected).into());
        };
        let (images, _) = config.preprocess(image, &self.model.device())?;
        let batch = self.model.tokens(self.tokenizer.as_ref(), &[sentence])?;
        let patches = config.beit3.patches();
        let map = joint.beit3.last_attention(images.multimodal, &batch, &[0])?.narrow(2, 0, 1).narrow(3, 1, patches);
        let values = map.try_into_vec_as::<f32>().map_err(|e| SamError::Device(format!("attention: {e}")))?;
        let heads = values.chunks_exact(patches).map(<[f32]>::to_vec).collect();
        Ok(EvfAttention { grid: config.beit3.image_size / config.beit3.patch_size, heads })
    }
}

/// Where `[CLS]` attends: [`EvfPredictor::attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct EvfAttention {
    /// Side g of the patch grid, which covers the whole image.
    pub grid: usize,
    /// One map per head, g x g, row by row: shares of the attention, the rest of which lies on `[CLS]` and on words.
    pub heads: Vec<Vec<f32>>,
}

impl EvfAttention {
    /// The mean over heads, g x g.
    pub fn mean(&self) -> Vec<f32> {
        let count = self.heads.len().max(1) as f32;
        (0..self.grid * self.grid).map(|i| self.heads.iter().map(|h| h[i]).sum::<f32>() / count).collect()
    }
}
