//! How far a device may be from the reference.

use run_config::Precision;

use crate::device::{Kind, Word};

use super::BOUND;

/// Largest error where kernels may round their inputs, relative to the largest expected value where that exceeds 1.
///
/// Autotune may choose tensor cores: TF32 keeps 10 bits of a fraction, so a product's inputs are off by up to 2^-11 = 5e-4 each,
/// and the accelerated attention computes f32 inputs in f16 tiles with as many bits. Twelve blocks, a decoder and norms between
/// them add up such errors; 1e-2 leaves room for that and is far below what a wrong layer, axis or weight gives.
pub const ROUNDED: f32 = 1e-2;

/// Largest root mean square of the errors in bf16, relative to the expected values' own. bf16 keeps 7 bits of a fraction: a
/// product's inputs are off by up to 2^-8 = 4e-3 each, and layers of few channels, which the golden files have, average little of
/// it away.
pub const COARSE: f32 = 1e-1;

/// A bound and its reason.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stated {
    /// Largest error, relative to the largest expected value where that exceeds 1; in bf16 of root mean squares.
    pub bound: f32,
    /// Why it is this one.
    pub why: &'static str,
}

/// The bound of a device: in f32, exact arithmetic where no kernel may round its inputs, a wider one where autotune chooses.
pub fn stated(device: &Word, precision: Precision, autotuned: bool) -> Stated {
    if precision == Precision::Bf16 {
        return Stated { bound: COARSE, why: "bf16 has 7 bits; weights are rounded to it, norms, softmax and positions are not" };
    }
    if device.kind == Kind::Cpu {
        return Stated { bound: BOUND, why: "f32 throughout" };
    }
    if autotuned {
        return Stated { bound: ROUNDED, why: "autotune may choose TF32 products and attention in f16 tiles" };
    }
    Stated { bound: BOUND, why: "f32 throughout: built without autotune, so nothing is rounded to TF32 or f16" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tuned_devices_have_the_wider_bound() {
        let bound = |word: &str, tuned| stated(&Word::parse(word).unwrap(), Precision::F32, tuned).bound;
        assert_eq!((bound("cpu", true), bound("wgpu:cpu", false)), (1e-4, 1e-4));
        assert_eq!((bound("cuda", true), bound("vulkan:1", true), bound("wgpu", true)), (1e-2, 1e-2, 1e-2));
        assert_eq!(stated(&Word::parse("cpu").unwrap(), Precision::Bf16, false).bound, 1e-1);
    }
}
