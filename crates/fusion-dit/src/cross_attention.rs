//! Cross-attention of text slots over image tokens (DIT Tab. 4), and the released code's layer norm.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use nn_ops::attention::{merge_heads, softmax, split_heads};
use nn_ops::precision::to_f32;

/// Heads of the injection, each of width 64.
const HEADS: usize = 8;
/// Inner width of the attention.
const INNER: usize = 512;
/// Inner width of the feed-forward network.
const HIDDEN: usize = 2048;

/// The norm of the released code: unbiased standard deviation, epsilon added outside the root.
#[derive(Module, Debug)]
pub struct StdNorm {
    /// Gain.
    pub weight: Param<Tensor<1>>,
    /// Bias.
    pub bias: Param<Tensor<1>>,
}

impl StdNorm {
    pub(crate) fn new(width: usize, device: &Device) -> Self {
        Self { weight: Initializer::Ones.init([width], device), bias: Initializer::Zeros.init([width], device) }
    }

    /// # Shapes
    /// [B, L, C] -> [B, L, C], in the input's precision
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (width, kind) = (x.dims()[2], x.dtype());
        let x = to_f32(x);
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().powi_scalar(2).sum_dim(2) / (width as f64 - 1.0);
        let [gain, bias] = [&self.weight, &self.bias].map(|p| to_f32(p.val()).unsqueeze::<3>());
        (centred / (variance.sqrt() + 1e-6) * gain + bias).cast(kind)
    }
}

/// Multi-head attention of the text slots over other tokens.
#[derive(Module, Debug)]
pub struct GuidedAttention {
    /// Values.
    pub linear_v: Linear,
    /// Keys.
    pub linear_k: Linear,
    /// Queries.
    pub linear_q: Linear,
    /// Output.
    pub linear_merge: Linear,
    dropout: Dropout,
}

impl GuidedAttention {
    pub(crate) fn new(width: usize, dropout: f64, device: &Device) -> Self {
        let linear = |i, o| xavier(i, o, device);
        Self {
            linear_v: linear(width, INNER),
            linear_k: linear(width, INNER),
            linear_q: linear(width, INNER),
            linear_merge: linear(INNER, width),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// Dropout acts on the attention map, so the map is built: it has text rows only.
    ///
    /// # Shapes
    /// `q`: [B, L, C]; `kv`: [B, S, C]; output: [B, L, C]
    pub fn forward(&self, q: Tensor<3>, kv: Tensor<3>) -> Tensor<3> {
        let q = split_heads(self.linear_q.forward(q), HEADS);
        let k = split_heads(self.linear_k.forward(kv.clone()), HEADS);
        let v = split_heads(self.linear_v.forward(kv), HEADS);
        let scale = 1.0 / ((INNER / HEADS) as f64).sqrt();
        let map = softmax(q.matmul(k.swap_dims(2, 3)) * scale, 3);
        self.linear_merge.forward(merge_heads(self.dropout.forward(map).matmul(v)))
    }
}

/// Attention and a feed-forward network, both post-norm.
#[derive(Module, Debug)]
pub struct GuidedBlock {
    /// Attention.
    pub mhatt: GuidedAttention,
    /// First layer of the feed-forward network.
    pub ffn_in: Linear,
    /// Second layer of the feed-forward network.
    pub ffn_out: Linear,
    /// Norm after attention.
    pub norm1: StdNorm,
    /// Norm after the feed-forward network.
    pub norm2: StdNorm,
    dropout: Dropout,
}

impl GuidedBlock {
    pub(crate) fn new(width: usize, dropout: f64, device: &Device) -> Self {
        Self {
            mhatt: GuidedAttention::new(width, dropout, device),
            ffn_in: LinearConfig::new(width, HIDDEN).init(device),
            ffn_out: LinearConfig::new(HIDDEN, width).init(device),
            norm1: StdNorm::new(width, device),
            norm2: StdNorm::new(width, device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// # Shapes
    /// `q`: [B, L, C]; `kv`: [B, S, C]; output: [B, L, C]
    pub fn forward(&self, q: Tensor<3>, kv: Tensor<3>) -> Tensor<3> {
        let a = self.norm1.forward(q.clone() + self.dropout.forward(self.mhatt.forward(q, kv)));
        let hidden = self.dropout.forward(relu(self.ffn_in.forward(a.clone())));
        self.norm2.forward(a + self.dropout.forward(self.ffn_out.forward(hidden)))
    }
}

fn xavier(from: usize, to: usize, device: &Device) -> Linear {
    let mut linear = LinearConfig::new(from, to).with_initializer(Initializer::XavierUniform { gain: 1.0 }).init(device);
    linear.bias = Some(Initializer::Zeros.init([to], device));
    linear
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four numbers, computed by hand.
    #[test]
    fn std_norm_divides_by_the_unbiased_deviation() {
        let device = Device::flex();
        let x = Tensor::<3>::from_floats([[[1.0, 2.0, 3.0, 4.0]]], &device);
        let got = StdNorm::new(4, &device).forward(x).into_data().try_to_vec::<f32>().unwrap();
        assert!((got[0] + 1.161_894).abs() < 1e-5, "{got:?}");
    }
}
