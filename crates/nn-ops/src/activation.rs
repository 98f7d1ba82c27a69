//! Activations with exact gradients on every backend.

use burn::tensor::{Tensor, activation};

use crate::cpu;

/// GELU in its erf form, `0.5 x (1 + erf(x / sqrt 2))`: the form of SAM, BERT, BEiT-3 and ViLT.
///
/// Where gradients are tracked on another device than the CPU it is composed of primitive operations, because the default
/// derivative of Burn's own GELU belongs to the tanh approximation. The values are the same to rounding.
///
/// # Shapes
/// Any; the output has the input's.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cpu::gelu(x).unwrap_or_else(|x| {
        if !x.device().is_autodiff() {
            return activation::gelu(x);
        }
        let gate = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
        x * gate * 0.5
    })
}

/// `x * sigmoid(1.702 x)`, the GELU of OpenAI's CLIP.
///
/// # Shapes
/// Any; the output has the input's.
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let gate = activation::sigmoid(x.clone() * 1.702);
    x * gate
}

/// The logit of a probability, `ln(p / (1 - p))`: a threshold compared with logits instead of with their sigmoids.
pub fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

/// An activation chosen by a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// [`gelu`].
    #[default]
    Gelu,
    /// [`quick_gelu`].
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Applies it.
    ///
    /// # Shapes
    /// Any; the output has the input's.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::Gelu => gelu(x),
            Activation::QuickGelu => quick_gelu(x),
            Activation::Relu => activation::relu(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// d/dx of the erf form at a few points, from the closed form 0.5 (1 + erf) + x phi(x).
    #[test]
    fn gelu_gradient_is_the_erf_one() {
        let device = Device::flex().autodiff();
        let points = [-2.0_f32, -0.7, 0.0, 0.4, 1.9];
        let x = Tensor::<1>::from_floats(points, &device).require_grad();
        let grads = gelu(x.clone()).sum().backward();
        let got = x.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
        // Values of torch.nn.functional.gelu's gradient in f64.
        let want = [-0.085_231_8, 0.023_385_9, 0.5, 0.802_729_8, 1.095_953_5];
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 2e-6, "{got:?} against {want:?}");
        }
    }
}
