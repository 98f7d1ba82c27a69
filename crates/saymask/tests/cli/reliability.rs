//! Commands that are killed, and commands on a full disk. `cargo xtask bench reliability --full` tries many more moments.

use std::path::Path;

use test_support::reliability::Stages;

const PROGRAM: &str = env!("CARGO_BIN_EXE_saymask");

#[test]
fn killed_commands_lose_nothing() {
    for (name, tally) in Stages::new(Path::new(PROGRAM)).kill(10, false) {
        assert!(tally.lost.is_empty(), "{name}: {:#?}", tally.lost);
        assert_eq!((tally.survived, tally.killed + tally.late), (10, 10), "{name}");
        assert!(tally.killed >= 3, "{name}: {tally:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_one_clear_error_and_the_last_checkpoint_still_loads() {
    let mut refused = 0;
    for (name, times, wrong) in Stages::new(Path::new(PROGRAM)).full(&[1, 8, 64]) {
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        refused += times;
    }
    assert!(refused >= 6, "only {refused} commands met the limit");
}
