//! Linear layers, MLPs and chains of matrix products; fused on the CPU outside of training.
//!
//! Weights may be kept in half precision ([`crate::weights::halve`]); they are widened to the input's where they are used.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::linear as functional;
pub use cpu_kernels::Epilogue;

use crate::activation::{Activation, gelu};
use crate::attention::softmax;
use crate::cpu;

/// Rows below which packing the weights costs more than it gains.
const LEAST_ROWS: usize = 48;

/// A matrix product with a bias and what follows: `epilogue(x weight + bias)`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// [I, O], in single or half precision
    pub weight: Tensor<2>,
    /// \[O\]
    pub bias: Option<Tensor<1>>,
    /// What follows.
    pub epilogue: Epilogue,
}

impl Layer {
    fn of(layer: &Linear, epilogue: Epilogue) -> Self {
        Self { weight: layer.weight.val(), bias: layer.bias.as_ref().map(|b| b.val()), epilogue }
    }
}

/// `x W + b`.
///
/// # Shapes
/// [.., I] -> [.., O]
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    fused(x, vec![Layer::of(layer, Epilogue::None)]).unwrap_or_else(|(x, _)| plain(layer, x))
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
    if activation != Activation::Gelu {
        return linear(second, activation.forward(linear(first, x)));
    }
    let layers = vec![Layer::of(first, Epilogue::Gelu), Layer::of(second, Epilogue::None)];
    fused(x, layers).unwrap_or_else(|(x, _)| plain(second, gelu(plain(first, x))))
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
    fused(x, layers).unwrap_or_else(|(x, layers)| {
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
    })
}

/// Through the CPU's kernels where they take the layers and pay off, or the inputs back.
#[allow(clippy::result_large_err, reason = "an `Err` is no failure: it gives the inputs back")]
fn fused<const D: usize>(x: Tensor<D>, layers: Vec<Layer>) -> Result<Tensor<D>, (Tensor<D>, Vec<Layer>)> {
    let rows: usize = x.dims().iter().take(D - 1).product();
    if rows < LEAST_ROWS { Err((x, layers)) } else { cpu::linear(x, layers) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    /// On the CPU and inside a graph, with few rows and with many: four ways to the same numbers.
    #[test]
    fn chains_do_not_depend_on_the_way_taken() {
        for rows in [5, 120] {
            let through = |device: &Device| {
                let layer = |name, shape: [usize; 2], epilogue| Layer {
                    weight: formula::<2>(name, shape, device) / 3.0,
                    bias: Some(formula::<1>("b", [shape[1]], device)),
                    epilogue,
                };
                let layers = vec![
                    layer("first", [9, 20], Epilogue::Gelu),
                    layer("second", [20, 12], Epilogue::Softmax(4)),
                    layer("third", [12, 7], Epilogue::None),
                ];
                chain(formula::<2>("x", [rows, 9], device), layers)
            };
            assert_close(through(&Device::flex()), through(&Device::flex().autodiff()).inner(), 1e-5);
        }
    }

    #[test]
    fn an_mlp_is_its_layers() {
        let device = Device::flex();
        let (first, second) = (LinearConfig::new(9, 30).init(&device), LinearConfig::new(30, 9).init(&device));
        for (rows, activation) in
            [(5, Activation::Gelu), (60, Activation::Gelu), (60, Activation::QuickGelu), (60, Activation::Relu)]
        {
            let x = formula::<2>("x", [rows, 9], &device);
            let want = second.forward(activation.forward(first.forward(x.clone())));
            assert_close(mlp(&first, activation, &second, x), want, 1e-5);
        }
    }
}
