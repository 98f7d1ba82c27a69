//! Running statistics of batch norms across a step that is left out.
//!
//! A forward pass updates them, whatever becomes of its loss. Burn shares them between clones and keeps the last update apart
//! until `valid()`, so a clone taken before the step would not save them.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

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
