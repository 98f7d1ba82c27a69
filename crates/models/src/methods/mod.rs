//! The methods as a run config describes them: each a config, a tokenizer and first weights.

mod dit;
mod evf;
mod risam;

pub use dit::DitMethod;
pub use evf::{EvfMethod, pretrained_config};
pub use risam::RisamMethod;

use nn_ops::config::quoted;
use pil_ops::Fit;
use run_config::{Method, RunConfig};

use crate::ModelError;
use crate::tokenizer::RunTokenizer;

/// A run config's method. Together with [`with_method`](crate::with_method) this is the one place that tells methods apart: a
/// fourth method is a variant here, an arm there, and an implementation of the trainer's `Segmenter`.
pub enum AnyMethod {
    /// Deep instruction tuning.
    Dit(DitMethod),
    /// EVF-SAM.
    Evf(EvfMethod),
    /// RISAM.
    Risam(RisamMethod),
}

impl AnyMethod {
    /// The method that the config names, with its settings checked.
    ///
    /// # Errors
    /// Settings that contradict each other, with the config's key.
    pub fn new(run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Self, ModelError> {
        Ok(match run_config.model.method {
            Method::Dit => Self::Dit(DitMethod::new(run_config, tokenizer)?),
            Method::Evf => Self::Evf(EvfMethod::new(run_config, tokenizer)?),
            Method::Risam => Self::Risam(RisamMethod::new(run_config, tokenizer)?),
        })
    }
}

/// Runs an expression with the method inside of an [`AnyMethod`], whatever its type.
#[macro_export]
macro_rules! with_method {
    ($any:expr, $method:ident => $body:expr) => {
        match $any {
            $crate::methods::AnyMethod::Dit($method) => $body,
            $crate::methods::AnyMethod::Evf($method) => $body,
            $crate::methods::AnyMethod::Risam($method) => $body,
        }
    };
}

/// Fails unless images lie in the corner of their canvas, where SAM's preprocessing puts them.
fn expect_top_left(run_config: &RunConfig) -> Result<(), ModelError> {
    expect_fit(run_config, Fit::TopLeft)
}

/// Fails unless images lie on their canvas as the method's image encoder has them.
fn expect_fit(run_config: &RunConfig, fit: Fit) -> Result<(), ModelError> {
    if run_config.data.fit == fit {
        return Ok(());
    }
    let expected = format!("{}, as this method's image encoder has its images prepared", quoted(&fit));
    Err(run_config.value_error("data.fit", quoted(&run_config.data.fit), expected).into())
}
