//! Adapters: each method of [`models::methods`] as a [`Segmenter`](crate::segmenter::Segmenter).

mod dit;
mod evaluator;
mod evf;
mod risam;
mod stacks;

pub use evaluator::{Evaluator, evaluator};

use std::sync::Arc;

use burn::tensor::Device;
use models::methods::AnyMethod;
use models::tokenizer::RunTokenizer;
use models::with_method;
use refcoco_data::Dataset;
use run_config::RunConfig;

use crate::error::TrainError;
use crate::event::OnEvent;
use crate::train::Summary;
use crate::world::World;

/// Trains the config's method; see [`train`](crate::train::train).
///
/// # Errors
/// As there, and settings that contradict each other.
pub fn train(
    run_config: &RunConfig,
    tokenizer: RunTokenizer,
    data: Arc<Dataset>,
    device: &Device,
    resume: bool,
    on_event: &mut OnEvent<'_>,
) -> Result<Summary, TrainError> {
    train_on_ranks(run_config, tokenizer, data, device, &World::default(), resume, on_event)
}

/// [`train`] as one of several ranks.
///
/// # Errors
/// As there, and a rank that is lost.
pub fn train_on_ranks(
    run_config: &RunConfig,
    tokenizer: RunTokenizer,
    data: Arc<Dataset>,
    device: &Device,
    world: &World,
    resume: bool,
    on_event: &mut OnEvent<'_>,
) -> Result<Summary, TrainError> {
    let method = AnyMethod::new(run_config, tokenizer)?;
    with_method!(&method, method => crate::train::train_on_ranks(method, run_config, data, device, world, resume, on_event))
}

/// Why a model with this dropout cannot be trained in parts, if it has any.
fn dropout_divides(dropout: f64) -> Option<&'static str> {
    (dropout > 0.0)
        .then_some("the model has dropout: Burn's CPU generator is shared between threads, so the run could not be repeated")
}
