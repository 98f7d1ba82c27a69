//! What can go wrong between an image, a sentence and a mask.

/// Why a prediction is impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RisamError {
    /// Settings that contradict each other.
    #[error("RISAM configuration: {0}")]
    Config(String),
    /// A tensor that does not fit the network.
    #[error("{what}: found {found:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What would fit.
        expected: String,
    },
    /// An image that cannot be used, or a result that cannot be read.
    #[error(transparent)]
    Sam(#[from] sam_vit::SamError),
    /// An image that Swin cannot use, or sizes of it that contradict each other.
    #[error(transparent)]
    Swin(#[from] swin::SwinError),
    /// A sentence that cannot be used.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
