//! A block of the Hiera trunk: windowed, global, or one that pools its queries between stages.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::attention::multi_head;
use nn_ops::host;
use nn_ops::linear::linear;
use nn_ops::norm::LayerNorm;
use sam_vit::{Mlp, join, partition, windows};

use crate::config::HieraConfig;

/// Multi-head self-attention whose queries may be pooled.
#[derive(Module, Debug)]
pub struct HieraAttention {
    /// Fused projection, ordered (q | k | v) x head x width.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    heads: usize,
}

impl HieraAttention {
    /// Attention inside each of `G` squares of `side` = (height, width) tokens; `pool` keeps the largest query of 2 x 2.
    ///
    /// # Shapes
    /// [G, height * width, C] -> [G, height * width, C'] or, pooled, [G, height / 2 * (width / 2), C']
    pub fn forward(&self, x: Tensor<3>, side: [usize; 2], pool: bool) -> Tensor<3> {
        let [groups, length, _] = x.dims();
        let qkv = linear(&self.qkv, x);
        let width = qkv.dims()[2] / 3;
        let part = |i: usize| qkv.clone().narrow(2, i * width, width);
        let q = if pool {
            let q = max_pool(part(0).reshape([groups, side[0], side[1], width]));
            let [_, height, breadth, _] = q.dims();
            q.reshape([groups, height * breadth, width])
        } else {
            part(0).reshape([groups, length, width])
        };
        linear(&self.proj, multi_head([q, part(1), part(2)], self.heads, None))
    }

    /// On the CPU: attention inside the windows that [`partition`] would cut, which are not cut; padding is projected but
    /// once.
    ///
    /// # Shapes
    /// [B, H, W, C] -> [B, H, W, C']
    fn forward_windows(&self, x: Tensor<4>, window: usize) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let qkv = linear(&self.qkv, x.reshape([batch * height * width, channels]));
        let triple = qkv.dims()[1];
        let options = (&qkv.device(), qkv.dtype());
        let padding = self.qkv.bias.as_ref().map_or_else(|| Tensor::zeros([triple], options), |b| b.val());
        let mut groups = windows([batch, height, width], window);
        // There is no relative position.
        groups.iter_mut().flat_map(|group| &mut group.tokens).for_each(|token| token.place = None);
        let attended = host::fused_attention(qkv, padding, self.heads, &groups, None);
        linear(&self.proj, attended).reshape([batch, height, width, triple / 3])
    }
}

/// A pre-norm block. The first of a stage doubles the width and halves the grid: its shortcut is the pooled projection of the
/// normed input, and its queries are pooled inside their windows.
#[derive(Module, Debug)]
pub struct HieraBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: HieraAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
    /// Projection of the shortcut where the width changes.
    pub proj: Option<Linear>,
    /// Side of an attention window in tokens; 0 attends over the whole image.
    pub window: usize,
}

impl HieraBlock {
    /// Block number `index` of a trunk, with fresh weights.
    pub fn new(config: &HieraConfig, index: usize, device: &Device) -> Self {
        let (stage, pools) = config.stage_of(index);
        let (from, to) = (config.width(stage - usize::from(pools)), config.width(stage));
        let layer = |i, o| LinearConfig::new(i, o).init(device);
        Self {
            norm1: LayerNorm::new(from, 1e-6, device),
            attn: HieraAttention { qkv: layer(from, 3 * to), proj: layer(to, to), heads: config.heads << stage },
            norm2: LayerNorm::new(to, 1e-6, device),
            mlp: Mlp { lin1: layer(to, 4 * to), lin2: layer(4 * to, to) },
            proj: pools.then(|| layer(from, to)),
            window: config.window_of(index),
        }
    }

    /// Windows are cut after the first norm and padded with zero vectors that take part in attention, as in the reference.
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same, or [B, H / 2, W / 2, 2 C] from the first block of a stage
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let normed = self.norm1.forward(x.clone());
        let (shortcut, attended) = match &self.proj {
            Some(proj) => (max_pool(linear(proj, normed.clone())), self.attend(normed, true)),
            None => (x, self.attend(normed, false)),
        };
        let x = shortcut + attended;
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }

    fn attend(&self, x: Tensor<4>, pool: bool) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let half = 1 + usize::from(pool);
        let (tall, broad) = (height / half, width / half);
        if self.window == 0 {
            let x = self.attn.forward(x.reshape([batch, height * width, channels]), [height, width], pool);
            let channels = x.dims()[2];
            return x.reshape([batch, tall, broad, channels]);
        }
        if !pool && host::applies(&x) && host::multiplies(&self.attn.qkv.weight.val()) {
            return self.attn.forward_windows(x, self.window);
        }
        let x = self.attn.forward(partition(x, self.window), [self.window; 2], pool);
        let channels = x.dims()[2];
        join_padded(x, self.window / half, [height, width].map(|n| n.div_ceil(self.window)), [batch, tall, broad, channels])
    }
}

/// [`join`] of `windows` = (down, across) windows, which may be more than cover `to`: a padded grid that was pooled.
fn join_padded(x: Tensor<3>, side: usize, windows: [usize; 2], to: [usize; 4]) -> Tensor<4> {
    let [batch, height, width, channels] = to;
    let all = join(x, side, [batch, windows[0] * side, windows[1] * side, channels]);
    all.narrow(1, 0, height).narrow(2, 0, width)
}

/// The largest of each 2 x 2; an odd last row or column is dropped.
///
/// # Shapes
/// [B, H, W, C] -> [B, H / 2, W / 2, C]
fn max_pool(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (tall, broad) = (height / 2, width / 2);
    let x = x.narrow(1, 0, 2 * tall).narrow(2, 0, 2 * broad).reshape([batch * tall, 2, broad, 2, channels]);
    let of = |row: usize, column: usize| x.clone().narrow(1, row, 1).narrow(3, column, 1);
    let above = of(0, 0).max_pair(of(0, 1));
    above.max_pair(of(1, 0).max_pair(of(1, 1))).reshape([batch, tall, broad, channels])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn pools_the_largest_and_drops_an_odd_end() {
        let x = Tensor::<1, burn::tensor::Int>::arange(0..30, &Device::flex()).float().reshape([1, 5, 6, 1]);
        let got = max_pool(x).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(got, [7.0, 9.0, 11.0, 19.0, 21.0, 23.0]);
    }

    /// Windows as groups of rows and windows that are cut out and padded are the same thing.
    #[test]
    fn both_ways_to_attend_in_windows_agree() {
        let device = Device::flex();
        let config = HieraConfig { embed_dim: 8, heads: 2, windows: [3, 4, 2, 2], ..HieraConfig::default() };
        let block = HieraBlock::new(&config, 0, &device);
        let x = Tensor::<4>::random([2, 7, 5, 8], Distribution::Normal(0.0, 2.0), &device);
        let grouped = block.attn.forward_windows(x.clone(), 3);
        let cut = join_padded(block.attn.forward(partition(x, 3), [3, 3], false), 3, [3, 2], [2, 7, 5, 8]);
        assert!((grouped - cut).abs().max().into_scalar::<f32>() < 1e-5);
    }
}
