//! Deep Instruction Tuning (DIT) for Segment Anything: text tokens run through SAM's own image encoder.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod cross_attention;
mod error;
mod instruction;
mod model;
mod net;
mod predict;

pub use config::{DitConfig, Variant};
pub use cross_attention::{Attention, GuidedBlock, StdNorm};
pub use error::DitError;
pub use instruction::Instruction;
pub use model::DitModel;
pub use predict::Dit;
pub use net::{DitNet, DitOutput, loss, released_names};
