//! Running statistics of batch norms across a step that is left out.
//!
//! A forward pass updates them, whatever becomes of its loss. Burn shares them between clones and keeps the last update apart
//! until `valid()`, so a clone taken before the step would not save them.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::error::TrainError;
use crate::world::World;

/// Whether a parameter's field is one of Burn's running statistics.
pub(crate) fn is_running(field: Option<&String>) -> bool {
    field.is_some_and(|name| name.starts_with("running_"))
}

/// The statistics of `net` as they stand, by identity; outside of any graph.
pub fn kept<M: Module>(net: &M) -> GradientsParams {
    collect(&net.valid(), |_, running| running)
}

/// Puts the statistics of [`kept`] back.
pub fn restore<M: Module>(net: M, kept: GradientsParams) -> M {
    // Folds the update that Burn keeps apart into the value, which is then replaced.
    drop(net.valid());
    net.map(&mut Restorer { path: Vec::new(), tensors: kept })
}

/// `net` with the first rank's statistics: where norms are not synchronised, each rank has its own.
///
/// # Errors
/// Those of the transport, and of the device.
pub(crate) fn from_first<M: Module>(net: M, world: &World) -> Result<M, TrainError> {
    struct Reader(Vec<String>, Vec<u32>);
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if is_running(self.0.last()) {
                self.1.extend(param.val().inner().into_data().iter::<f32>().map(f32::to_bits));
            }
        }
    }
    struct Writer(Vec<String>, std::vec::IntoIter<u32>);
    impl ModuleMapper for Writer {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !is_running(self.0.last()) {
                return param;
            }
            param.map(|now| {
                let values: Vec<f32> = self.1.by_ref().take(now.shape().num_elements()).map(f32::from_bits).collect();
                Tensor::from_data(TensorData::new(values, now.dims()), &now.device())
            })
        }
    }
    let mut reader = Reader(Vec::new(), Vec::new());
    net.visit(&mut reader);
    if world.is_alone() || reader.1.is_empty() {
        return Ok(net);
    }
    let count = reader.1.len();
    let first = world.from_first(reader.1)?;
    if first.len() != count {
        let what = format!("rank 0 has {} running statistics of batch norms, not {count}", first.len());
        return Err(ranks::RankError::Transport { what }.into());
    }
    Ok(net.map(&mut Writer(Vec::new(), first.into_iter())))
}

/// Values of the parameters that `wanted` asks for, by their identity and whether they are running statistics.
pub(crate) fn collect<M: Module>(net: &M, wanted: impl Fn(ParamId, bool) -> bool) -> GradientsParams {
    let mut collector = Collector { wanted, path: Vec::new(), tensors: GradientsParams::new() };
    net.visit(&mut collector);
    collector.tensors
}

/// Burn's gradient container is the one that holds tensors of any rank.
struct Collector<F> {
    wanted: F,
    path: Vec<String>,
    tensors: GradientsParams,
}

impl<F: Fn(ParamId, bool) -> bool> ModuleVisitor for Collector<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if (self.wanted)(param.id, is_running(self.path.last())) {
            self.tensors.register(param.id, param.val());
        }
    }
}

struct Restorer {
    path: Vec<String>,
    tensors: GradientsParams,
}

impl ModuleMapper for Restorer {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match is_running(self.path.last()).then(|| self.tensors.remove::<D>(param.id)).flatten() {
            Some(before) => param.map(|now| nn_ops::recompute::lifted(before, &now)),
            None => param,
        }
    }
}
