//! Everything that can go wrong between images or frames and their masks.

use std::path::PathBuf;

use nn_ops::weights::WeightsError;
use sam_vit::SamError;

/// Why an image, a prompt, a frame or a weight file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Sam2Error {
    /// An image or a prompt that SAM refuses, too.
    #[error(transparent)]
    Sam(#[from] SamError),
    /// The image contradicts itself.
    #[error(transparent)]
    Image(#[from] pil_ops::ImageError),
    /// The network cannot run at this input size.
    #[error("input of {canvas} pixels: must be a multiple of {multiple} and at most {most}")]
    Canvas {
        /// Side asked for.
        canvas: usize,
        /// What it must be a multiple of.
        multiple: usize,
        /// Largest side.
        most: usize,
    },
    /// Tensors that do not fit together.
    #[error("{what}: found {found:?}; must be {expected}")]
    Shape {
        /// Which.
        what: &'static str,
        /// Their sizes or numbers.
        found: Vec<usize>,
        /// What would be right.
        expected: String,
    },
    /// A frame of another size than those before it.
    #[error(
        "frame {index} is {found:?} (height, width of the image and of its features), the frames before it {expected:?}: all frames of a video must have one size; start a new video"
    )]
    FrameSize {
        /// Number of the frame.
        index: i64,
        /// Its sizes.
        found: [usize; 4],
        /// Sizes of the earlier frames.
        expected: [usize; 4],
    },
    /// A prompt of a video that makes no sense.
    #[error("object {object} on frame {index}: {what}")]
    Prompt {
        /// The object.
        object: u32,
        /// Number of the frame.
        index: i64,
        /// What is wrong.
        what: String,
    },
    /// A weight file that cannot be read or does not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A weight file that is no SAM-2.
    #[error("{path}: {what}")]
    StateDict {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
}
