//! A block of the Hiera trunk: windowed, global, or one that pools its queries between stages.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::multi_head_attention;
use nn_ops::linear::linear;
use nn_ops::norm::LayerNorm;
use nn_ops::window::{window_partition_with, window_unpartition, windowed_attention};
use sam_vit::MlpBlock;

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
    /// Attention inside windows of `window` x `window` tokens, over the whole image where that is 0. `pool` keeps the largest
    /// query of each 2 x 2, inside its window.
    ///
    /// Windows are padded bottom and right with zero vectors that take part. Every token is projected once; a zero vector's
    /// projection is the bias.
    ///
    /// # Shapes
    /// [B, H, W, C] -> [B, H, W, C'] or, pooled, [B, H / 2, W / 2, C']
    pub fn forward(&self, x: Tensor<4>, window: usize, pool: bool) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        let qkv = linear(&self.qkv, x);
        let triple = qkv.dims()[3];
        let padding = match &self.qkv.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([triple], (&qkv.device(), qkv.dtype())),
        };
        let attended = match (window, pool) {
            (0, _) => {
                let attended = self.squares(qkv.reshape([batch, height * width, triple]), [height, width], pool);
                let half = 1 + usize::from(pool);
                attended.reshape([batch, height / half, width / half, triple / 3])
            }
            (side, false) => windowed_attention(qkv, padding, self.heads, side),
            (side, true) => {
                let attended = self.squares(window_partition_with(qkv, side, padding), [side; 2], true);
                // The padded grid was pooled, too.
                let [tall, broad] = [height, width].map(|n| n.div_ceil(side) * (side / 2));
                let all = window_unpartition(attended, side / 2, [batch, tall, broad, triple / 3]);
                all.narrow(1, 0, height / 2).narrow(2, 0, width / 2)
            }
        };
        linear(&self.proj, attended)
    }

    /// Attention inside each of G squares of (height, width) tokens, heads merged.
    ///
    /// # Shapes
    /// [G, height * width, 3 C] -> [G, height * width, C] or, pooled, [G, height / 2 * (width / 2), C]
    fn squares(&self, qkv: Tensor<3>, [height, width]: [usize; 2], pool: bool) -> Tensor<3> {
        let [groups, _, triple] = qkv.dims();
        let channels = triple / 3;
        let part = |i: usize| qkv.clone().narrow(2, i * channels, channels);
        let mut q = part(0);
        if pool {
            let pooled = max_pool(q.reshape([groups, height, width, channels]));
            q = pooled.reshape([groups, (height / 2) * (width / 2), channels]);
        }
        multi_head_attention([q, part(1), part(2)], self.heads, None)
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
    pub mlp: MlpBlock,
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
            mlp: MlpBlock::new(to, 4 * to, Activation::Gelu, device),
            proj: pools.then(|| layer(from, to)),
            window: config.window_of(index),
        }
    }

    /// Windows are cut after the first norm, as in the reference.
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same, or [B, H / 2, W / 2, 2 C] from the first block of a stage
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let normed = self.norm1.forward(x.clone());
        let (shortcut, attended) = match &self.proj {
            Some(proj) => (max_pool(linear(proj, normed.clone())), self.attn.forward(normed, self.window, true)),
            None => (x, self.attn.forward(normed, self.window, false)),
        };
        let x = shortcut + attended;
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
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

    /// Pooled queries of a window that is padded: the last rows of an odd grid of windows are attended and dropped.
    #[test]
    fn pooling_inside_padded_windows() {
        let device = Device::flex();
        let config = HieraConfig { embed_dim: 8, heads: 2, windows: [4, 4, 2, 2], ..HieraConfig::default() };
        let block = HieraBlock::new(&config, 1, &device);
        let x = Tensor::<4>::random([2, 6, 6, 8], Distribution::Normal(0.0, 2.0), &device);
        let got = block.attn.forward(x.clone(), 4, true);
        assert_eq!(got.dims(), [2, 3, 3, 16]);
        // The first window is whole: it is an image of its own.
        let alone = block.attn.forward(x.narrow(1, 0, 4).narrow(2, 0, 4), 0, true);
        assert!((got.narrow(1, 0, 2).narrow(2, 0, 2) - alone).abs().max().into_scalar::<f32>() < 1e-5);
    }
}
