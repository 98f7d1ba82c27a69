//! Work that one rank after the other does, while the others wait for as long as it takes.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::{Patience, RankError, Ranks, barrier, gather};

/// A rank that works says so this many times within the deadline.
const BEATS: u32 = 4;
/// Longest time between two of them.
const BEAT: Duration = Duration::from_secs(10);

/// Runs `work` on one rank after the other, and returns what this rank's returned. However long it takes, the rank says meanwhile that it is
/// alive; where its process dies, stops or is cut off, it is lost to the others by their deadline. Work that never ends keeps them waiting.
///
/// # Errors
/// Those of `work`, after which this rank sends nothing more, and those of [`Ranks::exchange`].
pub fn in_turn<T, E: From<RankError>>(ranks: &dyn Ranks, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    for turn in 0..ranks.rank() {
        wait_for(ranks, turn)?;
    }
    let done = if ranks.size() > 1 { working(ranks, work)? } else { work()? };
    for turn in ranks.rank() + 1..ranks.size() {
        wait_for(ranks, turn)?;
    }
    Ok(done)
}

/// What a rank says while it works, and when it is done.
const ALIVE: [u8; 1] = [0];
const DONE: [u8; 1] = [1];

/// Works on this thread while another one tells the other ranks that this one is alive.
fn working<T, E: From<RankError>>(ranks: &dyn Ranks, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if !ranks.overlaps() {
        let done = work()?;
        barrier(ranks, Patience::Unlimited)?;
        return Ok(done);
    }
    let every = (ranks.deadline() / BEATS).min(BEAT);
    let (done, told) = channel::<()>();
    std::thread::scope(|scope| {
        let beats = scope.spawn(move || {
            loop {
                match told.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => gather(ranks, Patience::Deadline, ALIVE.to_vec())?,
                    // Dropped without a word: the work failed.
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Ok(()) => return gather(ranks, Patience::Deadline, DONE.to_vec()).map(|_| ()),
                };
            }
        });
        let result = work();
        if result.is_ok() {
            // Where nobody listens, the other thread has an error to tell.
            let _ = done.send(());
        }
        drop(done);
        let told = beats.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let result = result?;
        told?;
        Ok(result)
    })
}

/// Waits until `worker` is done.
fn wait_for(ranks: &dyn Ranks, worker: usize) -> Result<(), RankError> {
    if !ranks.overlaps() {
        return barrier(ranks, Patience::Unlimited);
    }
    while gather(ranks, Patience::Deadline, ALIVE.to_vec())?[worker] != DONE {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Single, local};

    const DEADLINE: Duration = Duration::from_millis(400);

    #[test]
    fn turns_may_take_longer_than_the_deadline() {
        let order = Mutex::new(Vec::new());
        let found = local::run(3, DEADLINE, |ranks| {
            in_turn(&ranks, || {
                std::thread::sleep(DEADLINE.mul_f64(if ranks.rank() == 1 { 0.0 } else { 2.5 }));
                order.lock().unwrap().push(ranks.rank());
                Ok::<_, RankError>(10 * ranks.rank())
            })
        });
        assert_eq!(found.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 10, 20]);
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert_eq!(in_turn(&Single, || Ok::<_, RankError>(7)), Ok(7));
    }

    #[test]
    fn a_rank_that_fails_or_dies_in_its_turn_is_named() {
        for dies in [false, true] {
            let found = local::run(3, DEADLINE, |ranks| {
                let failed = RankError::Transport { what: "no data".into() };
                let work = |rank: usize| if rank == 1 { Err(failed.clone()) } else { Ok(rank) };
                if dies && ranks.rank() == 1 {
                    // Waits for its turn, then is gone.
                    wait_for(&ranks, 0).unwrap();
                    return Err(failed);
                }
                in_turn(&ranks, || work(ranks.rank()))
            });
            let [first, second, third] = found.try_into().unwrap();
            assert_eq!(second.unwrap_err().to_string(), "no data");
            for lost in [first, third] {
                assert!(matches!(lost, Err(RankError::Lost { rank: 1, .. })), "{lost:?}");
            }
        }
    }
}
