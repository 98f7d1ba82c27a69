//! The memory attention: a frame's features look at each other and at the memories of earlier frames.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::multi_head_attention;
use nn_ops::linear::{linear, mlp};
use nn_ops::norm::LayerNorm;

use crate::config::Sam2Config;
use crate::positions::{AxialRotation, sine};

/// LayerNorm epsilon of the released layers.
const EPS: f64 = 1e-5;
/// How much of their sine positions the frame's features get.
const POSITION: f64 = 0.1;

/// Attention of one head whose queries and keys are rotated.
#[derive(Module, Debug)]
pub struct RotaryAttention {
    /// Queries.
    pub q_proj: Linear,
    /// Keys.
    pub k_proj: Linear,
    /// Values.
    pub v_proj: Linear,
    /// Output.
    pub out_proj: Linear,
}

impl RotaryAttention {
    fn new(width: usize, keys: usize, device: &Device) -> Self {
        let layer = |from: usize| LinearConfig::new(from, width).init(device);
        Self { q_proj: layer(width), k_proj: layer(keys), v_proj: layer(keys), out_proj: layer(width) }
    }

    /// The last `unrotated` keys are not rotated.
    ///
    /// # Shapes
    /// `q`: [B, S, C]; `k`, `v`: [B, K, C']; output: [B, S, C]
    fn forward(&self, [q, k, v]: [Tensor<3>; 3], rotation: &AxialRotation, unrotated: usize) -> Tensor<3> {
        let q = rotation.forward(linear(&self.q_proj, q), 0);
        let k = rotation.forward(linear(&self.k_proj, k), unrotated);
        linear(&self.out_proj, multi_head_attention([q, k, linear(&self.v_proj, v)], 1, None))
    }
}

/// One layer.
#[derive(Module, Debug)]
pub struct MemoryAttentionLayer {
    /// The frame among itself.
    pub self_attn: RotaryAttention,
    /// The frame looks at the memories.
    pub cross_attn_image: RotaryAttention,
    /// First layer of the MLP.
    pub linear1: Linear,
    /// Second layer of the MLP.
    pub linear2: Linear,
    /// Norm before self-attention.
    pub norm1: LayerNorm,
    /// Norm before cross-attention.
    pub norm2: LayerNorm,
    /// Norm before the MLP.
    pub norm3: LayerNorm,
}

impl MemoryAttentionLayer {
    fn new(config: &Sam2Config, device: &Device) -> Self {
        let (c, hidden) = (config.channels, config.memory_mlp_dim);
        let norm = || LayerNorm::new(c, EPS, device);
        Self {
            self_attn: RotaryAttention::new(c, c, device),
            cross_attn_image: RotaryAttention::new(c, config.memory_channels, device),
            linear1: LinearConfig::new(c, hidden).init(device),
            linear2: LinearConfig::new(hidden, c).init(device),
            norm1: norm(),
            norm2: norm(),
            norm3: norm(),
        }
    }

    fn forward(&self, x: Tensor<3>, memory: &MemoryTokens, keys: Tensor<3>, rotation: &AxialRotation) -> Tensor<3> {
        let normed = self.norm1.forward(x.clone());
        let x = x + self.self_attn.forward([normed.clone(), normed.clone(), normed], rotation, 0);
        let inputs = [self.norm2.forward(x.clone()), keys, memory.values.clone()];
        let x = x + self.cross_attn_image.forward(inputs, rotation, memory.pointers);
        let normed = self.norm3.forward(x.clone());
        x + mlp(&self.linear1, Activation::Relu, &self.linear2, normed)
    }
}

/// What a frame looks at: memories, frame after frame, then the tokens of object pointers.
#[derive(Debug, Clone)]
pub struct MemoryTokens {
    /// Values, [1, K, 64].
    pub values: Tensor<3>,
    /// What is added to them to become keys, [1, K, 64].
    pub positions: Tensor<3>,
    /// How many of the last tokens are of pointers, which have no place in the grid.
    pub pointers: usize,
}

/// The memory attention (SAM 2, sec. 4).
#[derive(Module, Debug)]
pub struct MemoryAttention {
    /// Layers.
    pub layers: Vec<MemoryAttentionLayer>,
    /// Norm of the output.
    pub norm: LayerNorm,
}

impl MemoryAttention {
    /// Layers with fresh weights.
    pub fn new(config: &Sam2Config, device: &Device) -> Self {
        Self {
            layers: (0..config.memory_layers).map(|_| MemoryAttentionLayer::new(config, device)).collect(),
            norm: LayerNorm::new(config.channels, EPS, device),
        }
    }

    /// A frame's features conditioned on memories.
    ///
    /// # Shapes
    /// `image`: [1, C, h, w]; output: the same
    pub fn forward(&self, image: Tensor<4>, memory: &MemoryTokens) -> Tensor<4> {
        self.forward_taps(image, memory).0
    }

    /// As [`MemoryAttention::forward`], with the output of each layer.
    ///
    /// # Shapes
    /// `image`: [1, C, h, w] -> the same, and one [1, h w, C] per layer
    pub fn forward_taps(&self, image: Tensor<4>, memory: &MemoryTokens) -> (Tensor<4>, Vec<Tensor<3>>) {
        let [batch, channels, height, width] = image.dims();
        let (device, kind) = (image.device(), image.dtype());
        let grid = [height, width];
        let rotation = AxialRotation::new(channels, grid, &device, kind);
        let placed = image + sine(channels, grid, &device, kind) * POSITION;
        let mut x = placed.reshape([batch, channels, height * width]).swap_dims(1, 2);
        let keys = memory.values.clone() + memory.positions.clone();
        let mut taps = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            x = layer.forward(x, memory, keys.clone(), &rotation);
            taps.push(x.clone());
        }
        let out = self.norm.forward(x).swap_dims(1, 2).reshape([batch, channels, height, width]);
        (out, taps)
    }
}
