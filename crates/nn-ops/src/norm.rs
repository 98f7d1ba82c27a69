//! Layer norms, over the last axis and over channels, with statistics in single precision.
//!
//! Burn's own widen f16 for that but not bf16, so no network here uses them directly.

use burn::module::{Initializer, Module, Param};
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor, module};

use crate::precision::to_f32;
use crate::{cpu, synchronised};

/// Layer norm over the last axis. Field names are those of Burn's, which checkpoints of runs hold.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Gain, \[C\].
    pub gamma: Param<Tensor<1>>,
    /// Bias, \[C\].
    pub beta: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNorm {
    /// A norm over `width` channels with gain 1 and bias 0.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self { gamma: Initializer::Ones.init([width], device), beta: Initializer::Zeros.init([width], device), eps }
    }

    /// # Shapes
    /// [.., C] -> the same, in the input's precision
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        over_last(x, &self.gamma, &self.beta, self.eps)
    }
}

/// Layer norm over the last axis.
fn over_last<const D: usize>(x: Tensor<D>, gain: &Param<Tensor<1>>, bias: &Param<Tensor<1>>, eps: f64) -> Tensor<D> {
    if let Some(normed) = cpu::layer_norm(&x, &gain.val(), &bias.val(), eps) {
        return normed;
    }
    let kind = x.dtype();
    module::layer_norm(to_f32(x), to_f32(gain.val()), Some(to_f32(bias.val())), eps).cast(kind)
}

/// Burn's batch norm, whose parameters and running statistics are in single precision, on an input of any. Its statistics are
/// those of the batch, or of the batches of all processes ([`synchronised`]).
///
/// # Shapes
/// [B, C, ..] -> the same, in the input's precision
pub fn batch_norm<const D: usize>(norm: &BatchNorm, x: Tensor<D>) -> Tensor<D> {
    let kind = x.dtype();
    let x = to_f32(x);
    match synchronised::batch_norm(norm, &x) {
        Some(normed) => normed.cast(kind),
        None => norm.forward(x).cast(kind),
    }
}

/// Layer norm over the channels of each pixel of an NCHW map (SAM's neck, mask downscaling and upscaling).
///
/// Biased variance, eps inside the square root, one gain and bias per channel.
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
    /// [B, C, H, W] -> the same, in the input's precision
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (channels, kind) = (x.dims()[1], x.dtype());
        let x = to_f32(x);
        let mean = x.clone().mean_dim(1);
        let centred = x - mean;
        let variance = centred.clone().powi_scalar(2).mean_dim(1);
        let weight = to_f32(self.weight.val()).reshape([1, channels, 1, 1]);
        let bias = to_f32(self.bias.val()).reshape([1, channels, 1, 1]);
        (centred / (variance + self.eps).sqrt() * weight + bias).cast(kind)
    }

    /// The same norm where channels are last.
    ///
    /// # Shapes
    /// [.., C] -> [.., C]
    pub fn forward_last<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        over_last(x, &self.weight, &self.bias, self.eps)
    }

    /// The same gain and bias with statistics over all pixels and channels of a map, which are last: a group norm of one group.
    ///
    /// # Shapes
    /// [B, S, C] -> the same, in the input's precision
    pub fn forward_whole(&self, x: Tensor<3>) -> Tensor<3> {
        let kind = x.dtype();
        let x = to_f32(x);
        let mean = x.clone().mean_dim(1).mean_dim(2);
        let centred = x - mean;
        let variance = centred.clone().powi_scalar(2).mean_dim(1).mean_dim(2);
        let normed = centred / (variance + self.eps).sqrt();
        (normed * to_f32(self.weight.val()).unsqueeze() + to_f32(self.bias.val()).unsqueeze()).cast(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::nn::{BatchNormConfig, GroupNormConfig, LayerNormConfig};
    use burn::tensor::DType;

    /// Values far from zero: their mean and squares in bf16 would be off by more than their spread.
    #[test]
    fn statistics_are_single() {
        let device = Device::flex().autodiff();
        let x = (formula::<4>("x", [2, 64, 4, 8], &device) * 50.0 + 1000.0).cast(DType::BF16);
        let exact = x.clone().cast(DType::F32);
        let close = |got: Tensor<4>, want: Tensor<4>| {
            assert_eq!(got.dtype(), DType::BF16);
            let scale = want.clone().abs().max().into_scalar::<f32>();
            assert!(scale > 0.5, "{scale}");
            assert_close(got.cast(DType::F32), want, 0.01 * scale);
        };
        let norm = LayerNorm::new(8, 1e-6, &device);
        close(norm.forward(x.clone()), norm.forward(exact.clone()));
        let norm = LayerNorm2d::new(64, 1e-6, &device);
        close(norm.forward(x.clone()), norm.forward(exact.clone()));
        let norm = || BatchNormConfig::new(64).init(&device);
        close(batch_norm(&norm(), x), norm().forward(exact));
    }

    #[test]
    fn layer_norm_is_burns() {
        let device = Device::flex();
        let x = formula::<3>("x", [2, 5, 6], &device);
        let want = LayerNormConfig::new(6).with_epsilon(1e-6).init(&device).forward(x.clone());
        assert_close(LayerNorm::new(6, 1e-6, &device).forward(x), want, 0.0);
    }

    #[test]
    fn over_the_whole_map_is_a_group_norm_of_one_group() {
        let device = Device::flex();
        let x = formula::<3>("x", [2, 12, 6], &device) * 3.0 + 5.0;
        let mut norm = LayerNorm2d::new(6, 1e-5, &device);
        norm.weight = Param::from_tensor(formula("weight", [6], &device));
        norm.bias = Param::from_tensor(formula("bias", [6], &device));
        let mut burns = GroupNormConfig::new(1, 6).init(&device);
        (burns.gamma, burns.beta) = (Some(norm.weight.clone()), Some(norm.bias.clone()));
        let want = burns.forward(x.clone().swap_dims(1, 2)).swap_dims(1, 2);
        assert_close(norm.forward_whole(x.clone()), want.clone(), 1e-5);
        // Another map of the batch has no part in it, and half precision keeps statistics in single.
        assert_close(norm.forward_whole(x.clone().narrow(0, 1, 1)), want.narrow(0, 1, 1), 1e-5);
        let half = (x * 50.0).cast(DType::BF16);
        assert_eq!(norm.forward_whole(half.clone()).dtype(), DType::BF16);
        let exact = norm.forward_whole(half.clone().cast(DType::F32));
        assert_close(norm.forward_whole(half).cast(DType::F32), exact, 0.02);
    }

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
