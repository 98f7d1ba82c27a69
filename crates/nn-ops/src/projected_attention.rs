//! Multi-head attention between four projections, with the projections of many tokens absorbed into those of few.
//!
//! # Absorbed attention
//! A logit of head h is `(W_q x + b) . k = x . (W_qᵀ k) + b . k`, and what comes out is `W_o (a V) = a (V W_oᵀ)` for the head's
//! part of each matrix. With T tokens and H heads, the tokens' side is brought to the pixels' width once, H T rows of it, and
//! every pixel then takes part in two products of H T columns instead of two of the inner width. Seven tokens and eight
//! heads make 56 columns for an inner width of 128: less than half the products in SAM's mask decoder. A change of the
//! order of sums, no approximation.

use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::attention::{merge_heads, multi_head_attention, split_heads};
use crate::cpu;
use crate::linear::{Epilogue, Layer, chain, linear};

/// Pixels from which on the products of the tokens' side are worth it.
const LEAST_PIXELS: usize = 64;

/// The maps around a multi-head attention: C to an inner width, and back.
#[derive(Debug, Clone, Copy)]
pub struct Projections<'a> {
    /// Queries, [C, inner].
    pub q_proj: &'a Linear,
    /// Keys, [C, inner].
    pub k_proj: &'a Linear,
    /// Values, [C, inner].
    pub v_proj: &'a Linear,
    /// Output, [inner, C].
    pub out_proj: &'a Linear,
    /// Heads, which divide the inner width.
    pub heads: usize,
}

/// `out_proj(attention(q_proj(q), k_proj(k), v_proj(v)))`.
///
/// On the CPU outside of training, few queries over many keys and many queries over few keys take absorbed attention.
///
/// # Shapes
/// `q`: [N, Sq, C]; `k`, `v`: [N, Sk, C]; output: [N, Sq, C]
pub fn projected_attention(maps: Projections<'_>, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let (queries, keys) = (q.dims()[1], k.dims()[1]);
    if pays_off(maps, &q, queries, keys) {
        token_to_image(maps, q, k, v)
    } else if pays_off(maps, &q, keys, queries) {
        image_to_token(maps, q, k, v)
    } else {
        as_written(maps, q, k, v)
    }
}

/// Attention as it is written: project, attend, project.
fn as_written(maps: Projections<'_>, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let projected = [linear(maps.q_proj, q), linear(maps.k_proj, k), linear(maps.v_proj, v)];
    linear(maps.out_proj, multi_head_attention(projected, maps.heads, None))
}

/// Whether `tokens` beside `pixels` cost less when absorbed: on the CPU outside of training. GPUs would start more kernels
/// to save arithmetic of which they have plenty.
fn pays_off(maps: Projections<'_>, x: &Tensor<3>, tokens: usize, pixels: usize) -> bool {
    let inner = maps.q_proj.weight.dims()[1];
    let columns = maps.heads * tokens;
    pixels >= LEAST_PIXELS && 4 * columns <= 3 * inner && cpu::supports(x) && cpu::supports(&maps.q_proj.weight.val())
}

/// Few tokens attend to many pixels.
///
/// # Shapes
/// `tokens`: [N, T, C]; `keys`, `values`: [N, S, C]; output: [N, T, C]
fn token_to_image(maps: Projections<'_>, tokens: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    let [batch, count, width] = tokens.dims();
    let heads = maps.heads;
    let queries = split_heads(linear(maps.q_proj, tokens), heads);
    // Attention will divide by the root of this width instead of the head's. The keys' bias moves all logits of a query alike.
    let scale = (width as f64 / queries.dims()[3] as f64).sqrt();
    let queries = queries.matmul(from_inner(maps.k_proj, heads)) * scale;
    let mixed = multi_head_attention([queries.reshape([batch, heads * count, width]), keys, values], 1, None);
    let mixed = merge_heads(mixed.reshape([batch, heads, count, width]).matmul(to_inner(maps.v_proj, heads)));
    // Weights of a query sum to one, so the values' bias passes through.
    let mixed = match &maps.v_proj.bias {
        Some(bias) => mixed + bias.val().unsqueeze(),
        None => mixed,
    };
    linear(maps.out_proj, mixed)
}

/// Many pixels attend to few tokens.
///
/// # Shapes
/// `pixels`: [N, S, C]; `keys`, `values`: [N, T, C]; output: [N, S, C]
fn image_to_token(maps: Projections<'_>, pixels: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    let [batch, count, width] = keys.dims();
    let heads = maps.heads;
    let keys = split_heads(linear(maps.k_proj, keys), heads);
    let keys = keys.clone() * (keys.dims()[3] as f64).sqrt().recip();
    let values = split_heads(linear(maps.v_proj, values), heads);
    let columns = heads * count;
    let keys = keys.swap_dims(2, 3);
    let logits = to_inner(maps.q_proj, heads).matmul(keys.clone()).swap_dims(1, 2).reshape([batch, width, columns]);
    let shift = maps.q_proj.bias.as_ref().map(|bias| {
        let bias = bias.val();
        let inner = bias.dims()[0];
        bias.reshape([1, heads, 1, inner / heads]).matmul(keys).reshape([batch, columns])
    });
    let [inner, _] = maps.out_proj.weight.dims();
    let out = maps.out_proj.weight.val().reshape([1, heads, inner / heads, width]);
    let mixed = values.matmul(out).reshape([batch, columns, width]);
    let bias = maps.out_proj.bias.as_ref().map(|b| b.val());
    let images = (0..batch).map(|n| {
        let matrix = |x: &Tensor<3>| x.clone().narrow(0, n, 1).squeeze_dim::<2>(0);
        let shift = shift.as_ref().map(|s| s.clone().narrow(0, n, 1).squeeze_dim::<1>(0));
        let logits = Layer { weight: matrix(&logits), bias: shift, epilogue: Epilogue::Softmax(count) };
        let mix = Layer { weight: matrix(&mixed), bias: bias.clone(), epilogue: Epilogue::None };
        chain(matrix(&pixels), vec![logits, mix]).unsqueeze::<3>()
    });
    Tensor::cat(images.collect(), 0)
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
    use crate::testing::assert_close;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution};

    /// Beside attention as it is written, for one image and several.
    #[test]
    fn absorbed_attention_equals_attention_as_written() {
        let device = Device::flex();
        let layer = |from, to| LinearConfig::new(from, to).init(&device);
        let [q_proj, k_proj, v_proj, out_proj] = [layer(256, 128), layer(256, 128), layer(256, 128), layer(128, 256)];
        let maps = Projections { q_proj: &q_proj, k_proj: &k_proj, v_proj: &v_proj, out_proj: &out_proj, heads: 8 };
        let random = |n: usize, length: usize| Tensor::<3>::random([n, length, 256], Distribution::Normal(0.0, 2.0), &device);
        for (batch, count, pixels) in [(1, 7, 300), (3, 2, 64)] {
            let (tokens, keys, values) = (random(batch, count), random(batch, pixels), random(batch, pixels));
            assert_eq!(pays_off(maps, &tokens, count, pixels), cpu_kernels::is_vectorized());
            let want = as_written(maps, tokens.clone(), keys.clone(), values.clone());
            assert_close(token_to_image(maps, tokens.clone(), keys.clone(), values.clone()), want.clone(), 1e-5);
            assert_close(projected_attention(maps, tokens.clone(), keys.clone(), values), want, 1e-5);
            let values = random(batch, count);
            let want = as_written(maps, keys.clone(), tokens.clone(), values.clone());
            assert_close(image_to_token(maps, keys.clone(), tokens.clone(), values.clone()), want.clone(), 1e-5);
            assert_close(projected_attention(maps, keys, tokens, values), want, 1e-5);
        }
        // As many columns as the inner width save nothing.
        assert!(!pays_off(maps, &random(1, 16), 16, 300));
    }
}
