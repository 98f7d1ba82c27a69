//! A method with its weights, whatever its type, for evaluation.

use burn::tensor::Device;
use metrics::{EvalProfile, Report};
use models::methods::AnyMethod;
use models::precision;
use models::{Found, FoundWeights, with_method};
use run_config::RunConfig;

use crate::batch::Inputs;
use crate::data::EvalData;
use crate::error::TrainError;
use crate::evaluate::{ItemResult, Options, evaluate, evaluate_with};
use crate::segmenter::Segmenter;

/// A method with its weights on a device.
pub trait Evaluator: Send + Sync {
    /// See [`Segmenter::inputs`].
    fn inputs(&self) -> Inputs;

    /// See [`evaluate`].
    ///
    /// # Errors
    /// As there.
    fn evaluate(
        &self,
        data: &EvalData,
        profile: &EvalProfile,
        shuffle: Option<u64>,
        on_event: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<ItemResult>), TrainError>;

    /// See [`evaluate_with`].
    ///
    /// # Errors
    /// As there.
    fn evaluate_with(
        &self,
        data: &EvalData,
        profile: &EvalProfile,
        options: Options<'_>,
        on_event: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<ItemResult>), TrainError>;
}

struct Loaded<S: Segmenter> {
    segmenter: S,
    net: S::Net,
    device: Device,
}

impl<S: Segmenter> Evaluator for Loaded<S> {
    fn inputs(&self) -> Inputs {
        self.segmenter.inputs()
    }

    fn evaluate(
        &self,
        data: &EvalData,
        profile: &EvalProfile,
        shuffle: Option<u64>,
        on_event: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<ItemResult>), TrainError> {
        evaluate(&self.segmenter, &self.net, data, profile, shuffle, &self.device, on_event)
    }

    fn evaluate_with(
        &self,
        data: &EvalData,
        profile: &EvalProfile,
        options: Options<'_>,
        on_event: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<ItemResult>), TrainError> {
        evaluate_with(&self.segmenter, &self.net, data, profile, options, &self.device, on_event)
    }
}

fn load<S: Segmenter + 'static>(
    segmenter: S,
    run_config: &RunConfig,
    device: &Device,
    weights: &FoundWeights,
) -> Result<Box<dyn Evaluator>, TrainError> {
    precision::check_evaluation(run_config, device)?;
    let net = weights.fill(segmenter.init(device)?, &segmenter.names())?;
    let net = precision::seen(&net, run_config.eval.precision);
    Ok(Box::new(Loaded { segmenter, net, device: device.clone() }))
}

/// What was found, on a device and in the precision of `eval.precision`.
///
/// # Errors
/// Settings that contradict each other, weights that do not fit.
pub fn evaluator(found: &Found, device: &Device) -> Result<Box<dyn Evaluator>, TrainError> {
    let method = AnyMethod::for_weights(&found.run_config, found.tokenizer.clone(), &found.weights)?;
    with_method!(method, method => load(method, &found.run_config, device, &found.weights))
}
