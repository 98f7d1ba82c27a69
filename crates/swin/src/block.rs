//! A Swin block: attention inside of windows, every second time of shifted ones, then an MLP (Swin Transformer, eq. 3).

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::{merge_heads, softmax};
use nn_ops::linear::{linear, mlp};
use nn_ops::norm::LayerNorm;
use nn_ops::precision::to_f32;
use nn_ops::window::{pad_to_multiple, window_partition, window_unpartition};

use crate::config::SwinConfig;
use crate::window::WindowGrid;

/// Multi-head self-attention in a window, with a learned bias per head and relative position.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// Fused projection, ordered (q | k | v) x head x width.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    /// Bias per relative position and head, [(2 w - 1)^2, heads].
    pub relative_position_bias_table: Param<Tensor<2>>,
    heads: usize,
}

impl WindowAttention {
    /// # Shapes
    /// [B * windows, w^2, C] -> the same
    pub fn forward(&self, x: Tensor<3>, grid: &WindowGrid, shifted: bool) -> Tensor<3> {
        let [groups, tokens, width] = x.dims();
        let qkv = linear(&self.qkv, x).reshape([groups, tokens, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let part = |i: usize| qkv.clone().narrow(0, i, 1).squeeze_dim::<4>(0);
        let scale = ((width / self.heads) as f64).sqrt().recip();
        let scores = to_f32((part(0) * scale).matmul(part(1).swap_dims(2, 3)));
        let bias = grid.bias(self.relative_position_bias_table.val(), shifted);
        // Images share the biases of their windows.
        let [shared, ..] = bias.dims();
        let scores = scores.reshape([groups / shared, shared * self.heads, tokens, tokens])
            + bias.reshape([1, shared * self.heads, tokens, tokens]);
        let weights = softmax(scores.reshape([groups, self.heads, tokens, tokens]), 3);
        let values = part(2);
        linear(&self.proj, merge_heads(weights.cast(values.dtype()).matmul(values)))
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
pub struct SwinBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: WindowAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
    /// Whether the windows are moved by half of their side.
    pub shifted: bool,
}

impl SwinBlock {
    /// Block number `index` of a stage, initialised as published: normal of deviation 0.02, biases 0. Blocks of odd numbers
    /// shift.
    pub fn new(config: &SwinConfig, stage: usize, index: usize, device: &Device) -> Self {
        let width = config.width(stage);
        let linear = |from, to| {
            let config = LinearConfig::new(from, to).with_initializer(Initializer::Normal { mean: 0.0, std: 0.02 });
            let layer = config.init(device);
            Linear { bias: Some(Initializer::Zeros.init([to], device)), ..layer }
        };
        let rows = (2 * config.window - 1).pow(2);
        Self {
            norm1: LayerNorm::new(width, config.layer_norm_eps, device),
            attn: WindowAttention {
                qkv: linear(width, 3 * width),
                proj: linear(width, width),
                relative_position_bias_table: Initializer::Normal { mean: 0.0, std: 0.02 }
                    .init([rows, config.heads[stage]], device),
                heads: config.heads[stage],
            },
            norm2: LayerNorm::new(width, config.layer_norm_eps, device),
            mlp: Mlp { fc1: linear(width, config.mlp_dim(stage)), fc2: linear(config.mlp_dim(stage), width) },
            shifted: index % 2 == 1,
        }
    }

    /// The map is padded to whole windows behind the first norm. Padding tokens are zeros there, so their queries, keys and
    /// values are the projection's bias; they are not masked, as in the published detectors.
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same; `grid` is made for H x W
    pub fn forward(&self, x: Tensor<4>, grid: &WindowGrid) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let shift = if self.shifted { grid.shift as i64 } else { 0 };
        let padded = pad_to_multiple(self.norm1.forward(x.clone()), grid.window);
        let rolled = padded.roll(&[-shift, -shift], &[1, 2]);
        let attended = self.attn.forward(window_partition(rolled, grid.window), grid, shift > 0);
        let joined =
            window_unpartition(attended, grid.window, [batch, grid.rows, grid.columns, channels]).roll(&[shift, shift], &[1, 2]);
        let x = x + joined.narrow(1, 0, height).narrow(2, 0, width);
        x.clone() + mlp(&self.mlp.fc1, Activation::Gelu, &self.mlp.fc2, self.norm2.forward(x))
    }
}
