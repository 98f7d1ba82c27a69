//! Linear layers, fast on the CPU outside of training.

use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::activation::gelu;
use crate::host::{self, Then};

/// Rows below which packing the weights costs more than it gains.
const LEAST_ROWS: usize = 48;

/// `x W + b`.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    forward(layer, x, Then::Nothing)
}

/// `gelu(x W + b)`, in one pass where the device allows.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn linear_gelu<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    forward(layer, x, Then::Gelu)
}

/// `x w` of matrices.
///
/// # Shapes
/// [M, I] and [I, O] -> [M, O]
pub fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    if suits(&x, &weight) { host::linear(x, weight, None, Then::Nothing) } else { x.matmul(weight) }
}

fn forward<const D: usize>(layer: &Linear, x: Tensor<D>, then: Then) -> Tensor<D> {
    let weight = layer.weight.val();
    if suits(&x, &weight) {
        return host::linear(x, weight, layer.bias.as_ref().map(|b| b.val()), then);
    }
    match then {
        Then::Nothing => layer.forward(x),
        Then::Gelu => gelu(layer.forward(x)),
    }
}

fn suits<const D: usize>(x: &Tensor<D>, weight: &Tensor<2>) -> bool {
    let rows: usize = x.dims().iter().take(D - 1).product();
    rows >= LEAST_ROWS && host::applies(x) && host::applies(weight)
}
