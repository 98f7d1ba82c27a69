//! The command line of `check`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use burn::tensor::DType;
use clap::{Args, ValueEnum};
use run_config::Precision;

use super::{Stated, Verdict, find, run, stated};
use crate::device;

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Golden files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help = device::HELP)]
    device: String,
    /// What the models compute in, as `eval.precision` has it. Golden files of text encoders are f32 only.
    #[arg(long, value_enum, default_value_t)]
    precision: Numbers,
    /// Largest error, relative to the largest expected value where that exceeds 1; the device's own if absent: 1e-4 where
    /// arithmetic is f32 throughout, 1e-2 where autotune may choose TF32 or f16 tiles. In bf16 of root mean squares, 1e-1.
    #[arg(long, value_name = "BOUND")]
    bound: Option<f32>,
}

/// Numbers that the models compute in.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Numbers {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponent of 32.
    Bf16,
}

/// Runs the command; whether all outputs passed.
pub fn check(args: &CheckArgs) -> Result<bool> {
    let device = device::open(&args.device)?;
    let precision = match args.precision {
        Numbers::F32 => Precision::F32,
        Numbers::Bf16 if device.supports_dtype(DType::BF16) => Precision::Bf16,
        Numbers::Bf16 => bail!("--precision bf16: {} cannot compute in it; leave the option out", args.device),
    };
    let files = find(&args.paths)?;
    let own = stated(&device::Word::parse(&args.device)?, precision, device::AUTOTUNED);
    let Stated { bound, why } = args.bound.map_or(own, |bound| Stated { bound, why: "as asked for" });
    let name = device::identity(&device).map_or_else(String::new, |n| format!(" ({n})"));
    let of = if precision == Precision::F32 { "largest value" } else { "root mean square, as root mean squares" };
    crate::say!("{}{name}, {}: errors up to {bound:e} of an output's {of}; {why}", args.device, precision.name());
    let (mut passed, mut failed, mut skipped, mut worst) = (0, 0, 0, 0.0f32);
    for path in files {
        crate::say!("{}", path.display());
        match run(&path, &device, precision, bound)? {
            Verdict::Skipped(why) => {
                skipped += 1;
                crate::say!("  skipped: {why}");
            }
            Verdict::Checked(outcomes) => {
                for o in outcomes {
                    let (word, count) = if o.passed() { ("pass", &mut passed) } else { ("FAIL", &mut failed) };
                    *count += 1;
                    // An output's own bound is the stated one times its scale.
                    if o.fault.is_none() && o.bound > 0.0 {
                        worst = worst.max(bound * o.error / o.bound);
                    }
                    match o.fault {
                        Some(fault) => crate::say!("  {word}  {:<44} {fault}", o.name),
                        None => crate::say!("  {word}  {:<44} error {:>9.2e}  bound {:>9.2e}", o.name, o.error, o.bound),
                    }
                }
            }
        }
    }
    crate::say!("{passed} passed, {failed} failed, {skipped} files skipped; largest error {worst:.2e}, bound {bound:e}");
    if passed + failed + skipped == 0 {
        bail!("nothing was checked");
    }
    Ok(failed == 0)
}
