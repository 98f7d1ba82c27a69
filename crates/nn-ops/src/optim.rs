//! What a training step does to parameters: Adam and AdamW, moving averages, squares for a norm; fused on the CPU.

use burn::tensor::Tensor;
pub use cpu_kernels::AdamStep;

use crate::cpu;

/// One step of Adam or AdamW ([`AdamStep`]): the parameters and both moments after it.
///
/// # Shapes
/// Parameters, gradient and moments have the same.
pub fn adam<const D: usize>(
    parameters: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    step: &AdamStep,
) -> [Tensor<D>; 3] {
    let [moment_1, moment_2] = moments;
    cpu::adam([parameters, gradient, moment_1, moment_2], step).unwrap_or_else(|tensors| composed(tensors, step))
}

/// The same from Burn's operations.
fn composed<const D: usize>([parameters, gradient, moment_1, moment_2]: [Tensor<D>; 4], step: &AdamStep) -> [Tensor<D>; 3] {
    let AdamStep { lr, betas: [beta_1, beta_2], eps, decoupled_decay, gradient_decay, time } = *step;
    let time = i32::try_from(time).unwrap_or(i32::MAX);
    let gradient = if gradient_decay == 0.0 { gradient } else { gradient + parameters.clone() * gradient_decay };
    let moment_1 = moment_1 * beta_1 + gradient.clone() * (1.0 - beta_1);
    let moment_2 = moment_2 * beta_2 + gradient.square() * (1.0 - beta_2);
    let whole = |beta: f32| 1.0 - beta.powi(time);
    let root = (moment_2.clone() / whole(beta_2)).sqrt() + eps;
    let kept = if decoupled_decay == 0.0 { parameters } else { parameters * (1.0 - lr * decoupled_decay) };
    [kept - moment_1.clone() / whole(beta_1) / root * lr, moment_1, moment_2]
}

/// `decay average + (1 - decay) current`.
///
/// # Shapes
/// Both have the same.
pub fn blend<const D: usize>(average: Tensor<D>, current: Tensor<D>, decay: f64) -> Tensor<D> {
    cpu::blend(average, &current, decay).unwrap_or_else(|average| average * decay + current * (1.0 - decay))
}

/// The sum of all values' squares.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    cpu::sum_of_squares(&x).unwrap_or_else(|| f64::from(x.powi_scalar(2).sum().into_scalar::<f32>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::tensor::Device;

    /// The kernel and Burn's operations, three steps of both decays.
    #[test]
    fn steps_do_not_depend_on_the_way_taken() {
        let device = Device::flex();
        for (decoupled_decay, gradient_decay) in [(0.1, 0.0), (0.0, 0.1)] {
            let begin = || [formula::<2>("p", [5, 7], &device), Tensor::zeros([5, 7], &device), Tensor::zeros([5, 7], &device)];
            let [mut fused, mut plain] = [begin(), begin()];
            for time in 1..=3 {
                let step = AdamStep { lr: 1e-2, betas: [0.9, 0.99], eps: 1e-8, decoupled_decay, gradient_decay, time };
                let gradient = formula::<2>(&format!("g{time}"), [5, 7], &device);
                let [p, m, v] = fused;
                fused = adam(p, gradient.clone(), [m, v], &step);
                let [p, m, v] = plain;
                plain = composed([p, gradient, m, v], &step);
            }
            for (fused, plain) in fused.into_iter().zip(plain) {
                assert_close(fused, plain, 1e-6);
            }
        }
    }

    /// What somebody else holds too is not changed under his hands.
    #[test]
    fn shared_tensors_are_left_alone() {
        let device = Device::flex();
        let (kept, current) = (Tensor::<1>::ones([3], &device), Tensor::<1>::ones([3], &device) * 5.0);
        assert_close(blend(kept.clone(), current.clone(), 0.5), Tensor::ones([3], &device) * 3.0, 0.0);
        assert_close(kept.clone(), Tensor::ones([3], &device), 0.0);
        assert_eq!(sum_of_squares(current), 75.0);
    }
}
