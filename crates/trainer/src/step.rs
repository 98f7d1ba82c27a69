//! One training step: micro-batches to gradients, global-norm clipping, optimisers, moving average; non-finite steps are skipped.

use std::sync::{Mutex, PoisonError};

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Device;

use crate::average;
use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::finite::{self, NotFinite};
use crate::optimise::{Optimisers, clip, clip_from, global_norm};
use crate::reducer::{Reducer, StepMessage};
use crate::segmenter::Segmenter;
use crate::shards::{PartGradients, Shards};
use crate::state::Training;
use crate::statistics;
use crate::world::World;
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
    world: World,
    /// Made at the first step of several ranks.
    reducer: Mutex<Option<Reducer>>,
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
    /// Sentences that the step saw, over all ranks.
    pub items: usize,
    /// What could not be read, on all ranks; other samples stood in its place.
    pub unreadable: Vec<String>,
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
        let (device, world, reducer) = (device.clone(), World::default(), Mutex::default());
        Ok(Self { segmenter, run_config, device, graph, shards, world, reducer })
    }

    /// The same for one of several ranks.
    #[must_use]
    pub fn with_world(self, world: &World) -> Self {
        Self { shards: self.shards.with_world(world, self.run_config), world: world.clone(), ..self }
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
        next_batch: impl FnMut() -> Result<Option<HostBatch>, TrainError>,
    ) -> Result<(Self, StepReport), TrainError> {
        let (segmenter, run_config) = (context.segmenter, context.run_config);
        // Dropout draws from the device's generator: a pure function of seed and step makes resuming exact. Ranks draw apart.
        let rank = (context.world.rank() as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
        let seed = run_config.run.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.step);
        context.device.seed(seed.wrapping_add(rank));
        let before = Some(statistics::kept(&self.net)).filter(|kept| !kept.is_empty());
        let found = context.gradients(&self.net, next_batch)?;
        let Found { grads, grad_norm, loss, terms, items, unreadable } = found;
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
        Ok((self, StepReport { loss, terms, grad_norm, skipped, items, unreadable }))
    }
}

/// What the backward passes of a step find.
struct Found {
    /// Clipped.
    grads: GradientsParams,
    grad_norm: f64,
    loss: f64,
    terms: Vec<(&'static str, f64)>,
    items: usize,
    unreadable: Vec<String>,
}

impl<S: Segmenter> StepContext<'_, S> {
    /// Gradients of the step's micro-batches, over all ranks.
    fn gradients(
        &self,
        net: &S::Net,
        mut next_batch: impl FnMut() -> Result<Option<HostBatch>, TrainError>,
    ) -> Result<Found, TrainError> {
        let (mut reducer, alone) = (self.reducer.lock().unwrap_or_else(PoisonError::into_inner), self.world.is_alone());
        let accumulate = self.run_config.optim.accumulate.max(1);
        let (mut sums, mut loss, mut terms) = (GradientsAccumulator::new(), 0.0, Vec::new());
        let (mut items, mut unreadable) = (0, Vec::new());
        for number in 1..=accumulate {
            let Some(mut batch) = next_batch()? else { break };
            unreadable.append(&mut batch.unreadable);
            // Every sentence weighs alike, however many of them a rank has.
            let all: usize = self.world.gather(batch.len())?.into_iter().sum();
            items += all;
            let weight = batch.len() as f64 / all.max(1) as f64 / accumulate as f64;
            let mut tell = |part: &mut PartGradients| {
                loss += part.loss;
                add(&mut terms, std::mem::take(&mut part.terms));
            };
            if alone {
                for mut part in self.shards.gradients(self.segmenter, net, &batch, &self.graph, weight)? {
                    tell(&mut part);
                    sums.accumulate(net, part.grads);
                }
                continue;
            }
            let exchange = self.run_config.train.gradient_exchange;
            let reducer = reducer.get_or_insert_with(|| Reducer::new(&self.world, exchange, net, &self.device));
            let mut piece = 0;
            let mut pieces = |grads| {
                reducer.add(net, grads, (number == accumulate).then_some(piece));
                piece += 1;
            };
            let parts = self.shards.gradients_to(self.segmenter, net, &batch, &self.graph, weight, Some(&mut pieces))?;
            for mut part in parts {
                tell(&mut part);
                reducer.add(net, part.grads, None);
            }
        }
        let Some(reducer) = reducer.as_mut() else {
            let (grads, grad_norm) = clip(net, sums.grads(), self.run_config.optim.grad_clip);
            return Ok(Found { grads, grad_norm, loss, terms, items, unreadable });
        };
        let message = StepMessage::new(loss, &terms, unreadable);
        let (grads, all) = reducer.finish(net, message)?;
        let of = |name: &str, one: &StepMessage| {
            one.terms.iter().filter(|(known, _)| known == name).map(|(_, bits)| f64::from_bits(*bits)).sum::<f64>()
        };
        let loss = all.iter().map(|one| f64::from_bits(one.loss)).sum();
        let terms = terms.iter().map(|(name, _)| (*name, all.iter().map(|one| of(name, one)).sum())).collect();
        let unreadable = all.into_iter().flat_map(|one| one.unreadable).collect();
        // All ranks hold the same gradients. Should one of them add them up in another order, it must not skip or clip alone.
        let grad_norm = f64::from_bits(self.world.from_first(global_norm(net, &grads).to_bits())?);
        let grads = clip_from(net, grads, grad_norm, self.run_config.optim.grad_clip);
        Ok(Found { grads, grad_norm, loss, terms, items, unreadable })
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
