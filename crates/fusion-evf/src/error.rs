//! `EvfError`: what can go wrong between an image, a sentence and a mask.

/// Why a prediction is impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvfError {
    /// Settings that contradict each other, or that lack what was asked.
    #[error("EVF-SAM configuration: {0}")]
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
    /// A frame, or maps of SAM-2, that cannot be used.
    #[error(transparent)]
    Sam2(#[from] sam2::Sam2Error),
    /// A sentence or a tokenizer's file that cannot be used, or an image that the multimodal encoder refuses.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit, or a folder that is something else.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
