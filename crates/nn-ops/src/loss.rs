//! Mask losses on logits and float targets, in forms that stay finite.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

/// Binary cross entropy of each element: `max(x, 0) - x t + log(1 + exp(-|x|))`.
///
/// # Shapes
/// `logits`, `targets` (0 to 1) and the output: the same.
pub fn bce_with_logits<const D: usize>(logits: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
    let positive = logits.clone().clamp_min(0.0);
    let tail = (-logits.clone().abs()).exp().log1p();
    positive - logits * targets + tail
}

/// Dice loss of each row of probabilities: `1 - (2 S(p t) / scale + smooth) / ((S(p) + S(t)) / scale + smooth)`.
///
/// RISAM eq. 11 has `scale` 1; EVF-SAM's code divides sums by 1000, which makes its smoothing term effectively larger.
///
/// # Shapes
/// `logits`, `targets`: [N, pixels]; output: \[N\]
pub fn dice(logits: Tensor<2>, targets: Tensor<2>, smooth: f64, scale: f64) -> Tensor<1> {
    let p = sigmoid(logits);
    let overlap = (p.clone() * targets.clone()).sum_dim(1).squeeze_dim::<1>(1) / scale;
    let total = (p + targets).sum_dim(1).squeeze_dim::<1>(1) / scale;
    -((overlap * 2.0 + smooth) / (total + smooth)) + 1.0
}

/// Focal loss of each element, `-(1 - p_t)^gamma log p_t`, optionally weighted by `alpha` on targets and `1 - alpha` elsewhere.
///
/// # Shapes
/// `logits`, `targets` (0 or 1) and the output: the same.
pub fn focal<const D: usize>(logits: Tensor<D>, targets: Tensor<D>, gamma: f64, alpha: Option<f64>) -> Tensor<D> {
    // With s = +1 on targets and -1 elsewhere, p_t = sigmoid(s x).
    let signed = logits * (targets.clone() * 2.0 - 1.0);
    let loss = -(sigmoid(-signed.clone()).powf_scalar(gamma) * log_sigmoid(signed));
    match alpha {
        Some(alpha) => loss * (targets * (2.0 * alpha - 1.0) + (1.0 - alpha)),
        None => loss,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Four pixels, computed by hand from RISAM eq. 10 and 11.
    #[test]
    fn risam_fixture() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[2.0, -1.0, 0.0, -3.0]], &device);
        let t = Tensor::<2>::from_floats([[1.0, 0.0, 1.0, 0.0]], &device);
        let near = |got: f32, want: f32| assert!((got - want).abs() < 1e-6, "{got} against {want}");
        near(focal(x.clone(), t.clone(), 2.0, None).mean().into_scalar::<f32>(), 0.049_464_4);
        near(dice(x.clone(), t.clone(), 0.0, 1.0).into_scalar::<f32>(), 0.253_050_7);
        near(dice(x, t, 1.0, 1.0).into_scalar::<f32>(), 0.199_177_7);
    }

    #[test]
    fn bce_equals_its_definition_and_survives_large_logits() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats([0.7, -1.2, 200.0, -200.0], &device);
        let t = Tensor::<1>::from_floats([0.25, 1.0, 0.0, 1.0], &device);
        let got = bce_with_logits(x, t).into_data().try_to_vec::<f32>().unwrap();
        let naive = |x: f64, t: f64| -(t * (1.0 / (1.0 + (-x).exp())).ln() + (1.0 - t) * (1.0 - 1.0 / (1.0 + (-x).exp())).ln());
        assert!((f64::from(got[0]) - naive(0.7, 0.25)).abs() < 1e-6);
        assert!((f64::from(got[1]) - naive(-1.2, 1.0)).abs() < 1e-6);
        assert_eq!((got[2], got[3]), (200.0, 200.0));
    }
}
