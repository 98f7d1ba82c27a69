//! Helpers of the unit tests.

use burn::tensor::{Device, Tensor, TensorData};
use pulp::Arch;

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

/// Every kind of vectors that this processor has, and none: each is what some other machine runs.
pub(crate) fn arches() -> Vec<Arch> {
    let mut all = vec![Arch::new(), Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    all
}
