//! Patches: cutting an image into them, and merging four into one (Swin Transformer, sec. 3.1).

use burn::module::{Initializer, Module};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::conv::patch_conv;
use nn_ops::linear::linear;
use nn_ops::norm::LayerNorm;
use nn_ops::window::pad_to_multiple;

use crate::config::SwinConfig;

/// Cuts the image into patches, projects each and norms it.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Projection, kernel = stride = patch.
    pub proj: Conv2d,
    /// Norm.
    pub norm: LayerNorm,
}

impl PatchEmbed {
    pub(crate) fn new(config: &SwinConfig, device: &Device) -> Self {
        let patch = [config.patch_size; 2];
        Self {
            proj: Conv2dConfig::new([3, config.embed_dim], patch).with_stride(patch).init(device),
            norm: LayerNorm::new(config.embed_dim, config.layer_norm_eps, device),
        }
    }

    /// An image whose sides are no multiples of the patch is padded with zeros, right and below.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, ceil(H / patch), ceil(W / patch), C]
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let [_, _, patch, _] = self.proj.weight.dims();
        let image = pad_to_multiple(image.permute([0, 2, 3, 1]), patch).permute([0, 3, 1, 2]);
        self.norm.forward(patch_conv(&self.proj, image))
    }
}

/// Merges squares of 2 x 2 tokens: half the sides, twice the channels.
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// From four tokens to one of twice the width; no bias.
    pub reduction: Linear,
    /// Norm of the four tokens side by side.
    pub norm: LayerNorm,
}

impl PatchMerging {
    pub(crate) fn new(width: usize, eps: f64, device: &Device) -> Self {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self {
            reduction: LinearConfig::new(4 * width, 2 * width).with_bias(false).with_initializer(normal).init(device),
            norm: LayerNorm::new(4 * width, eps, device),
        }
    }

    /// The tokens of a square come in the order (row 0, column 0), (1, 0), (0, 1), (1, 1). Odd sides are padded with zeros.
    ///
    /// # Shapes
    /// [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), 2 C]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = pad_to_multiple(x, 2);
        let [batch, height, width, channels] = x.dims();
        let squares = x.reshape([batch, height / 2, 2, width / 2, 2, channels]).permute([0, 1, 3, 4, 2, 5]).reshape([
            batch,
            height / 2,
            width / 2,
            4 * channels,
        ]);
        linear(&self.reduction, self.norm.forward(squares))
    }
}
