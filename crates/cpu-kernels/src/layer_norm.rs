//! Layer norm over the last axis and its gradients.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::error::{KernelError, check_divisor, check_length};
use crate::vector::{sum_of, sum_of_pairs};

/// Values that one thread takes at a time, in whole rows. What is summed over rows is summed in tasks of this size, in order,
/// so that the number of threads changes nothing.
const VALUES_PER_TASK: usize = 1 << 15;

/// `(x - mean) / sqrt(variance + eps) * gain + bias` for every row, with the biased variance.
///
/// # Shapes
/// `x`: [rows, C]; `gain`, `bias`: \[C\] -> [rows, C]
///
/// # Threads
/// Tasks of 32,768 values on rayon's global pool.
///
/// # Errors
/// Where a slice does not have the length of its shape.
pub fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32) -> Result<Vec<f32>, KernelError> {
    layer_norm_by(Arch::new(), x, gain, bias, eps)
}

fn layer_norm_by(arch: Arch, x: &[f32], gain: &[f32], bias: &[f32], eps: f32) -> Result<Vec<f32>, KernelError> {
    let width = check(x, gain)?;
    check_length("the bias of a layer norm", bias, width)?;
    let (mut out, task) = (vec![0.0f32; x.len()], task(width));
    out.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(out, x)| arch.dispatch(Forward { x, gain, bias, eps, out }));
    Ok(out)
}

/// Gradients of [`layer_norm`].
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormGradients {
    /// Of the input, [rows, C].
    pub input: Vec<f32>,
    /// Of the gain, \[C\].
    pub gain: Vec<f32>,
    /// Of the bias, \[C\].
    pub bias: Vec<f32>,
}

/// Gradients of [`layer_norm`] from that of its output. Statistics are taken again from `x`.
///
/// # Shapes
/// `x`, `gradient`: [rows, C]; `gain`: \[C\]
///
/// # Threads
/// As [`layer_norm`].
///
/// # Errors
/// Where a slice does not have the length of its shape.
pub fn layer_norm_backward(x: &[f32], gain: &[f32], eps: f32, gradient: &[f32]) -> Result<LayerNormGradients, KernelError> {
    layer_norm_backward_by(Arch::new(), x, gain, eps, gradient)
}

fn layer_norm_backward_by(
    arch: Arch,
    x: &[f32],
    gain: &[f32],
    eps: f32,
    gradient: &[f32],
) -> Result<LayerNormGradients, KernelError> {
    let width = check(x, gain)?;
    check_length("the gradient of a layer norm", gradient, x.len())?;
    let (mut input, task) = (vec![0.0f32; x.len()], task(width));
    let parts = input.par_chunks_mut(task).zip(x.par_chunks(task)).zip(gradient.par_chunks(task));
    let sums: Vec<[Vec<f32>; 2]> =
        parts.map(|((input, x), gradient)| arch.dispatch(Backward { x, gain, eps, gradient, input })).collect();
    let [mut of_gain, mut of_bias] = [vec![0.0f32; width], vec![0.0f32; width]];
    for [gain, bias] in &sums {
        of_gain.iter_mut().zip(gain).for_each(|(sum, part)| *sum += part);
        of_bias.iter_mut().zip(bias).for_each(|(sum, part)| *sum += part);
    }
    Ok(LayerNormGradients { input, gain: of_gain, bias: of_bias })
}

fn check(x: &[f32], gain: &[f32]) -> Result<usize, KernelError> {
    check_divisor("the width of a layer norm", gain.len(), x.len())?;
    Ok(gain.len())
}

/// Values of whole rows.
fn task(width: usize) -> usize {
    (VALUES_PER_TASK / width).max(1) * width
}

/// Mean, and `1 / sqrt(variance + eps)`.
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = sum_of(row, |v| v) / count;
    let variance = sum_of(row, |v| (v - mean) * (v - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Some rows forward.
struct Forward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.gain.len();
        for (row, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(row, self.eps);
            for ((out, v), (gain, bias)) in out.iter_mut().zip(row).zip(self.gain.iter().zip(self.bias)) {
                *out = (v - mean) * scale * gain + bias;
            }
        }
    }
}

/// Some rows backward; gives their sums for gain and bias.
struct Backward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    gradient: &'a [f32],
    input: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [Vec<f32>; 2] {
        let width = self.gain.len();
        let (mut of_gain, mut of_bias) = (vec![0.0f32; width], vec![0.0f32; width]);
        // The row, normed, and its gradient before gain.
        let (mut normed, mut inner) = (vec![0.0f32; width], vec![0.0f32; width]);
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for ((row, gradient), out) in rows.zip(self.input.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(row, self.eps);
            for (n, v) in normed.iter_mut().zip(row) {
                *n = (v - mean) * scale;
            }
            for (i, (g, gain)) in inner.iter_mut().zip(gradient.iter().zip(self.gain)) {
                *i = g * gain;
            }
            for ((sum, g), n) in of_gain.iter_mut().zip(gradient).zip(&normed) {
                *sum += g * n;
            }
            for (sum, g) in of_bias.iter_mut().zip(gradient) {
                *sum += g;
            }
            let count = width as f32;
            let along_one = sum_of(&inner, |v| v) / count;
            let along_row = sum_of_pairs(&inner, &normed, |i, n| i * n) / count;
            for (out, (i, n)) in out.iter_mut().zip(inner.iter().zip(&normed)) {
                *out = (i - along_one - n * along_row) * scale;
            }
        }
        [of_gain, of_bias]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{arches, assert_close, values};

    const EPS: f32 = 1e-5;

    /// The definition of a row, in double precision.
    fn normed(row: &[f32]) -> (Vec<f64>, f64) {
        let count = row.len() as f64;
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + f64::from(EPS)).sqrt();
        (row.iter().map(|v| (f64::from(*v) - mean) * scale).collect(), scale)
    }

    /// Widths around vectors, and more rows than a task takes.
    #[test]
    fn equals_the_definition_and_its_derivative() {
        for ((rows, width), arch) in
            [(1, 1), (5, 7), (3, 64), (900, 100)].into_iter().flat_map(|s| arches().into_iter().map(move |a| (s, a)))
        {
            let x: Vec<f32> = values("x", rows * width).iter().map(|v| v * 3.0 + 1.0).collect();
            let (gain, bias, g) = (values("gain", width), values("bias", width), values("g", rows * width));
            let (mut want, mut of_gain, mut of_bias, mut of_input) = (Vec::new(), vec![0.0; width], vec![0.0; width], Vec::new());
            for (row, g) in x.chunks(width).zip(g.chunks(width)) {
                let (normed, scale) = normed(row);
                let inner: Vec<f64> = g.iter().zip(&gain).map(|(g, w)| f64::from(*g) * f64::from(*w)).collect();
                let mean = inner.iter().sum::<f64>() / width as f64;
                let along = inner.iter().zip(&normed).map(|(i, n)| i * n).sum::<f64>() / width as f64;
                for c in 0..width {
                    want.push(normed[c] * f64::from(gain[c]) + f64::from(bias[c]));
                    of_gain[c] += f64::from(g[c]) * normed[c];
                    of_bias[c] += f64::from(g[c]);
                    of_input.push((inner[c] - mean - normed[c] * along) * scale);
                }
            }
            assert_close(&layer_norm_by(arch, &x, &gain, &bias, EPS).unwrap(), &want, 1e-5);
            let got = layer_norm_backward_by(arch, &x, &gain, EPS, &g).unwrap();
            let tolerance = if width == 1 { 1e-3 } else { 2e-5 };
            assert_close(&got.input, &of_input, tolerance);
            assert_close(&got.gain, &of_gain, 3e-5);
            assert_close(&got.bias, &of_bias, 3e-5);
        }
    }

    /// The derivative against differences of the norm itself.
    #[test]
    fn gradients_are_slopes() {
        let (x, gain, bias, g) = (values("x", 24), values("gain", 8), values("bias", 8), values("g", 24));
        let loss = |x: &[f32]| -> f64 {
            let out = layer_norm(x, &gain, &bias, EPS).unwrap();
            out.iter().zip(&g).map(|(o, g)| f64::from(*o) * f64::from(*g)).sum()
        };
        let got = layer_norm_backward(&x, &gain, EPS, &g).unwrap();
        for at in 0..x.len() {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[at] += by;
                loss(&x)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(got.input[at])).abs() < 2e-3, "{at}: {slope} against {}", got.input[at]);
        }
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        assert!(layer_norm(&[1.0; 5], &[1.0; 2], &[0.0; 2], EPS).is_err());
        assert!(layer_norm(&[1.0; 4], &[1.0; 2], &[0.0; 1], EPS).is_err());
        assert!(layer_norm(&[1.0; 4], &[], &[], EPS).is_err());
        assert!(layer_norm_backward(&[1.0; 4], &[1.0; 2], EPS, &[1.0; 3]).is_err());
    }
}
