//! Activation recomputation (gradient checkpointing), one segment of the network at a time.
//!
//! Burn keeps or recomputes single operations; this keeps the inputs of whole segments (the blocks of an encoder) and nothing
//! of what happens inside. Under [`record`], [`segment`] runs its part without a graph and goes on from a new leaf. The
//! [`Tape`] knows how to get each leaf's value again with a graph: it hands the gradient of a leaf to that graph, from the
//! last segment to the first, so that one segment's activations exist at a time. The values are computed by the same
//! operations on the same device, so losses are the same to the bit; gradients are sums of the same terms, in another order
//! where a tensor is used at several places.
//!
//! A tensor that is no leaf and reaches the loss through more than one segment, or past a segment, has to go through [`cut`]
//! first: Burn consumes a graph in its backward pass. Without [`record`] around them, both do nothing.
//!
//! [`in_parts`] cuts the backward pass at the same places and recomputes nothing: gradients of the last segments are there while
//! those of the first ones are still to come.

use std::cell::RefCell;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

thread_local! {
    /// What is being recorded on this thread. A forward pass stays on one.
    static RECORD: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// What a forward pass leaves for its backward pass.
#[derive(Default)]
struct Recording {
    pieces: Vec<Box<dyn Piece>>,
    /// Whether segments keep what they compute.
    keeps: bool,
}

/// Tensors that enter or leave a segment together.
pub trait Tensors<const D: usize>: Clone + 'static {
    /// Applies `change` to each of them, in a fixed order.
    #[must_use]
    fn each(self, change: &mut dyn FnMut(Tensor<D>) -> Tensor<D>) -> Self;
}

impl<const D: usize> Tensors<D> for Tensor<D> {
    fn each(self, change: &mut dyn FnMut(Tensor<D>) -> Tensor<D>) -> Self {
        change(self)
    }
}

impl<const D: usize, const N: usize> Tensors<D> for [Tensor<D>; N] {
    fn each(self, change: &mut dyn FnMut(Tensor<D>) -> Tensor<D>) -> Self {
        self.map(change)
    }
}

/// Runs a forward pass whose segments are recomputed; the loss's gradients then come from [`Tape::backward`].
pub fn record<T>(forward: impl FnOnce() -> T) -> (T, Tape) {
    recorded(false, forward)
}

/// Runs a forward pass whose backward pass, [`Tape::backward`], comes in parts. Segments keep what they compute.
pub fn in_parts<T>(forward: impl FnOnce() -> T) -> (T, Tape) {
    recorded(true, forward)
}

fn recorded<T>(keeps: bool, forward: impl FnOnce() -> T) -> (T, Tape) {
    let before = Before(RECORD.replace(Some(Recording { pieces: Vec::new(), keeps })));
    let out = forward();
    let pieces = RECORD.take().unwrap_or_default().pieces;
    drop(before);
    (out, Tape { pieces })
}

/// `forward` on a part of the network; under [`record`], its inputs are all that is kept of it for the backward pass.
///
/// It runs twice, so it must not draw random numbers (dropout) or update anything (running statistics of a batch norm).
pub fn segment<const D: usize, M: Module + 'static, X: Tensors<D>, Y: Tensors<D>>(
    module: &M,
    inputs: X,
    forward: impl Fn(&M, X) -> Y + 'static,
) -> Y {
    if !is_recording() || !(reaches_parameters(module) || is_tracked(&inputs)) {
        return forward(module, inputs);
    }
    if RECORD.with_borrow(|record| record.as_ref().is_some_and(|record| record.keeps)) {
        let outputs = forward(module, inputs);
        let leaves = outputs.clone().each(&mut |y| constant(y).require_grad());
        push(leaves.clone(), move || outputs);
        return leaves;
    }
    let plain = inputs.clone().each(&mut constant);
    let leaves = forward(&module.clone().no_grad(), plain).each(&mut |y| constant(y).require_grad());
    let module = module.clone();
    push(leaves.clone(), move || forward(&module, inputs));
    leaves
}

/// The same tensor as a leaf of its own under [`record`], where the segments behind it can each end their backward pass; the
/// sum of what they find goes on to `x`.
///
/// # Shapes
/// Any; the output has the input's.
#[must_use]
pub fn cut<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if !is_recording() || !x.is_tracked() || x.is_require_grad() {
        return x;
    }
    let leaf = constant(x.clone()).require_grad();
    push(leaf.clone(), move || x);
    leaf
}

/// Two tensors of one graph, each as a leaf of its own; what is found for them goes on together. See [`cut`]: where one of two
/// tensors goes through a further cut and the other goes past it, the graph that they share has one backward pass so.
///
/// # Shapes
/// Any; the outputs have the inputs'.
#[must_use]
pub fn cut_together<const A: usize, const B: usize>(a: Tensor<A>, b: Tensor<B>) -> (Tensor<A>, Tensor<B>) {
    if !(is_recording() && a.is_tracked() && b.is_tracked()) {
        return (cut(a), cut(b));
    }
    let (shape_a, shape_b) = (a.dims(), b.dims());
    let flat: [Tensor<1>; 2] = [a.reshape([-1]), b.reshape([-1])];
    let leaves = flat.clone().each(&mut |x| constant(x).require_grad());
    push(leaves.clone(), move || flat);
    let [a, b] = leaves;
    (a.reshape(shape_a), b.reshape(shape_b))
}

/// `value` on the device of `like` and with its way of keeping activations, without a graph: mixing two ways panics, and
/// Burn's `from_inner` takes the default one.
#[must_use]
pub fn lifted<const D: usize>(value: Tensor<D>, like: &Tensor<D>) -> Tensor<D> {
    match like.gradient_checkpointing_strategy() {
        Some(strategy) => Tensor::from_inner(value.inner()).with_gradient_checkpointing_strategy(strategy),
        None => value.inner(),
    }
}

/// What was recorded of a forward pass.
#[derive(Default)]
pub struct Tape {
    pieces: Vec<Box<dyn Piece>>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape of {} pieces", self.pieces.len())
    }
}

impl Tape {
    /// Segments, and other leaves, in the order of the forward pass.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The backward pass from `loss`. `take` gets the gradients of each part of it: a parameter may be in several, which are
    /// to be added.
    pub fn backward(self, loss: &Tensor<1>, mut take: impl FnMut(Gradients)) {
        // Segments inside of segments stay part of them.
        let _before = Before(RECORD.replace(None));
        let mut pieces = self.pieces;
        let mut grads = loss.backward();
        loop {
            pieces.iter_mut().for_each(|piece| piece.collect(&mut grads));
            take(grads);
            let Some(next) = std::iter::from_fn(|| pieces.pop()).find_map(Piece::again) else { return };
            grads = next.backward();
        }
    }
}

/// Puts back what was recorded before, also when a forward pass panics.
struct Before(Option<Recording>);

impl Drop for Before {
    fn drop(&mut self) {
        RECORD.set(self.0.take());
    }
}

/// Leaves whose values can be had again with the graph behind them.
trait Piece {
    /// Adds what a backward pass found for the leaves.
    fn collect(&mut self, grads: &mut Gradients);

    /// A scalar whose gradients are those of the loss behind the leaves; none where the loss does not depend on them.
    fn again(self: Box<Self>) -> Option<Tensor<1>>;
}

/// What a backward pass found for each leaf of a piece.
type Found<const D: usize> = Vec<Option<Tensor<D>>>;

struct Segment<const D: usize, Y, F> {
    leaves: Y,
    grads: Found<D>,
    scalar: F,
}

impl<const D: usize, Y: Tensors<D>, F: FnOnce(Found<D>) -> Option<Tensor<1>>> Piece for Segment<D, Y, F> {
    fn collect(&mut self, grads: &mut Gradients) {
        let mut sums = self.grads.iter_mut();
        let _ = self.leaves.clone().each(&mut |leaf| {
            if let (Some(sum), Some(more)) = (sums.next(), leaf.grad_remove(grads)) {
                *sum = Some(match sum.take() {
                    Some(sum) => sum + more,
                    None => more,
                });
            }
            leaf
        });
    }

    fn again(self: Box<Self>) -> Option<Tensor<1>> {
        let Self { leaves, grads, scalar } = *self;
        drop(leaves);
        scalar(grads)
    }
}

/// The scalar whose gradients are those of the loss behind `outputs`, which got `grads`.
fn scalar_of<const D: usize, Y: Tensors<D>>(outputs: impl FnOnce() -> Y, grads: Found<D>) -> Option<Tensor<1>> {
    if grads.iter().all(Option::is_none) {
        return None;
    }
    let (mut grads, mut total) = (grads.into_iter(), None::<Tensor<1>>);
    let _ = outputs().each(&mut |y| {
        if let Some(grad) = grads.next().flatten().filter(|_| y.is_tracked()) {
            let scalar = (y.clone() * lifted(grad, &y)).sum();
            total = Some(match total.take() {
                Some(total) => total + scalar,
                None => scalar,
            });
        }
        y
    });
    total
}

pub(crate) fn is_recording() -> bool {
    RECORD.with_borrow(Option::is_some)
}

fn push<const D: usize, Y: Tensors<D>>(leaves: Y, outputs: impl FnOnce() -> Y + 'static) {
    push_scalar(leaves, |grads| scalar_of(outputs, grads));
}

/// Records leaves whose gradients go on through a scalar: `scalar` gets what was found for each of them, and its gradients are
/// those of the loss behind them.
pub(crate) fn push_scalar<const D: usize, Y: Tensors<D>>(
    leaves: Y,
    scalar: impl FnOnce(Vec<Option<Tensor<D>>>) -> Option<Tensor<1>> + 'static,
) {
    let mut grads = Vec::new();
    let leaves = leaves.each(&mut |leaf| {
        grads.push(None);
        leaf
    });
    RECORD.with_borrow_mut(|record| record.get_or_insert_default().pieces.push(Box::new(Segment { leaves, grads, scalar })));
}

/// Off any graph, yet on the same device: the operations behind it are those that run in training.
pub(crate) fn constant<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    lifted(x.clone(), &x)
}

fn is_tracked<const D: usize, X: Tensors<D>>(x: &X) -> bool {
    let mut found = false;
    let _ = x.clone().each(&mut |x| {
        found |= x.is_tracked();
        x
    });
    found
}

/// Whether gradients are wanted through any parameter of a module.
fn reaches_parameters<M: Module>(module: &M) -> bool {
    struct Tracked(bool);
    impl ModuleVisitor for Tracked {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.val().is_tracked();
        }
    }
    let mut visitor = Tracked(false);
    module.visit(&mut visitor);
    visitor.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::formula;
    use burn::nn::Linear;
    use burn::optim::{GradientsAccumulator, GradientsParams};
    use burn::tensor::{Device, activation::tanh};

    fn layers(device: &Device) -> Vec<Linear> {
        let layer = |i: usize| {
            let weight = Param::from_tensor(formula(&format!("w{i}"), [4, 4], device));
            Linear { weight, bias: Some(Param::from_tensor(formula(&format!("b{i}"), [4], device))) }
        };
        (0..4).map(layer).collect()
    }

    /// A chain with a text that every layer sees, taps, an output that leads nowhere and a layer without gradients.
    fn loss(layers: &[Linear], device: &Device) -> Tensor<1> {
        let layers: Vec<_> = layers.to_vec();
        let text = cut(tanh(layers[3].forward(formula::<2>("text", [2, 4], device))));
        let (mut x, mut taps) = (formula::<2>("x", [3, 4], device) + text.clone().mean_dim(0), Vec::new());
        for layer in [layers[0].clone(), layers[1].clone().no_grad(), layers[2].clone(), layers[0].clone()] {
            [x, _] = segment(&layer, [x, text.clone()], |layer, [x, text]| {
                let y = tanh(layer.forward(x) + text.clone().mean_dim(0));
                [y, text]
            });
            taps.push(x.clone());
        }
        let last = segment(&layers[1], x, |layer, x| layer.forward(x));
        let taps = taps.into_iter().map(|tap| tap.powi_scalar(2).sum()).reduce(|a, b| a + b).unwrap();
        last.sum() + taps + text.sum()
    }

    fn gradients(layers: &Vec<Linear>, loss: &Tensor<1>, tape: Tape) -> Vec<Tensor<2>> {
        let mut sums = GradientsAccumulator::new();
        tape.backward(loss, |grads| sums.accumulate(layers, GradientsParams::from_grads(grads, layers)));
        let grads = sums.grads();
        let of = |layer: &Linear| {
            [grads.get::<2>(layer.weight.id).unwrap(), {
                let bias = layer.bias.as_ref().unwrap();
                grads.get::<1>(bias.id).unwrap().unsqueeze()
            }]
        };
        layers.iter().flat_map(of).collect()
    }

    #[test]
    fn gradients_are_those_of_one_backward_pass() {
        let plain = Device::flex().autodiff();
        for device in [plain.clone(), plain.gradient_checkpointing()] {
            let layers = layers(&device);
            let kept = loss(&layers, &device);
            let value = kept.clone().into_scalar::<f32>();
            let want = gradients(&layers, &kept, Tape::default());
            assert_eq!(want.len(), 8);
            for keeps in [false, true] {
                let (again, tape) = recorded(keeps, || loss(&layers, &device));
                assert_eq!(tape.pieces(), 6);
                assert_eq!(again.clone().into_scalar::<f32>(), value);
                for (want, got) in want.iter().zip(gradients(&layers, &again, tape)) {
                    let scale = want.clone().abs().max().into_scalar::<f32>();
                    crate::testing::assert_close(got, want.clone(), 1e-6 * scale);
                }
            }
        }
    }

    #[test]
    fn nothing_is_recorded_where_nothing_is_trained() {
        let device = Device::flex();
        let frozen = layers(&device.clone().autodiff())[0].clone().no_grad();
        let (out, tape) = record(|| {
            let on_graph = segment(&frozen, formula::<2>("x", [3, 4], &device.clone().autodiff()), |layer, x| layer.forward(x));
            let outside = segment(&frozen.clone().valid(), formula::<2>("x", [3, 4], &device), |layer, x| layer.forward(x));
            (cut(on_graph), cut(outside))
        });
        assert!(tape.pieces() == 0 && !out.0.is_tracked() && !out.1.is_autodiff());
        assert!(!is_recording());
    }

    /// What a panic leaves behind must not swallow the next forward pass of this thread.
    #[test]
    fn a_panic_ends_the_recording() {
        let lost = std::panic::catch_unwind(|| record(|| panic!("as forward passes do")));
        assert!(lost.is_err() && !is_recording());
    }
}
