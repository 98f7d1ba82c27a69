//! `saymask report`: a run as one HTML file that needs no network, several runs compared, and TensorBoard's event files.

mod changes;
mod html;
mod items;
mod pictures;
mod read;
mod sections;
mod statistics;
mod tensorboard;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use models::run_dir::{RunDir, write_whole};

use html::Html;
use read::Run;

/// Name of a run's report in its folder.
pub const FILE: &str = "report.html";

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders; several are compared, the later ones with the first.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File to write; report.html in the run's folder, or here for several runs, if absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ReportArgs) -> Result<()> {
    match args.runs.as_slice() {
        [one] if args.out.is_none() => {
            for path in write_run(&RunDir::at(one))? {
                crate::say!("{}", path.display());
            }
            Ok(())
        }
        runs => {
            let out = args.out.clone().unwrap_or_else(|| FILE.into());
            if args.out.is_none() && out.exists() {
                bail!("{}: is there already; name another file with --out", out.display());
            }
            let runs = runs.iter().map(|path| Run::open(&RunDir::at(path))).collect::<Result<Vec<_>>>()?;
            let text = match runs.as_slice() {
                [one] => of_run(one)?,
                several => compared(several)?,
            };
            write_whole(&out, text.as_bytes())?;
            crate::say!("{}", out.display());
            Ok(())
        }
    }
}

/// Writes a run's report and event file into its folder; their paths.
pub fn write_run(dir: &RunDir) -> Result<Vec<PathBuf>> {
    let run = Run::open(dir)?;
    let text = of_run(&run)?;
    let path = dir.root().join(FILE);
    write_whole(&path, text.as_bytes())?;
    Ok(vec![path, tensorboard::write(&run)?])
}

fn of_run(run: &Run) -> Result<String> {
    let mut html = Html::new(&run.name);
    sections::head(&mut html, run);
    sections::figures(&mut html, run);
    sections::curves(&mut html, run);
    for split in &run.splits {
        sections::parts(&mut html, split);
    }
    pictures::section(&mut html, run)?;
    sections::words(&mut html, run);
    let last = changes::last_before(run)?;
    changes::section(&mut html, run, last.as_ref())?;
    Ok(html.finish())
}

fn compared(runs: &[Run]) -> Result<String> {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let mut html = Html::new(&names.join(" · "));
    sections::side_by_side(&mut html, runs);
    sections::curves_of_all(&mut html, runs);
    for other in runs.iter().skip(1) {
        changes::section(&mut html, other, runs.first())?;
    }
    pictures::side_by_side(&mut html, runs)?;
    Ok(html.finish())
}

/// The last part of a path, for people.
fn name_of(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}
