//! Who looks at whom (RISAM Fig. 7): maps that a prediction does not make, for pictures.

use std::ops::Range;

use burn::tensor::Tensor;
use pil_ops::Image;
use sam_vit::{Placement, preprocess_batch};

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::model::RisamModel;
use crate::mutual::AttentionMaps;
use crate::net::{ImageFeatures, RisamNet, flatten, padding};
use crate::predict::Risam;

/// What the words of one sentence and the regions of one image make of each other.
#[derive(Debug, Clone)]
pub struct Attended {
    /// The written words and which of the L tokens they are. Start and end of text belong to none; words beyond the limit
    /// are left out.
    pub words: Vec<(String, Range<usize>)>,
    /// (rows, columns) of regions, padding included.
    pub grid: (usize, usize),
    /// Where the image lies in the network's input, whose grid this is.
    pub placement: Placement,
    /// One for each interaction block, B being 1; none where the interaction has no such maps (`conv` and `te`) and with
    /// `baseline`.
    pub blocks: Vec<AttentionMaps>,
}

impl Attended {
    /// The region, a row of [`AttentionMaps::words`], that holds this pixel of the image.
    pub fn region(&self, [x, y]: [f64; 2]) -> usize {
        let [x, y] = self.placement.point([x.max(0.0), y.max(0.0)]);
        let at = |v: f32, count: usize| ((v * count as f32 / self.placement.canvas as f32) as usize).min(count.saturating_sub(1));
        at(y, self.grid.0) * self.grid.1 + at(x, self.grid.1)
    }

    /// Each token's regions in a block, bilinear at the image's own size; `None` where there is no such block.
    ///
    /// # Shapes
    /// output: [L, height, width]
    pub fn heat(&self, block: usize) -> Option<Tensor<3>> {
        let maps = self.blocks.get(block)?.regions.clone();
        let [_, length, _] = maps.dims();
        let (height, width) = self.placement.original;
        Some(self.placement.restore(maps.reshape([1, length, self.grid.0, self.grid.1])).reshape([length, height, width]))
    }
}

impl RisamNet {
    /// The maps of every interaction block; none without mutual-aware attention or a reduced form of it.
    ///
    /// # Shapes
    /// As in [`RisamNet::forward`]; maps of B = Q rows.
    ///
    /// # Errors
    /// Shapes that do not fit the configuration or each other.
    pub fn attend(
        &self,
        config: &RisamConfig,
        image: &ImageFeatures,
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<Vec<AttentionMaps>, RisamError> {
        let (rows, _) = self.check(config, image, &text, lengths)?;
        if self.ma.is_empty() {
            return Ok(Vec::new());
        }
        let map = self.enhance(image);
        let [_, width, height, breadth] = map.dims();
        let map = map.expand([rows, width, height, breadth]);
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
    /// An image that is inconsistent or too thin, a sentence without words.
    pub fn attend(&self, image: &Image, sentence: &str) -> Result<Attended, RisamError> {
        let device = self.model.image_encoder.pos_embed.lazy_device();
        let (input, placements) = preprocess_batch(std::slice::from_ref(image), self.config.input_size, &device)?;
        let placement = match placements.first() {
            Some(placement) => *placement,
            None => Placement::new(image.height, image.width, self.config.input_size)?,
        };
        let features = self.model.encode_images(&self.config, input)?;
        let batch = RisamModel::tokens(&self.config, self.tokenizer.as_ref(), &[sentence])?;
        let text = self.model.encode_text(&self.config, &batch)?;
        let [_, rows, columns, _] = features.taps[2].dims();
        let length = batch.lengths().first().copied().unwrap_or(0);
        // Padding behind the only sentence would be rows of nothing.
        let blocks = self.model.net.attend(&self.config, &features, text.narrow(1, 0, length), batch.lengths())?;
        Ok(Attended { words: self.words(sentence, length)?, grid: (rows, columns), placement, blocks })
    }

    /// The tokens of each written word. Byte-pair tokenizers part at spaces, so the pieces of the words are the sentence's.
    fn words(&self, sentence: &str, length: usize) -> Result<Vec<(String, Range<usize>)>, RisamError> {
        let before = self.tokenizer.wrap(&[]).len() / 2;
        // The end of the text comes last, cut or not.
        let (mut at, end) = (before, length.saturating_sub(before));
        let mut words = Vec::new();
        for word in sentence.split_whitespace() {
            let next = (at + self.tokenizer.pieces(word)?.len()).min(end);
            if next > at {
                words.push((word.to_owned(), at..next));
            }
            at = next;
        }
        Ok(words)
    }
}
