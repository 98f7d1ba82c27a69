//! Adapters: each method as a [`Segmenter`](crate::segmenter::Segmenter), and a method with weights whatever its type.

mod any;
mod dit;
mod evf;
mod risam;

pub use any::{Model, open, train};
pub use dit::Dit;
pub use evf::{Evf, pretrained_plan};
pub use risam::Risam;

use refcoco_data::Fit;

use crate::error::TrainError;
use crate::plan::RunPlan;

/// Why a model with this dropout cannot be trained in parts, if it has any.
fn dropout_divides(dropout: f64) -> Option<&'static str> {
    (dropout > 0.0)
        .then_some("the model has dropout: Burn's CPU generator is shared between threads, so the run could not be repeated")
}

/// Fails unless pictures lie on their canvas as the method's image encoder has them: in the corner, where SAM's preprocessing
/// puts them, or over all of it.
fn expect_fit(plan: &RunPlan, fit: Fit) -> Result<(), TrainError> {
    if plan.data.fit == fit {
        return Ok(());
    }
    let name = |fit: Fit| match fit {
        Fit::Centre => "\"centre\"",
        Fit::TopLeft => "\"top-left\"",
        Fit::Stretch => "\"stretch\"",
        Fit::StretchBicubic => "\"stretch-bicubic\"",
    };
    let expected = format!("{}, as this method's image encoder has its images prepared", name(fit));
    Err(plan.value_error("data.fit", name(plan.data.fit), expected).into())
}
