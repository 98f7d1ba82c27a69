//! Operations on a gradient's graph whose backward pass is known by hand: the seam between Burn's autodiff and the kernels.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, DispatchKindConversion, DispatchTensor, Flex, GradientCheckpointingStrategy, TensorMetadata};
use burn::tensor::{DType, Tensor, TensorData};

/// A tensor's memory, shared and not copied.
pub(super) type Values = FloatTensor<Flex>;

/// Values of an input that lie side by side; what is strided is copied once.
pub(super) fn side_by_side(values: Values) -> Values {
    if values.as_slice::<f32>().is_some() { values } else { values.to_contiguous() }
}

/// The numbers of a tensor that [`side_by_side`] gave.
pub(super) fn slice(values: &Values) -> &[f32] {
    values.as_slice().unwrap_or_default()
}

/// Gradients of the inputs from that of the output, for the inputs that want one.
type Rule<const N: usize> = dyn Fn(&[f32], [bool; N]) -> Option<[Option<Vec<f32>>; N]> + Send + Sync;

/// What an operation keeps for its backward pass.
struct Saved<const N: usize> {
    rule: Arc<Rule<N>>,
    shapes: [Vec<usize>; N],
}

impl<const N: usize> Clone for Saved<N> {
    fn clone(&self) -> Self {
        Self { rule: self.rule.clone(), shapes: self.shapes.clone() }
    }
}

impl<const N: usize> fmt::Debug for Saved<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gradients for {:?}", self.shapes)
    }
}

/// An operation of N inputs with one output.
#[derive(Debug)]
struct Kernel;

impl<const N: usize> Backward<Flex, N> for Kernel {
    type State = Saved<N>;

    fn backward(self, ops: Ops<Saved<N>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = side_by_side(grads.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        // Sizes were checked by the forward pass. Should a rule refuse them all the same, its gradients are no numbers: the step
        // is skipped then and names them, where a missing one would go unseen.
        let found = (ops.state.rule)(slice(&gradient), wanted)
            .unwrap_or_else(|| ops.state.shapes.each_ref().map(|shape| Some(vec![f32::NAN; shape.iter().product()])));
        for ((parent, found), shape) in ops.parents.iter().zip(found).zip(ops.state.shapes) {
            if let (Some(parent), Some(found)) = (parent, found) {
                grads.register::<Flex>(parent.id, Values::from_data(TensorData::new(found, shape)));
            }
        }
    }
}

/// An operation's output, its shape, and the rule of its gradients.
pub(super) struct Output<const N: usize> {
    pub(super) values: Vec<f32>,
    pub(super) shape: Vec<usize>,
    pub(super) rule: Box<Rule<N>>,
}

/// An input of an operation, of any rank.
pub(super) struct Input {
    tensor: DispatchTensor,
    strategy: GradientCheckpointingStrategy,
}

impl Input {
    /// A tensor of single precision on the graph's side of the CPU; none otherwise.
    pub(super) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        let device = x.device();
        if x.dtype() != DType::F32 || !device.is_autodiff() || !super::is_cpu(&device) || !cpu_kernels::is_vectorized() {
            return None;
        }
        let strategy = x.gradient_checkpointing_strategy()?;
        Some(Self { tensor: x.clone().into_dispatch(), strategy })
    }
}

/// Runs `forward` on the inputs' values and puts its output on their graph; none where the inputs keep activations in different
/// ways or `forward` refuses them.
pub(super) fn apply<const N: usize, const D: usize>(
    inputs: [Input; N],
    forward: impl FnOnce([Values; N]) -> Option<Output<N>>,
) -> Option<Tensor<D>> {
    let strategy = inputs.first()?.strategy;
    if inputs.iter().any(|input| input.strategy != strategy) {
        return None;
    }
    let inputs = inputs.map(|input| input.tensor);
    match strategy {
        GradientCheckpointingStrategy::Disabled => apply_by::<NoCheckpointing, N, D>(inputs, forward),
        GradientCheckpointingStrategy::Balanced => apply_by::<BalancedCheckpointing, N, D>(inputs, forward),
    }
}

fn apply_by<C: CheckpointStrategy, const N: usize, const D: usize>(
    inputs: [DispatchTensor; N],
    forward: impl FnOnce([Values; N]) -> Option<Output<N>>,
) -> Option<Tensor<D>>
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let mut parts = Vec::with_capacity(N);
    for input in inputs {
        let tensor = <DispatchTensor as DispatchKindConversion<Autodiff<Flex, C>>>::try_into_backend(input).ok()?;
        let burn::backend::BackendTensor::Float(tensor) = tensor else { return None };
        parts.push(tensor.into_parts());
    }
    let parts: [_; N] = parts.try_into().ok()?;
    let (mut values, mut guards) = (Vec::with_capacity(N), Vec::with_capacity(N));
    for (value, guard) in parts {
        values.push(side_by_side(value));
        guards.push(guard);
    }
    let shapes: [Vec<usize>; N] =
        values.iter().map(|v| v.shape().iter().copied().collect()).collect::<Vec<_>>().try_into().ok()?;
    let Output { values, shape, rule } = forward(values.try_into().ok()?)?;
    let output = Values::from_data(TensorData::new(values, shape));
    let output = match Backward::<Flex, N>::prepare::<C>(Kernel, guards.try_into().ok()?).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Saved { rule: rule.into(), shapes }, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex, C>>(output))
}
