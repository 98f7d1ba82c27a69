//! Low-rank adapters (LoRA, Hu et al. 2021) on chosen linear layers, by Burn's own reparameterization.

use std::collections::HashSet;

use burn::module::{Lora, Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;

use super::key_map::{KeyMap, Location};
use super::trained::name_ids;

/// Attaches adapters to the weights of linear layers whose official names `adapts` accepts, and freezes those weights: from then on
/// such a layer computes with `W + alpha / rank * A B`, where A is drawn and B is zero, so that at first nothing changes. Other
/// parameters are trained or not as before. The module, and how many layers have an adapter.
///
/// Adapters are parameters of their own, `NAME.lora.a` \[I, rank\] and `NAME.lora.b` \[rank, O\]; `Module::materialize` adds them to
/// the weights and takes them away. The module must have no adapters yet.
pub fn attach_lora<M: Module>(module: M, names: &KeyMap, rank: usize, alpha: f64, adapts: impl Fn(&str) -> bool) -> (M, usize) {
    let mut chosen = Chosen { at: Location::default(), names, adapts, adapted: HashSet::new(), trained: HashSet::new() };
    module.visit(&mut chosen);
    let Chosen { adapted, mut trained, .. } = chosen;
    if adapted.is_empty() {
        return (module, 0);
    }
    trained.retain(|id| !adapted.contains(id));
    let group = ParamGroup::from_ids(adapted.iter().copied().collect());
    let module = module.apply_lora(Lora::new(rank, alpha).set_param_group(group));
    // Burn freezes everything else, too.
    let module = module.map(&mut Thaw { trained });
    (name_ids(module, names), adapted.len())
}

/// Finds the weights that get an adapter, and what is trained.
struct Chosen<'a, F> {
    at: Location,
    names: &'a KeyMap,
    adapts: F,
    adapted: HashSet<ParamId>,
    trained: HashSet<ParamId>,
}

impl<F: Fn(&str) -> bool> ModuleVisitor for Chosen<'_, F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.at.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.trained.insert(param.id);
        }
        if self.at.is_linear_weight() && (self.adapts)(&self.names.official(&self.at.dotted())) {
            self.adapted.insert(param.id);
        }
    }
}

struct Thaw {
    trained: HashSet<ParamId>,
}

impl ModuleMapper for Thaw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.trained.contains(&param.id) { param.set_require_grad(true) } else { param }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::linear::{linear, mlp};
    use crate::testing::{assert_close, formula};
    use crate::weights::trained;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    /// Two layers as a block has them; the second one gets an adapter.
    fn layers(device: &Device) -> Vec<Linear> {
        let layers = [(9, 30), (30, 9)].map(|(i, o)| LinearConfig::new(i, o).init(device)).to_vec();
        name_ids(layers, &KeyMap::plain())
    }

    /// As trained: B is no longer zero.
    fn adapted(device: &Device) -> Vec<Linear> {
        let (layers, count) = attach_lora(layers(device), &KeyMap::plain(), 4, 8.0, |name| name == "1.weight");
        assert_eq!(count, 1);
        struct Fill;
        impl ModuleMapper for Fill {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let dims = param.val().dims();
                if dims.as_slice() == [4, 9] { param.map(|b| b.detach() + 0.3) } else { param }
            }
        }
        layers.map(&mut Fill)
    }

    #[test]
    fn at_first_nothing_changes_and_adapters_alone_are_trained() {
        let device = Device::flex().autodiff();
        let before = layers(&device);
        let x = formula::<2>("x", [60, 9], &device);
        let run = |l: &[Linear]| linear(&l[1], linear(&l[0], x.clone()));
        let want = run(&before);
        let before = before.into_iter().map(|l| l.no_grad()).collect::<Vec<_>>();
        let (layers, _) = attach_lora(before, &KeyMap::plain(), 4, 8.0, |name| name == "1.weight");
        assert_close(run(&layers).inner(), want.inner(), 1e-6);
        let names: Vec<String> = trained(&layers, &KeyMap::plain()).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["1.weight.lora.a", "1.weight.lora.b"]);
        let grads = run(&layers).sum().backward();
        let adapter = layers[1].weight.adapter().unwrap();
        assert!(adapter.b.val().grad(&grads).is_some() && layers[1].weight.base().grad(&grads).is_none());
        // What was trained before still is, but for the weights that have an adapter.
        let (layers, _) = attach_lora(super::tests::layers(&device), &KeyMap::plain(), 4, 8.0, |name| name == "1.weight");
        let names: Vec<String> = trained(&layers, &KeyMap::plain()).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["0.weight", "0.bias", "1.weight.lora.a", "1.weight.lora.b", "1.bias"]);
        assert_eq!(attach_lora(layers.valid().materialize(), &KeyMap::plain(), 4, 8.0, |_| false).1, 0);
    }

    /// Through Burn's operations and through the kernels, with few rows and with many.
    #[test]
    fn merged_weights_give_the_same() {
        for rows in [5, 120] {
            let device = Device::flex();
            let layers = adapted(&device);
            let x = formula::<2>("x", [rows, 9], &device);
            let run = |l: &[Linear]| mlp(&l[0], Activation::Gelu, &l[1], x.clone());
            let with = run(&layers);
            let merged = layers.clone().materialize();
            assert!(merged[1].weight.adapter().is_none());
            assert_close(run(&merged), with.clone(), 1e-5);
            // The adapter does something.
            let plain: Vec<Linear> = super::tests::layers(&device);
            let without = run(&plain);
            assert!((with - without).abs().max().into_scalar::<f32>() > 1e-2);
        }
    }
}
