//! What the CPU does faster by itself than operation by operation.
//!
//! On the CPU device, and only where no gradient is tracked, a tensor is memory of this process: attention, GELU and the
//! like then run fused, vectorised and on all cores. Everywhere else callers take Burn's operations; both give the
//! same numbers to rounding.

mod attention;
mod gelu;
mod linear;
mod vector;

use burn::tensor::{DType, Device, Tensor, TensorData};
use pulp::{Arch, Simd, WithSimd};

pub use attention::{Group, Relative, Token, attention, fused_attention};
pub use gelu::gelu;
pub use linear::{Epilogue, Layer, linear};

/// Whether a tensor is of single precision, on the CPU, and outside of any gradient's graph.
pub fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device();
    x.dtype() == DType::F32 && !device.is_autodiff() && is_cpu(&device) && Arch::new().dispatch(Vectors)
}

/// As [`applies`], of a matrix that [`linear`] multiplies by: it may be of half precision, too.
pub fn multiplies(weight: &Tensor<2>) -> bool {
    let device = weight.device();
    let half = matches!(weight.dtype(), DType::F16 | DType::BF16);
    applies(weight) || half && !device.is_autodiff() && is_cpu(&device) && Arch::new().dispatch(Vectors)
}

/// Whether a device is the CPU, with or without a graph's bookkeeping. Burn names its type only under its own Cargo feature,
/// which a library does not choose.
pub(crate) fn is_cpu(device: &Device) -> bool {
    format!("{device:?}").starts_with("Device<Flex")
}

/// Whether the processor has vectors that we know; Burn's operations are the better choice without.
struct Vectors;

impl WithSimd for Vectors {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        !S::IS_SCALAR
    }
}

/// A tensor's memory, without a copy where nobody else holds it.
fn open<const D: usize>(x: Tensor<D>) -> TensorData {
    x.into_data()
}

fn values(data: &TensorData) -> &[f32] {
    data.as_slice().unwrap_or_default()
}

fn values_mut(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Should Burn ever name its devices otherwise, speed would be lost in silence, and attention would take the way of GPUs.
    #[test]
    fn applies_on_the_cpu_outside_of_gradients() {
        let x = |device: &Device| Tensor::<1>::zeros([1], device);
        assert_eq!(applies(&x(&Device::flex())), Arch::new().dispatch(Vectors));
        assert!(!applies(&x(&Device::flex().autodiff())));
        assert!(!applies(&Tensor::<1>::zeros([1], (&Device::flex(), DType::F64))));
    }
}
