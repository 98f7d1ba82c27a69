//! Vector arithmetic at the processor's width: dot products, exponentials, tails.

use pulp::{Arch, Simd, WithSimd};

/// Whether this processor has vectors that the kernels are written for (AVX-512, AVX2, NEON).
pub fn is_vectorized() -> bool {
    struct Vectors;
    impl WithSimd for Vectors {
        type Output = bool;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> bool {
            !S::IS_SCALAR
        }
    }
    Arch::new().dispatch(Vectors)
}

/// Two vectors: the width of a tile, enough to keep the multipliers busy.
pub(crate) type Pair<S> = [<S as Simd>::f32s; 2];

/// Lanes of a [`Pair`].
pub(crate) const fn lanes<S: Simd>() -> usize {
    2 * S::F32_LANES
}

/// Values as pairs; their number is a multiple of [`lanes`].
#[inline(always)]
pub(crate) fn pairs<S: Simd>(values: &[f32]) -> &[Pair<S>] {
    S::as_simd_f32s(values).0.as_chunks().0
}

/// [`pairs`], to write.
#[inline(always)]
pub(crate) fn pairs_mut<S: Simd>(values: &mut [f32]) -> &mut [Pair<S>] {
    S::as_mut_simd_f32s(values).0.as_chunks_mut().0
}

/// Repeats a block for r from 0 below N, which is at most 8, so that arrays stay in registers: a loop over them is not
/// unrolled reliably.
macro_rules! each {
    ($r:ident < $n:ident, $body:block) => { each!(@ $r $n $body 0 1 2 3 4 5 6 7) };
    (@ $r:ident $n:ident $body:block $($i:literal)*) => {
        $(if $i < $n {
            #[allow(non_upper_case_globals)]
            const $r: usize = $i;
            $body
        })*
    };
}
pub(crate) use each;

/// Puts `f(simd, v)` of every value in its place. A macro, because a closure is compiled without the vectors of its caller.
macro_rules! map {
    ($simd:ident, $values:expr, $f:path) => {
        let (whole, rest) = S::as_mut_simd_f32s($values);
        for v in whole {
            *v = $f($simd, *v);
        }
        if !rest.is_empty() {
            let last = $f($simd, $simd.partial_load_f32s(rest));
            $simd.partial_store_f32s(rest, last);
        }
    };
}
pub(crate) use map;

/// Adds `rows[r] . panel` to each of R sums, one sum per lane: the inner loop of all products.
///
/// # Shapes
/// `rows`: R of [K] or longer; `panel`: [K, lanes]
#[inline(always)]
pub(crate) fn dot<S: Simd, const R: usize>(
    simd: S,
    rows: &[&[f32]; R],
    panel: &[Pair<S>],
    mut sums: [Pair<S>; R],
) -> [Pair<S>; R] {
    let mut cut = *rows;
    each!(r < R, { cut[r] = &cut[r][..panel.len()] });
    for (k, p) in panel.iter().enumerate() {
        each!(r < R, {
            let factor = simd.splat_f32s(cut[r][k]);
            sums[r] = [simd.mul_add_e_f32s(p[0], factor, sums[r][0]), simd.mul_add_e_f32s(p[1], factor, sums[r][1])];
        });
    }
    sums
}

/// Adds `factor` times a row to another of its length, eight values at a time: rows are often that short.
#[inline(always)]
pub(crate) fn add_scaled(to: &mut [f32], row: &[f32], factor: f32) {
    let ((to, to_rest), (row, row_rest)) = (to.as_chunks_mut::<8>(), row.as_chunks::<8>());
    for (to, row) in to.iter_mut().zip(row) {
        for (t, r) in to.iter_mut().zip(row) {
            *t += factor * r;
        }
    }
    for (t, r) in to_rest.iter_mut().zip(row_rest) {
        *t += factor * r;
    }
}

/// Sums that are kept apart, so that a row is added up in vectors; their order depends on nothing but its length.
const SUMS: usize = 32;

/// The sum of `f(a, b)` over two rows.
#[inline(always)]
pub(crate) fn sum_of_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f(*a, *b);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += f(*a, *b);
    }
    let sums: [f32; 16] = halve(&sums);
    let sums: [f32; 8] = halve(&sums);
    let sums: [f32; 4] = halve(&sums);
    let [a, b, c, d] = sums;
    (a + c) + (b + d)
}

/// The sums of the two halves, place by place.
#[inline(always)]
fn halve<const N: usize>(sums: &[f32]) -> [f32; N] {
    std::array::from_fn(|i| sums[i] + sums[i + N])
}

/// The sum of `f(v)` over a row.
#[inline(always)]
pub(crate) fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum_of_pairs(row, row, |v, _| f(v))
}

/// `e^x` to two units in the last place, for x from -87 to 88; beyond, the value at the nearer end.
///
/// `x = n ln 2 + r` with |r| <= ln 2 / 2: the Taylor series of `e^r` to degree 7 leaves 5e-9, and `2^n` is put together
/// from its bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding 1.5 * 2^23 rounds to a whole number, and leaves that number, biased as an exponent, in the lowest bits.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    let splat = |v: f32| simd.splat_f32s(v);
    let x = simd.min_f32s(simd.max_f32s(x, splat(-87.0)), splat(88.0));
    let shifted = simd.mul_add_e_f32s(x, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(shifted, splat(ROUND));
    // ln 2 in two parts, the first of which times n is exact.
    let r = simd.mul_add_e_f32s(n, splat(-355.0 / 512.0), x);
    let r = simd.mul_add_e_f32s(n, splat(2.121_944_4e-4), r);
    let mut series = splat(1.0 / 5040.0);
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = simd.mul_add_e_f32s(series, r, splat(factor));
    }
    let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.mul_f32s(series, simd.transmute_f32s_u32s(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f32]);

    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            map!(simd, self.0, exp);
        }
    }

    #[test]
    fn exp_is_exact_to_rounding() {
        let x: Vec<f32> = (0..64 * 400).map(|i| -86.9 + i as f32 * 0.006).collect();
        let mut got = x.clone();
        Arch::new().dispatch(Exp(&mut got));
        for (x, got) in x.iter().zip(got) {
            let want = f64::from(*x).exp();
            assert!((f64::from(got) / want - 1.0).abs() < 2.5e-7, "e^{x}: {got} against {want}");
        }
        let mut ends = [-1e30f32; 64];
        Arch::new().dispatch(Exp(&mut ends));
        assert!(ends.iter().all(|v| *v < 1e-37));
    }
}
