//! An image and sentences in, masks out: the crate by itself.

use std::sync::Arc;

use burn::module::Module;
use pil_ops::Image;
use sam_vit::Prediction;
use text_encoders::{TextEncoder, TextTokenizer};

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::model::RisamModel;

/// Sentences that go through the network together.
const TOGETHER: usize = 8;

/// A RISAM ready to use: settings, weights and tokenizer.
#[derive(Clone)]
pub struct Risam {
    /// Settings.
    pub config: RisamConfig,
    /// Weights, for inference.
    pub model: RisamModel,
    pub(crate) tokenizer: Arc<dyn TextTokenizer>,
}

impl std::fmt::Debug for Risam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Risam(input {}, width {})", self.config.input_size, self.config.width)
    }
}

impl Risam {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// Settings that contradict each other, or a tokenizer that can put out ids without a row in the text encoder's table.
    pub fn new(config: RisamConfig, model: &RisamModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, RisamError> {
        config.validate().map_err(RisamError::Config)?;
        model.text_encoder.check_tokenizer(tokenizer.as_ref())?;
        Ok(Self { config, model: model.valid(), tokenizer })
    }

    /// One mask a sentence, at the image's own size. The image is encoded once.
    ///
    /// [`RisamConfig::preprocess`]; logits go to the image's size ([`RisamConfig::restore`]) and are compared with
    /// `config.threshold`. Nothing else is done to the mask.
    ///
    /// # Errors
    /// An image that is inconsistent or too thin, a sentence without words.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, RisamError> {
        let (input, placement) = self.config.preprocess(image, &self.model.text_encoder.device())?;
        let threshold = self.config.threshold_logit() as f32;
        let mut found = Vec::with_capacity(sentences.len());
        let features = self.model.encode_images(&self.config, input)?;
        for group in sentences.chunks(TOGETHER) {
            let batch = RisamModel::tokens(&self.config, self.tokenizer.as_ref(), group)?;
            let text = self.model.encode_text(&self.config, &batch)?;
            let low_res = self.model.net.forward(&self.config, &features, &vec![0; group.len()], text, batch.lengths())?.low_res;
            for map in self.config.restore(low_res, &placement).iter_dim(0) {
                found.push(Prediction::from_map(map.reshape([image.height, image.width]), threshold)?);
            }
        }
        Ok(found)
    }
}
