//! Adapters: each method as a [`Segmenter`](crate::segmenter::Segmenter), and a method with weights whatever its type.

mod any;
mod dit;
mod evf;
mod risam;

pub use any::{Model, open, train};
pub use dit::Dit;
pub use evf::{Evf, pretrained_config};
pub use risam::Risam;

use pil_ops::Fit;

use crate::error::TrainError;
use run_config::RunConfig;

/// Why a model with this dropout cannot be trained in parts, if it has any.
fn dropout_divides(dropout: f64) -> Option<&'static str> {
    (dropout > 0.0)
        .then_some("the model has dropout: Burn's CPU generator is shared between threads, so the run could not be repeated")
}

/// Fails unless pictures lie in the corner of their canvas, where SAM's preprocessing puts them.
fn expect_top_left(run_config: &RunConfig) -> Result<(), TrainError> {
    if run_config.data.fit == Fit::TopLeft {
        return Ok(());
    }
    Err(run_config.value_error("data.fit", "\"centre\"", "\"top-left\", as SAM prepares images for this method").into())
}
