//! Attention between few tokens and many pixels that does not project the pixels.
//!
//! A logit of head h is `(W_q x + b) . k = x . (W_qᵀ k) + b . k`, and what comes out is `W_o (a V) = a (V W_oᵀ)` for the head's
//! part of each matrix. With T tokens and H heads, the tokens' side is brought to the pixels' width once, H T rows of it, and
//! every pixel then takes part in two products of H T columns instead of two of the inner width. Seven tokens and eight
//! heads make 56 columns for an inner width of 128. A change of the order of sums, no approximation.

use burn::nn::Linear;
use burn::tensor::Tensor;
use nn_ops::attention::{merge_heads, multi_head_attention, split_heads};
use nn_ops::host;
use nn_ops::linear::{Epilogue, Layer, chain, linear};

use crate::two_way::TwoWayAttention;

/// Pixels from which on the products of the tokens' side are worth it.
const LEAST_PIXELS: usize = 64;

/// Whether `tokens` beside `pixels` cost less this way: on the CPU outside of training. GPUs would start more kernels to
/// save arithmetic of which they have plenty.
pub(crate) fn suits(attention: &TwoWayAttention, x: &Tensor<3>, tokens: usize, pixels: usize) -> bool {
    let inner = attention.q_proj.weight.dims()[1];
    let columns = attention.heads * tokens;
    pixels >= LEAST_PIXELS && 4 * columns <= 3 * inner && host::applies(x) && host::applies(&attention.q_proj.weight.val())
}

/// The tokens look at the pixels.
///
/// # Shapes
/// `tokens`: [N, T, C]; `keys`, `values`: [N, S, C]; output: [N, T, C]
pub(crate) fn look(attention: &TwoWayAttention, tokens: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    let [batch, count, width] = tokens.dims();
    let heads = attention.heads;
    let queries = split_heads(linear(&attention.q_proj, tokens), heads);
    // Attention will divide by the root of this width instead of the head's. The keys' bias moves all logits of a query alike.
    let scale = (width as f64 / queries.dims()[3] as f64).sqrt();
    let queries = queries.matmul(from_inner(&attention.k_proj, heads)) * scale;
    let seen = multi_head_attention([queries.reshape([batch, heads * count, width]), keys, values], 1, None);
    let seen = merge_heads(seen.reshape([batch, heads, count, width]).matmul(to_inner(&attention.v_proj, heads)));
    // Weights of a query sum to one, so the values' bias passes through.
    let seen = match &attention.v_proj.bias {
        Some(bias) => seen + bias.val().unsqueeze(),
        None => seen,
    };
    linear(&attention.out_proj, seen)
}

/// The pixels look at the tokens.
///
/// # Shapes
/// `pixels`: [N, S, C]; `keys`, `values`: [N, T, C]; output: [N, S, C]
pub(crate) fn look_back(attention: &TwoWayAttention, pixels: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    let [batch, count, width] = keys.dims();
    let heads = attention.heads;
    let keys = split_heads(linear(&attention.k_proj, keys), heads);
    let keys = keys.clone() * (keys.dims()[3] as f64).sqrt().recip();
    let values = split_heads(linear(&attention.v_proj, values), heads);
    let columns = heads * count;
    let keys = keys.swap_dims(2, 3);
    let logits = to_inner(&attention.q_proj, heads).matmul(keys.clone()).swap_dims(1, 2).reshape([batch, width, columns]);
    let shift = attention.q_proj.bias.as_ref().map(|bias| {
        let bias = bias.val();
        let inner = bias.dims()[0];
        bias.reshape([1, heads, 1, inner / heads]).matmul(keys).reshape([batch, columns])
    });
    let [inner, _] = attention.out_proj.weight.dims();
    let out = attention.out_proj.weight.val().reshape([1, heads, inner / heads, width]);
    let mixed = values.matmul(out).reshape([batch, columns, width]);
    let bias = attention.out_proj.bias.as_ref().map(|b| b.val());
    let rows = (0..batch).map(|n| {
        let one = |x: &Tensor<3>| x.clone().narrow(0, n, 1).squeeze_dim::<2>(0);
        let shift = shift.as_ref().map(|s| s.clone().narrow(0, n, 1).squeeze_dim::<1>(0));
        let logits = Layer { weight: one(&logits), bias: shift, epilogue: Epilogue::Softmax(count) };
        let mix = Layer { weight: one(&mixed), bias: bias.clone(), epilogue: Epilogue::None };
        chain(one(&pixels), vec![logits, mix]).unsqueeze::<3>()
    });
    Tensor::cat(rows.collect(), 0)
}

/// The part of each head in a projection, [1, heads, C, D].
fn to_inner(layer: &Linear, heads: usize) -> Tensor<4> {
    let [width, inner] = layer.weight.dims();
    layer.weight.val().reshape([1, width, heads, inner / heads]).swap_dims(1, 2)
}

/// The same, to go back: [1, heads, D, C].
fn from_inner(layer: &Linear, heads: usize) -> Tensor<4> {
    to_inner(layer, heads).swap_dims(2, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SamConfig;
    use burn::tensor::{Device, Distribution};

    /// Beside attention as it is written, for one prompt and several.
    #[test]
    fn equals_attention_with_projections() {
        let device = Device::flex();
        let decoder = SamConfig::vit_b().init(&device).mask_decoder;
        let attention = &decoder.transformer.layers[0].cross_attn_token_to_image;
        let random = |n: usize, length: usize| Tensor::<3>::random([n, length, 256], Distribution::Normal(0.0, 2.0), &device);
        for (batch, count, pixels) in [(1, 7, 300), (3, 2, 64)] {
            let (tokens, keys, values) = (random(batch, count), random(batch, pixels), random(batch, pixels));
            assert!(suits(attention, &tokens, count, pixels));
            let close = |got: Tensor<3>, want: Tensor<3>| {
                assert_eq!(got.dims(), want.dims());
                let worst = (got - want).abs().max().into_scalar::<f32>();
                assert!(worst < 1e-5, "{worst}");
            };
            let want = attention.project(tokens.clone(), keys.clone(), values.clone());
            close(look(attention, tokens.clone(), keys.clone(), values), want);
            let values = random(batch, count);
            let want = attention.project(keys.clone(), tokens.clone(), values.clone());
            close(look_back(attention, keys, tokens, values), want);
        }
        // As many columns as the inner width save nothing.
        assert!(!suits(attention, &random(1, 16), 16, 300));
    }
}
