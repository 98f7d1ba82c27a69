//! Exponential moving average of the parameters.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// `average <- decay average + (1 - decay) current`, parameter by parameter, in f32, outside of any graph.
///
/// Both modules hold parameters of the same identities; `current` may live on an autodiff device.
pub fn update<M: Module>(average: M, current: &M, decay: f64) -> M {
    let mut collected = Collector { tensors: GradientsParams::new() };
    current.visit(&mut collected);
    average.map(&mut Blend { tensors: collected.tensors, decay })
}

/// Collects the values of all parameters by identity. Burn's gradient container is the one that holds tensors of any rank.
struct Collector {
    tensors: GradientsParams,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let value = if value.is_autodiff() { value.inner() } else { value };
        self.tensors.register(param.id, value);
    }
}

struct Blend {
    tensors: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.tensors.remove::<D>(param.id) {
            Some(current) => {
                let decay = self.decay;
                param.map(|average| average * decay + current * (1.0 - decay))
            }
            None => param,
        }
    }
}
