//! `RisamError`: what can go wrong between an image, a sentence and a mask.

/// Why a prediction is impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RisamError {
    /// Settings that contradict each other, or that lack what was asked.
    #[error("RISAM configuration: {0}")]
    Config(#[from] nn_ops::ConfigError),
    /// Numbers that do not fit.
    #[error("{what}: found {found:?}, expected {expected}")]
    Shape {
        /// Which ones.
        what: &'static str,
        /// Their shape or values.
        found: Vec<usize>,
        /// What would fit.
        expected: String,
    },
    /// An image that cannot be used, or a result that cannot be read.
    #[error(transparent)]
    Sam(#[from] sam_vit::SamError),
    /// An image that Swin cannot use.
    #[error(transparent)]
    Swin(#[from] swin::SwinError),
    /// A sentence that cannot be used, or a tokenizer's file.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit, or a folder that is something else.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
