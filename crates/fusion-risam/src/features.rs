//! `RisamFeatures`: what RISAM takes of its image encoder.

use burn::tensor::{DType, Tensor};

use crate::config::RisamConfig;
use crate::error::RisamError;

/// What of B images no sentence changes and nothing trains: [`RisamModel::encode_images`](crate::RisamModel::encode_images).
#[derive(Debug, Clone)]
pub enum RisamFeatures {
    /// F_v1, F_v2, F_v3, each [B, h, w, its width]. The grid of F_v2 is that of the regions; the others' may be unlike it.
    Taps([Tensor<4>; 3]),
    /// SAM's image embedding, [B, 256, h, w], for `baseline`.
    Embedding(Tensor<4>),
}

impl RisamFeatures {
    /// The tensors, to be kept: three taps or one embedding.
    pub fn into_tensors(self) -> Vec<Tensor<4>> {
        match self {
            Self::Taps(taps) => taps.into(),
            Self::Embedding(map) => vec![map],
        }
    }

    /// Undoes [`RisamFeatures::into_tensors`].
    ///
    /// # Errors
    /// Another number than 3 or 1.
    pub fn from_tensors(tensors: Vec<Tensor<4>>) -> Result<Self, RisamError> {
        let wrong = |found: usize| RisamError::Shape {
            what: "number of kept features",
            found: vec![found],
            expected: "three taps or one embedding".into(),
        };
        match <[Tensor<4>; 3]>::try_from(tensors) {
            Ok(taps) => Ok(Self::Taps(taps)),
            Err(mut others) if others.len() == 1 => others.pop().map(Self::Embedding).ok_or_else(|| wrong(0)),
            Err(others) => Err(wrong(others.len())),
        }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        match self {
            Self::Taps([_, _, last]) => last.dims()[0],
            Self::Embedding(map) => map.dims()[0],
        }
    }

    /// The same in another precision.
    pub(crate) fn cast(self, kind: DType) -> Self {
        match self {
            Self::Taps(taps) => Self::Taps(taps.map(|tap| tap.cast(kind))),
            Self::Embedding(map) => Self::Embedding(map.cast(kind)),
        }
    }

    /// Fails unless the shapes fit each other and the configuration.
    pub(crate) fn check(&self, config: &RisamConfig) -> Result<(), RisamError> {
        match self {
            Self::Taps(taps) => {
                let (images, widths) = (taps[1].dims()[0], config.tap_widths());
                let fits = |(tap, width): (&Tensor<4>, usize)| {
                    let found = tap.dims();
                    found[0] == images && found[3] == width && !found.contains(&0)
                };
                if taps.iter().zip(widths).all(fits) {
                    return Ok(());
                }
                Err(self.wrong(&format!("[B, h, w, C] with one B and C of {widths:?}")))
            }
            Self::Embedding(map) if map.dims()[1] != config.sam.prompt_dim() => {
                Err(self.wrong(&format!("[B, {}, h, w]", config.sam.prompt_dim())))
            }
            Self::Embedding(_) => Ok(()),
        }
    }

    pub(crate) fn wrong(&self, expected: &str) -> RisamError {
        let found = match self {
            Self::Taps(taps) => taps.iter().flat_map(|tap| tap.dims()).collect(),
            Self::Embedding(map) => map.dims().to_vec(),
        };
        RisamError::Shape { what: "features of the image encoder", found, expected: expected.into() }
    }
}
