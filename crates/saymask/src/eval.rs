//! `saymask eval`.

use anyhow::{Result, bail};
use clap::Args;
use trainer::data::EvalData;
use trainer::evaluate::profile;
use trainer::report;

use crate::progress::Progress;
use crate::session::Source;
use crate::table;

/// Options of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    source: Source,
    /// Splits to judge; the config's if absent.
    #[arg(long, value_name = "SPLIT", value_delimiter = ',')]
    split: Vec<String>,
    /// Also judge the first split with sentences exchanged between expressions.
    #[arg(long)]
    shuffled_text: bool,
}

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    let session = args.source.open()?;
    eprintln!("weights: {}", session.label);
    let splits = if args.split.is_empty() { &session.run_config.data.val_splits } else { &args.split };
    if splits.is_empty() {
        bail!("--split: the config names no split to judge; name one, such as --split val");
    }
    let profile = profile(&session.run_config)?;
    let mut progress = Progress::new();
    let (mut reports, mut shuffled) = (Vec::new(), None);
    for (number, split) in splits.iter().enumerate() {
        let data = EvalData::open(&session.run_config, split, session.model.inputs())?;
        let of = data.items.len();
        let mut judge = |seed| session.model.evaluate(&data, &profile, seed, &mut |done| progress.judging(split, done, of));
        let (report, found) = judge(None)?;
        if let Some(dir) = &session.dir {
            report::write_results(dir, &data, &report, &found)?;
            report::write_pictures(dir, &data, &report, &found, session.run_config.eval.pictures)?;
        }
        if number == 0 && args.shuffled_text && of > 1 {
            shuffled = Some(judge(Some(session.run_config.run.seed))?.0);
        }
        reports.push(report);
    }
    progress.finish();
    println!("{}", table::reports(&reports, shuffled.as_ref()));
    if let Some(dir) = &session.dir {
        println!("  figures    {}", dir.eval().display());
    }
    Ok(())
}
