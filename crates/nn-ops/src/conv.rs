//! Patch embedding and 2 x 2 upscaling (convolutions whose kernel equals their stride) as matrix products.
//!
//! Faster than the general convolution, whose gradients are slow on wgpu and have been wrong on CUDA for wide inputs. Parameters stay in the plain
//! convolution layout, so checkpoints need no conversion.

use burn::nn::conv::{Conv2d, ConvTranspose2d};
use burn::tensor::Tensor;

use crate::cpu;
use crate::linear::{Epilogue, Layer, chain, product};

/// A convolution with kernel = stride = k and no padding, channels last at the end.
///
/// # Shapes
/// [B, I, H, W] with weight [O, I, k, k] -> [B, H / k, W / k, O]; rows and columns beyond a multiple of k are dropped.
/// The output has the weight's precision, whatever the input's: here images enter networks.
pub fn patch_conv(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let x = x.cast(conv.weight.val().dtype());
    let [out, inner, kh, kw] = conv.weight.dims();
    let [batch, _, height, width] = x.dims();
    let (rows, columns) = (height / kh, width / kw);
    let x = if (rows * kh, columns * kw) == (height, width) { x } else { x.narrow(2, 0, rows * kh).narrow(3, 0, columns * kw) };
    let patches = if (kh, kw) == (1, 1) {
        x.permute([0, 2, 3, 1]).reshape([batch * rows * columns, inner])
    } else {
        x.reshape([batch, inner, rows, kh, columns, kw])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, inner * kh * kw])
    };
    let weight = conv.weight.val().reshape([out, inner * kh * kw]).transpose();
    let bias = conv.bias.as_ref().map(|b| b.val());
    product(patches, weight, bias, Epilogue::None).reshape([batch, rows, columns, out])
}

/// A transposed convolution with kernel = stride = 2 and no padding.
///
/// # Shapes
/// [B, I, H, W] with weight [I, O, 2, 2] -> [B, O, 2H, 2W]
pub fn upscale_conv(conv: &ConvTranspose2d, x: Tensor<4>) -> Tensor<4> {
    let [inner, out, kh, kw] = conv.weight.dims();
    let [batch, _, height, width] = x.dims();
    let x = x.permute([0, 2, 3, 1]).reshape([batch, height * width, inner]);
    upscale_tokens(conv, x, Epilogue::None).reshape([batch, height, width, kh, kw, out]).permute([0, 5, 1, 3, 2, 4]).reshape([
        batch,
        out,
        height * kh,
        width * kw,
    ])
}

/// [`upscale_conv`] of tokens, and what follows it: a token becomes the pixels (row, column) of its square, side by side,
/// channels last.
///
/// # Shapes
/// [B, S, I] with weight [I, O, 2, 2] -> [B, S, 2 * 2 * O]
pub fn upscale_tokens(conv: &ConvTranspose2d, x: Tensor<3>, epilogue: Epilogue) -> Tensor<3> {
    let [batch, tokens, inner] = x.dims();
    let layer = upscale_layer(conv, epilogue);
    let columns = layer.weight.dims()[1];
    chain(x.reshape([batch * tokens, inner]), vec![layer]).reshape([batch, tokens, columns])
}

/// [`upscale_tokens`] and the product of every pixel with its image's `weights`: masks from upscaled tokens.
///
/// # Shapes
/// `x`: [B, S, I] with weight [I, O, 2, 2]; `weights`: [B, O, M]; output: [B, S * 4, M]
pub fn upscale_product(conv: &ConvTranspose2d, x: Tensor<3>, epilogue: Epilogue, weights: Tensor<3>) -> Tensor<3> {
    let [batch, tokens, inner] = x.dims();
    let [_, out, number] = weights.dims();
    let [_, _, kh, kw] = conv.weight.dims();
    let square = kh * kw;
    if !cpu::supports(&x) {
        return upscale_tokens(conv, x, epilogue).reshape([batch, tokens * square, out]).matmul(weights);
    }
    // On the CPU the upscaled pixels, the largest tensor here, exist a few rows at a time: the pixels of a token meet the
    // weights as one row, by a matrix with the weights as often on its diagonal.
    let diagonal = Tensor::<2>::eye(square, &weights.device()).reshape([square, 1, square, 1]);
    let images = (0..batch).map(|n| {
        let weight = diagonal.clone() * weights.clone().narrow(0, n, 1).reshape([1, out, 1, number]);
        let weight = weight.reshape([square * out, square * number]);
        let layers = vec![upscale_layer(conv, epilogue), Layer { weight, bias: None, epilogue: Epilogue::None }];
        chain(x.clone().narrow(0, n, 1).reshape([tokens, inner]), layers).reshape([1, tokens * square, number])
    });
    Tensor::cat(images.collect(), 0)
}

/// What [`upscale_tokens`] multiplies tokens by, [I, 2 * 2 * O].
fn upscale_layer(conv: &ConvTranspose2d, epilogue: Epilogue) -> Layer {
    let [inner, out, kh, kw] = conv.weight.dims();
    let weight = conv.weight.val().permute([0, 2, 3, 1]).reshape([inner, kh * kw * out]);
    Layer { weight, bias: conv.bias.as_ref().map(|b| b.val().repeat_dim(0, kh * kw)), epilogue }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::nn::conv::{Conv2dConfig, ConvTranspose2dConfig};
    use burn::tensor::Device;

    #[test]
    fn equal_the_general_convolutions() {
        let device = Device::flex();
        let x = formula::<4>("x", [2, 3, 8, 12], &device);
        for k in [1, 2, 4] {
            let conv = Conv2dConfig::new([3, 5], [k, k]).with_stride([k, k]).init(&device);
            assert_close(patch_conv(&conv, x.clone()).permute([0, 3, 1, 2]), conv.forward(x.clone()), 1e-5);
        }
        let up = ConvTranspose2dConfig::new([3, 5], [2, 2]).with_stride([2, 2]).init(&device);
        assert_close(upscale_conv(&up, x.clone()), up.forward(x), 1e-5);
    }

    /// The CPU's own way and Burn's, which a graph takes.
    #[test]
    fn products_of_upscaled_tokens_do_not_depend_on_the_way_taken() {
        let through = |device: &Device| {
            let mut up = ConvTranspose2dConfig::new([6, 5], [2, 2]).with_stride([2, 2]).with_bias(false).init(device);
            up.weight = burn::module::Param::from_tensor(formula::<4>("w", [6, 5, 2, 2], device));
            let (x, weights) = (formula::<3>("x", [2, 60, 6], device), formula::<3>("m", [2, 5, 3], device));
            upscale_product(&up, x, Epilogue::Gelu, weights)
        };
        let got = through(&Device::flex());
        assert_eq!(got.dims(), [2, 240, 3]);
        assert_close(got, through(&Device::flex().autodiff()).inner(), 1e-5);
    }
}
