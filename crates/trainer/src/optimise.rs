//! Optimiser groups and clipping by the global norm.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Tensor};
use nn_ops::weights::{KeyMap, trained};

use run_config::{OptimSection, Optimizer};

/// One optimiser over some of the parameters.
struct Group {
    name: String,
    optimizer: ModuleOptimizer,
    lr_scale: f64,
    ids: Vec<ParamId>,
}

/// The optimisers of a run: the base one and one a group of the config.
pub struct Optimisers {
    groups: Vec<Group>,
}

impl Optimisers {
    /// Sorts the trained parameters of `net` into the config's groups.
    pub fn new<M: Module>(section: &OptimSection, net: &M, names: &KeyMap) -> Self {
        let mut members: Vec<Vec<ParamId>> = vec![Vec::new(); section.groups.len() + 1];
        for parameter in trained(net, names) {
            let slot = section.group_of(&parameter.name).map_or(0, |g| g + 1);
            members[slot].push(parameter.id);
        }
        let groups = members.into_iter().enumerate().map(|(slot, ids)| {
            let group = slot.checked_sub(1).map(|g| &section.groups[g]);
            let decay = group.and_then(|g| g.weight_decay).unwrap_or(section.weight_decay);
            Group {
                name: format!("optimiser-{slot}"),
                optimizer: build(section, decay),
                lr_scale: group.map_or(1.0, |g| g.lr_scale),
                ids,
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

/// Burn's defaults differ from PyTorch's (epsilon 1e-5, decay 1e-4), so every number is set.
fn build(section: &OptimSection, decay: f64) -> ModuleOptimizer {
    let [beta_1, beta_2] = section.betas.map(|b| b as f32);
    let eps = section.eps as f32;
    match section.name {
        Optimizer::Adam => AdamConfig::new()
            .with_beta_1(beta_1)
            .with_beta_2(beta_2)
            .with_epsilon(eps)
            .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay as f32)))
            .init(),
        Optimizer::Adamw => {
            AdamWConfig::new().with_beta_1(beta_1).with_beta_2(beta_2).with_epsilon(eps).with_weight_decay(decay as f32).init()
        }
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
    struct Norm<'a> {
        grads: &'a GradientsParams,
        sum: Option<Tensor<1>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                let square = grad.powi_scalar(2).sum();
                self.sum = Some(match self.sum.take() {
                    Some(sum) => sum + square,
                    None => square,
                });
            }
        }
    }
    let mut norm = Norm { grads: &grads, sum: None };
    net.visit(&mut norm);
    let norm = norm.sum.map_or(0.0, |s| f64::from(s.into_scalar::<f32>())).sqrt();
    if max_norm <= 0.0 || !norm.is_finite() || norm <= max_norm {
        return (grads, norm);
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
    (scale.grads, norm)
}
