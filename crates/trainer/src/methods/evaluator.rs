//! A method with its weights, whatever its type, for evaluation.

use std::sync::Arc;

use burn::tensor::Device;
use metrics::{EvalProfile, Report};
use models::methods::AnyMethod;
use models::precision;
use models::{Found, with_method};
use refcoco_data::Dataset;
use run_config::RunConfig;

use crate::batch::Inputs;
use crate::cache::FeatureCache;
use crate::data::EvalData;
use crate::error::TrainError;
use crate::evaluate::{ItemResult, Options, evaluate, evaluate_with};
use crate::segmenter::Segmenter;

/// A method with its weights on a device.
pub trait Evaluator: Send + Sync {
    /// See [`Segmenter::inputs`].
    fn inputs(&self) -> Inputs;

    /// A split as this method judges it; the image encoder's features are taken from `train.feature_cache` where they are kept there.
    ///
    /// # Errors
    /// Settings out of range, or a label map that cannot be used.
    fn data(&self, run_config: &RunConfig, dataset: Arc<Dataset>) -> Result<EvalData, TrainError> {
        EvalData::of(run_config, dataset, self.inputs())
    }

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

    fn data(&self, run_config: &RunConfig, dataset: Arc<Dataset>) -> Result<EvalData, TrainError> {
        let cache = FeatureCache::open(&self.segmenter, &self.net, run_config, &dataset)?;
        Ok(EvalData::of(run_config, dataset, self.inputs())?.with_features(cache))
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

/// What was found, on a device and in the precision of `eval.precision`.
///
/// # Errors
/// Settings that contradict each other, weights that do not fit.
pub fn evaluator(found: &Found, device: &Device) -> Result<Box<dyn Evaluator>, TrainError> {
    let Found { run_config, tokenizer, weights, .. } = found;
    let method = AnyMethod::for_weights(run_config, tokenizer.clone(), weights)?;
    precision::check_evaluation(run_config, device)?;
    with_method!(method, method => {
        let net = precision::seen(&method.open(device, weights)?, run_config.eval.precision);
        Ok(Box::new(Loaded { segmenter: method, net, device: device.clone() }))
    })
}
