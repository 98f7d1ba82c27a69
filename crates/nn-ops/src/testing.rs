//! Inputs and comparisons for the unit tests.

use burn::tensor::{Device, Tensor, TensorData};

/// A formula tensor in [-1, 1).
pub(crate) fn formula<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(crate::formula::tensor("test", name, &shape, 0.0, 1.0), shape), device)
}

/// Asserts equal shapes and `max |got - want| <= tolerance`.
pub(crate) fn assert_close<const D: usize>(got: Tensor<D>, want: Tensor<D>, tolerance: f32) {
    assert_eq!(got.dims(), want.dims());
    let worst = (got - want).abs().max().into_scalar::<f32>();
    assert!(worst <= tolerance, "largest difference {worst} exceeds {tolerance}");
}
