//! What can go wrong between an image, a sentence and a mask.

/// Why a prediction is impossible.
#[derive(Debug, thiserror::Error)]
pub enum DitError {
    /// Sizes that contradict each other.
    #[error("DIT configuration: {0}")]
    Config(String),
    /// An image that cannot be used.
    #[error("image: {0}")]
    Image(String),
    /// A sentence that cannot be used.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
