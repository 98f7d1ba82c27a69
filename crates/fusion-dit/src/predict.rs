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

/// Sentences that go through the network together.
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
        let device = self.model.net.text_proj.weight.device();
        let place = Place::of(image, self.config.input_size)?;
        let input = place.input(image, &device)?;
        let threshold = (self.config.threshold / (1.0 - self.config.threshold)).ln() as f32;
        let mut found = Vec::with_capacity(sentences.len());
        for group in sentences.chunks(TOGETHER) {
            let side = place.canvas;
            let images = input.clone().expand([group.len(), 3, side, side]);
            let logits = self.model.forward(&self.config, self.tokenizer.as_ref(), images, group)?.logits;
            let area = logits.narrow(2, place.top, place.height).narrow(3, place.left, place.width);
            let full = Resize::BILINEAR.forward(area, [image.height, image.width]);
            for map in full.iter_dim(0) {
                let map = map.reshape([image.height, image.width]);
                found.push(Prediction::from_map(map, threshold).map_err(|e| DitError::Image(e.to_string()))?);
            }
        }
        Ok(found)
    }
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
