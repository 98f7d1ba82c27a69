//! Batch norms whose statistics are taken over the batches of several processes, and whose gradients go back to all of them.
//!
//! Under [`over`], a batch norm in training gathers count, mean and sum of squares of every process, and normalises with what they
//! give together. Mean and variance are leaves of the backward pass ([`recompute`](crate::recompute)): what is found for them is
//! added over all processes, and goes on to the input of each. A norm cuts the backward pass, so what goes past it and shares a graph
//! with its input has to go through [`cut_together`](crate::recompute::cut_together) with it.

use std::cell::RefCell;
use std::sync::Arc;

use burn::nn::BatchNorm;
use burn::tensor::{Tensor, TensorData};

use crate::recompute::{constant, cut, is_recording, push_scalar};

/// Gives values to every process; returns those of all, in a fixed order and each as many as were given. None where a process is
/// gone: the statistics are no numbers then, and so is the loss.
pub type Gather = dyn Fn(Vec<f64>) -> Option<Vec<Vec<f64>>> + Send + Sync;

thread_local! {
    static GATHER: RefCell<Option<Arc<Gather>>> = const { RefCell::new(None) };
}

/// Runs a forward pass whose batch norms are synchronised through `gather`. It has to be recorded, by
/// [`record`](crate::recompute::record) or [`in_parts`](crate::recompute::in_parts) around it; else nothing is synchronised.
pub fn over<T>(gather: Arc<Gather>, forward: impl FnOnce() -> T) -> T {
    let _before = Before(GATHER.replace(Some(gather)));
    forward()
}

/// Puts back what was there before, also when a forward pass panics.
struct Before(Option<Arc<Gather>>);

impl Drop for Before {
    fn drop(&mut self) {
        GATHER.set(self.0.take());
    }
}

/// The batch norm of `x`, [B, C, ..] in single precision, over all processes; none where it is not to be synchronised.
pub(crate) fn batch_norm<const D: usize>(norm: &BatchNorm, x: &Tensor<D>) -> Option<Tensor<D>> {
    let gather = GATHER.with_borrow(Option::clone)?;
    // As Burn decides whether a norm trains.
    if !(x.device().is_autodiff() && norm.training.is_enabled() && is_recording()) {
        return None;
    }
    let x = cut(x.clone());
    let (mean, variance, count) = statistics(&x, &*gather);
    for (running, now) in [(&norm.running_mean, &mean), (&norm.running_var, &variance)] {
        let before = running.value_sync().to_device(&x.device());
        running.update(before.mul_scalar(1.0 - norm.momentum).add(now.clone().mul_scalar(norm.momentum)).detach());
    }
    let [mean, variance] = if x.is_tracked() { leaves([mean, variance], x.clone(), count, gather) } else { [mean, variance] };
    let centred = x - channels(mean);
    let scale = channels(norm.gamma.val()) / (channels(variance) + norm.epsilon).sqrt();
    Some(centred * scale + channels(norm.beta.val()))
}

/// A value per channel against [B, C, ..].
fn channels<const D: usize>(values: Tensor<1>) -> Tensor<D> {
    let mut shape = [1; D];
    shape[1] = values.dims()[0];
    values.reshape(shape)
}

/// Mean and biased variance per channel over all processes, outside of any graph, and the number of values that each is of.
///
/// # Shapes
/// `x`: [B, C, ..]; output: \[C\], \[C\]
fn statistics<const D: usize>(x: &Tensor<D>, gather: &Gather) -> (Tensor<1>, Tensor<1>, f64) {
    let width = x.dims()[1];
    let rows: Tensor<2> = constant(x.clone()).swap_dims(0, 1).reshape([width as i32, -1]);
    let own = rows.dims()[1] as f64;
    let mean = rows.clone().mean_dim(1);
    let squares = (rows - mean.clone()).powi_scalar(2).mean_dim(1);
    let mut message = vec![own];
    message.extend(host(Tensor::cat(vec![mean, squares], 0).reshape([-1])));
    let all = gather(message).unwrap_or_default();
    let count: f64 = all.iter().map(|one| one[0]).sum();
    let means = |one: &Vec<f64>, channel: usize| one[1 + channel];
    let mean: Vec<f64> =
        (0..width).map(|channel| all.iter().map(|one| one[0] * means(one, channel)).sum::<f64>() / count).collect();
    // Squares around a process's own mean, moved to the common one.
    let moved = |one: &Vec<f64>, c: usize| one[0] * (one[1 + width + c] + (means(one, c) - mean[c]).powi(2));
    let variance: Vec<f64> = (0..width).map(|channel| all.iter().map(|one| moved(one, channel)).sum::<f64>() / count).collect();
    (device(&mean, x), device(&variance, x), count)
}

/// Mean and variance as leaves. With N values per channel, x moves the mean by 1 / N and the variance by 2 (x - mean) / N.
fn leaves<const D: usize>(statistics: [Tensor<1>; 2], x: Tensor<D>, count: f64, gather: Arc<Gather>) -> [Tensor<1>; 2] {
    let mean = statistics[0].clone();
    let leaves = statistics.map(Tensor::require_grad);
    push_scalar(leaves.clone(), move |found| {
        let width = mean.dims()[0];
        let zeros = || vec![0.0; width];
        let own = found.into_iter().flat_map(|grad| grad.map_or_else(zeros, host)).collect();
        let all = gather(own).unwrap_or_default();
        let nothing = if all.is_empty() { f64::NAN } else { 0.0 };
        let of = |i: usize| all.iter().map(|one| one[i]).fold(nothing, |sum, value| sum + value) / count;
        let [of_mean, of_variance] = [0, width].map(|from| (from..from + width).map(of).collect::<Vec<_>>());
        let [of_mean, of_variance] = [of_mean, of_variance].map(|values| channels::<D>(device(&values, &x)));
        let squares = (x.clone() - channels(mean)).powi_scalar(2);
        Some((x * of_mean + squares * of_variance).sum())
    });
    leaves
}

/// Values on the host; no numbers where the device cannot give them.
fn host(x: Tensor<1>) -> Vec<f64> {
    let count = x.dims()[0];
    x.inner().try_into_vec_as::<f32>().map_or_else(|_| vec![f64::NAN; count], |v| v.into_iter().map(f64::from).collect())
}

/// Values beside `like`, outside of any graph.
fn device<const D: usize>(values: &[f64], like: &Tensor<D>) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    let count = values.len();
    let plain = like.device().without_autodiff();
    let values = Tensor::<1>::from_data(TensorData::new(values, [count]), &plain);
    match like.gradient_checkpointing_strategy() {
        Some(strategy) => Tensor::from_inner(values).with_gradient_checkpointing_strategy(strategy),
        None => values,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use super::*;
    use crate::recompute::in_parts;
    use crate::testing::{assert_close, formula};
    use burn::module::Module;
    use burn::nn::BatchNormConfig;
    use burn::tensor::Device;

    /// What a rank finds: its part of the output, the gradient of its part of the input, those of gain and bias, the running
    /// statistics.
    type Found = (Tensor<3>, Tensor<3>, [Tensor<1>; 4]);

    fn norm(device: &Device) -> BatchNorm {
        let mut norm = BatchNormConfig::new(3).with_momentum(0.3).init(device);
        norm.gamma = burn::module::Param::from_tensor(formula("gain", [3], device));
        norm
    }

    /// Two norms in a row, so that gradients go through the statistics of both; the loss is a sum over the batch.
    fn run(rows: std::ops::Range<usize>, device: &Device, gather: Option<Arc<Gather>>) -> Found {
        let norm = norm(device);
        let x = (formula::<3>("x", [5, 3, 4], device) * 2.0 + 1.0).slice([rows.clone()]).detach().require_grad();
        let forward = || {
            let y = crate::norm::batch_norm(&norm, x.clone());
            let z = crate::norm::batch_norm(&norm, burn::tensor::activation::tanh(y));
            let wanted = formula::<3>("wanted", [5, 3, 4], device).slice([rows.clone()]);
            (z.clone(), (z - wanted).powi_scalar(3).sum())
        };
        let ((out, loss), tape) = match gather {
            Some(gather) => in_parts(|| over(gather, forward)),
            None => (forward(), crate::recompute::Tape::default()),
        };
        let (mut of_x, mut of_gain, mut of_bias) = (None, None, None);
        // A leaf may be in several parts of the backward pass.
        tape.backward(&loss, |grads| {
            of_x = add(of_x.take(), x.grad(&grads));
            of_gain = add(of_gain.take(), norm.gamma.grad(&grads));
            of_bias = add(of_bias.take(), norm.beta.grad(&grads));
        });
        let running = norm.valid();
        let [mean, variance] = [&running.running_mean, &running.running_var].map(|r| r.value());
        (out.inner(), of_x.unwrap(), [of_gain.unwrap(), of_bias.unwrap(), mean, variance])
    }

    fn add<const D: usize>(sum: Option<Tensor<D>>, more: Option<Tensor<D>>) -> Option<Tensor<D>> {
        match (sum, more) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        }
    }

    /// Two processes as two threads, with unlike parts of a batch, find what one with the whole batch finds.
    #[test]
    fn parts_of_a_batch_are_normalised_as_the_whole() {
        let plain = Device::flex().autodiff();
        for device in [plain.clone(), plain.gradient_checkpointing()] {
            let want = run(0..5, &device, None);
            let (barrier, board) = (Barrier::new(2), Mutex::new([const { Vec::new() }; 2]));
            let (barrier, board) = (Arc::new(barrier), Arc::new(board));
            let threads = [0..2, 2..5].into_iter().enumerate().map(|(rank, rows)| {
                let (barrier, board, device) = (barrier.clone(), board.clone(), device.clone());
                std::thread::spawn(move || {
                    let gather = move |values: Vec<f64>| {
                        board.lock().unwrap()[rank] = values;
                        barrier.wait();
                        let all = board.lock().unwrap().to_vec();
                        barrier.wait();
                        Some(all)
                    };
                    run(rows, &device, Some(Arc::new(gather)))
                })
            });
            let threads: Vec<_> = threads.collect();
            let [first, second]: [Found; 2] =
                threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>().try_into().unwrap();
            assert_close(Tensor::cat(vec![first.0, second.0], 0), want.0, 1e-5);
            let scale = want.1.clone().abs().max().into_scalar::<f32>();
            assert!(scale > 0.1, "{scale}");
            assert_close(Tensor::cat(vec![first.1, second.1], 0), want.1, 1e-5 * scale);
            // Gradients of parameters are parts of a sum, running statistics are the same everywhere.
            for (i, want) in want.2.into_iter().enumerate() {
                let [a, b] = [first.2[i].clone(), second.2[i].clone()];
                let scale = want.clone().abs().max().into_scalar::<f32>();
                if i < 2 {
                    assert_close(a + b, want, 2e-5 * scale);
                } else {
                    assert_close(a.clone(), b, 0.0);
                    assert_close(a, want, 1e-5 * scale);
                }
            }
        }
    }
}
