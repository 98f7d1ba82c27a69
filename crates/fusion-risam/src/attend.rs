//! Who looks at whom (RISAM Fig. 7): maps that a prediction does not make, for pictures.

use std::ops::Range;

use burn::tensor::Tensor;
use nn_ops::rows::take;
use pil_ops::Image;

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::model::RisamModel;
use crate::mutual::AttentionMaps;
use crate::net::{ImageFeatures, RisamNet, flatten, padding};
use crate::predict::Risam;

/// What the words of one sentence and the regions of one image make of each other: [`Risam::attention`].
#[derive(Debug, Clone)]
pub struct WordAttention {
    /// The words, those beyond the limit left out, and which of the L tokens they are; start and end of text belong to none.
    pub words: Vec<(String, Range<usize>)>,
    /// Side g of the grid of regions, padding included.
    pub grid: usize,
    /// The part of the grid that the image covers, (top, left, bottom, right) in sides of the grid; the rest is padding.
    pub area: [f32; 4],
    /// One for each interaction block, B being 1; none where the interaction has no such maps (`conv` and `te`) and with
    /// `baseline`.
    pub blocks: Vec<AttentionMaps>,
}

impl WordAttention {
    /// The region, a row of [`AttentionMaps::words`], at a place of the image, given from 0 to 1 from the left and the top.
    pub fn region(&self, x: f32, y: f32) -> usize {
        let [top, left, bottom, right] = self.area;
        let at = |v: f32, from: f32, to: f32| (((from + (to - from) * v) * self.grid as f32) as usize).min(self.grid.max(1) - 1);
        at(y, top, bottom) * self.grid + at(x, left, right)
    }
}

impl RisamNet {
    /// The maps of every interaction block; none without mutual-aware attention or a reduced form of it.
    ///
    /// # Shapes
    /// As in [`RisamNet::forward`]; maps of Q rows.
    ///
    /// # Errors
    /// Shapes that do not fit the configuration or each other.
    pub fn attention(
        &self,
        config: &RisamConfig,
        image: &ImageFeatures,
        image_of: &[usize],
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<Vec<AttentionMaps>, RisamError> {
        self.check(config, image, image_of, &text, lengths)?;
        if self.ma.is_empty() {
            return Ok(Vec::new());
        }
        let map = take(self.enhance(image), image_of);
        let padding = padding(lengths, 0, text.dims()[1], &text.device());
        let pairs = self.interact(config, map.clone(), text.clone(), lengths);
        let first = (flatten(map), self.placed(config, text));
        let inputs = std::iter::once(first).chain(pairs.into_iter().map(|p| (p.visual, p.language)));
        Ok(self.ma.iter().zip(inputs).map(|(block, (visual, words))| block.attend(visual, words, padding.clone())).collect())
    }
}

impl Risam {
    /// What one sentence's words and an image's regions make of each other. [`Risam::predict`] does none of this.
    ///
    /// # Errors
    /// As [`Risam::predict`].
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<WordAttention, RisamError> {
        let (input, place) = self.config.preprocess(image, &self.model.text_encoder.device())?;
        let batch = RisamModel::tokens(&self.config, self.tokenizer.as_ref(), &[sentence])?;
        let text = self.model.encode_text(&self.config, &batch)?;
        let features = self.model.encode_images(&self.config, input)?;
        // Padding behind the only sentence would be rows of nothing.
        let text = text.narrow(1, 0, batch.lengths().iter().copied().max().unwrap_or(0));
        let [bottom, right] = [place.valid.0, place.valid.1].map(|v| v as f32 / place.canvas as f32);
        Ok(WordAttention {
            words: self.tokenizer.words(sentence, self.config.max_tokens())?,
            grid: features.taps[1].dims()[1],
            area: [0.0, 0.0, bottom, right],
            blocks: self.model.net.attention(&self.config, &features, &[0], text, batch.lengths())?,
        })
    }
}
