//! The command line of `check`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::{BOUND, Verdict, find, run};
use crate::device;

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Golden files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Device: cpu, cuda[:N], vulkan[:N], metal, wgpu[:cpu].
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Largest error, relative to the largest expected value where that exceeds 1.
    #[arg(long, value_name = "BOUND", default_value_t = BOUND)]
    bound: f32,
}

/// Runs the command; whether all outputs passed.
pub fn check(args: &CheckArgs) -> Result<bool> {
    let device = device::open(&args.device)?;
    let files = find(&args.paths)?;
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for path in files {
        println!("{}", path.display());
        match run(&path, &device, args.bound)? {
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("  skipped: {why}");
            }
            Verdict::Checked(outcomes) => {
                for o in outcomes {
                    let (word, count) = if o.passed() { ("pass", &mut passed) } else { ("FAIL", &mut failed) };
                    *count += 1;
                    match o.fault {
                        Some(fault) => println!("  {word}  {:<44} {fault}", o.name),
                        None => println!("  {word}  {:<44} error {:>9.2e}  bound {:>9.2e}", o.name, o.error, o.bound),
                    }
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} files skipped");
    if passed + failed + skipped == 0 {
        bail!("nothing was checked");
    }
    Ok(failed == 0)
}
