//! A transformer block of SAM's image encoder.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::attention::{attention, merge_heads};
use nn_ops::host::{self, Group, Token};
use nn_ops::linear::{linear, perceptron};
use nn_ops::norm::LayerNorm;
pub use nn_ops::windows::{join, partition};

use crate::config::ImageEncoderConfig;
use crate::relative_position::Grid;

/// Multi-head self-attention with decomposed relative position.
#[derive(Module, Debug)]
pub struct Attention {
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

impl Attention {
    /// # Shapes
    /// [B, prefix + h w, C] -> the same
    pub fn forward(&self, x: Tensor<3>, grid: &Grid) -> Tensor<3> {
        if self.runs_on_host(&x) {
            let [batch, length, width] = x.dims();
            return self
                .forward_groups(x.reshape([batch * length, width]), &grid.whole(batch), grid)
                .reshape([batch, length, width]);
        }
        let (q, k, v) = self.project(x);
        let (q, k) = grid.widen(q, k, self.rel_pos_h.val(), self.rel_pos_w.val());
        linear(&self.proj, merge_heads(attention(q, k, v, None, None)))
    }

    fn runs_on_host<const D: usize>(&self, x: &Tensor<D>) -> bool {
        host::applies(x) && host::multiplies(&self.qkv.weight.val())
    }

    /// On the CPU: attention inside groups of tokens, padding projected but once.
    ///
    /// # Shapes
    /// [rows, C] -> the same
    fn forward_groups(&self, x: Tensor<2>, groups: &[Group], grid: &Grid) -> Tensor<2> {
        let relative = grid.relative(self.rel_pos_h.val(), self.rel_pos_w.val());
        let options = (&x.device(), x.dtype());
        let padding = self.qkv.bias.as_ref().map_or_else(|| Tensor::zeros([3 * x.dims()[1]], options), |b| b.val());
        let attended = host::fused_attention(linear(&self.qkv, x), padding, self.heads, groups, Some(&relative));
        linear(&self.proj, attended)
    }

    /// Queries, keys and values, each [B, heads, S, D].
    pub fn project(&self, x: Tensor<3>) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [batch, length, width] = x.dims();
        let qkv = linear(&self.qkv, x).reshape([batch, length, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let part = |i: usize| qkv.clone().narrow(0, i, 1).squeeze_dim::<4>(0);
        (part(0), part(1), part(2))
    }
}

/// The two-layer perceptron of a block.
#[derive(Module, Debug)]
pub struct Mlp {
    /// First layer.
    pub lin1: Linear,
    /// Second layer.
    pub lin2: Linear,
}

impl Mlp {
    /// # Shapes
    /// [.., C] -> [.., C]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        perceptron(&self.lin1, &self.lin2, x)
    }
}

/// A pre-norm transformer block; windowed or global.
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
            attn: Attention {
                qkv: LinearConfig::new(width, 3 * width).init(device),
                proj: LinearConfig::new(width, width).init(device),
                rel_pos_h: table(),
                rel_pos_w: table(),
                heads: config.heads,
            },
            norm2: LayerNorm::new(width, 1e-6, device),
            mlp: Mlp {
                lin1: LinearConfig::new(width, config.mlp_dim()).init(device),
                lin2: LinearConfig::new(config.mlp_dim(), width).init(device),
            },
            window,
        }
    }

    /// SAM's own block: windows as configured. Windows are cut after the first norm and padded with zero vectors that
    /// take part in attention, as in the reference.
    ///
    /// `grid` must be the window's where the block is windowed, else the image's (see [`Block::grid`]).
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same
    pub fn forward(&self, x: Tensor<4>, grid: &Grid) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let normed = self.norm1.forward(x.clone());
        let attended = if self.window > 0 && self.attn.runs_on_host(&normed) {
            let rows = normed.reshape([batch * height * width, channels]);
            self.attn
                .forward_groups(rows, &windows([batch, height, width], self.window), grid)
                .reshape([batch, height, width, channels])
        } else if self.window == 0 {
            self.attn.forward(normed.reshape([batch, height * width, channels]), grid).reshape([batch, height, width, channels])
        } else {
            let windows = partition(normed, self.window);
            join(self.attn.forward(windows, grid), self.window, [batch, height, width, channels])
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

/// The windows that [`partition`] cuts, as groups of [B * H * W] rows.
fn windows([batch, height, width]: [usize; 3], side: usize) -> Vec<Group> {
    let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
    let window = |index: usize| {
        let (image, top, left) = (index / (rows * columns), index / columns % rows * side, index % columns * side);
        let token = |at: usize| {
            let (y, x) = (at / side, at % side);
            let inside = top + y < height && left + x < width;
            Token { row: inside.then_some((image * height + top + y) * width + left + x), place: Some((y, x)) }
        };
        Group { tokens: (0..side * side).map(token).collect() }
    };
    (0..batch * rows * columns).map(window).collect()
}
