//! Conversions between half and single precision: no operation of Burn promotes types, so what is made inside a forward
//! pass takes its input's.

use burn::tensor::{DType, Tensor};

/// In single precision where it was in half; what norms, softmax and losses compute in.
///
/// # Shapes
/// Any; the output has the input's.
pub fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// The CPU kernels read memory as f32.
    #[test]
    fn half_precision_keeps_off_the_kernels() {
        for kind in [DType::BF16, DType::F16] {
            let x = Tensor::<1>::zeros([1], (&Device::flex(), kind));
            assert!(!crate::cpu::supports(&x));
            assert_eq!(to_f32(x).dtype(), DType::F32);
        }
    }
}
