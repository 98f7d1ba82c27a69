//! Processes that compute together: all-reduce in rank order, broadcast, gather, agreement.
//!
//! A transport has one operation, [`Ranks::exchange`]: every rank sends a message to every rank. What else is needed is made of
//! it here, so that sums do not depend on the transport: [`all_reduce_sum`] adds in the order of ranks, and repeats are equal to
//! the bit. [`Single`] is a process alone, [`local`] runs ranks on threads of one process (for tests), and the crate
//! `mpi-ranks` speaks MPI.
//!
//! ```
//! use ranks::{Patience, Ranks, Sums, all_reduce_sum, local};
//!
//! let sums = local::run(3, std::time::Duration::from_secs(5), |ranks| {
//!     let mut values = vec![ranks.rank() as f32, 1.0];
//!     all_reduce_sum(&ranks, &mut values, &mut Sums::F32)?;
//!     Ok::<_, ranks::RankError>(values)
//! });
//! assert!(sums.into_iter().all(|values| values.unwrap() == [3.0, 3.0]));
//! ```
//!
//! # Limits
//! Every rank sends to every other one, so a world of hundreds of ranks wants another transport pattern. A message holds at most
//! 2 GiB.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod local;
mod reduce;
mod turns;

use std::fmt::Debug;
use std::time::Duration;

pub use reduce::{Residual, Sums, all_reduce_sum};
pub use turns::in_turn;

/// Which conversation an exchange belongs to. Exchanges of one stream happen in the same order on every rank; those of different
/// streams may overlap, made by a thread each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Small messages of the main thread.
    Control,
    /// Gradients, while the backward pass goes on.
    Gradients,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Control, Self::Gradients];
}

/// How long an exchange waits for a rank that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until the transport's deadline: ranks are at the same place of the same work.
    Deadline,
    /// For ever: a rank does something that takes as long as it takes, and its transport lets no other thread say that it is alive.
    Unlimited,
}

/// What went wrong between ranks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// A rank that says nothing any more.
    #[error(
        "{name} has sent nothing for {seconds} s: it died, hangs or is cut off, so the run ends; look at its output, then continue \
         with --resume"
    )]
    Lost {
        /// The rank.
        rank: usize,
        /// Rank, process and host in words.
        name: String,
        /// The deadline.
        seconds: u64,
    },
    /// A rank that holds something else than rank 0.
    #[error("{name} has another {what} than rank 0; start all ranks with the same program, config, data and weights")]
    Differs {
        /// Rank, process and host in words.
        name: String,
        /// What differs.
        what: String,
    },
    /// A message of another size than this rank's own.
    #[error("{name} sent {found} bytes where {expected} were expected: another program or another step runs there")]
    Length {
        /// Rank, process and host in words.
        name: String,
        /// Bytes that came.
        found: usize,
        /// Bytes that this rank would have sent.
        expected: usize,
    },
    /// The transport itself.
    #[error("{what}")]
    Transport {
        /// What it says.
        what: String,
    },
}

/// Ranks that can reach each other.
pub trait Ranks: Send + Sync + Debug {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks, the world size.
    fn size(&self) -> usize;

    /// Rank, process and host in words, for people who look for it.
    fn name(&self, rank: usize) -> String {
        format!("rank {rank}")
    }

    /// Sends `messages[r]` to rank r, and returns what each rank sent to this one, in the order of ranks. Every rank makes the
    /// same calls on a stream in the same order.
    ///
    /// # Errors
    /// [`RankError::Lost`] where a rank says nothing within the deadline. A transport that cannot take back what it has begun may
    /// end all ranks instead of returning.
    fn exchange(&self, stream: Stream, patience: Patience, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RankError>;

    /// How long an exchange waits with [`Patience::Deadline`].
    fn deadline(&self) -> Duration;

    /// Whether exchanges of different streams may be made by different threads at the same time.
    fn overlaps(&self) -> bool {
        true
    }

    /// Whether ranks are threads of one process, which share what a process has one of: a generator of random numbers.
    fn share_process(&self) -> bool {
        false
    }
}

/// A process alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

impl Ranks for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, _: Stream, _: Patience, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RankError> {
        Ok(messages)
    }

    fn deadline(&self) -> Duration {
        Duration::MAX
    }
}

/// Gives `message` to every rank; returns those of all, in the order of ranks.
///
/// # Errors
/// As [`Ranks::exchange`].
pub fn gather(ranks: &dyn Ranks, patience: Patience, message: Vec<u8>) -> Result<Vec<Vec<u8>>, RankError> {
    ranks.exchange(Stream::Control, patience, vec![message; ranks.size()])
}

/// Rank 0's `message` on every rank; those of others are dropped.
///
/// # Errors
/// As [`Ranks::exchange`].
pub fn broadcast(ranks: &dyn Ranks, patience: Patience, message: Vec<u8>) -> Result<Vec<u8>, RankError> {
    let message = if ranks.rank() == 0 { message } else { Vec::new() };
    Ok(gather(ranks, patience, message)?.swap_remove(0))
}

/// Returns once every rank has called it.
///
/// # Errors
/// As [`Ranks::exchange`].
pub fn barrier(ranks: &dyn Ranks, patience: Patience) -> Result<(), RankError> {
    gather(ranks, patience, Vec::new()).map(|_| ())
}

/// Checks that every rank gives the same `value` as rank 0. `what` it is goes into the error.
///
/// # Errors
/// [`RankError::Differs`] with the first rank that does not, on every rank.
pub fn agree(ranks: &dyn Ranks, what: &str, value: Vec<u8>) -> Result<(), RankError> {
    let all = gather(ranks, Patience::Deadline, value)?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(RankError::Differs { name: ranks.name(rank), what: what.to_owned() }),
    }
}

/// The contiguous part of `count` things that is rank `rank`'s of `size`: sizes differ by one at most, larger ones may lie anywhere.
#[must_use]
pub fn part(count: usize, rank: usize, size: usize) -> std::ops::Range<usize> {
    let cut = |rank: usize| rank * count / size.max(1);
    cut(rank)..cut(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_agree_or_the_other_one_is_named() {
        let seconds = Duration::from_secs(5);
        let all = local::run(3, seconds, |ranks| agree(&ranks, "config", b"one".to_vec()));
        assert!(all.into_iter().all(|found| found.is_ok()));
        let all = local::run(3, seconds, |ranks| agree(&ranks, "config", vec![u8::from(ranks.rank() == 2)]));
        for found in all {
            assert_eq!(found, Err(RankError::Differs { name: "rank 2".into(), what: "config".into() }));
        }
    }

    #[test]
    fn everybody_gets_what_rank_0_says() {
        let all =
            local::run(4, Duration::from_secs(5), |ranks| broadcast(&ranks, Patience::Deadline, vec![ranks.rank() as u8; 3]));
        assert!(all.into_iter().all(|found| found.unwrap() == [0; 3]));
    }

    #[test]
    fn parts_cover_everything_once() {
        for (count, size) in [(0, 3), (2, 3), (5, 2), (64, 7)] {
            let all: Vec<usize> = (0..size).flat_map(|rank| part(count, rank, size)).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            let lengths: Vec<usize> = (0..size).map(|rank| part(count, rank, size).len()).collect();
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1, "{lengths:?}");
        }
    }
}
