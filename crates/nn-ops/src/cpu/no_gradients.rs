//! Without Burn's CPU backend no tensor's memory can be read where it is: nothing here takes its inputs.

use burn::tensor::{Bool, Tensor};
use cpu_kernels::{AdamStep, Group};

use crate::linear::Layer;

pub(crate) fn linear<const D: usize>(_: &Tensor<D>, _: &[Layer]) -> Option<Tensor<D>> {
    None
}

pub(crate) fn gelu<const D: usize>(_: &Tensor<D>) -> Option<Tensor<D>> {
    None
}

pub(crate) fn layer_norm<const D: usize>(_: &Tensor<D>, _: &Tensor<1>, _: &Tensor<1>, _: f64) -> Option<Tensor<D>> {
    None
}

pub(crate) fn attention(_: &[Tensor<3>; 3], _: usize, _: Option<&Tensor<4, Bool>>) -> Option<Tensor<3>> {
    None
}

pub(crate) fn grouped_attention(
    _: &Tensor<2>,
    _: &Tensor<1>,
    _: usize,
    _: impl FnOnce() -> Vec<Group>,
    _: impl FnOnce() -> Option<[Tensor<2>; 2]>,
) -> Option<Tensor<2>> {
    None
}

pub(crate) fn adam<const D: usize>(tensors: [Tensor<D>; 4], _: &AdamStep) -> Result<[Tensor<D>; 3], [Tensor<D>; 4]> {
    Err(tensors)
}

pub(crate) fn blend<const D: usize>(average: Tensor<D>, _: &Tensor<D>, _: f64) -> Result<Tensor<D>, Tensor<D>> {
    Err(average)
}

pub(crate) fn sum_of_squares<const D: usize>(_: &Tensor<D>) -> Option<f64> {
    None
}
