//! The image encoder: a plain ViT with global attention in every block, and SAM's neck (EfficientSAM sec. 3).

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::multi_head_attention;
use nn_ops::conv::patch_conv;
use nn_ops::linear::{linear, mlp};
use nn_ops::norm::LayerNorm;
use nn_ops::recompute::segment;
use nn_ops::resize::Resize;
use sam_vit::{Neck, PatchEmbed};

use crate::config::EfficientSamConfig;

/// Epsilon of the blocks' norms.
const EPS: f64 = 1e-6;

/// Multi-head self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Fused projection, ordered (q | k | v) x head x width.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    heads: usize,
}

impl Attention {
    /// # Shapes
    /// [B, N, C] -> the same
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let width = x.dims()[2];
        let qkv = linear(&self.qkv, x);
        let part = |i: usize| qkv.clone().narrow(2, i * width, width);
        linear(&self.proj, multi_head_attention([part(0), part(1), part(2)], self.heads, None))
    }
}

/// The two-layer perceptron of a block.
#[derive(Module, Debug)]
pub struct Mlp {
    /// First layer.
    pub fc1: Linear,
    /// Second layer.
    pub fc2: Linear,
}

/// A pre-norm block.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: Attention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
}

impl Block {
    fn new(config: &EfficientSamConfig, device: &Device) -> Self {
        let width = config.embed_dim;
        let layer = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            norm1: LayerNorm::new(width, EPS, device),
            attn: Attention { qkv: layer(width, 3 * width), proj: layer(width, width), heads: config.heads },
            norm2: LayerNorm::new(width, EPS, device),
            mlp: Mlp { fc1: layer(width, config.mlp_dim()), fc2: layer(config.mlp_dim(), width) },
        }
    }

    /// # Shapes
    /// [B, N, C] -> the same
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + mlp(&self.mlp.fc1, Activation::Gelu, &self.mlp.fc2, self.norm2.forward(x))
    }
}

/// The image encoder.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    /// Patch projection.
    pub patch_embed: PatchEmbed,
    /// Absolute positions, [1, 1 + table_grid^2, C]. The first row belonged to a class token, which is not there any more.
    pub pos_embed: Param<Tensor<3>>,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Neck.
    pub neck: Neck,
}

impl ImageEncoder {
    /// An encoder with fresh weights.
    pub fn new(config: &EfficientSamConfig, device: &Device) -> Self {
        let (width, patch) = (config.embed_dim, [config.patch_size; 2]);
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self {
            patch_embed: PatchEmbed { proj: Conv2dConfig::new([3, width], patch).with_stride(patch).init(device) },
            pos_embed: normal.init([1, config.table_grid.pow(2) + 1, width], device),
            blocks: (0..config.depth).map(|_| Block::new(config, device)).collect(),
            neck: Neck::new(width, config.out_channels, device),
        }
    }

    /// The position table for a grid, bicubic with half-pixel centres and no antialiasing, without the first row.
    ///
    /// # Shapes
    /// output: [1, height, width, C]
    pub fn positions(&self, height: usize, width: usize) -> Tensor<4> {
        let table = self.pos_embed.val();
        let [_, places, channels] = table.dims();
        let side = places.saturating_sub(1).isqrt();
        let maps = table.narrow(1, 1, places - 1).reshape([1, side, side, channels]);
        if (height, width) == (side, side) {
            return maps;
        }
        Resize::BICUBIC.forward(maps.permute([0, 3, 1, 2]), [height, width]).permute([0, 2, 3, 1])
    }

    /// Patch tokens with their positions.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, H / patch, W / patch, C]
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        let x = patch_conv(&self.patch_embed.proj, image);
        let [_, height, width, _] = x.dims();
        x + self.positions(height, width)
    }

    /// Each block is a [`segment`] of recomputation.
    ///
    /// # Shapes
    /// [B, 3, H, W], normalised -> image embedding [B, 256, H / patch, W / patch]
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let x = self.embed(image);
        let [batch, height, width, channels] = x.dims();
        let x = x.reshape([batch, height * width, channels]);
        let x = self.blocks.iter().fold(x, |x, block| segment(block, x, |block, x| block.forward(x)));
        self.neck.forward(x.reshape([batch, height, width, channels]))
    }
}
