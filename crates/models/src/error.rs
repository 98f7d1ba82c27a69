//! Why a model cannot be opened or asked.

use std::path::PathBuf;

/// Why a model cannot be opened or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The config.
    #[error(transparent)]
    Config(#[from] run_config::ConfigError),
    /// A run folder or a checkpoint in it.
    #[error(transparent)]
    RunDir(#[from] crate::run_dir::RunDirError),
    /// The text.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weight files.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
    /// DIT.
    #[error(transparent)]
    Dit(#[from] fusion_dit::DitError),
    /// EVF-SAM.
    #[error(transparent)]
    Evf(#[from] fusion_evf::EvfError),
    /// RISAM.
    #[error(transparent)]
    Risam(#[from] fusion_risam::RisamError),
    /// Points or a box that cannot be used.
    #[error(transparent)]
    Prompt(sam_vit::SamError),
    /// A file that cannot be used.
    #[error("{}: {what}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A recorded state that cannot be read back.
    #[error("{}: the saved state cannot be used: {what}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Weights that do not say what they are.
    #[error("--weights {weights}: pass the model's config with --config, or a folder with config.json")]
    Unnamed {
        /// The weights.
        weights: String,
    },
    /// Tensor read-back failed.
    #[error("reading {what} back from the device failed: {reason}")]
    Device {
        /// What was read.
        what: &'static str,
        /// The device's reason.
        reason: String,
    },
    /// Something that a method does not have.
    #[error("this method has no {0}")]
    Unsupported(&'static str),
}

impl ModelError {
    /// Whether what was asked is at fault (a sentence without words, a click that is no number, a map that the method does not
    /// have), rather than files, weights or the device.
    #[must_use]
    pub fn is_about_the_question(&self) -> bool {
        use fusion_dit::DitError;
        use fusion_evf::EvfError;
        use fusion_risam::RisamError;
        match self {
            Self::Text(_) | Self::Unsupported(_) => true,
            Self::Dit(DitError::Text(_) | DitError::Config(_)) => true,
            Self::Evf(EvfError::Text(_) | EvfError::Config(_)) => true,
            Self::Risam(RisamError::Text(_) | RisamError::Config(_)) => true,
            Self::Prompt(error)
            | Self::Dit(DitError::Sam(error))
            | Self::Evf(EvfError::Sam(error))
            | Self::Risam(RisamError::Sam(error)) => {
                use sam_vit::SamError::{Canvas, Image, Prompt};
                matches!(error, Prompt { .. } | Image(_) | Canvas { .. })
            }
            _ => false,
        }
    }
}
