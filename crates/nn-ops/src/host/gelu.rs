//! GELU on the CPU.

use burn::tensor::Tensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::vector::{exp, map};
use super::{open, values_mut};

/// Values that one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// GELU in its erf form; see [`super::applies`] for where it may be called.
///
/// # Shapes
/// Any; the output has the input's.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let device = x.device();
    let mut data = open(x);
    let arch = Arch::new();
    values_mut(&mut data).par_chunks_mut(CHUNK).for_each(|part| arch.dispatch(Gelu(part)));
    Tensor::from_data(data, &device)
}

struct Gelu<'a>(&'a mut [f32]);

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map!(simd, self.0, of);
    }
}

/// `x Φ(x)`, with `1 - Φ(|x|) = t (a1 + t (a2 + ..)) e^(-x²/2) / 2` and `t = 1 / (1 + p |x| / sqrt 2)`: Abramowitz and
/// Stegun, Handbook of Mathematical Functions, 7.1.26, off by at most 1.5e-7.
#[inline(always)]
pub(super) fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |v: f32| simd.splat_f32s(v);
    let size = simd.max_f32s(x, simd.sub_f32s(splat(0.0), x));
    let t = simd.div_f32s(splat(1.0), simd.mul_add_f32s(size, splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), splat(1.0)));
    let mut series = splat(1.061_405_4);
    for factor in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        series = simd.mul_add_f32s(series, t, splat(factor));
    }
    let fall = exp(simd, simd.mul_f32s(simd.mul_f32s(x, x), splat(-0.5)));
    let beyond = simd.mul_f32s(simd.mul_f32s(series, t), simd.mul_f32s(fall, splat(0.5)));
    // x Φ(x) is x - x (1 - Φ(x)) above 0 and x (1 - Φ(-x)) below: max(x, 0) - |x| (1 - Φ(|x|)) in one.
    simd.sub_f32s(simd.max_f32s(x, splat(0.0)), simd.mul_f32s(size, beyond))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::tensor::{Device, activation};

    #[test]
    fn equals_burn() {
        let device = Device::flex();
        // More than a chunk, and lengths that no vector divides.
        for length in [1, 21, 40_000, 40_007] {
            let x = formula::<1>("x", [length], &device) * 7.0;
            assert_close(gelu(x.clone()), activation::gelu(x), 1e-6);
        }
        let far = Tensor::<1>::from_floats([-100.0, -12.0, 0.0, 12.0, 1e4], &device);
        assert_close(gelu(far), Tensor::from_floats([0.0, 0.0, 0.0, 12.0, 1e4], &device), 1e-20);
    }
}
