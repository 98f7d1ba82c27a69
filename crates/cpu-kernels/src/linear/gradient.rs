//! Gradients of a linear layer: products with transposed matrices, and sums over rows.
//!
//! With `y = x W + b` and the gradient g of y, that of x is `g Wᵀ` ([`product_transposed`]), that of W is `xᵀ g`
//! ([`transposed_product`]), and that of b the sum of g's rows ([`column_sums`]).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{Epilogue, Packed, run};
use crate::error::{KernelError, check_divisor, check_length};
use crate::vector::lanes;

/// Values of a cache line: matrices are turned around in squares of so many.
const SIDE: usize = 16;
/// Columns that one thread sums.
const COLUMNS_PER_TASK: usize = 256;

/// `x Wᵀ`.
///
/// # Shapes
/// `x`: [rows, O]; `weight`: [I, O] -> [rows, I]
///
/// # Threads
/// As [`linear`](super::linear).
///
/// # Errors
/// Where a slice does not have the length of its shape, or a size is zero.
pub fn product_transposed(x: &[f32], weight: &[f32], [inputs, outputs]: [usize; 2]) -> Result<Vec<f32>, KernelError> {
    product_transposed_by(Arch::new(), x, weight, [inputs, outputs])
}

fn product_transposed_by(arch: Arch, x: &[f32], weight: &[f32], [inputs, outputs]: [usize; 2]) -> Result<Vec<f32>, KernelError> {
    check_divisor("a layer's number of inputs", inputs, inputs)?;
    check_divisor("a layer's number of outputs", outputs, outputs)?;
    check_length("a weight", weight, inputs * outputs)?;
    check_divisor("the number of outputs", outputs, x.len())?;
    let panels = arch.dispatch(PackTransposed { weight, inputs: outputs, outputs: inputs });
    Ok(run(arch, x, &[Packed { weight: panels, bias: &[], inputs: outputs, outputs: inputs, epilogue: Epilogue::None }]))
}

/// `xᵀ y`, a sum over rows.
///
/// # Shapes
/// `x`: [rows, I]; `y`: [rows, O] -> [I, O]; zero without rows
///
/// # Threads
/// Columns of x, then as [`linear`](super::linear).
///
/// # Errors
/// Where a slice does not have the length of its shape, or a size is zero.
pub fn transposed_product(x: &[f32], y: &[f32], [inputs, outputs]: [usize; 2]) -> Result<Vec<f32>, KernelError> {
    transposed_product_by(Arch::new(), x, y, [inputs, outputs])
}

fn transposed_product_by(arch: Arch, x: &[f32], y: &[f32], [inputs, outputs]: [usize; 2]) -> Result<Vec<f32>, KernelError> {
    check_divisor("a layer's number of inputs", inputs, x.len())?;
    check_divisor("a layer's number of outputs", outputs, y.len())?;
    let rows = x.len() / inputs;
    check_length("the gradient of a layer's outputs", y, rows * outputs)?;
    if rows == 0 {
        return Ok(vec![0.0; inputs * outputs]);
    }
    let turned = transpose(arch, x, inputs);
    let layer = super::Layer { weight: y.into(), bias: &[], inputs: rows, outputs, epilogue: Epilogue::None };
    Ok(run(arch, &turned, &[Packed::new(arch, &layer)]))
}

/// The sum over rows.
///
/// # Shapes
/// [rows, columns] -> \[columns\]
///
/// # Errors
/// Where `x` is no whole number of rows.
pub fn column_sums(x: &[f32], columns: usize) -> Result<Vec<f32>, KernelError> {
    check_divisor("the number of columns", columns, x.len())?;
    let arch = Arch::new();
    let mut sums = vec![0.0f32; columns];
    sums.par_chunks_mut(COLUMNS_PER_TASK).enumerate().for_each(|(part, sums)| {
        arch.dispatch(Sum { x, columns, from: part * COLUMNS_PER_TASK, sums });
    });
    Ok(sums)
}

/// Some columns of a matrix, added up.
struct Sum<'a> {
    x: &'a [f32],
    columns: usize,
    from: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.x.chunks_exact(self.columns) {
            for (sum, value) in self.sums.iter_mut().zip(&row[self.from..]) {
                *sum += value;
            }
        }
    }
}

/// [rows, columns] -> [columns, rows]
fn transpose(arch: Arch, x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns;
    let mut out = vec![0.0f32; x.len()];
    out.par_chunks_mut(SIDE * rows).enumerate().for_each(|(part, out)| {
        arch.dispatch(Turn { x: &x[part * SIDE..], columns, rows, out });
    });
    out
}

/// Some columns of a matrix, written as rows.
struct Turn<'a> {
    /// From the first of the columns on.
    x: &'a [f32],
    columns: usize,
    rows: usize,
    out: &'a mut [f32],
}

impl WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let count = self.out.len() / self.rows;
        for row in (0..self.rows).step_by(SIDE) {
            let size = [SIDE.min(self.rows - row), count];
            turn_square(&self.x[row * self.columns..], self.columns, &mut self.out[row..], self.rows, size);
        }
    }
}

/// `to[c, r] = from[r, c]` of a square of at most 16 x 16 values: whole cache lines are read and written, however far their rows
/// lie apart.
#[inline(always)]
fn turn_square(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize, [rows, columns]: [usize; 2]) {
    let mut square = [[0.0f32; SIDE]; SIDE];
    for (r, row) in (0..rows).zip(from.chunks(from_stride)) {
        for (c, value) in row[..columns].iter().enumerate() {
            square[c][r] = *value;
        }
    }
    for (to, turned) in to.chunks_mut(to_stride).zip(&square).take(columns) {
        to[..rows].copy_from_slice(&turned[..rows]);
    }
}

/// Cuts the transposed of a matrix [outputs, inputs] into panels [inputs, lanes], padded with zeros.
struct PackTransposed<'a> {
    weight: &'a [f32],
    inputs: usize,
    outputs: usize,
}

impl WithSimd for PackTransposed<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let (lanes, inputs) = (lanes::<S>(), self.inputs);
        let mut packed = vec![0.0; self.outputs.div_ceil(lanes) * inputs * lanes];
        packed.par_chunks_mut((inputs * lanes).max(1)).enumerate().for_each(|(panel, to)| {
            let count = lanes.min(self.outputs - panel * lanes);
            for lane in (0..count).step_by(SIDE) {
                let from = &self.weight[(panel * lanes + lane) * inputs..];
                for term in (0..inputs).step_by(SIDE) {
                    let size = [SIDE.min(count - lane), SIDE.min(inputs - term)];
                    turn_square(&from[term..], inputs, &mut to[term * lanes + lane..], lanes, size);
                }
            }
        });
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{arches, assert_close, values};

    /// Sizes around registers, panels, tasks, turns and passes.
    #[test]
    fn equal_the_definition() {
        let sizes = [(1, 1, 1), (13, 7, 33), (97, 40, 64), (70, 250, 130), (1100, 31, 5)];
        for ((rows, inputs, outputs), arch) in sizes.into_iter().flat_map(|s| arches().into_iter().map(move |a| (s, a))) {
            let (x, g, w) = (values("x", rows * inputs), values("g", rows * outputs), values("w", inputs * outputs));
            let wide = |v: &[f32], at: usize| f64::from(v[at]);
            let back: Vec<f64> = (0..rows * inputs)
                .map(|at| (0..outputs).map(|o| wide(&g, at / inputs * outputs + o) * wide(&w, at % inputs * outputs + o)).sum())
                .collect();
            assert_close(&product_transposed_by(arch, &g, &w, [inputs, outputs]).unwrap(), &back, 3e-5);
            let across: Vec<f64> = (0..inputs * outputs)
                .map(|at| (0..rows).map(|r| wide(&x, r * inputs + at / outputs) * wide(&g, r * outputs + at % outputs)).sum())
                .collect();
            assert_close(&transposed_product_by(arch, &x, &g, [inputs, outputs]).unwrap(), &across, 1e-4);
            let sums: Vec<f64> = (0..outputs).map(|o| (0..rows).map(|r| wide(&g, r * outputs + o)).sum()).collect();
            assert_close(&column_sums(&g, outputs).unwrap(), &sums, 1e-4);
        }
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        assert!(product_transposed(&[1.0; 6], &[1.0; 5], [2, 3]).is_err());
        assert!(product_transposed(&[1.0; 5], &[1.0; 6], [2, 3]).is_err());
        assert!(transposed_product(&[1.0; 4], &[1.0; 3], [2, 3]).is_err());
        assert!(transposed_product(&[1.0; 4], &[1.0; 3], [0, 3]).is_err());
        assert_eq!(transposed_product(&[], &[], [2, 1]).unwrap(), [0.0; 2]);
        assert!(column_sums(&[1.0; 5], 2).is_err());
    }
}
