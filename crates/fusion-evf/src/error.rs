//! What can go wrong between an image, a sentence and a mask.

/// Why a prediction is impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvfError {
    /// Settings that contradict each other.
    #[error("EVF-SAM configuration: {0}")]
    Config(String),
    /// A tensor that does not fit the network.
    #[error("{what}: found {found:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape or values.
        found: Vec<usize>,
        /// What would fit.
        expected: String,
    },
    /// A file of a published folder.
    #[error("{path}: {what}", path = path.display())]
    File {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What is wrong and what would be right.
        what: String,
    },
    /// An image that cannot be used, or a result that cannot be read.
    #[error(transparent)]
    Sam(#[from] sam_vit::SamError),
    /// A sentence that cannot be used, or an image that the multimodal encoder refuses.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
}
