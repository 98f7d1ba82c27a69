//! An image and sentences in, masks out: the crate by itself.

use std::sync::Arc;

use burn::module::Module;
use pil_ops::Image;
use sam_vit::{Prediction, SamError};
use text_encoders::TextTokenizer;

use crate::config::{Encoder, EvfConfig};
use crate::error::EvfError;
use crate::model::EvfModel;

/// Sentences that go through the network together.
const TOGETHER: usize = 8;

/// An EVF-SAM ready to use: settings, weights and tokenizer.
#[derive(Clone)]
pub struct EvfSam {
    /// Settings.
    pub config: EvfConfig,
    /// Weights, for inference.
    pub model: EvfModel,
    tokenizer: Arc<dyn TextTokenizer>,
}

impl std::fmt::Debug for EvfSam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EvfSam({:?}, input {})", self.config.encoder, self.config.input_size())
    }
}

impl EvfSam {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// Settings that contradict each other, or a tokenizer that can put out ids without a row in the encoder's table.
    pub fn new(config: EvfConfig, model: &EvfModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, EvfError> {
        config.validate().map_err(EvfError::Config)?;
        if let Some(text) = model.mm_extractor.text() {
            text.check_tokenizer(tokenizer.as_ref())?;
        }
        Ok(Self { config, model: model.valid(), tokenizer })
    }

    /// One mask a sentence, at the image's own size. The image is embedded once, whatever the number of sentences.
    ///
    /// SAM's postprocessing: logits go to the input's size, lose the padding, go to the image's size and are compared with
    /// `config.threshold`.
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized, a sentence without words.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, EvfError> {
        let device = self.model.net.visual_model.device();
        let (images, letterbox) = self.config.preprocess(image, &device)?;
        let mut found = Vec::with_capacity(sentences.len());
        if sentences.is_empty() {
            return Ok(found);
        }
        let embedding = self.model.net.embed(&self.config, images.sam);
        for group in sentences.chunks(TOGETHER) {
            let batch = self.model.tokens(&self.config, self.tokenizer.as_ref(), group)?;
            let same = vec![0; group.len()];
            let feature = self.model.extract(&self.config, images.multimodal.clone(), &batch, &same)?;
            let logits = self.model.net.forward(&self.config, embedding.clone(), feature, &same)?.logits;
            found.extend(Prediction::from_batch(logits, &letterbox, self.config.threshold as f32)?);
        }
        Ok(found)
    }

    /// Where the image's `[CLS]`, which becomes SAM's prompt, looks in BEiT-3's last layer (EVF-SAM Fig. 5).
    ///
    /// # Errors
    /// As [`EvfSam::predict`], or an encoder that does not read image and text together in BEiT-3.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<ImageAttention, EvfError> {
        let (Encoder::Beit3Early, Some(beit3)) = (self.config.encoder, &self.model.mm_extractor.beit3) else {
            let what = format!("{:?} has no map of `[CLS]` over the image; encoder = \"beit3_early\" has", self.config.encoder);
            return Err(EvfError::Config(what));
        };
        let (images, _) = self.config.preprocess(image, &self.model.net.visual_model.device())?;
        let batch = self.model.tokens(&self.config, self.tokenizer.as_ref(), &[sentence])?;
        let patches = self.config.beit3.patches();
        let seen = beit3.last_attention(images.multimodal, &batch, &[0])?.narrow(2, 0, 1).narrow(3, 1, patches);
        let [_, heads, _, _] = seen.dims();
        let values = seen.try_into_vec_as::<f32>().map_err(|e| SamError::Device(format!("attention: {e}")))?;
        let heads: Vec<Vec<f32>> = values.chunks_exact(patches).take(heads).map(<[f32]>::to_vec).collect();
        Ok(ImageAttention { grid: self.config.beit3.image_size / self.config.beit3.patch_size, heads })
    }
}

/// Where `[CLS]` looks: [`EvfSam::attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct ImageAttention {
    /// Side g of the patch grid, which covers the whole image.
    pub grid: usize,
    /// A map a head, g x g, row by row: shares of the attention, the rest of which lies on `[CLS]` and on words.
    pub heads: Vec<Vec<f32>>,
}

impl ImageAttention {
    /// The mean over heads, g x g.
    pub fn mean(&self) -> Vec<f32> {
        let count = self.heads.len().max(1) as f32;
        (0..self.grid * self.grid).map(|i| self.heads.iter().map(|h| h[i]).sum::<f32>() / count).collect()
    }
}
