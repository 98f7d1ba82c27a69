//! Boxes to be turned into masks by a model: which boxes of a COCO annotation file are prompts, and a restartable file of the masks.

mod lines;
mod read;

pub use lines::{MachineMask, MaskLines, MasksWritten};
pub use read::{BoxFile, BoxImage, BoxPrompt};
