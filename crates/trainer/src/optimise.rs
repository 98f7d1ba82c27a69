//! Optimiser groups and clipping by the global norm.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamConfig, AdamState, AdaptiveMomentumState, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Device, Tensor};
use nn_ops::optim::{AdamStep, adam, sum_of_squares};
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
    let mut norm = Norm { grads: &grads, sum: 0.0 };
    net.visit(&mut norm);
    let norm = norm.sum.sqrt();
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
