//! Ranks as processes, where `mpirun` is installed.
#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The example's program, which Cargo builds beside the tests.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples").join("ranks")
}

fn mpirun(ranks: usize, words: &[&str]) -> Option<Output> {
    let mut command = Command::new("mpirun");
    // Open MPI's words for: as root, and with more processes than cores.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").args(["-n", &ranks.to_string()]).arg(example()).args(words);
    match command.output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("skipped: mpirun is not installed (Debian: openmpi-bin)");
            None
        }
    }
}

#[test]
fn messages_and_sums_arrive() {
    for ranks in [1, 2, 3] {
        let Some(output) = mpirun(ranks, &[]) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("as it should be"), "{ranks} ranks: {said}");
    }
}

#[test]
fn a_rank_that_hangs_ends_all_and_is_named() {
    let begun = Instant::now();
    let Some(output) = mpirun(3, &["hang", "1"]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("error: rank 1 (process "), "{said}");
    assert!(said.contains("has sent nothing for 2 s"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
