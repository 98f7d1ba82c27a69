//! CLIP's pre-norm transformer layer, of both towers.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::multi_head_attention;
use nn_ops::linear::{linear, mlp};
use nn_ops::norm::LayerNorm;

use crate::layers::{norm, spread_linear};

/// Sizes of a block.
pub(super) struct LayerSizes {
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) ffn: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

/// `x += attention(norm1 x); x += mlp(norm2 x)`.
#[derive(Module, Debug)]
pub(super) struct ClipLayer {
    self_attn: SelfAttention,
    layer_norm1: LayerNorm,
    mlp: Mlp,
    layer_norm2: LayerNorm,
    #[module(skip)]
    activation: Activation,
}

impl ClipLayer {
    /// Weights spread as CLIP's: by the width, and less by the number of layers where a branch joins the residual.
    pub(super) fn new(sizes: &LayerSizes, device: &Device) -> Self {
        let std = (sizes.width.max(1) as f64).powf(-0.5);
        let joins = std * (2.0 * sizes.layers.max(1) as f64).powf(-0.5);
        let linear = |from, to, std| spread_linear(from, to, std, device);
        let square = || linear(sizes.width, sizes.width, std);
        Self {
            self_attn: SelfAttention {
                q_proj: square(),
                k_proj: square(),
                v_proj: square(),
                out_proj: linear(sizes.width, sizes.width, joins),
                heads: sizes.heads,
            },
            layer_norm1: norm(sizes.width, sizes.eps, device),
            mlp: Mlp { fc1: linear(sizes.width, sizes.ffn, std / 2f64.sqrt()), fc2: linear(sizes.ffn, sizes.width, joins) },
            layer_norm2: norm(sizes.width, sizes.eps, device),
            activation: sizes.activation,
        }
    }

    /// # Shapes
    /// x [B, T, C], mask broadcastable to [B, heads, T, T] with `true` where hidden -> [B, T, C]
    pub(super) fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let maps = &self.self_attn;
        let h = self.layer_norm1.forward(x.clone());
        let projected = [&maps.q_proj, &maps.k_proj, &maps.v_proj].map(|map| linear(map, h.clone()));
        let x = x + linear(&maps.out_proj, multi_head_attention(projected, maps.heads, mask));
        let h = self.layer_norm2.forward(x.clone());
        x + mlp(&self.mlp.fc1, self.activation, &self.mlp.fc2, h)
    }
}
