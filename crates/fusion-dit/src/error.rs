//! What can go wrong between an image, a sentence and a mask.

/// Why a prediction is impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DitError {
    /// Sizes that contradict each other.
    #[error("DIT configuration: {0}")]
    Config(String),
    /// Something that this variant does not have.
    #[error("variant {variant:?}: {what}")]
    Variant {
        /// The variant.
        variant: crate::Variant,
        /// What was asked, and what would be right.
        what: String,
    },
    /// An image or a prompt that cannot be used, or a result that cannot be read.
    #[error(transparent)]
    Sam(#[from] sam_vit::SamError),
    /// A sentence that cannot be used.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
