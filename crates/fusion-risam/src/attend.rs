//! Attention maps of a prediction (RISAM Fig. 7), to be drawn.

use std::ops::Range;

use burn::tensor::Tensor;
use nn_ops::ConfigError;
use nn_ops::config::quoted;
use nn_ops::rows::select_rows;
use pil_ops::Image;

use crate::error::RisamError;
use crate::features::RisamFeatures;
use crate::mutual::AttentionMaps;
use crate::net::{InteractionBlocks, RisamNet, flatten, padding};
use crate::predict::RisamPredictor;

/// What the words of one sentence and the regions of one image make of each other: [`RisamPredictor::attention`].
#[derive(Debug, Clone)]
pub struct RisamAttention {
    /// The words, those beyond the limit left out, and which of the L tokens they are; start and end of text belong to none.
    pub words: Vec<(String, Range<usize>)>,
    /// Side g of the grid of regions, padding included.
    pub grid: usize,
    /// The part of the grid that the image covers, (top, left, bottom, right) in sides of the grid; the rest is padding.
    pub area: [f32; 4],
    /// One per interaction block, B being 1.
    pub blocks: Vec<AttentionMaps>,
}

impl RisamAttention {
    /// The region, a row of [`AttentionMaps::words`], at a place of the image, given from 0 to 1 from the left and the top.
    pub fn region(&self, x: f32, y: f32) -> usize {
        let [top, left, bottom, right] = self.area;
        let at = |v: f32, from: f32, to: f32| (((from + (to - from) * v) * self.grid as f32) as usize).min(self.grid.max(1) - 1);
        at(y, top, bottom) * self.grid + at(x, left, right)
    }
}

impl RisamNet {
    /// The maps of every interaction block, of `te` of every layer (Fig. 6); none of `conv` and the baseline.
    ///
    /// # Shapes
    /// As in [`RisamNet::forward`]; maps of Q rows.
    ///
    /// # Errors
    /// Shapes that do not fit the configuration or each other.
    pub fn attention(
        &self,
        features: &RisamFeatures,
        image_of: &[usize],
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<Vec<AttentionMaps>, RisamError> {
        self.check(features.images(), image_of, &text, lengths)?;
        self.attention_enhanced(self.enhance(features)?, image_of, text, lengths)
    }

    /// As [`RisamNet::attention`], from what [`RisamNet::enhance`] gave.
    pub(crate) fn attention_enhanced(
        &self,
        map: Tensor<4>,
        image_of: &[usize],
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<Vec<AttentionMaps>, RisamError> {
        self.check(map.dims()[0], image_of, &text, lengths)?;
        let Some(fusion) = self.fusion() else { return Ok(Vec::new()) };
        let map = select_rows(map, image_of);
        let padding = padding(lengths, 0, text.dims()[1], &text.device());
        let blocks = match &fusion.interaction {
            InteractionBlocks::Mutual(blocks) => blocks,
            InteractionBlocks::Transformer(transformer) => {
                return Ok(transformer.attend(flatten(map), fusion.placed(text), padding));
            }
            InteractionBlocks::Conv(_) => return Ok(Vec::new()),
        };
        let pairs = fusion.interact(map.clone(), text.clone(), lengths);
        let first = (flatten(map), fusion.placed(text));
        let inputs = std::iter::once(first).chain(pairs.into_iter().map(|p| (p.visual, p.language)));
        Ok(blocks.iter().zip(inputs).map(|(block, (visual, words))| block.attend(visual, words, padding.clone())).collect())
    }
}

impl RisamPredictor {
    /// What one sentence's words and an image's regions make of each other. [`RisamPredictor::predict`] does none of this.
    ///
    /// # Errors
    /// As [`RisamPredictor::predict`], or an interaction without such maps (`conv` and the baseline).
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<RisamAttention, RisamError> {
        let (model, config) = (self.model(), self.model().config());
        if config.baseline {
            let expected = "false for attention maps: it prompts SAM by words alone";
            return Err(ConfigError::new("baseline", true, expected).into());
        }
        let embedding = self.embed(image)?;
        let batch = model.tokens(self.tokenizer().as_ref(), &[sentence])?;
        // Padding behind the only sentence would be rows of nothing.
        let text = model.encode_text(&batch)?.narrow(1, 0, batch.lengths().iter().copied().max().unwrap_or(0));
        let grid = embedding.map.dims()[2];
        let blocks = model.net.attention_enhanced(embedding.map, &[0], text, batch.lengths())?;
        if blocks.is_empty() {
            let expected = "another for attention maps: convolutions attend to nothing";
            return Err(ConfigError::new("interaction", quoted(&config.interaction), expected).into());
        }
        Ok(RisamAttention {
            words: self.tokenizer().words(sentence, config.max_tokens())?,
            grid,
            area: embedding.letterbox.relative_area(),
            blocks,
        })
    }
}
