//! What `tests/mpirun.rs` starts: sums, long messages and two streams at once, checked on every rank; or a rank that hangs.
//!
//! mpirun -n 3 ranks [hang RANK]

use std::sync::Arc;
use std::time::Duration;

use mpi_ranks::{MpiRanks, Session};
use ranks::{Patience, Ranks, Residual, Stream, Sums, all_reduce_sum, barrier, broadcast, gather};

#[allow(clippy::print_stderr, reason = "an example may say what it finds")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let hangs: Option<usize> = words.get(1).map(|word| word.parse()).transpose()?;
    let deadline = Duration::from_secs(if hangs.is_some() { 2 } else { 60 });
    let session = Session::start(deadline, Box::new(|error| eprintln!("error: {error}")))?;
    let ranks = session.ranks();
    if hangs == Some(ranks.rank()) {
        std::thread::sleep(Duration::from_secs(600));
    }
    barrier(&*ranks, Patience::Deadline)?;
    let found = sums(&ranks)? && messages(&ranks)? && streams(&ranks)?;
    if !found {
        session.abort(1);
    }
    if ranks.rank() == 0 {
        eprintln!("{} ranks: as it should be", ranks.size());
    }
    Ok(())
}

/// Values of unlike size, whose sum shows its order in the last bits.
fn values(rank: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((rank * 7919 + i * 104_729) as f32).sin() * 10f32.powi((i % 7) as i32 - 3)).collect()
}

fn sums(ranks: &Arc<MpiRanks>) -> Result<bool, ranks::RankError> {
    let mut same = true;
    for count in [1, 100, 1_000_003] {
        let mut got = values(ranks.rank(), count);
        all_reduce_sum(&**ranks, &mut got, &mut Sums::F32)?;
        let mut want = values(0, count);
        for rank in 1..ranks.size() {
            want.iter_mut().zip(values(rank, count)).for_each(|(sum, value)| *sum += value);
        }
        same &= got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
        all_reduce_sum(&**ranks, &mut values(ranks.rank(), count), &mut Sums::Bf16(&mut Residual::default()))?;
    }
    Ok(same)
}

/// Messages of any length, also around the length that travels at once.
fn messages(ranks: &Arc<MpiRanks>) -> Result<bool, ranks::RankError> {
    let mut same = true;
    for length in [0, 1, 4095, 4096, 4097, 3_000_000] {
        let of = |rank: usize| vec![rank as u8 + 1; length * (rank % 2 + 1)];
        let all = gather(&**ranks, Patience::Unlimited, of(ranks.rank()))?;
        same &= all.iter().enumerate().all(|(rank, message)| *message == of(rank));
        same &= broadcast(&**ranks, Patience::Deadline, of(ranks.rank()))? == of(0);
    }
    Ok(same)
}

/// Each rank begins with another stream.
fn streams(ranks: &Arc<MpiRanks>) -> Result<bool, ranks::RankError> {
    let on = |stream: Stream| ranks.exchange(stream, Patience::Deadline, vec![vec![stream as u8; 100_000]; ranks.size()]);
    let [first, second] = if ranks.rank().is_multiple_of(2) { [0, 1] } else { [1, 0] };
    std::thread::scope(|scope| {
        let other = scope.spawn(move || on(Stream::ALL[second]));
        let one = on(Stream::ALL[first])?;
        let other = other.join().map_err(|_| ranks::RankError::Transport { what: "a thread panicked".into() })??;
        Ok(one[0][0] == first as u8 && other[0][0] == second as u8)
    })
}
