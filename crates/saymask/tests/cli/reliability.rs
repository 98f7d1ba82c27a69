//! Commands that are killed, and commands on a full disk. `cargo xtask bench reliability --full` tries many more moments.

use std::path::Path;

use test_support::reliability::Stages;

const PROGRAM: &str = env!("CARGO_BIN_EXE_saymask");

/// Kills five commands at so many moments each.
fn kill(moments: usize, every_call: bool) {
    for (name, tally) in Stages::new(Path::new(PROGRAM)).kill(moments, every_call) {
        assert!(tally.lost.is_empty(), "{name}: {:#?}", tally.lost);
        assert_eq!((tally.survived, tally.killed + tally.late), (moments, moments), "{name}");
        assert!(tally.killed >= moments / 3, "{name}: {tally:?}");
    }
}

#[test]
fn commands_killed_at_fifty_moments_lose_nothing() {
    kill(10, false);
}

#[test]
#[ignore = "takes half an hour: `cargo xtask test --full`"]
fn commands_killed_at_a_thousand_moments_lose_nothing() {
    kill(200, true);
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

#[cfg(target_os = "linux")]
#[test]
fn a_full_file_system_is_one_clear_error_and_the_last_checkpoint_still_loads() {
    let Some(tried) = Stages::new(Path::new(PROGRAM)).mounted(&[4, 100]) else {
        eprintln!("skipped: this process may not mount a file system");
        return;
    };
    for (name, refused, wrong) in tried {
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert!(refused > 0, "{name} fitted into 4 KiB");
    }
}
