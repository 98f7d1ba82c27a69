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
    /// Points or a box that cannot be used.
    #[error("prompt: {0}")]
    Prompt(String),
    /// Something that this variant does not have.
    #[error("variant {variant:?}: {what}")]
    Variant {
        /// The variant.
        variant: crate::Variant,
        /// What was asked, and what would be right.
        what: String,
    },
    /// Tensors that cannot be read back.
    #[error("reading {what} back from the device failed: {reason}")]
    Device {
        /// What was read.
        what: &'static str,
        /// The device's reason.
        reason: String,
    },
    /// A sentence that cannot be used.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
