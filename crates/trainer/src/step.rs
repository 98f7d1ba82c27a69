//! One training step: micro-batches to gradients, global-norm clipping, optimisers, moving average; non-finite steps are skipped.

use burn::module::Module;
use burn::optim::GradientsAccumulator;
use burn::tensor::Device;

use crate::average;
use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::finite::{self, NotFinite};
use crate::optimise::{Optimisers, clip};
use crate::segmenter::Segmenter;
use crate::shards::Shards;
use crate::state::Training;
use crate::statistics;
use models::manifest::Skips;
use models::weights::with_adapters;
use nn_ops::weights::{freeze_unless, name_ids};
use run_config::{Recompute, RunConfig};

/// What every step of a run shares.
pub struct StepContext<'a, S> {
    segmenter: &'a S,
    run_config: &'a RunConfig,
    device: Device,
    graph: Device,
    shards: Shards,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The loss: a mean over the step's micro-batches.
    pub loss: f64,
    /// Its named terms, likewise, before their weights.
    pub terms: Vec<(&'static str, f64)>,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Why the step was skipped, if it was.
    pub skipped: Option<SkippedStep>,
}

/// Why a step changed nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct SkippedStep {
    /// The first tensors that are not finite; none where the loss alone is not, or only the norm over finite gradients.
    pub not_finite: Option<NotFinite>,
    /// The same in words.
    pub found: String,
}

impl<'a, S: Segmenter> StepContext<'a, S> {
    /// A context for steps of `config` on `device`.
    ///
    /// # Errors
    /// When the method's batches cannot be cut as the config says, or threads cannot be made.
    pub fn new(segmenter: &'a S, run_config: &'a RunConfig, device: &Device) -> Result<Self, TrainError> {
        let (graph, shards) = (graph(run_config, device), Shards::new(run_config, segmenter)?);
        Ok(Self { segmenter, run_config, device: device.clone(), graph, shards })
    }

    /// The device with gradients on which parameters and batches live.
    pub fn graph(&self) -> &Device {
        &self.graph
    }

    /// Fresh weights, frozen as the config says, with optimisers and average.
    ///
    /// # Errors
    /// Weight files that do not fit.
    pub fn begin(&self) -> Result<Training<S::Net>, TrainError> {
        self.graph.seed(self.run_config.run.seed);
        let names = self.segmenter.names();
        // Naming the parameters also draws those that are still lazy, in the module's order.
        let net = name_ids(self.segmenter.init(&self.graph)?, &names);
        let net = freeze_unless(net, &names, |name| self.segmenter.trains(name) && self.run_config.model.trains(name));
        let net = match &self.run_config.train.lora {
            None => net,
            Some(lora) => {
                let (net, count) = with_adapters(net, &names, lora);
                if count == 0 {
                    let expected = "patterns that name the weight of a linear layer";
                    return Err(self.run_config.value_error("train.lora.parts", format!("{:?}", lora.parts), expected).into());
                }
                net
            }
        };
        let optimisers = Optimisers::new(&self.run_config.optim, &net, &names);
        let average = self.run_config.train.ema.enabled.then(|| net.valid());
        Ok(Training { net, average, optimisers, step: 0, best: None, skips: Skips::default() })
    }
}

/// `device` with gradients, keeping activations as the config says. Parameters and batches have to come from this one: tensors
/// that keep activations in different ways must not meet.
fn graph(run_config: &RunConfig, device: &Device) -> Device {
    let graph = device.clone().autodiff();
    match run_config.train.recompute {
        Recompute::Operations => graph.gradient_checkpointing(),
        // Blocks are up to the forward pass: `nn_ops::recompute`.
        Recompute::None | Recompute::Blocks => graph,
    }
}

impl<N: Module> Training<N> {
    /// Takes one optimiser step over the micro-batches that `next_batch` gives, at most `optim.accumulate`.
    ///
    /// A step whose loss or gradient norm is not finite changes nothing but the counters.
    ///
    /// # Errors
    /// Batches that cannot be made, sentences that the tokenizer refuses, a device that fails.
    pub fn step<S: Segmenter<Net = N>>(
        mut self,
        context: &StepContext<'_, S>,
        lr: f64,
        mut next_batch: impl FnMut() -> Result<Option<HostBatch>, TrainError>,
    ) -> Result<(Self, StepReport), TrainError> {
        let (segmenter, run_config) = (context.segmenter, context.run_config);
        // Dropout draws from the device's generator: a pure function of seed and step makes resuming exact.
        context.device.seed(run_config.run.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.step));
        let before = Some(statistics::kept(&self.net)).filter(|kept| !kept.is_empty());
        let accumulate = run_config.optim.accumulate.max(1);
        let (mut grads, mut loss, mut terms) = (GradientsAccumulator::new(), 0.0, Vec::new());
        for _ in 0..accumulate {
            let Some(batch) = next_batch()? else { break };
            for part in context.shards.gradients(segmenter, &self.net, &batch, &context.graph, 1.0 / accumulate as f64)? {
                loss += part.loss;
                add(&mut terms, part.terms);
                grads.accumulate(&self.net, part.grads);
            }
        }
        let (grads, grad_norm) = clip(&self.net, grads.grads(), run_config.optim.grad_clip);
        let mut skipped = None;
        if loss.is_finite() && grad_norm.is_finite() {
            self.skips.in_a_row = 0;
            self.net = self.optimisers.step(lr, self.net, grads);
            if let Some(average) = self.average.take() {
                self.average = Some(average::update(average, &self.net, run_config.train.ema.decay_at(self.step)));
            }
        } else {
            self.skips.all += 1;
            self.skips.in_a_row += 1;
            if let Some(before) = before {
                self.net = statistics::restore(self.net, before);
            }
            let not_finite = finite::find(&self.net, &grads, &segmenter.names());
            skipped = Some(SkippedStep { found: NotFinite::describe(not_finite.as_ref()), not_finite });
        }
        self.step += 1;
        Ok((self, StepReport { loss, terms, grad_norm, skipped }))
    }
}

/// Adds terms by name.
fn add(sums: &mut Vec<(&'static str, f64)>, terms: Vec<(&'static str, f64)>) {
    for (name, value) in terms {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
}
