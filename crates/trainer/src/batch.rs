//! From samples on the host to tensors on a device.

use burn::tensor::{Device, Tensor, TensorData};
use fusion_dit::Prompt;
use nn_ops::rows::select_rows;
use rayon::prelude::*;
use refcoco_data::{Placement, Transformed};

use crate::plan::PromptKind;
use crate::prompts::click;

/// Mean and standard deviation of each channel of an RGB image in 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Mean.
    pub mean: [f32; 3],
    /// Standard deviation.
    pub std: [f32; 3],
}

impl Normalisation {
    /// ImageNet's, as SAM writes it. DIT's (.485, .229 and so on, times 255) is the same.
    pub const IMAGENET: Self = Self { mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375] };
}

/// A batch on the host: B pictures and Q sentences about them, a mask a sentence.
///
/// Normalising happens here, on the loader's threads, so that the device receives what the network sees and the padding
/// is exactly 0.
#[derive(Debug, Clone)]
pub struct HostBatch {
    /// Normalised images, [B, 3, S, S].
    pub images: Vec<f32>,
    /// Soft masks, [Q, 1, S, S], 0 to 1.
    pub masks: Vec<f32>,
    /// The mask of each sentence at its picture's own size, \[h, w\], 0 or 255; empty unless the loss is taken there.
    pub full_masks: Vec<Vec<u8>>,
    /// Sentences.
    pub sentences: Vec<String>,
    /// Points or a box instead of a sentence, in pixels of the canvas.
    pub clicks: Vec<Option<Prompt>>,
    /// The picture of each sentence; rising.
    pub image_of: Vec<usize>,
    /// Where each picture lies on its canvas.
    pub placements: Vec<Placement>,
    /// Side S of the canvas.
    pub side: usize,
    /// What the method's frozen part makes of each picture, where it was read from a
    /// [`FeatureCache`](crate::cache::FeatureCache) instead of being computed.
    pub features: Vec<Vec<HostTensor>>,
}

/// A tensor [1, ...] on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Values, row after row.
    pub values: Vec<f32>,
    /// Shape; the first number is 1.
    pub shape: [usize; 4],
}

impl HostBatch {
    /// Puts samples of one canvas size together. `image_of` says which of them show one picture, changed in one way; such
    /// samples follow each other.
    pub fn new(samples: Vec<Transformed>, image_of: Vec<usize>, by: Normalisation) -> Self {
        let side = samples.first().map_or(0, |s| s.placement.canvas);
        let area = side * side;
        let first = |(i, _): &(usize, &Transformed)| *i == 0 || image_of[*i] != image_of[*i - 1];
        let pictures: Vec<&Transformed> = samples.iter().enumerate().filter(first).map(|(_, s)| s).collect();
        let mut images = vec![0.0f32; pictures.len() * 3 * area];
        images.par_chunks_mut(3 * area.max(1)).zip(&pictures).for_each(|(out, sample)| normalise(out, sample, by));
        let masks = samples.iter().flat_map(|s| s.mask.iter().map(|v| f32::from(*v) / 255.0)).collect();
        let placements = pictures.iter().map(|s| s.placement).collect();
        let clicks = vec![None; samples.len()];
        let (full_masks, sentences): (Vec<_>, _) = samples.into_iter().map(|s| (s.full_mask, s.sentence)).unzip();
        let full_masks = if full_masks.iter().all(Vec::is_empty) { Vec::new() } else { full_masks };
        Self { images, masks, full_masks, sentences, clicks, image_of, placements, side, features: Vec::new() }
    }

    /// Puts points or boxes in place of sentences, as `kinds` and the samples' keys say.
    #[must_use]
    pub fn with_clicks(mut self, kinds: &[PromptKind], keys: impl IntoIterator<Item = u64>) -> Self {
        let masks = self.masks.chunks_exact((self.side * self.side).max(1));
        self.clicks = masks.zip(keys).map(|(mask, key)| click(kinds, mask, self.side, key)).collect();
        self
    }

    /// What each sample is prompted with, if that is not the sentence everywhere.
    pub fn prompts(&self) -> Option<Vec<Prompt>> {
        let prompt = |(click, text): (&Option<Prompt>, &String)| click.clone().unwrap_or_else(|| Prompt::Text(text.clone()));
        let any = self.clicks.iter().any(Option::is_some);
        any.then(|| self.clicks.iter().zip(&self.sentences).map(prompt).collect())
    }

    /// The batch at another side: the pixel whose corner is nearest from above left, as PyTorch's "nearest" takes it.
    #[must_use]
    pub fn rescaled(self, side: usize) -> Self {
        let from = self.side;
        if side == from || self.is_empty() {
            return self;
        }
        let at: Vec<usize> = (0..side).map(|i| i * from / side).collect();
        let resize = |planes: &[f32]| -> Vec<f32> {
            let rows = planes
                .par_chunks_exact(from * from)
                .flat_map_iter(|plane| at.iter().flat_map(|y| at.iter().map(move |x| plane[y * from + x])).collect::<Vec<_>>());
            rows.collect()
        };
        let ratio = side as f32 / from as f32;
        let moved = |click: &Option<Prompt>| click.as_ref().map(|click| click.moved([ratio; 2], [0.0; 2]));
        let scaled = |n: usize| n * side / from;
        let placements = self.placements.iter().map(|p| Placement {
            canvas: side,
            top: scaled(p.top),
            left: scaled(p.left),
            height: scaled(p.top + p.height) - scaled(p.top),
            width: scaled(p.left + p.width) - scaled(p.left),
            original: p.original,
        });
        Self {
            images: resize(&self.images),
            masks: resize(&self.masks),
            clicks: self.clicks.iter().map(moved).collect(),
            placements: placements.collect(),
            side,
            ..self
        }
    }

    /// Number Q of sentences.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// Number B of pictures.
    pub fn pictures(&self) -> usize {
        self.placements.len()
    }

    /// The pictures from `from` to `to`, with their sentences.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let area = self.side * self.side;
        let [a, b] = [from, to].map(|picture| self.image_of.partition_point(|i| *i < picture));
        Self {
            images: self.images[from * 3 * area..to * 3 * area].to_vec(),
            masks: self.masks[a * area..b * area].to_vec(),
            full_masks: self.full_masks.get(a..b).map(<[_]>::to_vec).unwrap_or_default(),
            sentences: self.sentences[a..b].to_vec(),
            clicks: self.clicks[a..b].to_vec(),
            image_of: self.image_of[a..b].iter().map(|i| i - from).collect(),
            placements: self.placements[from..to].to_vec(),
            side: self.side,
            features: self.features.get(from..to).map(<[_]>::to_vec).unwrap_or_default(),
        }
    }

    /// The sentences as slices.
    pub fn words(&self) -> Vec<&str> {
        self.sentences.iter().map(String::as_str).collect()
    }

    /// Where each picture lies: (top, left, height, width).
    pub fn areas(&self) -> Vec<(usize, usize, usize, usize)> {
        self.placements.iter().map(|p| (p.top, p.left, p.height, p.width)).collect()
    }

    /// The images on a device, [B, 3, S, S].
    pub fn images(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.images.clone(), [self.pictures(), 3, self.side, self.side]), device)
    }

    /// The image of each sentence, [Q, 3, S, S], for methods in which the text takes part from the first layer on.
    pub fn images_by_sentence(&self, device: &Device) -> Tensor<4> {
        select_rows(self.images(device), &self.image_of)
    }

    /// The masks on a device, [Q, 1, S, S].
    pub fn masks(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.masks.clone(), [self.len(), 1, self.side, self.side]), device)
    }

    /// The cached features on a device, each [B, ...]; absent where they have to be computed.
    pub fn features(&self, device: &Device) -> Option<Vec<Tensor<4>>> {
        let first = self.features.first()?;
        let stacked = (0..first.len()).map(|k| {
            let rows = self.features.iter().map(|f| {
                let HostTensor { values, shape } = &f[k];
                Tensor::from_data(TensorData::new(values.clone(), *shape), device)
            });
            Tensor::cat(rows.collect(), 0)
        });
        Some(stacked.collect())
    }
}

/// Channels first, normalised; what is not image stays 0.
fn normalise(out: &mut [f32], sample: &Transformed, by: Normalisation) {
    let p = sample.placement;
    for (channel, plane) in out.chunks_exact_mut(p.canvas * p.canvas).enumerate() {
        let (mean, scale) = (by.mean[channel], 1.0 / by.std[channel]);
        for y in p.top..p.top + p.height {
            for x in p.left..p.left + p.width {
                let at = y * p.canvas + x;
                plane[at] = (f32::from(sample.image[at * 3 + channel]) - mean) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Transformed {
        let placement = Placement { canvas: 4, top: 1, left: 0, height: 2, width: 4, original: (2, 4) };
        let mask: Vec<u8> = (0..16).map(|i| if i % 4 >= 2 && (4..12).contains(&i) { 255 } else { 0 }).collect();
        Transformed { image: (0..48).collect(), mask, full_mask: Vec::new(), placement, sentence: "left".into() }
    }

    #[test]
    fn rescaling_takes_the_nearest_pixel_and_moves_clicks() {
        let by = Normalisation { mean: [0.0; 3], std: [1.0; 3] };
        let batch = HostBatch::new(vec![sample()], vec![0], by).with_clicks(&[PromptKind::Box], [1]);
        assert_eq!(batch.clicks[0], Some(Prompt::Box([2.0, 1.0, 4.0, 3.0])));
        let (masks, images) = (batch.masks.clone(), batch.images.clone());
        let half = batch.clone().rescaled(2);
        assert_eq!(half.masks, [masks[0], masks[2], masks[8], masks[10]]);
        assert_eq!(half.images[4..8], [images[16], images[18], images[24], images[26]]);
        assert_eq!(half.clicks[0], Some(Prompt::Box([1.0, 0.5, 2.0, 1.5])));
        let six = batch.rescaled(6);
        assert_eq!(six.masks[6..12], [0, 0, 1, 2, 2, 3].map(|x| masks[x]));
        assert_eq!((six.side, six.images.len()), (6, 108));
    }
}
