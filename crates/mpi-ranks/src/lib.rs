//! Ranks that speak MPI: `mpirun`, `srun --mpi=pmix`, Kubeflow's MPIJob.
//!
//! Everything is sent and received without blocking and looked after until a deadline, so that a rank that hangs ends the run
//! everywhere instead of holding it up. MPI cannot take back a message that has begun: where a rank is lost, whoever notices says
//! so and MPI ends all of them.
//!
//! Without the feature `mpi` this crate is empty.
//!
//! # Limits
//! Messages go through the host's memory, also those of tensors on GPUs.

#[cfg(feature = "mpi")]
mod session;

#[cfg(feature = "mpi")]
pub use session::{GiveUp, MpiRanks, Session};
