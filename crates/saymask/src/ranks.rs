//! The ranks that `mpirun`, `srun --mpi=pmix` or an MPIJob started, for the commands that share their work.

use anyhow::{Result, bail};
use clap::Args;
use trainer::world::World;

use crate::{error, output};

/// Where launchers say how many ranks they started: Open MPI; MPICH, Intel MPI and Slurm's PMI.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
/// Set where a launcher speaks PMIx, such as `srun --mpi=pmix`, which does not say how many there are.
const PMIX: &str = "PMIX_RANK";
/// Stands for a rank's number on its machine in the name of a device.
const LOCAL_RANK: &str = "{local_rank}";

/// Options of commands that several ranks share.
#[derive(Debug, Clone, Copy, Args)]
pub struct RankArgs {
    /// Under mpirun or srun: seconds after which a rank that says nothing counts as lost, and all ranks end.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    rank_timeout: u64,
}

/// The ranks of this process.
#[derive(Debug, Default)]
pub struct Launched {
    #[cfg(feature = "mpi")]
    session: Option<mpi_ranks::Session>,
}

impl Launched {
    /// The ranks, as training and evaluation see them.
    #[cfg(feature = "mpi")]
    pub fn world(&self) -> World {
        self.session.as_ref().map_or_else(World::default, |session| World::new(session.ranks()))
    }

    /// The ranks, as training and evaluation see them: one.
    #[cfg(not(feature = "mpi"))]
    pub fn world(&self) -> World {
        World::default()
    }

    /// A device's word with the rank's own number in it.
    pub fn device(&self, word: &str) -> String {
        #[cfg(feature = "mpi")]
        let number = self.session.as_ref().map_or(0, mpi_ranks::Session::local_rank);
        #[cfg(not(feature = "mpi"))]
        let number = 0;
        word.replace(LOCAL_RANK, &number.to_string())
    }
}

/// Runs `work` on every rank. Only the first one speaks; where any fails, it says so and all end.
///
/// # Errors
/// Those of `work` where there is one rank, and a launcher that started several ranks of a program without MPI.
pub fn together(args: RankArgs, work: impl FnOnce(&Launched) -> Result<()>) -> Result<()> {
    let launched = start(args)?;
    let world = launched.world();
    if !world.is_first() {
        output::silence();
    }
    match work(&launched) {
        Err(error) if !world.is_alone() => fail(&launched, &world, &error),
        done => done,
    }
}

/// Refuses to run as one of several ranks.
///
/// # Errors
/// Where a launcher says that there are several.
pub fn alone(command: &str) -> Result<()> {
    match size() {
        Some(ranks) if ranks > 1 => bail!("`{command}` is not shared by ranks, of which {ranks} were started; start it once"),
        _ => Ok(()),
    }
}

/// The number of ranks, where a launcher says it.
fn size() -> Option<usize> {
    SIZES.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

#[cfg(feature = "mpi")]
fn start(args: RankArgs) -> Result<Launched> {
    if size().is_none() && std::env::var_os(PMIX).is_none() {
        return Ok(Launched::default());
    }
    let give_up = |error: &::ranks::RankError| output::always(format_args!("error: {error}"));
    let session = mpi_ranks::Session::start(std::time::Duration::from_secs(args.rank_timeout), Box::new(give_up))?;
    Ok(Launched { session: Some(session) })
}

#[cfg(not(feature = "mpi"))]
fn start(args: RankArgs) -> Result<Launched> {
    let RankArgs { rank_timeout: _ } = args;
    let several = size().is_some_and(|ranks| ranks > 1) || (size().is_none() && std::env::var_os(PMIX).is_some());
    if several {
        bail!("started as several ranks, but this program is built without MPI; build it with `--features mpi`");
    }
    Ok(Launched::default())
}

/// Says why this rank ends the others.
fn fail(launched: &Launched, world: &World, error: &anyhow::Error) -> ! {
    let first = world.ranks().name(world.rank());
    output::always(format_args!("error: {first}: {}", error::chain(error)));
    #[cfg(feature = "mpi")]
    if let Some(session) = &launched.session {
        session.abort(2);
    }
    let _ = launched;
    std::process::exit(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_the_rank_s_own() {
        let alone = Launched::default();
        assert_eq!(alone.device("cuda:{local_rank}"), "cuda:0");
        assert_eq!(alone.device("cpu"), "cpu");
        assert!(alone.world().is_alone());
    }
}
