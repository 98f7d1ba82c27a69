//! Everything that can go wrong between an image and its feature maps.

use std::path::PathBuf;

/// Why an image, a configuration or a weight file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwinError {
    /// A configuration that no model fits.
    #[error(transparent)]
    Config(#[from] nn_ops::ConfigError),
    /// A tensor of another shape.
    #[error("{what}: found {found:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that fits.
        expected: String,
    },
    /// An image that cannot be resized.
    #[error(transparent)]
    Image(#[from] pil_ops::ImageError),
    /// A weight file that cannot be read or does not fit.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
    /// A weight file that is no Swin Transformer.
    #[error("{path}: {what}")]
    StateDict {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
}
