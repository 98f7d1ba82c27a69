//! Fused linear layers: matrix product, bias and GELU or softmax while a tile is in registers.

mod gradient;

use std::ops::Range;

use half::{bf16, f16, slice::HalfFloatSliceExt};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::error::{KernelError, check_divisor, check_length};
use crate::gelu::gelu_vector;
use crate::vector::{Pair, dot, each, exp, lanes, map, pairs, pairs_mut};

pub use gradient::{column_sums, product_transposed, transposed_product};

/// Rows of one task: with its part of the weights they fill the second-level cache.
const ROWS_PER_TASK: usize = 96;
/// Terms of a sum that are taken at a time, at most.
const TERMS_PER_PASS: usize = 1024;

/// What is done to a product before it is written.
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

/// A weight matrix in one of the precisions that the kernels read; sums are in `f32` always.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of `f32`.
    Bf16(&'a [bf16]),
}

impl<'a> From<&'a [f32]> for Weight<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [f16]> for Weight<'a> {
    fn from(values: &'a [f16]) -> Self {
        Self::F16(values)
    }
}

impl<'a> From<&'a [bf16]> for Weight<'a> {
    fn from(values: &'a [bf16]) -> Self {
        Self::Bf16(values)
    }
}

/// One layer of [`linear`]: `epilogue(x weight + bias)`.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    weight: Weight<'a>,
    bias: &'a [f32],
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue,
}

impl<'a> Layer<'a> {
    /// A layer of `[inputs, outputs]`.
    ///
    /// # Shapes
    /// `weight`: [inputs, outputs]; `bias`: \[outputs\]
    ///
    /// # Errors
    /// [`KernelError::Length`] and [`KernelError::Divisor`] where the sizes contradict each other.
    pub fn new(
        weight: impl Into<Weight<'a>>,
        bias: Option<&'a [f32]>,
        [inputs, outputs]: [usize; 2],
        epilogue: Epilogue,
    ) -> Result<Self, KernelError> {
        let weight = weight.into();
        check_divisor("a layer's number of inputs", inputs, inputs)?;
        check_divisor("a layer's number of outputs", outputs, outputs)?;
        match weight {
            Weight::F32(values) => check_length("a weight", values, inputs * outputs)?,
            Weight::F16(values) => check_length("a weight", values, inputs * outputs)?,
            Weight::Bf16(values) => check_length("a weight", values, inputs * outputs)?,
        }
        if let Some(bias) = bias {
            check_length("a bias", bias, outputs)?;
        }
        if let Epilogue::Softmax(run) = epilogue {
            check_divisor("a softmax's run of columns", run, outputs)?;
        }
        Ok(Self { weight, bias: bias.unwrap_or_default(), inputs, outputs, epilogue })
    }
}

/// Layers one after the other, some rows at a time through all of them, so that what lies between is never whole in
/// memory. Weights are brought into panels first, which costs as much as a few rows: take a general product for less
/// than about 48.
///
/// # Shapes
/// `x`: [rows, inputs of the first layer] -> [rows, outputs of the last]; no layer returns `x` itself
///
/// # Threads
/// Panels, then tasks of at most 96 rows, on rayon's global pool.
///
/// # Errors
/// [`KernelError::Length`] where a layer's inputs are not the outputs of the one before, [`KernelError::Divisor`] where
/// `x` is no whole number of rows.
pub fn linear(x: &[f32], layers: &[Layer<'_>]) -> Result<Vec<f32>, KernelError> {
    linear_by(Arch::new(), x, layers)
}

fn linear_by(arch: Arch, x: &[f32], layers: &[Layer<'_>]) -> Result<Vec<f32>, KernelError> {
    let Some(first) = layers.first() else { return Ok(x.to_vec()) };
    check_divisor("the number of inputs", first.inputs, x.len())?;
    for (before, after) in layers.iter().zip(&layers[1..]) {
        if before.outputs != after.inputs {
            return Err(KernelError::Length { what: "a row", found: before.outputs, expected: after.inputs });
        }
    }
    let packed: Vec<Packed<'_>> = layers.iter().map(|layer| Packed::new(arch, layer)).collect();
    Ok(run(arch, x, &packed))
}

/// Rows through packed layers, whose sizes fit each other.
fn run(arch: Arch, x: &[f32], packed: &[Packed<'_>]) -> Vec<f32> {
    let (Some(first), Some(last)) = (packed.first(), packed.last()) else { return x.to_vec() };
    let (inputs, outputs) = (first.inputs, last.outputs);
    let rows = x.len() / inputs;
    let mut out = vec![0.0f32; rows * outputs];
    // Few rows are shared out evenly instead.
    let share = rows.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(8).min(ROWS_PER_TASK);
    out.par_chunks_mut((share * outputs).max(1)).zip(x.par_chunks((share * inputs).max(1))).for_each(|(out, x)| {
        let Some((last, before)) = packed.split_last() else { return };
        let mut hidden: Option<Vec<f32>> = None;
        for layer in before {
            let mut next = vec![0.0; x.len() / inputs * layer.outputs];
            arch.dispatch(Task { x: hidden.as_deref().unwrap_or(x), layer, out: &mut next });
            hidden = Some(next);
        }
        arch.dispatch(Task { x: hidden.as_deref().unwrap_or(x), layer: last, out });
    });
    out
}

/// A layer whose weights lie as the inner loop reads them.
struct Packed<'a> {
    weight: Vec<f32>,
    bias: &'a [f32],
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue,
}

impl<'a> Packed<'a> {
    fn new(arch: Arch, layer: &Layer<'a>) -> Self {
        let Layer { weight, bias, inputs, outputs, epilogue } = *layer;
        let weight = match weight {
            Weight::F32(weight) => arch.dispatch(Pack { weight, inputs, outputs }),
            Weight::F16(weight) => arch.dispatch(Pack { weight, inputs, outputs }),
            Weight::Bf16(weight) => arch.dispatch(Pack { weight, inputs, outputs }),
        };
        Self { weight, bias, inputs, outputs, epilogue }
    }
}

/// Numbers that weights are kept in.
trait Element: Sync + Sized {
    /// Copies to single precision.
    fn to_f32(from: &[Self], to: &mut [f32]);
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Element for f16 {
    #[inline(always)]
    fn to_f32(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn to_f32(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

/// Cuts weights [inputs, outputs] into panels [inputs, lanes] of single precision, padded with zeros.
struct Pack<'a, T> {
    weight: &'a [T],
    inputs: usize,
    outputs: usize,
}

impl<T: Element> WithSimd for Pack<'_, T> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let (lanes, outputs) = (lanes::<S>(), self.outputs);
        let mut packed = vec![0.0; outputs.div_ceil(lanes) * self.inputs * lanes];
        packed.par_chunks_mut((self.inputs * lanes).max(1)).enumerate().for_each(|(panel, to)| {
            let columns = panel * lanes..outputs.min((panel + 1) * lanes);
            for (to, row) in to.chunks_exact_mut(lanes).zip(self.weight.chunks_exact(outputs)) {
                T::to_f32(&row[columns.clone()], &mut to[..columns.len()]);
            }
        });
        packed
    }
}

/// Some rows through one layer.
struct Task<'a> {
    x: &'a [f32],
    layer: &'a Packed<'a>,
    out: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Packed { weight, bias, inputs, outputs, epilogue } = self.layer;
        let (lanes, inputs, outputs) = (lanes::<S>(), *inputs, *outputs);
        let passes = inputs.div_ceil(TERMS_PER_PASS);
        let step = inputs.div_ceil(passes.max(1));
        for pass in 0..passes {
            let terms = pass * step..inputs.min((pass + 1) * step);
            for (panel, weight) in weight.chunks_exact(inputs * lanes).enumerate() {
                let from = panel * lanes;
                let tile = Tile {
                    weight: &pairs::<S>(weight)[terms.clone()],
                    x: self.x,
                    inputs,
                    first: terms.start,
                    outputs,
                    columns: from..outputs.min(from + lanes),
                    bias: (pass == 0).then_some(*bias),
                    gelu: *epilogue == Epilogue::Gelu && pass + 1 == passes,
                };
                let (rows, mut row) = (self.out.len() / outputs, 0);
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
    inputs: usize,
    first: usize,
    outputs: usize,
    columns: Range<usize>,
    /// What sums begin with; `None` goes on with what is there.
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
            x[r] = &self.x[(from + r) * self.inputs + self.first..][..self.weight.len()];
            sums[r] = match self.bias {
                Some([]) => sums[r],
                Some(bias) => self.load(simd, &bias[self.columns.clone()]),
                None => self.load(simd, &out[(from + r) * self.outputs..][self.columns.clone()]),
            };
        });
        let sums = dot(simd, &x, self.weight, sums);
        each!(r < R, {
            let sum = if self.gelu { [gelu_vector(simd, sums[r][0]), gelu_vector(simd, sums[r][1])] } else { sums[r] };
            let to = &mut out[(from + r) * self.outputs..][self.columns.clone()];
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
    use crate::testing::{arches, assert_close, values};

    fn product(x: &[f64], weight: &[f32], bias: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f64> {
        let value = |at: usize| {
            let (row, column) = (at / outputs, at % outputs);
            let sum: f64 = (0..inputs).map(|i| x[row * inputs + i] * f64::from(weight[i * outputs + column])).sum();
            sum + bias.get(column).map_or(0.0, |b| f64::from(*b))
        };
        (0..x.len() / inputs * outputs).map(value).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|v| f64::from(*v)).collect()
    }

    fn scaled(name: &str, [inputs, outputs]: [usize; 2]) -> Vec<f32> {
        values(name, inputs * outputs).iter().map(|v| v / (inputs as f32).sqrt()).collect()
    }

    fn gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
    }

    /// Sizes around registers, panels, tasks and passes, by this processor's vectors and without any.
    #[test]
    fn equals_the_definition() {
        let sizes = [(1, 1, 1), (13, 7, 33), (97, 40, 64), (250, 1030, 70), (31, 2050, 5)];
        for ((rows, inputs, outputs), arch) in sizes.into_iter().flat_map(|s| arches().into_iter().map(move |a| (s, a))) {
            let shape = [inputs, outputs];
            let (x, weight, bias) = (values("x", rows * inputs), scaled("w", shape), values("b", outputs));
            let plain = Layer::new(&weight[..], None, shape, Epilogue::None).unwrap();
            assert_close(&linear_by(arch, &x, &[plain]).unwrap(), &product(&wide(&x), &weight, &[], shape), 1e-5);
            let first = Layer::new(&weight[..], Some(&bias), shape, Epilogue::Gelu).unwrap();
            let hidden: Vec<f64> = product(&wide(&x), &weight, &bias, shape).into_iter().map(gelu).collect();
            assert_close(&linear_by(arch, &x, &[first]).unwrap(), &hidden, 1e-5);
            let (second, shape) = (scaled("v", [outputs, 9]), [outputs, 9]);
            let layers = [first, Layer::new(&second[..], None, shape, Epilogue::None).unwrap()];
            assert_close(&linear_by(arch, &x, &layers).unwrap(), &product(&hidden, &second, &[], shape), 1e-5);
        }
    }

    /// Runs shorter and longer than a vector, with logits whose exponentials overflow.
    #[test]
    fn softmax_runs_over_its_columns() {
        for ((runs, run), arch) in [(1, 1), (8, 7), (3, 40)].into_iter().flat_map(|s| arches().into_iter().map(move |a| (s, a))) {
            let (shape, x) = ([6, runs * run], values("x", 53 * 6).iter().map(|v| v * 100.0).collect::<Vec<_>>());
            let weight = values("w", 6 * runs * run);
            let mut want = product(&wide(&x), &weight, &[], shape);
            for run in want.chunks_exact_mut(run) {
                let largest = run.iter().copied().fold(f64::MIN, f64::max);
                run.iter_mut().for_each(|v| *v = (*v - largest).exp());
                let sum: f64 = run.iter().sum();
                run.iter_mut().for_each(|v| *v /= sum);
            }
            let layer = Layer::new(&weight[..], None, shape, Epilogue::Softmax(run)).unwrap();
            // Logits of up to 245 are off by 1e-5 themselves.
            assert_close(&linear_by(arch, &x, &[layer]).unwrap(), &want, 1e-4);
        }
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        let (x, weight) = (values("x", 70 * 40), values("w", 40 * 45));
        let through = |weight: Weight<'_>| {
            let layer = Layer::new(weight, None, [40, 45], Epilogue::None).unwrap();
            linear(&x, &[layer]).unwrap()
        };
        let halves: Vec<f16> = weight.iter().map(|v| f16::from_f32(*v)).collect();
        let back: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
        assert_eq!(through(Weight::F16(&halves)), through(Weight::F32(&back)));
        let halves: Vec<bf16> = weight.iter().map(|v| bf16::from_f32(*v)).collect();
        let back: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
        assert_eq!(through(Weight::Bf16(&halves)), through(Weight::F32(&back)));
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let weight = [1.0f32; 6];
        let layer = |bias: Option<&'static [f32]>, shape, epilogue| Layer::new(&weight[..], bias, shape, epilogue);
        assert!(layer(Some(&[0.0; 3]), [2, 3], Epilogue::Softmax(3)).is_ok());
        assert!(layer(None, [2, 4], Epilogue::None).is_err());
        assert!(layer(None, [0, 3], Epilogue::None).is_err());
        assert!(layer(Some(&[0.0; 2]), [2, 3], Epilogue::None).is_err());
        assert!(layer(None, [2, 3], Epilogue::Softmax(2)).is_err());
        assert!(layer(None, [2, 3], Epilogue::Softmax(0)).is_err());
        let layer = layer(None, [2, 3], Epilogue::None).unwrap();
        assert_eq!(linear(&[], &[layer]), Ok(Vec::new()));
        assert_eq!(
            linear(&[1.0; 3], &[layer]).unwrap_err().to_string(),
            "the number of inputs is 2; must be at least 1 and divide 3"
        );
        assert_eq!(linear(&[1.0; 2], &[layer, layer]), Err(KernelError::Length { what: "a row", found: 3, expected: 2 }));
    }
}
