//! MPI's start and end, and the exchange of messages between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::{Destination, Source};
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::{Communicator, SimpleCommunicator};
use ranks::{Patience, RankError, Ranks, Stream};

/// Bytes of a message that travel with its length; longer ones need a second message.
const INLINE: usize = 4096;
/// Bytes of the length in front of them.
const LENGTH: usize = size_of::<u64>();
/// Looks at unfinished requests before the first pause between looks; a message between processes of a machine takes about a
/// microsecond.
const EAGER_LOOKS: u32 = 2000;
/// Pause between looks after that: what a step can wait for without being noticed, at a hundredth of a core.
const PAUSE: Duration = Duration::from_micros(50);
/// The exit code of a run whose rank was lost.
const LOST: i32 = 3;

/// What MPI has to end all ranks.
const GRACE: Duration = Duration::from_secs(10);
/// The exit code of a rank that panicked, as Rust's own.
const PANICKED: i32 = 101;

/// Hears why the run ends on all ranks, right before it does.
pub type GiveUp = dyn Fn(&RankError) + Send + Sync;

/// MPI from its start to its end; the process's main thread holds it.
pub struct Session {
    ranks: Arc<MpiRanks>,
    local_rank: usize,
    // Dropped last: MPI ends with it, after every rank has come to that point.
    _universe: Universe,
}

/// The ranks of MPI's world.
pub struct MpiRanks {
    rank: usize,
    deadline: Duration,
    names: Vec<String>,
    overlaps: bool,
    give_up: Box<GiveUp>,
}

impl std::fmt::Debug for MpiRanks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.names[self.rank], self.names.len())
    }
}

impl Session {
    /// Starts MPI; all ranks have to. A rank that says nothing for `deadline` is lost: `give_up` hears of it, then all ranks end.
    ///
    /// # Errors
    /// [`RankError::Transport`] when MPI was started before in this process.
    pub fn start(deadline: Duration, give_up: Box<GiveUp>) -> Result<Self, RankError> {
        let started = mpi::initialize_with_threading(Threading::Multiple);
        let (universe, threading) =
            started.ok_or_else(|| RankError::Transport { what: "MPI was started before in this process".into() })?;
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let local_rank = world.split_shared(world.rank()).rank() as usize;
        let host = mpi::environment::processor_name().unwrap_or_else(|_| "a host without a name".into());
        let name = format!("rank {rank} (process {} on {host})", std::process::id());
        let unnamed = (0..size).map(|rank| format!("rank {rank}")).collect();
        let mut ranks = MpiRanks { rank, deadline, names: unnamed, overlaps: threading == Threading::Multiple, give_up };
        let names = ranks::gather(&ranks, Patience::Deadline, name.into_bytes())?;
        ranks.names = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        Ok(Self { ranks: Arc::new(ranks), local_rank, _universe: universe })
    }

    /// The ranks.
    #[must_use]
    pub fn ranks(&self) -> Arc<MpiRanks> {
        self.ranks.clone()
    }

    /// This process's number among those of its machine, from 0.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Ends all ranks at once, with an exit code.
    pub fn abort(&self, code: i32) -> ! {
        end_all(code)
    }
}

impl Drop for Session {
    /// MPI's end waits for all ranks; one that panicked ends the others instead.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort(PANICKED);
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MPI of {:?}", self.ranks)
    }
}

impl Ranks for MpiRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.names.len()
    }

    fn name(&self, rank: usize) -> String {
        self.names.get(rank).cloned().unwrap_or_else(|| format!("rank {rank}"))
    }

    fn exchange(&self, stream: Stream, patience: Patience, mut messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RankError> {
        let (own, size) = (std::mem::take(&mut messages[self.rank]), self.size());
        if let Some(long) = messages.iter().map(Vec::len).find(|length| i32::try_from(*length).is_err()) {
            return Err(RankError::Transport { what: format!("a message of {long} bytes is longer than MPI's 2 GiB") });
        }
        let end = match patience {
            Patience::Deadline => Some(Instant::now() + self.deadline),
            Patience::Unlimited => None,
        };
        let peers: Vec<usize> = (0..size).filter(|rank| *rank != self.rank).collect();
        let heads: Vec<Vec<u8>> = messages.iter().map(|message| head(message)).collect();
        let mut found = vec![vec![0u8; LENGTH + INLINE]; size];
        self.move_all(stream, end, peers.iter().map(|r| (*r, &heads[*r][..])), every(&mut found, &peers));
        let mut received: Vec<Vec<u8>> = found.into_iter().map(unpack).collect();
        let rest = |message: &Vec<u8>| message.len() > INLINE;
        let to = peers.iter().filter(|r| rest(&messages[**r])).map(|r| (*r, &messages[*r][INLINE..]));
        let long: Vec<usize> = peers.iter().copied().filter(|r| rest(&received[*r])).collect();
        let mut tails: Vec<&mut [u8]> = Vec::new();
        received.iter_mut().for_each(|message| tails.push(message.get_mut(INLINE..).unwrap_or_default()));
        let from = tails.into_iter().enumerate().filter(|(rank, _)| long.contains(rank)).collect();
        self.move_all(stream, end, to, from);
        received[self.rank] = own;
        Ok(received)
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }

    fn overlaps(&self) -> bool {
        self.overlaps
    }
}

/// A message's length and its first bytes.
fn head(message: &[u8]) -> Vec<u8> {
    let mut head = (message.len() as u64).to_le_bytes().to_vec();
    head.extend(&message[..message.len().min(INLINE)]);
    head
}

/// A message as long as its head says, with its first bytes in place.
fn unpack(mut head: Vec<u8>) -> Vec<u8> {
    let mut length = [0; LENGTH];
    length.copy_from_slice(&head[..LENGTH]);
    head.drain(..LENGTH);
    head.resize(u64::from_le_bytes(length) as usize, 0);
    head
}

/// The buffers of some ranks.
fn every<'a>(buffers: &'a mut [Vec<u8>], ranks: &[usize]) -> Vec<(usize, &'a mut [u8])> {
    buffers.iter_mut().enumerate().filter(|(rank, _)| ranks.contains(rank)).map(|(rank, b)| (rank, &mut b[..])).collect()
}

impl MpiRanks {
    /// Sends and receives at once; returns when all is done, and ends all ranks where it is not done in time.
    fn move_all<'m>(
        &self,
        stream: Stream,
        end: Option<Instant>,
        to: impl Iterator<Item = (usize, &'m [u8])>,
        from: Vec<(usize, &mut [u8])>,
    ) {
        let (world, tag) = (SimpleCommunicator::world(), stream as i32);
        let to: Vec<(usize, &[u8])> = to.collect();
        scope(|scope| {
            let receive =
                |(rank, buffer)| (rank, world.process_at_rank(rank as i32).immediate_receive_into_with_tag(scope, buffer, tag));
            let mut receiving: Vec<_> = from.into_iter().map(receive).collect();
            let send = |(rank, message): (usize, _)| {
                (rank, world.process_at_rank(rank as i32).immediate_send_with_tag(scope, message, tag))
            };
            let mut sending: Vec<_> = to.into_iter().map(send).collect();
            let mut looks = 0;
            loop {
                (receiving, sending) = (unfinished(receiving), unfinished(sending));
                // Whoever sends nothing is named before whoever takes nothing.
                let Some(waits_for) = receiving.iter().map(|(rank, _)| *rank).chain(sending.iter().map(|(rank, _)| *rank)).next()
                else {
                    break;
                };
                if end.is_some_and(|end| Instant::now() > end) {
                    self.lost(waits_for);
                }
                looks += 1;
                if looks < EAGER_LOOKS { std::thread::yield_now() } else { std::thread::sleep(PAUSE) }
            }
        });
    }

    /// Says which rank was lost, and ends all of them.
    fn lost(&self, rank: usize) -> ! {
        (self.give_up)(&RankError::Lost { rank, name: self.name(rank), seconds: self.deadline.as_secs() });
        end_all(LOST)
    }
}

/// Ends all ranks that MPI can reach, and this one in any case: where the launcher is cut off, MPI waits for it.
fn end_all(code: i32) -> ! {
    std::thread::spawn(move || {
        std::thread::sleep(GRACE);
        std::process::exit(code);
    });
    SimpleCommunicator::world().abort(code)
}

/// Those that are not done yet.
fn unfinished<'a, 's, B: ?Sized>(
    requests: Vec<(usize, Request<'a, B, &'s LocalScope<'a>>)>,
) -> Vec<(usize, Request<'a, B, &'s LocalScope<'a>>)> {
    requests.into_iter().filter_map(|(rank, request)| request.test().err().map(|request| (rank, request))).collect()
}
