//! Layers, attention with dropout and checks that all encoders share.

use burn::module::{Initializer, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear};
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::ConfigError;
use nn_ops::attention::{merge_heads, multi_head_attention, softmax, split_heads};
use nn_ops::config::check_positive;
use nn_ops::norm::LayerNorm;

use crate::TextError;

/// Spread of fresh weights in all four families.
pub(crate) const INIT_STD: f64 = 0.02;

pub(crate) fn normal(std: f64) -> Initializer {
    Initializer::Normal { mean: 0.0, std }
}

/// A linear map with weights N(0, 0.02) and no offset to begin with.
pub(crate) fn linear(from: usize, to: usize, device: &Device) -> Linear {
    spread_linear(from, to, INIT_STD, device)
}

/// As [`linear`] with weights N(0, std).
pub(crate) fn spread_linear(from: usize, to: usize, std: f64, device: &Device) -> Linear {
    Linear { weight: normal(std).init([from, to], device), bias: Some(Initializer::Zeros.init([to], device)) }
}

/// As [`linear`], without an offset at all.
pub(crate) fn projection(from: usize, to: usize, device: &Device) -> Linear {
    Linear { weight: normal(INIT_STD).init([from, to], device), bias: None }
}

pub(crate) fn norm(width: usize, eps: f64, device: &Device) -> LayerNorm {
    LayerNorm::new(width, eps, device)
}

pub(crate) fn table(rows: usize, width: usize, device: &Device) -> Embedding {
    spread_table(rows, width, INIT_STD, device)
}

/// As [`table`] with entries N(0, std).
pub(crate) fn spread_table(rows: usize, width: usize, std: f64, device: &Device) -> Embedding {
    EmbeddingConfig::new(rows, width).with_initializer(normal(std)).init(device)
}

/// A dropout whose probability [`nn_ops::config::check_dropout`] has checked; anything else becomes no dropout instead of a panic.
pub(crate) fn dropout(probability: f64) -> Dropout {
    let prob = if (0.0..1.0).contains(&probability) { probability } else { 0.0 };
    DropoutConfig::new(prob).init()
}

/// Consecutive rows of a position table.
///
/// # Shapes
/// -> [1, count, C]
pub(crate) fn positions(table: &Param<Tensor<2>>, first: usize, count: usize) -> Tensor<3> {
    table.val().narrow(0, first, count).unsqueeze()
}

/// `true` where attention must not look, for every head and query.
///
/// # Shapes
/// [Q, T] -> [Q, 1, 1, T]
pub(crate) fn key_mask(padding: Tensor<2, Bool>) -> Tensor<4, Bool> {
    let [rows, width] = padding.dims();
    padding.reshape([rows, 1, 1, width])
}

/// Attention over `heads` with dropout on the attention map.
///
/// Where dropout cannot act (no gradients, or probability 0) the fused kernel serves.
///
/// # Shapes
/// - `q`, `k`, `v`: [B, S, C]
/// - `mask`: `true` where hidden, broadcastable to [B, heads, S, S]
/// - output: [B, S, C]
pub(crate) fn self_attention(
    [q, k, v]: [Tensor<3>; 3],
    heads: usize,
    mask: Option<Tensor<4, Bool>>,
    dropout: &Dropout,
) -> Tensor<3> {
    if dropout.prob == 0.0 || !q.device().is_autodiff() {
        return multi_head_attention([q, k, v], heads, mask);
    }
    let [q, k, v] = [q, k, v].map(|x| split_heads(x, heads));
    let scale = (q.dims()[3] as f64).sqrt().recip();
    let logits = (q * scale).matmul(k.swap_dims(2, 3));
    let logits = match mask {
        Some(mask) => {
            let shape = logits.dims();
            logits.mask_fill(mask.expand(shape), HIDDEN)
        }
        None => logits,
    };
    merge_heads(dropout.forward(softmax(logits, 3)).matmul(v))
}

/// Logit of a hidden key. Finite, so that no gradient is 0 * inf; its exponential is 0 next to any other.
const HIDDEN: f32 = -1e30;

/// Width, heads and counts that a transformer needs above zero, and widths that divide.
pub(crate) fn check_sizes(sizes: &[(&str, usize)], width: usize, heads: usize) -> Result<(), ConfigError> {
    check_positive(sizes)?;
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(ConfigError::new("heads", heads, format!("a divisor of the width {width}")));
    }
    Ok(())
}

/// Fails unless an image has three channels and the given height and width.
pub(crate) fn check_image(image: &Tensor<4>, [height, width]: [usize; 2]) -> Result<[usize; 4], TextError> {
    let found = image.dims();
    if found[1..] == [3, height, width] {
        return Ok(found);
    }
    Err(TextError::Shape { what: "an image", found: found.to_vec(), expected: format!("[B, 3, {height}, {width}]") })
}
