//! What a segmenter hands out: a mask, how sure it is, and a box.

use burn::tensor::Tensor;
use coco_mask::Rle;
use pil_ops::Letterbox;
use rayon::prelude::*;

use crate::error::SamError;

/// One mask at the image's own size: the answer of the text-prompted models built on SAM.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The mask, as COCO's column-major runs.
    pub mask: Rle,
    /// Mean foreground probability inside the mask; 0 for an empty one.
    pub score: f32,
    /// Tight box (x, y, width, height) in pixels; zeros for an empty mask.
    pub bbox: [f64; 4],
}

impl Prediction {
    /// The mask in logits of the network's canvas: padding is cropped, the rest resized bilinearly to the image's size, and a
    /// pixel belongs to the mask where its logit is above `threshold` (0 is a probability of one half). Training's evaluation
    /// and `predict` both come through here.
    ///
    /// # Shapes
    /// `logits`: [canvas, canvas]
    ///
    /// # Errors
    /// Another number of values, values that are not finite, or an image beyond the sizes of a mask.
    pub fn from_logits(logits: &[f32], letterbox: &Letterbox, threshold: f32) -> Result<Self, SamError> {
        let (height, width) = letterbox.original;
        Self::from_map(&letterbox.restore(logits)?, height, width, threshold)
    }

    /// As [`Prediction::from_logits`] for every row of a batch on a device.
    ///
    /// # Shapes
    /// `logits`: [N, 1, canvas, canvas]; output: N predictions
    ///
    /// # Errors
    /// As [`Prediction::from_logits`], or a device that cannot be read.
    pub fn from_batch(logits: Tensor<4>, letterbox: &Letterbox, threshold: f32) -> Result<Vec<Self>, SamError> {
        let [_, _, height, width] = logits.dims();
        let values = read_back(logits)?;
        values.par_chunks((height * width).max(1)).map(|map| Self::from_logits(map, letterbox, threshold)).collect()
    }

    /// The mask in logits at the image's own size.
    ///
    /// # Shapes
    /// `logits`: `height * width` values, row-major
    ///
    /// # Errors
    /// A size out of range, another number of values, or values that are not finite.
    pub fn from_map(logits: &[f32], height: usize, width: usize, threshold: f32) -> Result<Self, SamError> {
        let count = logits.iter().filter(|v| !v.is_finite()).count();
        if count > 0 {
            return Err(SamError::NotFinite { what: "mask logits", count, of: logits.len() });
        }
        let mask = binary(logits, height, width, threshold)?;
        let (mut sum, mut count) = (0.0f64, 0u64);
        for logit in logits.iter().filter(|v| **v > threshold) {
            sum += 1.0 / (1.0 + f64::from(-logit).exp());
            count += 1;
        }
        let score = if count == 0 { 0.0 } else { (sum / count as f64) as f32 };
        let bbox = mask.bbox();
        Ok(Self { mask, score, bbox })
    }
}

/// Runs of the pixels above `threshold`.
///
/// # Errors
/// A size out of range or another number of values.
pub fn binary(logits: &[f32], height: usize, width: usize, threshold: f32) -> Result<Rle, SamError> {
    let bytes: Vec<u8> = logits.iter().map(|v| u8::from(*v > threshold)).collect();
    encode(&bytes, height, width)
}

/// Runs of a byte mask.
pub(crate) fn encode(bytes: &[u8], height: usize, width: usize) -> Result<Rle, SamError> {
    // A side beyond u32 ends as u32::MAX, which the mask refuses.
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Rle::from_row_major(side(height), side(width), bytes)?)
}

/// A tensor's numbers on the host.
///
/// # Errors
/// A device that cannot be read.
pub fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, SamError> {
    tensor.try_into_vec_as::<f32>().map_err(|e| SamError::Device(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn score_is_the_mean_probability_inside() {
        let ln3 = 3.0f32.ln();
        let logits = [-5.0, ln3, 0.0, -ln3, 30.0, -1.0];
        let p = Prediction::from_map(&logits, 2, 3, 0.0).unwrap();
        assert_eq!(p.mask.to_row_major(), [0, 1, 0, 0, 1, 0]);
        assert!((p.score - 0.875).abs() < 1e-6, "{}", p.score);
        assert_eq!(p.bbox, [1.0, 0.0, 1.0, 2.0]);
        // The same in the corner of a canvas of 4 x 4, on a device.
        let canvas = [[-5.0, ln3, 0.0, 7.0], [-ln3, 9.0, -1.0, 7.0], [7.0; 4], [7.0; 4]];
        let letterbox = Letterbox { canvas: 4, top: 0, left: 0, height: 2, width: 3, original: (2, 3) };
        let batch = Tensor::<2>::from_floats(canvas, &Device::flex()).unsqueeze::<4>();
        let found = Prediction::from_batch(batch, &letterbox, 0.0).unwrap();
        assert_eq!((found.len(), &found[0].mask), (1, &p.mask));
    }

    #[test]
    fn empty_masks_score_nothing_and_bad_sizes_are_errors() {
        let p = Prediction::from_map(&[-1.0; 6], 2, 3, 0.0).unwrap();
        assert_eq!((p.score, p.bbox, p.mask.area()), (0.0, [0.0; 4], 0));
        assert!(Prediction::from_map(&[0.0; 5], 2, 3, 0.0).is_err());
        assert!(Prediction::from_map(&[], 0, 3, 0.0).is_err());
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error_and_no_empty_mask() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Prediction::from_map(&[1.0, bad, -1.0, bad, 0.0, 2.0], 2, 3, 0.0).unwrap_err().to_string();
            assert!(error.starts_with("2 of 6 mask logits are NaN or infinite"), "{error}");
        }
    }
}
