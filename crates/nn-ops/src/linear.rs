//! Linear layers, fast on the CPU outside of training.

use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::activation::gelu;
pub use crate::host::Then;
use crate::host::{self, Layer};

/// Rows below which packing the weights costs more than it gains.
const LEAST_ROWS: usize = 48;

/// `x W + b`.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    if suits(&x, &layer.weight.val()) { host::linear(x, vec![of(layer, Then::Nothing)]) } else { layer.forward(x) }
}

/// `gelu(x W1 + b1) W2 + b2`, the perceptron of a transformer's block.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn perceptron<const D: usize>(first: &Linear, second: &Linear, x: Tensor<D>) -> Tensor<D> {
    if suits(&x, &first.weight.val()) && host::applies(&second.weight.val()) {
        return host::linear(x, vec![of(first, Then::Gelu), of(second, Then::Nothing)]);
    }
    second.forward(gelu(first.forward(x)))
}

/// `then(x w + b)` of matrices.
///
/// # Shapes
/// [M, I], [I, O] and \[O\] -> [M, O]
pub fn product(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, then: Then) -> Tensor<2> {
    if suits(&x, &weight) {
        return host::linear(x, vec![Layer { weight, bias, then }]);
    }
    let y = x.matmul(weight);
    let y = match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    };
    match then {
        Then::Nothing => y,
        Then::Gelu => gelu(y),
    }
}

fn of(layer: &Linear, then: Then) -> Layer {
    Layer { weight: layer.weight.val(), bias: layer.bias.as_ref().map(|b| b.val()), then }
}

fn suits<const D: usize>(x: &Tensor<D>, weight: &Tensor<2>) -> bool {
    let rows: usize = x.dims().iter().take(D - 1).product();
    rows >= LEAST_ROWS && host::applies(x) && host::applies(weight)
}
