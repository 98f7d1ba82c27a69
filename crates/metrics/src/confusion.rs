use coco_mask::{MaskError, Rle, intersection_union};
use serde::{Deserialize, Serialize};

use crate::EmptyPolicy;

/// What can be wrong with metric input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// Run-length masks that do not fit together.
    #[error("prediction and truth: {0}")]
    Mask(#[from] MaskError),
    /// Byte masks of different lengths.
    #[error("prediction has {prediction} pixels but truth has {truth}: both must be of the same size")]
    Length {
        /// Pixels of the prediction.
        prediction: usize,
        /// Pixels of the truth.
        truth: usize,
    },
    /// A map whose length is not height x width, or a side of 0.
    #[error(transparent)]
    Map(#[from] pil_ops::ImageError),
    /// An unknown profile name.
    #[error("unknown evaluation profile `{found}`: use one of {}", crate::EvalProfile::NAMES.join(", "))]
    Profile {
        /// The name given.
        found: String,
    },
}

/// Overlap of one prediction with its truth, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Pixels in both.
    pub intersection: u64,
    /// Pixels in either.
    pub union: u64,
}

impl Confusion {
    /// From run-length masks.
    ///
    /// # Errors
    /// If the sizes differ.
    pub fn from_rle(prediction: &Rle, truth: &Rle) -> Result<Self, MetricError> {
        let (intersection, union) = intersection_union(prediction, truth)?;
        Ok(Self { intersection, union })
    }

    /// From byte masks of one size, any byte but 0 being foreground.
    ///
    /// # Errors
    /// If the lengths differ.
    pub fn from_bytes(prediction: &[u8], truth: &[u8]) -> Result<Self, MetricError> {
        if prediction.len() != truth.len() {
            return Err(MetricError::Length { prediction: prediction.len(), truth: truth.len() });
        }
        let mut out = Self { intersection: 0, union: 0 };
        for (&p, &t) in prediction.iter().zip(truth) {
            out.intersection += u64::from(p != 0 && t != 0);
            out.union += u64::from(p != 0 || t != 0);
        }
        Ok(out)
    }

    /// Intersection over union; `empty` decides when the union is 0.
    #[must_use]
    pub fn iou(self, empty: EmptyPolicy) -> f64 {
        self.iou_smoothed(empty, [0.0; 2])
    }

    /// [`Confusion::iou`] with what a code base adds to numerator and denominator so that it never divides by 0.
    #[must_use]
    pub fn iou_smoothed(self, empty: EmptyPolicy, [above, below]: [f64; 2]) -> f64 {
        match (self.union, empty) {
            (0, EmptyPolicy::One) => 1.0,
            (0, EmptyPolicy::Zero) => 0.0,
            (u, _) => (self.intersection as f64 + above) / (u as f64 + below),
        }
    }
}
