//! A batch cut into parts that run on their own threads.
//!
//! Burn's CPU backend runs attention's backward and element-wise work on one thread. A small model is made of little
//! else, so the cores are used better by giving each a part of the batch. Every part sees its own copies of the leaves
//! (their values are shared), so that Burn keeps one graph a part and the parts do not wait for each other; gradients are
//! summed in the order of the parts, so results do not depend on timing.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::plan::RunPlan;
use crate::precision::{View, lifted};
use crate::segmenter::Segmenter;

/// The threads of a run's parts, and how they see the module.
#[derive(Debug)]
pub struct Shards {
    pools: Vec<ThreadPool>,
    view: View,
}

impl Shards {
    /// As many parts as `train.shards` says, the machine's threads divided between them.
    ///
    /// # Errors
    /// When the method's batches cannot be cut, or threads cannot be made.
    pub fn new<S: Segmenter>(plan: &RunPlan, segmenter: &S) -> Result<Self, TrainError> {
        let view = View::new(plan.train.precision);
        let count = plan.train.shards;
        if count <= 1 {
            return Ok(Self { pools: Vec::new(), view });
        }
        if let Some(reason) = segmenter.indivisible() {
            return Err(plan.value_error("train.shards", count, format!("1, because {reason}")).into());
        }
        let threads = (rayon::current_num_threads() / count).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = (0..count)
            .map(pool)
            .collect::<Result<_, _>>()
            .map_err(|e| plan.value_error("train.shards", e, "threads that the system grants"))?;
        Ok(Self { pools, view })
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
    ) -> Result<Vec<(f64, GradientsParams)>, TrainError> {
        let count = self.pools.len().min(batch.pictures());
        if count <= 1 {
            return Ok(vec![part(segmenter, &self.view, net, batch, graph, weight)?]);
        }
        let cut = |i: usize| i * batch.pictures() / count;
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
                            part(segmenter, &self.view, &leaves(net), &mine, graph, weight * share)
                        })
                    })
                })
                .collect();
            let lost = |_| TrainError::Device { what: "a part of the batch", reason: "its thread panicked".into() };
            threads.into_iter().map(|t| t.join().map_err(lost)?).collect()
        })
    }
}

fn part<S: Segmenter>(
    segmenter: &S,
    view: &View,
    net: &S::Net,
    batch: &HostBatch,
    graph: &Device,
    weight: f64,
) -> Result<(f64, GradientsParams), TrainError> {
    let logits = view.with(net, |net| segmenter.logits(net, batch, graph))?;
    // Losses are taken in f32, whatever the method computed in.
    let loss = segmenter.loss(logits.cast(DType::F32), batch.masks(graph), batch)? * weight;
    let value = f64::from(loss.clone().into_scalar::<f32>());
    Ok((value, GradientsParams::from_grads(loss.backward(), net)))
}

/// The same values as new leaves, of which no graph knows yet.
///
/// `Module::fork` would do, but it registers a copy of every parameter in the graph of the original leaves: the parts would
/// share that graph, and it would grow with every step.
fn leaves<M: Module>(net: M) -> M {
    struct Leaves;
    impl ModuleMapper for Leaves {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let trained = value.is_require_grad();
            let fresh = lifted(value.clone(), &value).set_require_grad(trained);
            Param::from_mapped_value(id, fresh, mapper)
        }
    }
    net.map(&mut Leaves)
}
