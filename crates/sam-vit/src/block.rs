//! A transformer block of SAM's image encoder.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::{softmax, split_qkv};
use nn_ops::linear::linear;
use nn_ops::norm::LayerNorm;
use nn_ops::precision::to_f32;
use nn_ops::relative_position::{Grid, relative_attention, windowed_relative_attention};

use crate::config::ImageEncoderConfig;
use crate::mlp::MlpBlock;

/// Multi-head self-attention with decomposed relative position.
#[derive(Module, Debug)]
pub struct RelPosAttention {
    /// Fused projection, ordered (q | k | v) x head x width.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    /// Relative position of rows, [2 n - 1, D].
    pub rel_pos_h: Param<Tensor<2>>,
    /// Relative position of columns, [2 n - 1, D].
    pub rel_pos_w: Param<Tensor<2>>,
    heads: usize,
}

impl RelPosAttention {
    /// Over all tokens of a grid and its prefix.
    ///
    /// # Shapes
    /// [B, prefix + h w, C] -> the same
    pub fn forward(&self, x: Tensor<3>, grid: &Grid) -> Tensor<3> {
        let attended = relative_attention(linear(&self.qkv, x), self.heads, grid, self.tables());
        linear(&self.proj, attended)
    }

    /// Inside windows of the size of `grid`, padded bottom and right with zero vectors that take part. Every token is
    /// projected once; a zero vector's projection is the bias.
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same
    pub fn forward_windows(&self, x: Tensor<4>, grid: &Grid) -> Tensor<4> {
        let qkv = linear(&self.qkv, x);
        let padding = match &self.qkv.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([qkv.dims()[3]], (&qkv.device(), qkv.dtype())),
        };
        let attended = windowed_relative_attention(qkv, padding, self.heads, grid, self.tables());
        linear(&self.proj, attended)
    }

    fn tables(&self) -> [Tensor<2>; 2] {
        [self.rel_pos_h.val(), self.rel_pos_w.val()]
    }

    /// How much tokens of the grid attend to each token of the grid, relative position included, mean over heads: the one query that
    /// is named, or the mean over all of them.
    ///
    /// # Shapes
    /// `x`: [B, prefix + h w, C]; output: [B, h w]
    pub fn attention_map(&self, x: Tensor<3>, grid: &Grid, query: Option<usize>) -> Tensor<2> {
        let [batch, _, _] = x.dims();
        let (prefix, image) = (grid.prefix, grid.height * grid.width);
        let [q, k, _] = self.project(x);
        let [table_h, table_w] = self.tables();
        let (q, k) = grid.widen(q, k, table_h, table_w);
        let (from, count) = query.map_or((prefix, image), |query| (prefix + query.min(image.saturating_sub(1)), 1));
        let [_, heads, length, width] = q.dims();
        // Head by head: all maps of 4096 tokens at once would be 0.8 GB.
        let maps = (0..heads).map(|head| {
            let of = |x: &Tensor<4>, from: usize, count: usize| {
                x.clone().narrow(1, head, 1).narrow(2, from, count).reshape([batch, count, width])
            };
            let logits = of(&q, from, count).matmul(of(&k, 0, length).swap_dims(1, 2)) / (width as f64).sqrt();
            to_f32(softmax(logits, 2)).mean_dim(1).reshape([batch, length])
        });
        let sum = maps.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([batch, length], &k.device()));
        (sum / heads.max(1) as f64).narrow(1, prefix, image)
    }

    /// Queries, keys and values, each [B, heads, S, D].
    pub fn project(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
        split_qkv(linear(&self.qkv, x), self.heads)
    }
}

/// A pre-norm transformer block; windowed or global.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: RelPosAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: MlpBlock,
    /// Side of an attention window in tokens; 0 attends over the whole image.
    pub window: usize,
}

impl Block {
    /// Block number `index` of an encoder, initialised as PyTorch does (relative position at zero).
    pub fn new(config: &ImageEncoderConfig, index: usize, device: &Device) -> Self {
        let width = config.embed_dim;
        let window = if config.global_blocks.contains(&index) { 0 } else { config.window_size };
        let side = if window == 0 { config.grid() } else { window };
        let table = || Initializer::Zeros.init([2 * side - 1, width / config.heads], device);
        Self {
            norm1: LayerNorm::new(width, 1e-6, device),
            attn: RelPosAttention {
                qkv: LinearConfig::new(width, 3 * width).init(device),
                proj: LinearConfig::new(width, width).init(device),
                rel_pos_h: table(),
                rel_pos_w: table(),
                heads: config.heads,
            },
            norm2: LayerNorm::new(width, 1e-6, device),
            mlp: MlpBlock::new(width, config.mlp_dim(), Activation::Gelu, device),
            window,
        }
    }

    /// SAM's own block: windows as configured, cut after the first norm.
    ///
    /// `grid` must be the window's where the block is windowed, else the image's (see [`Block::grid`]).
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same
    pub fn forward(&self, x: Tensor<4>, grid: &Grid) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let normed = self.norm1.forward(x.clone());
        let attended = if self.window > 0 {
            self.attn.forward_windows(normed, grid)
        } else {
            let tokens = normed.reshape([batch, height * width, channels]);
            self.attn.forward(tokens, grid).reshape([batch, height, width, channels])
        };
        let x = x + attended;
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }

    /// The same weights over [prefix ; image] tokens with attention over everything, windows ignored: the seam by which
    /// Deep Instruction Tuning runs text through the encoder.
    ///
    /// # Shapes
    /// [B, prefix + h w, C] -> the same
    pub fn forward_tokens(&self, x: Tensor<3>, grid: &Grid) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x), grid);
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }

    /// The grid that [`Block::forward`] needs for an image of `height` x `width` tokens.
    pub fn grid(&self, height: usize, width: usize, device: &Device) -> Grid {
        match self.window {
            0 => Grid::new(height, width, 0, device),
            side => Grid::new(side, side, 0, device),
        }
    }
}
