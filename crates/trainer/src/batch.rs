//! From samples on the host to tensors on a device.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use refcoco_data::{Placement, Transformed};

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

/// A batch on the host: one image, one sentence and one mask a sample.
///
/// Normalising happens here, on the loader's threads, so that the device receives what the network sees and the padding
/// is exactly 0.
#[derive(Debug, Clone)]
pub struct HostBatch {
    /// Normalised images, [B, 3, S, S].
    pub images: Vec<f32>,
    /// Soft masks, [B, 1, S, S], 0 to 1.
    pub masks: Vec<f32>,
    /// Sentences.
    pub sentences: Vec<String>,
    /// Where each image lies on its canvas.
    pub placements: Vec<Placement>,
    /// Side S of the canvas.
    pub side: usize,
}

impl HostBatch {
    /// Puts samples of one canvas size together.
    pub fn new(samples: Vec<Transformed>, by: Normalisation) -> Self {
        let side = samples.first().map_or(0, |s| s.placement.canvas);
        let area = side * side;
        let mut images = vec![0.0f32; samples.len() * 3 * area];
        images.par_chunks_mut(3 * area.max(1)).zip(&samples).for_each(|(out, sample)| normalise(out, sample, by));
        let masks = samples.iter().flat_map(|s| s.mask.iter().map(|v| f32::from(*v) / 255.0)).collect();
        let placements = samples.iter().map(|s| s.placement).collect();
        Self { images, masks, sentences: samples.into_iter().map(|s| s.sentence).collect(), placements, side }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// The samples from `from` to `to`.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let area = self.side * self.side;
        Self {
            images: self.images[from * 3 * area..to * 3 * area].to_vec(),
            masks: self.masks[from * area..to * area].to_vec(),
            sentences: self.sentences[from..to].to_vec(),
            placements: self.placements[from..to].to_vec(),
            side: self.side,
        }
    }

    /// The images on a device, [B, 3, S, S].
    pub fn images(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.images.clone(), [self.len(), 3, self.side, self.side]), device)
    }

    /// The masks on a device, [B, 1, S, S].
    pub fn masks(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.masks.clone(), [self.len(), 1, self.side, self.side]), device)
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
