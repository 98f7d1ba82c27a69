//! All-reduce: a reduce-scatter whose sums run in the order of ranks, then an all-gather.

use half::bf16;

use crate::{Patience, RankError, Ranks, Stream, part};

/// How values travel.
#[derive(Debug)]
pub enum Sums<'a> {
    /// As they are.
    F32,
    /// In half the bytes, what is lost being added to the next values of the same place (error feedback).
    Bf16(&'a mut Residual),
}

/// What rounding has cost so far, per value: of this rank's values and of the sums that it makes for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Residual {
    own: Vec<f32>,
    sums: Vec<f32>,
}

/// Adds `values` over all ranks; each rank then holds the same sums, equal to the bit. Rank r adds the r-th part of the values of
/// all ranks, in f32 and in the order of ranks, so a world of the same size repeats itself exactly. 2 (n - 1) / n of the values
/// travel to and from each of n ranks.
///
/// # Errors
/// As [`Ranks::exchange`], and [`RankError::Length`] where another rank has another number of values.
pub fn all_reduce_sum(ranks: &dyn Ranks, values: &mut [f32], sums: &mut Sums<'_>) -> Result<(), RankError> {
    let (rank, size) = (ranks.rank(), ranks.size());
    if size <= 1 {
        return Ok(());
    }
    let mine = part(values.len(), rank, size);
    if let Sums::Bf16(residual) = sums {
        residual.own.resize(values.len(), 0.0);
        residual.sums.resize(mine.len(), 0.0);
        values.iter_mut().zip(&mut residual.own).for_each(|(value, lost)| round(value, lost));
    }
    let messages = (0..size).map(|r| encode(&values[part(values.len(), r, size)], sums)).collect();
    let received = ranks.exchange(Stream::Gradients, Patience::Deadline, messages)?;
    let mut total = vec![0.0; mine.len()];
    for (from, message) in received.iter().enumerate() {
        let add = if from == 0 { |sum: &mut f32, value: f32| *sum = value } else { |sum: &mut f32, value: f32| *sum += value };
        decode(ranks, from, message, &mut total, sums, add)?;
    }
    if let Sums::Bf16(residual) = sums {
        total.iter_mut().zip(&mut residual.sums).for_each(|(value, lost)| round(value, lost));
    }
    let received = ranks.exchange(Stream::Gradients, Patience::Deadline, vec![encode(&total, sums); size])?;
    for (from, message) in received.iter().enumerate() {
        let of = part(values.len(), from, size);
        decode(ranks, from, message, &mut values[of], sums, |sum, value| *sum = value)?;
    }
    Ok(())
}

/// Rounds to bf16; what was lost before is added, and what is lost now is kept. Values that are no numbers lose nothing.
fn round(value: &mut f32, lost: &mut f32) {
    let wanted = *value + *lost;
    *value = bf16::from_f32(wanted).to_f32();
    *lost = if value.is_finite() { wanted - *value } else { 0.0 };
}

fn encode(values: &[f32], sums: &Sums<'_>) -> Vec<u8> {
    match sums {
        Sums::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Sums::Bf16(_) => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

fn decode(
    ranks: &dyn Ranks,
    from: usize,
    message: &[u8],
    into: &mut [f32],
    sums: &Sums<'_>,
    put: fn(&mut f32, f32),
) -> Result<(), RankError> {
    let width = if matches!(sums, Sums::F32) { 4 } else { 2 };
    if message.len() != width * into.len() {
        return Err(RankError::Length { name: ranks.name(from), found: message.len(), expected: width * into.len() });
    }
    match sums {
        Sums::F32 => {
            into.iter_mut().zip(message.as_chunks::<4>().0).for_each(|(sum, bytes)| put(sum, f32::from_le_bytes(*bytes)))
        }
        Sums::Bf16(_) => into
            .iter_mut()
            .zip(message.as_chunks::<2>().0)
            .for_each(|(sum, bytes)| put(sum, bf16::from_le_bytes(*bytes).to_f32())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local;
    use std::time::Duration;

    const SECONDS: Duration = Duration::from_secs(20);

    /// Values of unlike size, so that the order of a sum shows in its last bits.
    fn values(rank: usize, count: usize) -> Vec<f32> {
        (0..count).map(|i| ((rank * 7919 + i * 104_729) as f32).sin() * 10f32.powi((i % 7) as i32 - 3)).collect()
    }

    #[test]
    fn sums_run_in_the_order_of_ranks() {
        for (size, count) in [(1, 5), (2, 1), (3, 1000), (4, 2), (5, 101)] {
            let all = local::run(size, SECONDS, |ranks| {
                let mut sums = values(ranks.rank(), count);
                all_reduce_sum(&ranks, &mut sums, &mut Sums::F32).unwrap();
                sums
            });
            let mut want = values(0, count);
            for rank in 1..size {
                want.iter_mut().zip(values(rank, count)).for_each(|(sum, value)| *sum += value);
            }
            for sums in all {
                assert!(sums.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{size} ranks");
            }
        }
    }

    /// Every rank has the same bits, and over many steps nothing is lost: the mean of what was received is the mean of what was
    /// sent, far below the rounding of one step.
    #[test]
    fn half_the_bytes_lose_nothing_over_many_steps() {
        const STEPS: usize = 512;
        let all = local::run(3, SECONDS, |ranks| {
            let (mut residual, mut sum, mut worst) = (Residual::default(), vec![0.0f64; 60], 0.0f64);
            for _ in 0..STEPS {
                let mut step = values(ranks.rank(), 60);
                all_reduce_sum(&ranks, &mut step, &mut Sums::Bf16(&mut residual)).unwrap();
                sum.iter_mut().zip(&step).for_each(|(sum, value)| *sum += f64::from(*value));
                worst = worst.max(f64::from(step[3]));
            }
            sum
        });
        assert!(all.iter().all(|sum| *sum == all[0]));
        for (i, got) in all[0].iter().enumerate() {
            let want: f64 = (0..3).map(|rank| f64::from(values(rank, 60)[i])).sum();
            let scale: f64 = (0..3).map(|rank| f64::from(values(rank, 60)[i]).abs()).sum();
            let off = (got / STEPS as f64 - want).abs() / scale;
            // A step's rounding is up to 2^-9 = 2e-3.
            assert!(off < 4e-5, "value {i}: {off}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_arrive_as_such() {
        let all = local::run(2, SECONDS, |ranks| {
            let mut residual = Residual::default();
            let mut first = vec![if ranks.rank() == 1 { f32::NAN } else { 1.0 }, 1.0];
            all_reduce_sum(&ranks, &mut first, &mut Sums::Bf16(&mut residual)).unwrap();
            let mut second = vec![1.0, 1.0];
            all_reduce_sum(&ranks, &mut second, &mut Sums::Bf16(&mut residual)).unwrap();
            (first, second)
        });
        for (first, second) in all {
            assert!(first[0].is_nan() && first[1] == 2.0);
            assert_eq!(second, [2.0, 2.0], "a bad step must not spoil the next one");
        }
    }

    #[test]
    fn another_number_of_values_is_an_error() {
        let all = local::run(2, Duration::from_secs(1), |ranks| {
            let mut values = vec![0.0; 4 + 2 * ranks.rank()];
            all_reduce_sum(&ranks, &mut values, &mut Sums::F32).unwrap_err()
        });
        assert!(all[0].to_string().contains("rank 1 sent 12 bytes where 8 were expected"), "{}", all[0]);
    }
}
