//! Exponential moving average of the parameters.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use nn_ops::optim::blend;

use crate::statistics::{collect, is_running};

/// `average <- decay average + (1 - decay) current`, parameter by parameter, in f32, outside of any graph.
///
/// Running statistics of batch norms are averages already: they are copied. Frozen parameters are what they were: a large
/// encoder would be read and written in every step for nothing. Both modules hold parameters of the same identities;
/// `current` is the one that is trained.
pub fn update<M: Module>(average: M, current: &M, decay: f64) -> M {
    let mut trained = Trained { ids: HashSet::new() };
    current.visit(&mut trained);
    // Burn keeps a batch norm's last update apart until `valid` is called.
    let tensors = collect(&current.valid(), |id, running| running || trained.ids.contains(&id));
    average.map(&mut Blend { tensors, decay, path: Vec::new() })
}

/// Collects the identities of the parameters that get gradients.
struct Trained {
    ids: HashSet<ParamId>,
}

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.ids.insert(param.id);
        }
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
                param.map(|average| blend(average, current, decay))
            }
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[test]
    fn trained_parameters_are_blended_and_frozen_ones_left() {
        let device = Device::flex().autodiff();
        let layer = |value: f32, like: Option<&Linear>| {
            let mut layer = like.cloned().unwrap_or_else(|| LinearConfig::new(1, 1).with_bias(false).init(&device));
            layer.weight = layer.weight.map(|w| (w * 0.0 + value).detach().require_grad());
            layer
        };
        let (trained, frozen) = (layer(1.0, None), layer(1.0, None));
        let average = vec![trained.clone(), frozen.clone()].valid();
        let current = vec![layer(3.0, Some(&trained)), layer(3.0, Some(&frozen)).no_grad()];
        let got = update(average, &current, 0.75);
        let values: Vec<f32> = got.iter().map(|l| l.weight.val().into_scalar::<f32>()).collect();
        assert_eq!(values, [1.5, 1.0]);
    }
}
