//! A method with its weights, whatever its type: what `eval`, `predict` and `export` need.

use std::sync::Arc;

use burn::tensor::Device;
use metrics::{EvalProfile, Report};
use nn_ops::weights::{self, export};
use pil_ops::Image;
use refcoco_data::Dataset;
use sam_vit::Prediction;

use super::{Dit, Evf, Risam};
use crate::batch::Inputs;
use crate::data::EvalData;
use crate::error::TrainError;
use crate::evaluate::{ItemResult, evaluate};
use crate::event::OnEvent;
use crate::precision;
use crate::run_dir::Checkpoint;
use crate::segmenter::{Attention, Segmenter};
use crate::state::evaluated_weights;
use crate::tokenizer::RunTokenizer;
use crate::train::Summary;
use run_config::{Method, RunConfig};

/// A method with its weights on a device.
pub trait Model: Send + Sync {
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

    /// See [`Segmenter::predict`].
    ///
    /// # Errors
    /// As there.
    fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError>;

    /// See [`Segmenter::attention`].
    ///
    /// # Errors
    /// As there.
    fn attention(&self, image: &Image, sentence: &str) -> Result<Attention, TrainError>;

    /// All parameters under their official names.
    fn weights(&self) -> weights::StateDict;

    /// See [`Segmenter::files`].
    fn files(&self) -> Vec<(String, Vec<u8>)>;
}

struct Loaded<S: Segmenter> {
    segmenter: S,
    net: S::Net,
    /// The same in the precision of evaluation; what is exported comes from `net`.
    seen: S::Net,
    device: Device,
}

impl<S: Segmenter> Model for Loaded<S> {
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
        evaluate(&self.segmenter, &self.seen, data, profile, shuffle, &self.device, on_event)
    }

    fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError> {
        self.segmenter.predict(&self.seen, image, sentences)
    }

    fn attention(&self, image: &Image, sentence: &str) -> Result<Attention, TrainError> {
        self.segmenter.attention(&self.seen, image, sentence)
    }

    fn weights(&self) -> weights::StateDict {
        export(&self.net, &self.segmenter.names(), "export")
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.segmenter.files()
    }
}

fn load<S: Segmenter + 'static>(
    segmenter: S,
    run_config: &RunConfig,
    device: &Device,
    checkpoint: Option<&Checkpoint>,
) -> Result<Box<dyn Model>, TrainError> {
    precision::check_evaluation(run_config, device)?;
    let net = segmenter.init(device)?;
    let net = match checkpoint {
        Some(checkpoint) => evaluated_weights(net, checkpoint)?,
        None => net,
    };
    let seen = precision::seen(&net, run_config.eval.precision);
    Ok(Box::new(Loaded { segmenter, net, seen, device: device.clone() }))
}

/// The config's method with the weights that `checkpoint` is evaluated with, or with those that the config starts from.
///
/// # Errors
/// Settings that contradict each other, weights that do not fit.
pub fn open(
    run_config: &RunConfig,
    tokenizer: RunTokenizer,
    device: &Device,
    checkpoint: Option<&Checkpoint>,
) -> Result<Box<dyn Model>, TrainError> {
    match run_config.model.method {
        Method::Dit => load(Dit::new(run_config, tokenizer)?, run_config, device, checkpoint),
        Method::Evf => load(Evf::new(run_config, tokenizer)?, run_config, device, checkpoint),
        Method::Risam => load(Risam::new(run_config, tokenizer)?, run_config, device, checkpoint),
    }
}

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
    use crate::train::train;
    match run_config.model.method {
        Method::Dit => train(&Dit::new(run_config, tokenizer)?, run_config, data, device, resume, on_event),
        Method::Evf => train(&Evf::new(run_config, tokenizer)?, run_config, data, device, resume, on_event),
        Method::Risam => train(&Risam::new(run_config, tokenizer)?, run_config, data, device, resume, on_event),
    }
}
