//! `RisamPredictor`: an image and sentences in, masks out.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use pil_ops::{Image, Letterbox};
use sam_vit::{MaskLogits, Prediction, SamError};
use text_encoders::{TextEncoder, TextTokenizer};

use crate::error::RisamError;
use crate::model::RisamModel;

/// Sentences that go through the network together.
const SENTENCES_PER_PASS: usize = 8;

/// A RISAM ready to use: weights and tokenizer.
#[derive(Clone)]
pub struct RisamPredictor {
    model: RisamModel,
    tokenizer: Arc<dyn TextTokenizer>,
}

/// An image, encoded and enhanced once and asked as often as wanted: [`RisamPredictor::embed`].
#[derive(Debug, Clone)]
pub struct RisamEmbedding {
    /// What no sentence changes, of this one image: [`RisamNet::enhance`](crate::RisamNet::enhance), [1, C, h, w].
    pub map: Tensor<4>,
    /// Where the image lies in the network's input.
    pub letterbox: Letterbox,
}

impl std::fmt::Debug for RisamPredictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.model.config();
        write!(f, "RisamPredictor(input {}, width {})", config.input_size, config.width)
    }
}

impl RisamPredictor {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// A tokenizer that can put out ids without a row in the text encoder's table.
    pub fn new(model: &RisamModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, RisamError> {
        model.config().validate()?;
        model.text_encoder.check_tokenizer(tokenizer.as_ref())?;
        Ok(Self { model: model.valid(), tokenizer })
    }

    /// The weights, for inference.
    pub fn model(&self) -> &RisamModel {
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
    pub fn with_threshold(mut self, threshold: f64) -> Result<Self, RisamError> {
        self.model.net.config.threshold = threshold;
        self.model.config().validate()?;
        Ok(self)
    }

    /// Encodes an image ([`RisamConfig::preprocess`](crate::RisamConfig::preprocess)), and enhances what it gives (RISAM sec. 3.2).
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn embed(&self, image: &Image) -> Result<RisamEmbedding, RisamError> {
        let side = self.model.config().input_size;
        let (values, letterbox) = self.model.config().preprocess(image)?;
        let input = Tensor::from_data(TensorData::new(values, [1, 3, side, side]), &self.model.device());
        let map = self.model.net.enhance(&self.model.encode_images(input)?)?;
        Ok(RisamEmbedding { map, letterbox })
    }

    /// One mask per sentence, at the image's own size.
    ///
    /// Logits go to the input's size, lose the padding, go to the image's size and are compared with the threshold (RISAM
    /// sec. 4.2; the two steps are SAM's); those of a stretched image go straight to the image's size. Nothing else is done to the mask.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn ask(&self, embedding: &RisamEmbedding, sentences: &[&str]) -> Result<Vec<Prediction>, RisamError> {
        self.answer(embedding, sentences, Prediction::from_batch)
    }

    /// As [`RisamPredictor::ask`], the masks before their threshold.
    ///
    /// # Errors
    /// As there.
    pub fn ask_logits(&self, embedding: &RisamEmbedding, sentences: &[&str]) -> Result<Vec<MaskLogits>, RisamError> {
        self.answer(embedding, sentences, MaskLogits::from_batch)
    }

    fn answer<T>(
        &self,
        embedding: &RisamEmbedding,
        sentences: &[&str],
        read: impl Fn(Tensor<4>, &Letterbox, f32) -> Result<Vec<T>, SamError>,
    ) -> Result<Vec<T>, RisamError> {
        let RisamEmbedding { map, letterbox } = embedding;
        let threshold = self.model.config().threshold_logit() as f32;
        let mut answers = Vec::with_capacity(sentences.len());
        for group in sentences.chunks(SENTENCES_PER_PASS) {
            let batch = self.model.tokens(self.tokenizer.as_ref(), group)?;
            let text = self.model.encode_text(&batch)?;
            let image_of = vec![0; group.len()];
            let output = self.model.net.forward_enhanced(map.clone(), &image_of, text, batch.lengths())?;
            let logits = self.model.config().answer(output);
            let letterbox = letterbox.rescaled(logits.dims()[3]);
            answers.extend(read(logits, &letterbox, threshold)?);
        }
        Ok(answers)
    }

    /// [`RisamPredictor::embed`], then [`RisamPredictor::ask`].
    ///
    /// # Errors
    /// As both.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, RisamError> {
        self.ask(&self.embed(image)?, sentences)
    }
}
