//! Exponential moving average of the parameters.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::statistics::is_running;

/// `average <- decay average + (1 - decay) current`, parameter by parameter, in f32, outside of any graph.
///
/// Running statistics of batch norms are averages already: they are copied. Both modules hold parameters of the same
/// identities; `current` may live on an autodiff device.
pub fn update<M: Module>(average: M, current: &M, decay: f64) -> M {
    let mut collected = Collector { tensors: GradientsParams::new() };
    // Burn keeps a batch norm's last update apart until `valid` is called.
    current.valid().visit(&mut collected);
    average.map(&mut Blend { tensors: collected.tensors, decay, path: Vec::new() })
}

/// Collects the values of all parameters by identity. Burn's gradient container is the one that holds tensors of any rank.
struct Collector {
    tensors: GradientsParams,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.register(param.id, param.val());
    }
}

struct Blend {
    tensors: GradientsParams,
    decay: f64,
    path: Vec<String>,
}

impl ModuleMapper for Blend {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.tensors.remove::<D>(param.id) {
            Some(current) => {
                let decay = if is_running(self.path.last()) { 0.0 } else { self.decay };
                param.map(|average| average * decay + current * (1.0 - decay))
            }
            None => param,
        }
    }
}
