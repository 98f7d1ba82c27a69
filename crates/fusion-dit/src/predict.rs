//! An image and sentences in, masks out: the crate by itself.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use pil_ops::{Fit, Image, Letterbox, Normalisation};
use sam_vit::{Prediction, SamError};
use text_encoders::TextTokenizer;

use crate::config::DitConfig;
use crate::error::DitError;
use crate::model::DitModel;
use crate::prompt::Prompt;

/// Prompts that go through the network together.
const TOGETHER: usize = 8;

/// A DIT ready to use: sizes, weights and tokenizer.
#[derive(Clone)]
pub struct Dit {
    /// Sizes.
    pub config: DitConfig,
    /// Weights, for inference.
    pub model: DitModel,
    tokenizer: Arc<dyn TextTokenizer>,
}

impl std::fmt::Debug for Dit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dit({:?}, input {})", self.config.variant, self.config.input_size)
    }
}

impl Dit {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// Sizes that contradict each other, or a tokenizer that can put out ids without a row in the text encoder's table.
    pub fn new(config: DitConfig, model: &DitModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, DitError> {
        use text_encoders::TextEncoder;
        config.validate().map_err(DitError::Config)?;
        model.lang_encoder.check_tokenizer(tokenizer.as_ref())?;
        Ok(Self { config, model: model.valid(), tokenizer })
    }

    /// One mask a sentence, at the image's own size.
    ///
    /// The image is brought to the network's input with its long side and centred; the logits of its area are resized
    /// bilinearly to the original size and compared with `config.threshold`. (The released evaluation resizes the binary
    /// map instead, which makes masks up to a pixel larger; evaluation under that rule is a profile of the metrics crate.)
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized, a sentence without words.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, DitError> {
        let prompts: Vec<Prompt> = sentences.iter().map(|s| Prompt::Text((*s).to_owned())).collect();
        self.predict_prompts(image, &prompts)
    }

    /// As [`Dit::predict`] under any prompts, in pixels of the image itself (Tab. 6).
    ///
    /// # Errors
    /// As [`Dit::predict`], or a prompt without content.
    pub fn predict_prompts(&self, image: &Image, prompts: &[Prompt]) -> Result<Vec<Prediction>, DitError> {
        let (input, letterbox) = self.input(image)?;
        let scale = letterbox.factors().map(|f| f as f32);
        let shift = [letterbox.left as f32, letterbox.top as f32];
        let prompts: Vec<Prompt> = prompts.iter().map(|p| p.moved(scale, shift)).collect();
        let threshold = (self.config.threshold / (1.0 - self.config.threshold)).ln() as f32;
        let mut found = Vec::with_capacity(prompts.len());
        for group in prompts.chunks(TOGETHER) {
            let side = letterbox.canvas;
            let rows = if self.config.variant.instructs_encoder() { group.len() } else { 1 };
            let images = input.clone().expand([rows, 3, side, side]);
            let logits = self.model.forward_prompts(&self.config, self.tokenizer.as_ref(), images, group)?;
            found.extend(Prediction::from_batch(logits, &letterbox, threshold)?);
        }
        Ok(found)
    }

    /// Where each word of a sentence looks in each block of the image encoder (paper Fig. 5).
    ///
    /// # Errors
    /// As [`Dit::predict`], or a variant that keeps text out of the encoder.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<WordAttention, DitError> {
        let variant = self.config.variant;
        if !variant.instructs_encoder() {
            let what = "its text meets the image in the mask decoder only; every other variant shows where words look".into();
            return Err(DitError::Variant { variant, what });
        }
        let (input, letterbox) = self.input(image)?;
        let words = self.tokenizer.words(sentence, self.config.text_tokens)?;
        let maps = self.model.attention(&self.config, self.tokenizer.as_ref(), input, &[sentence])?;
        let layers = maps.into_iter().map(|map| {
            let [_, slots, height, width] = map.dims();
            let map = map.reshape([slots, height * width]);
            words.iter().map(|(_, at)| read(map.clone().narrow(0, at.start, at.len()).mean_dim(0))).collect()
        });
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(WordAttention {
            words: words.into_iter().map(|(word, _)| word).collect(),
            grid: self.config.grid(),
            area: letterbox.relative_area(),
            layers,
        })
    }

    /// The image in the middle of the input, [1, 3, S, S].
    fn input(&self, image: &Image) -> Result<(Tensor<4>, Letterbox), DitError> {
        let side = self.config.input_size;
        let letterbox = Letterbox::new(image.height(), image.width(), side, Fit::Centre).map_err(SamError::from)?;
        let resized = letterbox.resize(image).map_err(SamError::from)?;
        let values = letterbox.normalise(&resized, Normalisation::IMAGENET).map_err(SamError::from)?;
        let values = TensorData::new(values, [1, 3, side, side]);
        Ok((Tensor::from_data(values, &self.model.net.text_proj.weight.device()), letterbox))
    }
}

/// Where words look: [`Dit::attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct WordAttention {
    /// The words, those beyond the text's limit left out.
    pub words: Vec<String>,
    /// Side g of the token grid.
    pub grid: usize,
    /// The part of the grid that the image covers, (top, left, bottom, right) in sides of the grid; the rest is padding.
    pub area: [f32; 4],
    /// A list of maps a block, one a word: g x g shares of the word's attention, mean over heads and the word's tokens.
    pub layers: Vec<Vec<Vec<f32>>>,
}

fn read(row: Tensor<2>) -> Result<Vec<f32>, DitError> {
    Ok(row.try_into_vec_as::<f32>().map_err(|e| SamError::Device(format!("attention: {e}")))?)
}
