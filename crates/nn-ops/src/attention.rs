//! Scaled dot-product attention behind one function.

use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor};

use crate::host;

/// `softmax(scale q kᵀ) v` over heads.
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
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: false };
    module::attention(q, k, v, mask, None, options)
}

/// [`attention`] over heads that lie side by side in the last axis, at the default scale.
///
/// # Shapes
/// `q`: [B, Sq, C]; `k`, `v`: [B, Sk, C]; `mask`: as in [`attention`]; output: [B, Sq, C]
pub fn multi_head([q, k, v]: [Tensor<3>; 3], heads: usize, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
    if mask.is_none() && [&q, &k, &v].into_iter().all(host::applies) {
        return host::attention(q, k, v, heads);
    }
    let [q, k, v] = [q, k, v].map(|x| split_heads(x, heads));
    merge_heads(attention(q, k, v, mask, None))
}

/// Splits the last axis into heads.
///
/// # Shapes
/// [B, S, heads * D] -> [B, heads, S, D]
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, width] = x.dims();
    x.reshape([batch, length, heads, width / heads]).swap_dims(1, 2)
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
    use burn::tensor::{Device, activation::softmax};

    #[test]
    fn equals_the_definition_with_mask_and_scale() {
        let device = Device::flex();
        let q = formula::<4>("q", [2, 3, 5, 8], &device);
        let k = formula::<4>("k", [2, 3, 7, 8], &device);
        let v = formula::<4>("v", [2, 3, 7, 4], &device);
        let masked =
            Tensor::<1, burn::tensor::Int>::from_ints([0, 0, 1, 0, 0, 1, 1], &device).equal_elem(1).reshape([1, 1, 1, 7]);
        let mask = masked.clone().expand([2, 3, 5, 7]);
        let logits = (q.clone() * 0.3).matmul(k.clone().swap_dims(2, 3)).mask_fill(mask, f32::NEG_INFINITY);
        let want = softmax(logits, 3).matmul(v.clone());
        assert_close(attention(q, k, v, Some(masked), Some(0.3)), want, 1e-6);
    }

    #[test]
    fn heads_split_and_merge() {
        let device = Device::flex();
        let x = formula::<3>("x", [2, 5, 12], &device);
        assert_close(merge_heads(split_heads(x.clone(), 3)), x, 0.0);
    }
}
