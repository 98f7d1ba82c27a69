//! An image and sentences in, masks out: the crate by itself.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Filter, Image, resize};
use sam_vit::{PIXEL_MEAN, PIXEL_STD, Prediction};
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
    /// An image that is not RGB or is too thin, a sentence without words.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, DitError> {
        let prompts: Vec<Prompt> = sentences.iter().map(|s| Prompt::Text((*s).to_owned())).collect();
        self.predict_prompts(image, &prompts)
    }

    /// As [`Dit::predict`] under any prompts, in pixels of the image itself (Tab. 6).
    ///
    /// # Errors
    /// As [`Dit::predict`], or a prompt without content.
    pub fn predict_prompts(&self, image: &Image, prompts: &[Prompt]) -> Result<Vec<Prediction>, DitError> {
        let place = Place::of(image, self.config.input_size)?;
        let input = place.input(image, &self.device())?;
        let scale = [place.width as f32 / image.width as f32, place.height as f32 / image.height as f32];
        let shift = [place.left as f32, place.top as f32];
        let prompts: Vec<Prompt> = prompts.iter().map(|p| p.moved(scale, shift)).collect();
        let threshold = (self.config.threshold / (1.0 - self.config.threshold)).ln() as f32;
        let mut found = Vec::with_capacity(prompts.len());
        for group in prompts.chunks(TOGETHER) {
            let side = place.canvas;
            let rows = if self.config.variant.instructs_encoder() { group.len() } else { 1 };
            let images = input.clone().expand([rows, 3, side, side]);
            let logits = self.model.forward_prompts(&self.config, self.tokenizer.as_ref(), images, group)?;
            let area = logits.narrow(2, place.top, place.height).narrow(3, place.left, place.width);
            let full = Resize::BILINEAR.forward(area, [image.height, image.width]);
            for map in full.iter_dim(0) {
                let map = map.reshape([image.height, image.width]);
                found.push(Prediction::from_map(map, threshold).map_err(|e| DitError::Image(e.to_string()))?);
            }
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
        let place = Place::of(image, self.config.input_size)?;
        let input = place.input(image, &self.device())?;
        let words = self.tokenizer.words(sentence, self.config.text_tokens)?;
        let maps = self.model.attention(&self.config, self.tokenizer.as_ref(), input, &[sentence])?;
        let layers = maps.into_iter().map(|map| {
            let [_, slots, height, width] = map.dims();
            let map = map.reshape([slots, height * width]);
            words.iter().map(|(_, at)| read(map.clone().narrow(0, at.start, at.len()).mean_dim(0))).collect()
        });
        let layers = layers.collect::<Result<_, _>>()?;
        let side = place.canvas as f32;
        let [top, left, height, width] = [place.top, place.left, place.height, place.width].map(|v| v as f32 / side);
        Ok(WordAttention {
            words: words.into_iter().map(|(word, _)| word).collect(),
            grid: self.config.grid(),
            area: [top, left, top + height, left + width],
            layers,
        })
    }

    fn device(&self) -> Device {
        self.model.net.text_proj.weight.device()
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
    let failed = |e: String| DitError::Device { what: "attention", reason: e };
    row.into_data().convert::<f32>().try_to_vec::<f32>().map_err(|e| failed(format!("{e:?}")))
}

/// Where the image lies on the network's square input.
struct Place {
    canvas: usize,
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

impl Place {
    /// The reference's rule: long side to the canvas, Python's rounding (half to even), centred.
    fn of(image: &Image, canvas: usize) -> Result<Self, DitError> {
        let ratio = canvas as f64 / image.height.max(image.width).max(1) as f64;
        let side = |n: usize| ((n as f64 * ratio).round_ties_even() as usize).min(canvas);
        let (height, width) = (side(image.height), side(image.width));
        if image.channels != 3 || height == 0 || width == 0 {
            let what = format!(
                "{} x {} with {} channels; an RGB image whose sides differ by less than {canvas} times is needed",
                image.width, image.height, image.channels
            );
            return Err(DitError::Image(what));
        }
        Ok(Self { canvas, top: (canvas - height) / 2, left: (canvas - width) / 2, height, width })
    }

    /// Resized, normalised, zero outside; [1, 3, S, S].
    fn input(&self, image: &Image, device: &Device) -> Result<Tensor<4>, DitError> {
        let small = resize(image, self.width, self.height, Filter::Bilinear).map_err(|e| DitError::Image(e.to_string()))?;
        let mut values = vec![0.0f32; 3 * self.canvas * self.canvas];
        for (channel, plane) in values.chunks_exact_mut(self.canvas * self.canvas).enumerate() {
            for y in 0..self.height {
                for x in 0..self.width {
                    let pixel = f32::from(small.data[(y * self.width + x) * 3 + channel]);
                    plane[(self.top + y) * self.canvas + self.left + x] = (pixel - PIXEL_MEAN[channel]) / PIXEL_STD[channel];
                }
            }
        }
        Ok(Tensor::from_data(TensorData::new(values, [1, 3, self.canvas, self.canvas]), device))
    }
}
