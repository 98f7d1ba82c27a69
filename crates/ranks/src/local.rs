//! Ranks on threads of one process, joined by channels: what tests of distributed code run on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Patience, RankError, Ranks, Stream};

/// Channels to or from every rank, for each stream.
type PerStream<T> = [Vec<Mutex<T>>; Stream::ALL.len()];

/// One of the ranks of [`world`].
#[derive(Debug)]
pub struct LocalRank {
    rank: usize,
    deadline: Duration,
    to: PerStream<Sender<Vec<u8>>>,
    from: PerStream<Receiver<Vec<u8>>>,
}

/// `size` ranks that can reach each other. One that is dropped, or silent for longer than `deadline`, is lost to the others.
#[must_use]
pub fn world(size: usize, deadline: Duration) -> Vec<LocalRank> {
    let new = |rank| LocalRank { rank, deadline, to: Default::default(), from: Default::default() };
    let mut ranks: Vec<LocalRank> = (0..size).map(new).collect();
    for stream in 0..Stream::ALL.len() {
        for from in 0..size {
            for to in 0..size {
                let (sender, receiver) = channel();
                ranks[from].to[stream].push(Mutex::new(sender));
                ranks[to].from[stream].push(Mutex::new(receiver));
            }
        }
    }
    ranks
}

/// Runs `work` on `size` threads, one per rank; what each returned, in the order of ranks.
///
/// # Panics
/// When `work` panics on a thread.
pub fn run<T: Send>(size: usize, deadline: Duration, work: impl Fn(LocalRank) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = world(size, deadline).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

impl Ranks for LocalRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to[0].len()
    }

    fn exchange(&self, stream: Stream, patience: Patience, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RankError> {
        let lost = |rank: usize| RankError::Lost { rank, name: self.name(rank), seconds: self.deadline.as_secs() };
        let stream = stream as usize;
        for (message, to) in messages.into_iter().zip(&self.to[stream]) {
            // Whoever is gone is named below, as the one that sends nothing.
            let _ = to.lock().unwrap_or_else(PoisonError::into_inner).send(message);
        }
        let end = Instant::now() + self.deadline;
        let receive = |(rank, from): (usize, &Mutex<Receiver<Vec<u8>>>)| {
            let from = from.lock().unwrap_or_else(PoisonError::into_inner);
            match patience {
                Patience::Unlimited => from.recv().map_err(|_| lost(rank)),
                Patience::Deadline => from.recv_timeout(end.saturating_duration_since(Instant::now())).map_err(|_| lost(rank)),
            }
        };
        self.from[stream].iter().enumerate().map(receive).collect()
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }

    fn share_process(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_that_is_gone_or_hangs_is_named() {
        for hangs in [false, true] {
            let found = run(3, Duration::from_millis(200), |rank| {
                if rank.rank() == 1 {
                    if hangs {
                        std::thread::sleep(Duration::from_millis(600));
                    }
                    return None;
                }
                Some(crate::barrier(&rank, Patience::Deadline).unwrap_err().to_string())
            });
            for said in found.into_iter().flatten() {
                assert!(said.starts_with("rank 1 has sent nothing for 0 s"), "{said}");
            }
        }
    }

    /// Streams do not wait for each other.
    #[test]
    fn streams_are_apart() {
        let found = run(2, Duration::from_secs(5), |rank| {
            let on = |stream, value| rank.exchange(stream, Patience::Deadline, vec![vec![value]; 2]).unwrap();
            std::thread::scope(|scope| {
                // The other order on each rank.
                let (first, second) = if rank.rank() == 0 { (0, 1) } else { (1, 0) };
                let late = scope.spawn(move || on(Stream::ALL[second], second as u8));
                let early = on(Stream::ALL[first], first as u8);
                (early[1][0] as usize == first) && (late.join().unwrap()[1][0] as usize == second)
            })
        });
        assert_eq!(found, [true, true]);
    }
}
