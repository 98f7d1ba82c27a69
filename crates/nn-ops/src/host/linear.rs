//! Matrix products on the CPU, with what follows them done while a tile is in registers.

use burn::tensor::{DType, Tensor, TensorData};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::gelu;
use super::vector::{Pair, dot, each, exp, lanes, map, pairs, pairs_mut};
use super::{open, values};

/// Rows of one task: with its part of the weights they fill the second-level cache.
const ROWS_A_TASK: usize = 96;
/// Terms of a sum that are taken at a time, at most.
const TERMS_A_PASS: usize = 1024;

/// What is done to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// GELU in its erf form.
    Gelu,
    /// Softmax over each run of so many columns, which divide their number.
    Softmax(usize),
}

/// A layer: `epilogue(x weight + bias)`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// [I, O], in single or half precision
    pub weight: Tensor<2>,
    /// \[O\]
    pub bias: Option<Tensor<1>>,
    /// What follows.
    pub epilogue: Epilogue,
}

/// Layers one after the other, some rows at a time through all of them, so that what lies between is never whole in
/// memory; see [`super::applies`] for where it may be called.
///
/// # Shapes
/// [.., first layer's I] -> [.., last layer's O]
pub fn linear<const D: usize>(x: Tensor<D>, layers: Vec<Layer>) -> Tensor<D> {
    linear_by(Arch::new(), x, layers)
}

fn linear_by<const D: usize>(arch: Arch, x: Tensor<D>, layers: Vec<Layer>) -> Tensor<D> {
    let device = x.device();
    let mut shape = x.dims();
    let x = open(x);
    let x = values(&x);
    let layers: Vec<Packed> = layers.into_iter().map(|layer| Packed::new(arch, layer)).collect();
    let (inner, outer) = (shape[D - 1], layers.last().map_or(0, |l| l.outer));
    shape[D - 1] = outer;
    let rows = x.len() / inner.max(1);
    let mut out = vec![0.0f32; rows * outer];
    // Few rows are shared out evenly instead.
    let share = rows.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(8).min(ROWS_A_TASK);
    out.par_chunks_mut((share * outer).max(1)).zip(x.par_chunks((share * inner).max(1))).for_each(|(out, x)| {
        let Some((last, before)) = layers.split_last() else { return };
        let mut hidden: Option<Vec<f32>> = None;
        for layer in before {
            let mut next = vec![0.0; x.len() / inner * layer.outer];
            arch.dispatch(Task { x: hidden.as_deref().unwrap_or(x), layer, out: &mut next });
            hidden = Some(next);
        }
        arch.dispatch(Task { x: hidden.as_deref().unwrap_or(x), layer: last, out });
    });
    Tensor::from_data(TensorData::new(out, shape), &device)
}

/// A layer whose weights lie as the inner loop reads them.
struct Packed {
    weight: Vec<f32>,
    bias: Vec<f32>,
    inner: usize,
    outer: usize,
    epilogue: Epilogue,
}

impl Packed {
    fn new(arch: Arch, Layer { weight, bias, epilogue }: Layer) -> Self {
        let [inner, outer] = weight.dims();
        let kind = weight.dtype();
        let (weight, bias) = (open(weight), bias.map(open));
        let packed = match kind {
            DType::F16 => arch.dispatch(Pack { weight: weight.as_slice::<f16>().unwrap_or_default(), inner, outer }),
            DType::BF16 => arch.dispatch(Pack { weight: weight.as_slice::<bf16>().unwrap_or_default(), inner, outer }),
            _ => arch.dispatch(Pack { weight: values(&weight), inner, outer }),
        };
        Self { weight: packed, bias: bias.as_ref().map_or(&[][..], values).to_vec(), inner, outer, epilogue }
    }
}

/// Numbers that weights are kept in.
trait Stored: Sync + Sized {
    /// Copies to single precision.
    fn widen(from: &[Self], to: &mut [f32]);
}

impl Stored for f32 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

/// Cuts weights [I, O] into panels [I, lanes] of single precision, padded with zeros.
struct Pack<'a, T> {
    weight: &'a [T],
    inner: usize,
    outer: usize,
}

impl<T: Stored> WithSimd for Pack<'_, T> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let (lanes, outer) = (lanes::<S>(), self.outer);
        let mut packed = vec![0.0; outer.div_ceil(lanes) * self.inner * lanes];
        packed.par_chunks_mut((self.inner * lanes).max(1)).enumerate().for_each(|(panel, to)| {
            let columns = panel * lanes..outer.min((panel + 1) * lanes);
            for (to, row) in to.chunks_exact_mut(lanes).zip(self.weight.chunks_exact(outer)) {
                T::widen(&row[columns.clone()], &mut to[..columns.len()]);
            }
        });
        packed
    }
}

/// Some rows through one layer.
struct Task<'a> {
    x: &'a [f32],
    layer: &'a Packed,
    out: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Packed { weight, bias, inner, outer, epilogue } = self.layer;
        let (lanes, inner, outer) = (lanes::<S>(), *inner, *outer);
        let passes = inner.div_ceil(TERMS_A_PASS);
        let step = inner.div_ceil(passes.max(1));
        for pass in 0..passes {
            let terms = pass * step..inner.min((pass + 1) * step);
            for (panel, weight) in weight.chunks_exact(inner * lanes).enumerate() {
                let from = panel * lanes;
                let tile = Tile {
                    weight: &pairs::<S>(weight)[terms.clone()],
                    x: self.x,
                    inner,
                    first: terms.start,
                    outer,
                    columns: from..outer.min(from + lanes),
                    bias: (pass == 0).then_some(bias),
                    gelu: *epilogue == Epilogue::Gelu && pass + 1 == passes,
                };
                let (rows, mut row) = (self.out.len() / outer, 0);
                while row < rows {
                    // As many rows at once as there are registers for their sums.
                    row += match rows - row {
                        8.. if S::REGISTER_COUNT >= 32 => tile.rows::<8>(simd, row, self.out),
                        4.. => tile.rows::<4>(simd, row, self.out),
                        _ => tile.rows::<1>(simd, row, self.out),
                    };
                }
            }
        }
        if let Epilogue::Softmax(run) = *epilogue {
            softmax(simd, self.out, run);
        }
    }
}

/// Softmax over each run of values.
#[inline(always)]
fn softmax<S: Simd>(simd: S, values: &mut [f32], run: usize) {
    let run = run.max(1);
    for run in values.chunks_exact_mut(run) {
        let largest = run.iter().copied().fold(f32::MIN, f32::max);
        run.iter_mut().for_each(|v| *v -= largest);
    }
    map!(simd, values, exp);
    for run in values.chunks_exact_mut(run) {
        let sum: f32 = run.iter().sum();
        run.iter_mut().for_each(|v| *v /= sum);
    }
}

/// A panel's worth of columns and a pass's worth of terms.
struct Tile<'a, S: Simd> {
    weight: &'a [Pair<S>],
    x: &'a [f32],
    inner: usize,
    first: usize,
    outer: usize,
    columns: std::ops::Range<usize>,
    /// What sums begin with; none goes on with what is there.
    bias: Option<&'a [f32]>,
    gelu: bool,
}

impl<S: Simd> Tile<'_, S> {
    /// Computes R rows and returns their number.
    #[inline(always)]
    fn rows<const R: usize>(&self, simd: S, from: usize, out: &mut [f32]) -> usize {
        let mut x = [&self.x[..0]; R];
        let mut sums = [[simd.splat_f32s(0.0); 2]; R];
        each!(r < R, {
            x[r] = &self.x[(from + r) * self.inner + self.first..][..self.weight.len()];
            sums[r] = match self.bias {
                Some([]) => sums[r],
                Some(bias) => self.load(simd, &bias[self.columns.clone()]),
                None => self.load(simd, &out[(from + r) * self.outer..][self.columns.clone()]),
            };
        });
        let sums = dot(simd, &x, self.weight, sums);
        each!(r < R, {
            let sum = if self.gelu { [gelu::of(simd, sums[r][0]), gelu::of(simd, sums[r][1])] } else { sums[r] };
            let to = &mut out[(from + r) * self.outer..][self.columns.clone()];
            match pairs_mut::<S>(to) {
                [whole] => *whole = sum,
                _ => {
                    let (low, high) = to.split_at_mut(to.len().min(S::F32_LANES));
                    simd.partial_store_f32s(low, sum[0]);
                    simd.partial_store_f32s(high, sum[1]);
                }
            }
        });
        R
    }

    #[inline(always)]
    fn load(&self, simd: S, values: &[f32]) -> Pair<S> {
        match pairs::<S>(values) {
            [whole] => *whole,
            _ => {
                let (low, high) = values.split_at(values.len().min(S::F32_LANES));
                [simd.partial_load_f32s(low), simd.partial_load_f32s(high)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{arches, assert_close, formula};
    use burn::tensor::{Device, activation};

    fn layer(weight: Tensor<2>, bias: Option<Tensor<1>>, epilogue: Epilogue) -> Layer {
        Layer { weight, bias, epilogue }
    }

    /// Sizes around registers, panels, tasks and passes, by this processor's vectors and without any.
    #[test]
    fn equals_burn() {
        let device = Device::flex();
        let sizes = [(1, 1, 1), (13, 7, 33), (97, 40, 64), (250, 1030, 70), (31, 2050, 5)];
        for ((rows, inner, outer), arch) in sizes.into_iter().flat_map(|s| arches().into_iter().map(move |a| (s, a))) {
            let x = formula::<3>("x", [1, rows, inner], &device);
            let weight = formula::<2>("w", [inner, outer], &device) / (inner as f64).sqrt();
            let bias = formula::<1>("b", [outer], &device);
            let product = x.clone().matmul(weight.clone().unsqueeze::<3>());
            assert_close(linear_by(arch, x.clone(), vec![layer(weight.clone(), None, Epilogue::None)]), product.clone(), 1e-5);
            let want = activation::gelu(product + bias.clone().unsqueeze::<3>());
            let first = layer(weight, Some(bias), Epilogue::Gelu);
            assert_close(linear_by(arch, x.clone(), vec![first.clone()]), want.clone(), 1e-5);
            let second = formula::<2>("v", [outer, 9], &device) / (outer as f64).sqrt();
            let both = vec![first, layer(second.clone(), None, Epilogue::None)];
            assert_close(linear_by(arch, x, both), want.matmul(second.unsqueeze::<3>()), 1e-5);
        }
    }

    /// Runs shorter and longer than a vector, with logits whose exponentials overflow.
    #[test]
    fn softmax_runs_over_its_columns() {
        let device = Device::flex();
        for ((runs, run), arch) in [(1, 1), (8, 7), (3, 40)].into_iter().flat_map(|s| arches().into_iter().map(move |a| (s, a))) {
            let x = formula::<2>("x", [53, 6], &device) * 100.0;
            let weight = formula::<2>("w", [6, runs * run], &device);
            let want =
                activation::softmax(x.clone().matmul(weight.clone()).reshape([53, runs, run]), 2).reshape([53, runs * run]);
            assert_close(linear_by(arch, x, vec![layer(weight, None, Epilogue::Softmax(run))]), want, 1e-5);
        }
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        let device = Device::flex();
        let x = formula::<2>("x", [70, 40], &device);
        for kind in [DType::F16, DType::BF16] {
            let weight = formula::<2>("w", [40, 45], &device).cast(kind);
            let want = linear_by(Arch::new(), x.clone(), vec![layer(weight.clone().cast(DType::F32), None, Epilogue::None)]);
            assert!(crate::host::multiplies(&weight) && !crate::host::applies(&weight));
            assert_close(linear_by(Arch::new(), x.clone(), vec![layer(weight, None, Epilogue::None)]), want, 0.0);
        }
    }
}
