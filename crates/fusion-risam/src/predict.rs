//! An image and sentences in, masks out: the crate by itself.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use pil_ops::{Image, Letterbox};
use sam_vit::{Prediction, preprocess};
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
    /// SAM's preprocessing; logits go to the input's size, lose the padding, go to the image's size and are compared with
    /// `config.threshold` (RISAM sec. 4.1; the two steps are SAM's). Nothing else is done to the mask.
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized, a sentence without words.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, RisamError> {
        let (input, letterbox) = self.input(image)?;
        let threshold = self.config.threshold_logit() as f32;
        let mut found = Vec::with_capacity(sentences.len());
        let features = self.model.encode_images(&self.config, input)?;
        for group in sentences.chunks(TOGETHER) {
            let batch = RisamModel::tokens(&self.config, self.tokenizer.as_ref(), group)?;
            let text = self.model.encode_text(&self.config, &batch)?;
            let logits = self.model.net.forward(&self.config, &features, &vec![0; group.len()], text, batch.lengths())?.logits;
            found.extend(Prediction::from_batch(logits, &letterbox, threshold)?);
        }
        Ok(found)
    }
    /// The image as SAM's input, [1, 3, S, S], and where it lies in it.
    pub(crate) fn input(&self, image: &Image) -> Result<(Tensor<4>, Letterbox), RisamError> {
        let side = self.config.input_size;
        let (values, letterbox) = preprocess(image, side)?;
        let device = self.model.image_encoder.pos_embed.lazy_device();
        Ok((Tensor::from_data(TensorData::new(values, [1, 3, side, side]), &device), letterbox))
    }
}
