//! Linear layers, fast on the CPU outside of training.
//!
//! Weights may be kept in half precision ([`crate::weights::halve`]); they are widened to the input's where they are used.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::linear as functional;

use crate::activation::{Activation, gelu};
use crate::attention::softmax;
use crate::host;
pub use crate::host::{Epilogue, Layer};

/// Rows below which packing the weights costs more than it gains.
const LEAST_ROWS: usize = 48;

/// `x W + b`.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    if suits(&x, &layer.weight.val()) { host::linear(x, vec![of(layer, Epilogue::None)]) } else { plain(layer, x) }
}

/// Burn's layer, its weights in the input's precision.
fn plain<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let weight = layer.weight.val();
    if weight.dtype() == x.dtype() {
        return layer.forward(x);
    }
    functional(x.clone(), weight.cast(x.dtype()), layer.bias.as_ref().map(|b| b.val().cast(x.dtype())))
}

/// `activation(x W1 + b1) W2 + b2`, the MLP of a transformer's block.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn mlp<const D: usize>(first: &Linear, activation: Activation, second: &Linear, x: Tensor<D>) -> Tensor<D> {
    if activation == Activation::Gelu && suits(&x, &first.weight.val()) && host::multiplies(&second.weight.val()) {
        return host::linear(x, vec![of(first, Epilogue::Gelu), of(second, Epilogue::None)]);
    }
    linear(second, activation.forward(linear(first, x)))
}

/// `epilogue(x w + b)` of matrices.
///
/// # Shapes
/// [M, I], [I, O] and \[O\] -> [M, O]
pub fn product(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, epilogue: Epilogue) -> Tensor<2> {
    chain(x, vec![Layer { weight, bias, epilogue }])
}

/// [`product`] after product.
///
/// # Shapes
/// [M, first layer's I] -> [M, last layer's O]
pub fn chain(x: Tensor<2>, layers: Vec<Layer>) -> Tensor<2> {
    if layers.iter().all(|layer| suits(&x, &layer.weight)) {
        return host::linear(x, layers);
    }
    layers.into_iter().fold(x, |x, Layer { weight, bias, epilogue }| {
        let y = x.clone().matmul(weight.cast(x.dtype()));
        let y = match bias {
            Some(bias) => y + bias.unsqueeze::<2>(),
            None => y,
        };
        match epilogue {
            Epilogue::None => y,
            Epilogue::Gelu => gelu(y),
            Epilogue::Softmax(run) => {
                let [rows, columns] = y.dims();
                softmax(y.reshape([rows, columns / run.max(1), run]), 2).reshape([rows, columns])
            }
        }
    })
}

fn of(layer: &Linear, epilogue: Epilogue) -> Layer {
    Layer { weight: layer.weight.val(), bias: layer.bias.as_ref().map(|b| b.val()), epilogue }
}

fn suits<const D: usize>(x: &Tensor<D>, weight: &Tensor<2>) -> bool {
    let rows: usize = x.dims().iter().take(D - 1).product();
    rows >= LEAST_ROWS && host::applies(x) && host::multiplies(weight)
}
