//! Norms that Burn lacks.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, module};

/// Layer norm over the channels of each pixel of an NCHW map (SAM's neck, mask downscaling and upscaling).
///
/// Biased variance, eps inside the square root, one gain and bias a channel.
#[derive(Module, Debug)]
pub struct LayerNorm2d {
    /// Gain, \[C\].
    pub weight: Param<Tensor<1>>,
    /// Bias, \[C\].
    pub bias: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNorm2d {
    /// A norm over `channels` with gain 1 and bias 0.
    pub fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self { weight: Initializer::Ones.init([channels], device), bias: Initializer::Zeros.init([channels], device), eps }
    }

    /// # Shapes
    /// [B, C, H, W] -> [B, C, H, W]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let channels = x.dims()[1];
        let mean = x.clone().mean_dim(1);
        let centred = x - mean;
        let variance = centred.clone().powi_scalar(2).mean_dim(1);
        let weight = self.weight.val().reshape([1, channels, 1, 1]);
        let bias = self.bias.val().reshape([1, channels, 1, 1]);
        centred / (variance + self.eps).sqrt() * weight + bias
    }

    /// The same norm where channels are last.
    ///
    /// # Shapes
    /// [.., C] -> [.., C]
    pub fn forward_last<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(x, self.weight.val(), Some(self.bias.val()), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::nn::LayerNormConfig;

    #[test]
    fn equals_layer_norm_over_the_last_axis() {
        let device = Device::flex();
        let x = formula::<4>("x", [2, 6, 3, 4], &device);
        let want = LayerNormConfig::new(6)
            .with_epsilon(1e-6)
            .init(&device)
            .forward(x.clone().permute([0, 2, 3, 1]))
            .permute([0, 3, 1, 2]);
        let norm = LayerNorm2d::new(6, 1e-6, &device);
        assert_close(norm.forward(x.clone()), want.clone(), 1e-5);
        assert_close(norm.forward_last(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]), want, 1e-5);
    }
}
