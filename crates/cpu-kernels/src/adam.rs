//! Adam and AdamW, one pass over parameters, gradients and moments.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::error::{KernelError, check_length};

/// Values that one thread takes at a time.
const VALUES_PER_TASK: usize = 1 << 16;

/// Numbers of one step (Kingma and Ba, "Adam", 2015, algorithm 1; Loshchilov and Hutter, "Decoupled weight decay
/// regularization", 2019, algorithm 2), in PyTorch's terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of both moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decay of the parameters themselves, times the learning rate (AdamW).
    pub decoupled_decay: f64,
    /// Decay added to the gradient (Adam's L2 penalty).
    pub gradient_decay: f32,
    /// The step's number, from 1 on.
    pub time: usize,
}

/// One step, in place.
///
/// # Shapes
/// All slices have as many values.
///
/// # Threads
/// Tasks of 65,536 values on rayon's global pool; each value is computed by itself.
///
/// # Errors
/// [`KernelError::Length`] where a slice is longer or shorter than the parameters.
pub fn adam(
    parameters: &mut [f32],
    gradient: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    step: &AdamStep,
) -> Result<(), KernelError> {
    check_length("a gradient", gradient, parameters.len())?;
    check_length("a first moment", moment_1, parameters.len())?;
    check_length("a second moment", moment_2, parameters.len())?;
    let arch = Arch::new();
    let tasks = parameters.par_chunks_mut(VALUES_PER_TASK).zip(gradient.par_chunks(VALUES_PER_TASK));
    let moments = moment_1.par_chunks_mut(VALUES_PER_TASK).zip(moment_2.par_chunks_mut(VALUES_PER_TASK));
    tasks.zip(moments).for_each(|((parameters, gradient), (moment_1, moment_2))| {
        arch.dispatch(Task { parameters, gradient, moment_1, moment_2, step });
    });
    Ok(())
}

struct Task<'a> {
    parameters: &'a mut [f32],
    gradient: &'a [f32],
    moment_1: &'a mut [f32],
    moment_2: &'a mut [f32],
    step: &'a AdamStep,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let AdamStep { lr, betas: [beta_1, beta_2], eps, decoupled_decay, gradient_decay, time } = *self.step;
        let time = i32::try_from(time).unwrap_or(i32::MAX);
        let [new_1, new_2] = [1.0 - beta_1, 1.0 - beta_2];
        let [whole_1, whole_2] = [1.0 / (1.0 - beta_1.powi(time)), 1.0 / (1.0 - beta_2.powi(time))];
        let (keep, lr) = ((1.0 - lr * decoupled_decay) as f32, lr as f32);
        let moments = self.moment_1.iter_mut().zip(self.moment_2.iter_mut());
        for ((p, g), (m, v)) in self.parameters.iter_mut().zip(self.gradient).zip(moments) {
            let g = g + gradient_decay * *p;
            *m = beta_1 * *m + new_1 * g;
            *v = beta_2 * *v + new_2 * g * g;
            *p = keep * *p - lr * (*m * whole_1) / ((*v * whole_2).sqrt() + eps);
        }
    }
}

/// `average <- decay average + (1 - decay) current`, in place.
///
/// # Shapes
/// Both have as many values.
///
/// # Threads
/// As [`adam`].
///
/// # Errors
/// [`KernelError::Length`] where they have not.
pub fn blend(average: &mut [f32], current: &[f32], decay: f64) -> Result<(), KernelError> {
    struct Blend<'a>(&'a mut [f32], &'a [f32], [f32; 2]);

    impl WithSimd for Blend<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let [old, new] = self.2;
            for (average, current) in self.0.iter_mut().zip(self.1) {
                *average = *average * old + current * new;
            }
        }
    }

    check_length("a moving average", average, current.len())?;
    let (arch, weights) = (Arch::new(), [decay as f32, (1.0 - decay) as f32]);
    let tasks = average.par_chunks_mut(VALUES_PER_TASK).zip(current.par_chunks(VALUES_PER_TASK));
    tasks.for_each(|(average, current)| arch.dispatch(Blend(average, current, weights)));
    Ok(())
}

/// The sum of squares, in an order that depends on nothing but the length.
#[must_use]
pub fn sum_of_squares(values: &[f32]) -> f64 {
    struct Squares<'a>(&'a [f32]);

    impl WithSimd for Squares<'_> {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> f64 {
            let mut sums = [0.0f64; 16];
            let (whole, rest) = self.0.as_chunks::<16>();
            for chunk in whole {
                for (sum, v) in sums.iter_mut().zip(chunk) {
                    *sum += f64::from(*v) * f64::from(*v);
                }
            }
            sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
        }
    }

    let arch = Arch::new();
    let parts: Vec<f64> = values.par_chunks(VALUES_PER_TASK).map(|part| arch.dispatch(Squares(part))).collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, values};

    /// The papers' algorithms in double precision, over three steps and more values than a task takes.
    #[test]
    fn equals_the_definition() {
        let count = VALUES_PER_TASK + 7;
        for (decoupled_decay, gradient_decay) in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)] {
            let (mut p, mut m, mut v) = (values("p", count), vec![0.0f32; count], vec![0.0f32; count]);
            let mut want: Vec<[f64; 3]> = p.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
            for time in 1..=3 {
                let step = AdamStep { lr: 1e-2, betas: [0.9, 0.99], eps: 1e-8, decoupled_decay, gradient_decay, time };
                let gradient = values(&format!("g{time}"), count);
                adam(&mut p, &gradient, &mut m, &mut v, &step).unwrap();
                for ([p, m, v], g) in want.iter_mut().zip(&gradient) {
                    let g = f64::from(*g) + f64::from(gradient_decay) * *p;
                    (*m, *v) = (0.9 * *m + 0.1 * g, 0.99 * *v + 0.01 * g * g);
                    let (m, v) = (*m / (1.0 - 0.9f64.powi(time as i32)), *v / (1.0 - 0.99f64.powi(time as i32)));
                    *p = *p * (1.0 - 1e-2 * decoupled_decay) - 1e-2 * m / (v.sqrt() + 1e-8);
                }
            }
            let of = |which: usize| -> Vec<f64> { want.iter().map(|w| w[which]).collect() };
            assert_close(&p, &of(0), 2e-6);
            assert_close(&m, &of(1), 1e-6);
            assert_close(&v, &of(2), 1e-6);
        }
        assert!(
            adam(
                &mut [0.0],
                &[0.0; 2],
                &mut [0.0],
                &mut [0.0],
                &AdamStep { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, decoupled_decay: 0.0, gradient_decay: 0.0, time: 1 }
            )
            .is_err()
        );
    }

    #[test]
    fn averages_and_norms() {
        let mut average = vec![1.0f32; 70_000];
        blend(&mut average, &vec![3.0; 70_000], 0.75).unwrap();
        assert!(average.iter().all(|v| *v == 1.5));
        assert!(blend(&mut average, &[1.0], 0.5).is_err());
        let x = values("x", 70_001);
        let want: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert!((sum_of_squares(&x) / want - 1.0).abs() < 1e-12);
        assert_eq!(sum_of_squares(&[]), 0.0);
    }
}
