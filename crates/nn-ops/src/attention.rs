//! Scaled dot-product and multi-head attention, on every device and in every precision.

use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Tensor, activation};

use crate::cpu;
use crate::precision::to_f32;

/// Most bytes of scores that exist at once outside of training: the smallest storage binding that WebGPU guarantees, and
/// far below what a GPU may spend (SAM's global blocks at 1024 would take 805 MB per image in ViT-B).
const SCORES: usize = 128 << 20;

/// Softmax over axis `dim`, in single precision; the output has the input's.
///
/// # Shapes
/// Any; the output has the input's.
pub fn softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    let kind = x.dtype();
    activation::softmax(to_f32(x), dim).cast(kind)
}

/// `softmax(scale q kᵀ) v` over heads. Every query needs a key that is not masked.
///
/// On GPUs outside of training, queries are taken in groups so that no more than 128 MiB of scores exist. On the CPU Burn's
/// kernel keeps no scores, and computes half precision in single.
///
/// `scale` defaults to `1 / sqrt(D)`. Any other factor is folded into the queries, because the fused kernels of the
/// GPU backends know the default one only. A position that `mask` marks `true` takes no part. No bias is taken on
/// purpose: SAM's relative position is carried by widened queries and keys instead.
///
/// # Shapes
/// - `q`: [B, heads, Sq, D]; `k`: [B, heads, Sk, D]; `v`: [B, heads, Sk, Dv]
/// - `mask`: [B or 1, heads or 1, Sq or 1, Sk]
/// - output: [B, heads, Sq, Dv]
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<Tensor<4, Bool>>, scale: Option<f64>) -> Tensor<4> {
    let [batch, heads, queries, width] = q.dims();
    let keys = k.dims()[2];
    let q = match scale {
        Some(scale) => {
            let factor = scale * (width as f64).sqrt();
            if factor == 1.0 { q } else { q * factor }
        }
        None => q,
    };
    let mask = mask.map(|mask| mask.expand([batch, heads, queries, keys]));
    let device = q.device();
    if device.is_autodiff() || cpu::is_cpu(&device) {
        return whole(q, k, v, mask);
    }
    grouped(q, k, v, mask, SCORES)
}

/// As many queries at a time as `limit` bytes of scores in single precision allow.
///
/// The number is a power of two: fused kernels run only where their tiles divide the queries.
fn grouped(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<Tensor<4, Bool>>, limit: usize) -> Tensor<4> {
    let [batch, heads, queries, _] = q.dims();
    let row = batch * heads * k.dims()[2] * size_of::<f32>();
    if row * queries <= limit {
        return whole(q, k, v, mask);
    }
    let most = 1 << (limit / row.max(1)).max(1).ilog2();
    let group = |from: usize| {
        let count = most.min(queries - from);
        let mask = mask.clone().map(|mask| mask.narrow(2, from, count));
        whole(q.clone().narrow(2, from, count), k.clone(), v.clone(), mask)
    };
    Tensor::cat((0..queries).step_by(most).map(group).collect(), 2)
}

/// All queries at once, with the default scale.
fn whole(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let kind = q.dtype();
    if matches!(kind, DType::BF16 | DType::F16) && q.device().is_autodiff() {
        // Burn composes the same there, but with a softmax in half precision; its fused kernels sum in single.
        let scores = to_f32(q.clone().matmul(k.swap_dims(2, 3))) * (q.dims()[3] as f64).sqrt().recip();
        let scores = match mask {
            Some(mask) => scores.mask_fill(mask, HIDDEN),
            None => scores,
        };
        return activation::softmax(scores, 3).cast(kind).matmul(v);
    }
    // On GPUs f32 products are rounded to TF32 and fused tiles to f16: parity there is about 1e-3.
    // A scale of its own would keep Burn from its fused kernel, and so would a bias.
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: false };
    module::attention(q, k, v, mask, None, options)
}

/// [`attention`] over heads that lie side by side in the last axis, at the default scale.
///
/// # Shapes
/// `q`: [B, Sq, C]; `k`, `v`: [B, Sk, C]; `mask`: as in [`attention`]; output: [B, Sq, C]
pub fn multi_head_attention([q, k, v]: [Tensor<3>; 3], heads: usize, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
    cpu::attention([q, k, v], heads, mask.as_ref()).unwrap_or_else(|inputs| {
        let [q, k, v] = inputs.map(|x| split_heads(x, heads));
        merge_heads(attention(q, k, v, mask, None))
    })
}

/// Score of a masked key. Finite, so that no gradient is 0 * inf; its exponential is 0 next to any other.
const HIDDEN: f32 = -1e30;

/// Splits the last axis into heads.
///
/// # Shapes
/// [B, S, heads * D] -> [B, heads, S, D]
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, width] = x.dims();
    x.reshape([batch, length, heads, width / heads]).swap_dims(1, 2)
}

/// Splits a fused projection, ordered (q | k | v) x head x width, into queries, keys and values.
///
/// # Shapes
/// [B, S, 3 * heads * D] -> [B, heads, S, D] each
pub fn split_qkv(qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
    let [batch, length, triple] = qkv.dims();
    let qkv = qkv.reshape([batch, length, 3, heads, triple / 3 / heads]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|i| qkv.clone().narrow(0, i, 1).squeeze_dim::<4>(0))
}

/// Undoes [`split_heads`].
///
/// # Shapes
/// [B, heads, S, D] -> [B, S, heads * D]
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, length, width] = x.dims();
    x.swap_dims(1, 2).reshape([batch, length, heads * width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::tensor::{Device, Int, TensorData};

    #[test]
    fn equals_the_definition_with_mask_and_scale() {
        let device = Device::flex();
        let q = formula::<4>("q", [2, 3, 5, 8], &device);
        let k = formula::<4>("k", [2, 3, 7, 8], &device);
        let v = formula::<4>("v", [2, 3, 7, 4], &device);
        let masked = masked(&device);
        let mask = masked.clone().expand([2, 3, 5, 7]);
        let logits = (q.clone() * 0.3).matmul(k.clone().swap_dims(2, 3)).mask_fill(mask, f32::NEG_INFINITY);
        let want = softmax(logits, 3).matmul(v.clone());
        assert_close(attention(q, k, v, Some(masked), Some(0.3)), want, 1e-6);
    }

    fn masked(device: &Device) -> Tensor<4, Bool> {
        Tensor::<1, Int>::from_ints([0, 0, 1, 0, 0, 1, 1], device).equal_elem(1).reshape([1, 1, 1, 7])
    }

    fn inputs(device: &Device) -> [Tensor<4>; 3] {
        [("q", 5, 8), ("k", 7, 8), ("v", 7, 4)].map(|(name, rows, width)| formula::<4>(name, [2, 3, rows, width], device))
    }

    /// A row of scores takes 2 * 3 * 7 * 4 bytes: groups of 1, of 2 and a rest of 1, of 4 and 1, and no groups.
    #[test]
    fn groups_of_queries_change_nothing() {
        let device = Device::flex();
        let [q, k, v] = inputs(&device);
        let hidden: Vec<bool> = (0..35).map(|at| (at / 7 * 3 + at % 7) % 4 == 0).collect();
        let mask = Tensor::<4, Bool>::from_data(TensorData::new(hidden, [1, 1, 5, 7]), &device).expand([2, 3, 5, 7]);
        for limit in [0, 168, 336 + 167, 672, 840] {
            for mask in [None, Some(mask.clone())] {
                let want = whole(q.clone(), k.clone(), v.clone(), mask.clone());
                assert_close(grouped(q.clone(), k.clone(), v.clone(), mask, limit), want, 1e-6);
            }
        }
    }

    /// Many equal keys: a sum of ones in bf16 would stop at 256.
    #[test]
    fn sums_of_half_precision_are_single() {
        let keys = 4096;
        let device = Device::flex().autodiff();
        let zeros = |rows, width| Tensor::<4>::zeros([1, 1, rows, width], (&device, DType::BF16));
        let v = Tensor::ones([1, 1, keys, 1], (&device, DType::BF16));
        let got = attention(zeros(1, 2), zeros(keys, 2), v, None, None);
        assert_eq!(got.dtype(), DType::BF16);
        let got = got.cast(DType::F32).into_scalar::<f32>();
        assert!((got - 1.0).abs() < 0.01, "{got}");
        assert_eq!(softmax(zeros(1, keys), 3).cast(DType::F32).max().into_scalar::<f32>(), 1.0 / keys as f32);
    }

    #[test]
    fn half_precision_is_close_with_and_without_a_graph() {
        let [q, k, v] = inputs(&Device::flex());
        let want = attention(q, k, v, Some(masked(&Device::flex())), Some(0.3));
        for device in [Device::flex(), Device::flex().autodiff()] {
            let [q, k, v] = inputs(&device).map(|x| x.cast(DType::BF16));
            let got = attention(q, k, v, Some(masked(&device)), Some(0.3));
            assert_close(got.inner().cast(DType::F32), want.clone(), 0.02);
        }
    }

    #[test]
    fn heads_split_and_merge() {
        let device = Device::flex();
        let x = formula::<3>("x", [2, 5, 12], &device);
        assert_close(merge_heads(split_heads(x.clone(), 3)), x, 0.0);
    }
}
