//! A batch cut into parts that run on their own threads.
//!
//! Burn's CPU backend runs attention's backward and element-wise work on one thread. A small model is made of little
//! else, so the cores are used better by giving each a part of the batch. Every part sees its own copies of the leaves
//! (their values are shared), so that Burn keeps one graph a part and the parts do not wait for each other; gradients are
//! summed in the order of the parts, so results do not depend on timing.

use std::sync::Arc;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{DType, Device, Tensor};
use nn_ops::recompute::{Tape, in_parts, record};
use nn_ops::synchronised::{self, Gather};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::segmenter::{Loss, Segmenter};
use crate::world::World;
use models::precision::View;
use run_config::{BatchNorms, Recompute, RunConfig};

/// Loss and gradients of a part of a batch, weighted by its share.
pub struct PartGradients {
    /// The loss.
    pub loss: f64,
    /// Its named terms.
    pub terms: Vec<(&'static str, f64)>,
    /// The gradients.
    pub grads: GradientsParams,
}

/// The threads of a run's parts, and how they see the module.
pub struct Shards {
    pools: Vec<ThreadPool>,
    view: View,
    recompute: Recompute,
    /// Whether gradients are wanted while the backward pass goes on.
    in_parts: bool,
    /// How batch norms gather the statistics of all ranks.
    statistics: Option<Arc<Gather>>,
}

/// Hears the gradients of each piece of a backward pass.
pub type Pieces<'a> = dyn FnMut(GradientsParams) + 'a;

impl Shards {
    /// As many parts as `train.shards` says, the machine's threads divided between them.
    ///
    /// # Errors
    /// When the method's batches cannot be cut, or threads cannot be made.
    pub fn new<S: Segmenter>(run_config: &RunConfig, segmenter: &S) -> Result<Self, TrainError> {
        let (view, recompute) = (View::new(run_config.train.precision), run_config.train.recompute);
        let count = run_config.train.shards;
        if count <= 1 {
            return Ok(Self { pools: Vec::new(), view, recompute, in_parts: false, statistics: None });
        }
        if let Some(reason) = segmenter.sharding_blocker() {
            return Err(run_config.value_error("train.shards", count, format!("1, because {reason}")).into());
        }
        let threads = (rayon::current_num_threads() / count).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = (0..count)
            .map(pool)
            .collect::<Result<_, _>>()
            .map_err(|e| run_config.value_error("train.shards", e, "threads that the system grants"))?;
        Ok(Self { pools, view, recompute, in_parts: false, statistics: None })
    }

    /// The same for one of several ranks.
    #[must_use]
    pub fn with_world(self, world: &World, run_config: &RunConfig) -> Self {
        if world.is_alone() {
            return self;
        }
        let synchronised = run_config.train.batch_norm == BatchNorms::Synchronised;
        Self { in_parts: true, statistics: synchronised.then(|| world.statistics()), ..self }
    }

    /// Loss and gradients of each part, weighted by its share of the batch and by `weight`.
    ///
    /// # Errors
    /// The first error of a part.
    pub fn gradients<S: Segmenter>(
        &self,
        segmenter: &S,
        net: &S::Net,
        batch: &HostBatch,
        graph: &Device,
        weight: f64,
    ) -> Result<Vec<PartGradients>, TrainError> {
        self.gradients_to(segmenter, net, batch, graph, weight, None)
    }

    /// The same; where the batch is one part, its gradients go to `pieces` while its backward pass goes on, and what is returned
    /// has none.
    ///
    /// # Errors
    /// As there.
    pub fn gradients_to<S: Segmenter>(
        &self,
        segmenter: &S,
        net: &S::Net,
        batch: &HostBatch,
        graph: &Device,
        weight: f64,
        pieces: Option<&mut Pieces<'_>>,
    ) -> Result<Vec<PartGradients>, TrainError> {
        let count = self.pools.len().min(batch.image_count());
        if count <= 1 {
            return Ok(vec![self.part(segmenter, net, batch, graph, weight, pieces)?]);
        }
        let cut = |i: usize| i * batch.image_count() / count;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.pools[..count]
                .iter()
                .enumerate()
                .map(|(i, pool)| {
                    let net = net.clone();
                    scope.spawn(move || {
                        pool.install(|| {
                            let mine = batch.part(cut(i), cut(i + 1));
                            let share = mine.len() as f64 / batch.len() as f64;
                            self.part(segmenter, &net, &mine, graph, weight * share, None)
                        })
                    })
                })
                .collect();
            let lost = |_| TrainError::Device { what: "a part of the batch", reason: "its thread panicked".into() };
            threads.into_iter().map(|t| t.join().map_err(lost)?).collect()
        })
    }

    /// Loss and gradients of a part, on this thread.
    fn part<S: Segmenter>(
        &self,
        segmenter: &S,
        net: &S::Net,
        batch: &HostBatch,
        graph: &Device,
        weight: f64,
        pieces: Option<&mut Pieces<'_>>,
    ) -> Result<PartGradients, TrainError> {
        let seen = self.view.of(net);
        let forward = || {
            let logits = segmenter.logits(&seen, batch, graph)?;
            // Losses are taken in f32, whatever the method computed in.
            segmenter.loss(logits.cast(DType::F32), batch.masks(graph), batch)
        };
        let forward = || match &self.statistics {
            Some(gather) => synchronised::over(gather.clone(), forward),
            None => forward(),
        };
        let (loss, tape) = match self.recompute {
            Recompute::Blocks => record(forward),
            Recompute::None | Recompute::Operations if self.in_parts => in_parts(forward),
            Recompute::None | Recompute::Operations => (forward(), Tape::default()),
        };
        let Loss { total, terms } = loss?;
        let total = total * weight;
        let (loss, terms) = read(&total, terms, weight)?;
        let mut sums = GradientsAccumulator::new();
        match pieces {
            Some(pieces) => tape.backward(&total, |grads| pieces(self.view.gradients(&seen, grads))),
            None => tape.backward(&total, |grads| sums.accumulate(&seen, self.view.gradients(&seen, grads))),
        }
        Ok(PartGradients { loss, terms, grads: sums.grads() })
    }
}

/// A loss on the host, and its terms by name.
type HostLoss = (f64, Vec<(&'static str, f64)>);

/// The loss and its weighted terms, read from the device at once and outside of the graph.
fn read(total: &Tensor<1>, terms: Vec<(&'static str, Tensor<1>)>, weight: f64) -> Result<HostLoss, TrainError> {
    let (names, tensors): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
    let all = std::iter::once(total.clone()).chain(tensors).map(Tensor::inner).collect();
    let lost = |e| TrainError::Device { what: "the loss", reason: format!("{e}") };
    let values = Tensor::cat(all, 0).try_into_vec_as::<f32>().map_err(lost)?;
    let mut values = values.into_iter().map(f64::from);
    let loss = values.next().unwrap_or(f64::NAN);
    Ok((loss, names.into_iter().zip(values.map(|v| v * weight)).collect()))
}
