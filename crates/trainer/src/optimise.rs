//! Optimiser groups and clipping by the global norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamConfig, AdamState, AdaptiveMomentumState, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Device, Tensor};
use nn_ops::optim::{AdamStep, adam, sum_of_squares};
use nn_ops::weights::{KeyMap, Trained, trained};

use run_config::{OptimSection, Optimizer};

/// One optimiser over some of the parameters.
struct Group {
    name: String,
    optimizer: ModuleOptimizer,
    lr_scale: f64,
    ids: Vec<ParamId>,
}

/// The optimisers of a run: the base one and one per group of the config, or per layer of a group whose rate falls from layer to
/// layer.
pub struct Optimisers {
    groups: Vec<Group>,
}

/// Parameters that share a rate.
struct Members {
    /// Index of the config's group.
    group: Option<usize>,
    /// Layers between them and the end of their part.
    from_end: usize,
    ids: Vec<ParamId>,
}

impl Optimisers {
    /// Sorts the trained parameters of `net` into the config's groups.
    pub fn new<M: Module>(section: &OptimSection, net: &M, names: &KeyMap) -> Self {
        let groups = members(section, &trained(net, names)).into_iter().enumerate().map(|(slot, members)| {
            let group = members.group.map(|g| &section.groups[g]);
            let decay = group.and_then(|g| g.weight_decay).unwrap_or(section.weight_decay);
            let per_layer = group.and_then(|g| g.layer_decay).unwrap_or(1.0);
            Group {
                name: format!("optimiser-{slot}"),
                optimizer: build(section, decay),
                lr_scale: group.map_or(1.0, |g| g.lr_scale) * per_layer.powi(members.from_end as i32),
                ids: members.ids,
            }
        });
        Self { groups: groups.collect() }
    }

    /// One step of every group.
    pub fn step<M: Module>(&mut self, lr: f64, mut net: M, mut grads: GradientsParams) -> M {
        let single = self.groups.len() == 1;
        for group in &mut self.groups {
            let mine = if single { std::mem::take(&mut grads) } else { take(&mut grads, &net, &group.ids) };
            net = group.optimizer.step(lr * group.lr_scale, net, mine);
        }
        net
    }

    /// The state of every group, under file names.
    pub fn to_bytes(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let bytes =
            |g: &Group| g.optimizer.into_bytes().map(|b| (format!("{}.bpk", g.name), b.to_vec())).map_err(|e| e.to_string());
        self.groups.iter().map(bytes).collect()
    }

    /// Restores a group's state.
    ///
    /// Burn reads it on `Device::default()` and moves it at the first step: a build with a GPU's backend needs that GPU here.
    pub fn restore(&mut self, read: impl Fn(&str) -> Result<Vec<u8>, String>) -> Result<(), String> {
        for group in &mut self.groups {
            let bytes = read(&format!("{}.bpk", group.name))?;
            let fresh = std::mem::replace(&mut group.optimizer, AdamConfig::new().init());
            group.optimizer = fresh.from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Parameters by group, and by layer where a group's rate falls; groups without a parameter keep their place.
fn members(section: &OptimSection, parameters: &[Trained]) -> Vec<Members> {
    let mut by_group: Vec<Vec<&Trained>> = vec![Vec::new(); section.groups.len() + 1];
    for parameter in parameters {
        by_group[section.group_of(&parameter.name).map_or(0, |g| g + 1)].push(parameter);
    }
    let mut out = Vec::new();
    for (slot, of_group) in by_group.into_iter().enumerate() {
        let group = slot.checked_sub(1);
        if group.is_none_or(|g| section.groups[g].layer_decay.is_none()) {
            out.push(Members { group, from_end: 0, ids: of_group.iter().map(|p| p.id).collect() });
            continue;
        }
        let layers = of_group.iter().filter_map(|p| layer(&p.name)).max().map_or(0, |last| last + 1);
        // Embeddings are 0, layers 1 to n, what follows them n + 1.
        let place = |name: &str| match layer(name) {
            Some(layer) => layer + 1,
            None if name.contains("embed") || name.contains("class_token") || name.contains("cls_token") => 0,
            None => layers + 1,
        };
        let mut by_place: BTreeMap<usize, Vec<ParamId>> = BTreeMap::new();
        of_group.iter().for_each(|p| by_place.entry(place(&p.name)).or_default().push(p.id));
        out.extend(by_place.into_iter().map(|(place, ids)| Members { group, from_end: (layers + 1) - place, ids }));
    }
    out
}

/// The number of a parameter's layer, by its name.
fn layer(name: &str) -> Option<usize> {
    let parts: Vec<&str> = name.split('.').collect();
    let numbered = parts.windows(2).filter(|pair| ["blocks", "layers", "layer", "resblocks"].contains(&pair[0]));
    numbered.filter_map(|pair| pair[1].parse().ok()).next()
}

/// Adam with PyTorch's numbers, or AdamW; `decay` is the first one's L2 penalty and the second one's decoupled decay.
fn build(section: &OptimSection, decay: f64) -> ModuleOptimizer {
    let (decoupled_decay, gradient_decay) = match section.name {
        Optimizer::Adam => (0.0, decay as f32),
        Optimizer::Adamw => (decay, 0.0),
    };
    let (betas, eps) = (section.betas.map(|b| b as f32), section.eps as f32);
    Adam { numbers: AdamStep { lr: 0.0, betas, eps, decoupled_decay, gradient_decay, time: 0 } }.into()
}

/// Burn's optimiser and its records around [`nn_ops::optim::adam`].
#[derive(Clone)]
struct Adam {
    numbers: AdamStep,
}

impl burn::optim::Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let (time, moments) = match state {
            Some(AdamState { momentum }) => (momentum.time + 1, [momentum.moment_1, momentum.moment_2]),
            None => (1, [tensor.zeros_like(), tensor.zeros_like()]),
        };
        let [tensor, moment_1, moment_2] = adam(tensor, grad, moments, &AdamStep { lr, time, ..self.numbers });
        (tensor, Some(AdamState::new(AdaptiveMomentumState::new(time, moment_1, moment_2))))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState::new(state.momentum.to_device(device))
    }
}

/// Moves the gradients of some parameters out.
fn take<M: Module>(grads: &mut GradientsParams, net: &M, ids: &[ParamId]) -> GradientsParams {
    struct Taker<'a> {
        from: &'a mut GradientsParams,
        to: GradientsParams,
        ids: &'a [ParamId],
    }
    impl ModuleVisitor for Taker<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.ids.contains(&param.id)
                && let Some(grad) = self.from.remove::<D>(param.id)
            {
                self.to.register(param.id, grad);
            }
        }
    }
    let mut taker = Taker { from: grads, to: GradientsParams::new(), ids };
    net.visit(&mut taker);
    taker.to
}

/// The norm of all gradients together (PyTorch's `clip_grad_norm_`), and the gradients scaled so that it is at most
/// `max_norm`; 0 leaves them as they are. Burn's own clipping looks at each tensor by itself.
pub fn clip<M: Module>(net: &M, grads: GradientsParams, max_norm: f64) -> (GradientsParams, f64) {
    let norm = global_norm(net, &grads);
    (clip_from(net, grads, norm, max_norm), norm)
}

/// The norm of all gradients together.
pub fn global_norm<M: Module>(net: &M, grads: &GradientsParams) -> f64 {
    struct Norm<'a> {
        grads: &'a GradientsParams,
        sum: f64,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.sum += sum_of_squares(grad);
            }
        }
    }
    let mut norm = Norm { grads, sum: 0.0 };
    net.visit(&mut norm);
    norm.sum.sqrt()
}

/// Gradients of this norm, scaled so that it is at most `max_norm`.
pub fn clip_from<M: Module>(net: &M, grads: GradientsParams, norm: f64, max_norm: f64) -> GradientsParams {
    if max_norm <= 0.0 || !norm.is_finite() || norm <= max_norm {
        return grads;
    }
    struct Scale {
        grads: GradientsParams,
        factor: f64,
    }
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                self.grads.register(param.id, grad * self.factor);
            }
        }
    }
    let mut scale = Scale { grads, factor: max_norm / (norm + 1e-6) };
    net.visit(&mut scale);
    scale.grads
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use run_config::RunConfig;

    /// BEiT's rule: with decay d and n layers, embeddings have d^(n + 1), layer i d^(n - i), what follows 1.
    #[test]
    fn rates_fall_from_layer_to_layer() {
        let text = "[[optim.groups]]\npattern = \"encoder.*\"\nlr_scale = 0.5\nlayer_decay = 0.5\n\
                    [[optim.groups]]\npattern = \"head.*\"\nlr_scale = 10.0\n[[optim.groups]]\npattern = \"nobody\"";
        let section = RunConfig::from_toml_str(text).unwrap().optim;
        let names = [
            "encoder.pos_embed",
            "encoder.blocks.0.attn.weight",
            "encoder.blocks.2.weight",
            "encoder.norm.weight",
            "head.w",
            "other",
        ];
        let parameters: Vec<Trained> =
            names.iter().map(|name| Trained { name: (*name).into(), id: ParamId::new(), elements: 1 }).collect();
        let members = members(&section, &parameters);
        let rate = |m: &Members| {
            let group = m.group.map(|g| &section.groups[g]);
            let decay = group.and_then(|g| g.layer_decay).unwrap_or(1.0_f64);
            (m.ids.len(), group.map_or(1.0, |g| g.lr_scale) * decay.powi(m.from_end as i32))
        };
        let got: Vec<(usize, f64)> = members.iter().map(rate).collect();
        assert_eq!(got, [(1, 1.0), (1, 0.5 / 16.0), (1, 0.5 / 8.0), (1, 0.5 / 2.0), (1, 0.5), (1, 10.0), (0, 1.0)]);
        assert_eq!(layer("a.layers.12.mlp.layer.3.w"), Some(12));
    }
}
