//! Errors of images, prompts and weight files.

use std::path::PathBuf;

use nn_ops::weights::WeightsError;

/// Why an image, a prompt or a weight file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamError {
    /// An image or its place in the input.
    #[error(transparent)]
    Image(#[from] pil_ops::ImageError),
    /// The network cannot run at this input size.
    #[error("input of {canvas} pixels: must be a multiple of the patch, {patch} pixels, and at most {most}")]
    Canvas {
        /// Side asked for.
        canvas: usize,
        /// Side of a patch.
        patch: usize,
        /// Largest side.
        most: usize,
    },
    /// A prompt makes no sense.
    #[error("prompt {index}: {what}")]
    Prompt {
        /// Its place in the call, from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] nn_ops::ConfigError),
    /// A mask that cannot be written as runs.
    #[error(transparent)]
    Mask(#[from] coco_mask::MaskError),
    /// A weight file that cannot be read or does not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A weight file that is no SAM.
    #[error("{path}: {what}")]
    StateDict {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// A network's output that no mask can be made of.
    #[error("{count} of {of} {what} are NaN or infinite: the weights, the image or the precision do not suit the model")]
    NotFinite {
        /// "mask logits".
        what: &'static str,
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
    },
    /// The device failed while a result was read.
    #[error("a result could not be read from the device: {0}")]
    Device(String),
}
