//! Tensors that are changed in place by a kernel: an optimiser's step, moving averages, norms.

use burn::backend::Flex;
use burn::tensor::Tensor;
use cpu_kernels::AdamStep;

use super::graph::{Values, side_by_side, slice};
use super::supports;

/// A tensor's memory if it is plain `f32` on the CPU, or the tensor back.
fn open<const D: usize>(x: &Tensor<D>) -> Option<Values> {
    supports(x).then(|| x.clone().try_into_primitive::<Flex>().ok().map(side_by_side)).flatten()
}

fn close<const D: usize>(values: Values) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(values)
}

/// [`crate::optim::adam`] on the CPU, or nothing.
pub(crate) fn adam<const D: usize>(tensors: [Tensor<D>; 4], step: &AdamStep) -> Result<[Tensor<D>; 3], [Tensor<D>; 4]> {
    let Some(open) = tensors.iter().map(open).collect::<Option<Vec<_>>>() else { return Err(tensors) };
    let Ok([mut parameters, gradient, mut moment_1, mut moment_2]) = <[Values; 4]>::try_from(open) else { return Err(tensors) };
    // Nobody else holds the memory now, unless the caller does: it is copied only then.
    drop(tensors);
    let (p, m, v) = (parameters.storage_mut(), moment_1.storage_mut(), moment_2.storage_mut());
    match cpu_kernels::adam(p, slice(&gradient), m, v, step) {
        Ok(()) => Ok([close(parameters), close(moment_1), close(moment_2)]),
        // Other sizes: nothing was computed.
        Err(_) => Err([parameters, gradient, moment_1, moment_2].map(close)),
    }
}

/// [`crate::optim::blend`] on the CPU, or nothing.
pub(crate) fn blend<const D: usize>(average: Tensor<D>, current: &Tensor<D>, decay: f64) -> Result<Tensor<D>, Tensor<D>> {
    let (Some(mut values), Some(current)) = (open(&average), open(current)) else { return Err(average) };
    drop(average);
    match cpu_kernels::blend(values.storage_mut(), slice(&current), decay) {
        Ok(()) => Ok(close(values)),
        // Other sizes: nothing was computed.
        Err(_) => Err(close(values)),
    }
}

/// [`crate::optim::sum_of_squares`] on the CPU, or nothing.
pub(crate) fn sum_of_squares<const D: usize>(x: &Tensor<D>) -> Option<f64> {
    Some(cpu_kernels::sum_of_squares(slice(&open(x)?)))
}
