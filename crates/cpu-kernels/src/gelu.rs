//! GELU in its erf form, vectorised.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::error::{KernelError, check_length};
use crate::vector::{exp, map};

/// Values that one thread takes at a time.
const VALUES_PER_TASK: usize = 1 << 14;

/// GELU in its erf form, `0.5 x (1 + erf(x / sqrt 2))`, in place; off by at most 1e-6 up to |x| = 7.
///
/// # Shapes
/// Any.
///
/// # Threads
/// Tasks of 16,384 values on rayon's global pool.
pub fn gelu(values: &mut [f32]) {
    gelu_by(Arch::new(), values);
}

fn gelu_by(arch: Arch, values: &mut [f32]) {
    values.par_chunks_mut(VALUES_PER_TASK).for_each(|part| arch.dispatch(Gelu(part)));
}

/// The gradient of [`gelu`]'s input, `gradient (Φ(x) + x φ(x))`, in place of `gradient`.
///
/// # Shapes
/// Any; `gradient` has `x`'s.
///
/// # Threads
/// As [`gelu`].
///
/// # Errors
/// [`KernelError::Length`] where the two have different lengths.
pub fn gelu_backward(x: &[f32], gradient: &mut [f32]) -> Result<(), KernelError> {
    gelu_backward_by(Arch::new(), x, gradient)
}

fn gelu_backward_by(arch: Arch, x: &[f32], gradient: &mut [f32]) -> Result<(), KernelError> {
    check_length("the gradient of GELU", gradient, x.len())?;
    let parts = gradient.par_chunks_mut(VALUES_PER_TASK).zip(x.par_chunks(VALUES_PER_TASK));
    parts.for_each(|(gradient, x)| arch.dispatch(GeluBackward { x, gradient }));
    Ok(())
}

struct GeluBackward<'a> {
    x: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for GeluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, x_rest) = S::as_simd_f32s(self.x);
        let (gradient, rest) = S::as_mut_simd_f32s(self.gradient);
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient = simd.mul_f32s(*gradient, slope(simd, *x));
        }
        if !rest.is_empty() {
            let last = simd.mul_f32s(simd.partial_load_f32s(rest), slope(simd, simd.partial_load_f32s(x_rest)));
            simd.partial_store_f32s(rest, last);
        }
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map!(simd, self.0, gelu_vector);
    }
}

/// `|x|`, `1 - Φ(|x|)` and `e^(-x²/2)`, with `1 - Φ(|x|) = t (a1 + t (a2 + ..)) e^(-x²/2) / 2` and `t = 1 / (1 + p |x| / sqrt 2)`:
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26, off by at most 1.5e-7.
#[inline(always)]
fn normal_tail<S: Simd>(simd: S, x: S::f32s) -> [S::f32s; 3] {
    let splat = |v: f32| simd.splat_f32s(v);
    let size = simd.max_f32s(x, simd.sub_f32s(splat(0.0), x));
    let t =
        simd.div_f32s(splat(1.0), simd.mul_add_e_f32s(size, splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), splat(1.0)));
    let mut series = splat(1.061_405_4);
    for factor in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        series = simd.mul_add_e_f32s(series, t, splat(factor));
    }
    let fall = exp(simd, simd.mul_f32s(simd.mul_f32s(x, x), splat(-0.5)));
    let beyond = simd.mul_f32s(simd.mul_f32s(series, t), simd.mul_f32s(fall, splat(0.5)));
    [size, beyond, fall]
}

/// `x Φ(x)`.
#[inline(always)]
pub(crate) fn gelu_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let [size, beyond, _] = normal_tail(simd, x);
    // x Φ(x) is x - x (1 - Φ(x)) above 0 and x (1 - Φ(-x)) below: max(x, 0) - |x| (1 - Φ(|x|)) in one.
    simd.sub_f32s(simd.max_f32s(x, simd.splat_f32s(0.0)), simd.mul_f32s(size, beyond))
}

/// `Φ(x) + x φ(x)`, the derivative of `x Φ(x)`.
#[inline(always)]
fn slope<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |v: f32| simd.splat_f32s(v);
    let [size, beyond, fall] = normal_tail(simd, x);
    // Φ(x) = 1/2 + sign(x) (1/2 - (1 - Φ(|x|))).
    let sign = simd.div_f32s(x, simd.max_f32s(size, splat(f32::MIN_POSITIVE)));
    let below = simd.mul_add_e_f32s(sign, simd.sub_f32s(splat(0.5), beyond), splat(0.5));
    simd.mul_add_e_f32s(simd.mul_f32s(x, fall), splat(0.398_942_3), below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{arches, assert_close, values};

    /// More than a task, and lengths that no vector divides.
    #[test]
    fn equals_the_definition() {
        let erf_form = |x: &f32| 0.5 * f64::from(*x) * (1.0 + libm::erf(f64::from(*x) * std::f64::consts::FRAC_1_SQRT_2));
        for (length, arch) in [1, 21, 40_000, 40_007].into_iter().flat_map(|l| arches().into_iter().map(move |a| (l, a))) {
            let mut x: Vec<f32> = values("x", length).iter().map(|v| v * 7.0).collect();
            let want: Vec<f64> = x.iter().map(erf_form).collect();
            gelu_by(arch, &mut x);
            assert_close(&x, &want, 1e-6);
        }
    }

    #[test]
    fn the_derivative_equals_the_definition() {
        let phi = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let slope = |x: f64| 0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * phi(x);
        for (length, arch) in [1, 21, 40_007].into_iter().flat_map(|l| arches().into_iter().map(move |a| (l, a))) {
            let mut x: Vec<f32> = values("x", length).iter().map(|v| v * 7.0).collect();
            x[0] = 0.0;
            let mut gradient = values("g", length);
            let want: Vec<f64> = x.iter().zip(&gradient).map(|(x, g)| slope(f64::from(*x)) * f64::from(*g)).collect();
            gelu_backward_by(arch, &x, &mut gradient).unwrap();
            assert_close(&gradient, &want, 1e-6);
        }
        assert!(gelu_backward(&[1.0], &mut [1.0, 2.0]).is_err());
    }

    #[test]
    fn ends_at_zero_and_at_the_identity() {
        let mut far = [-100.0, -12.0, 0.0, 12.0, 1e4];
        gelu(&mut far);
        assert_close(&far, &[0.0, 0.0, 0.0, 12.0, 1e4], 1e-20);
    }
}
