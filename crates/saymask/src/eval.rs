//! `saymask eval`.

use anyhow::{Result, bail};
use clap::Args;
use trainer::data::EvalData;
use trainer::evaluate::profile;
use trainer::methods::evaluator;
use trainer::report;

use crate::device;
use crate::progress::Progress;
use crate::session::{JUDGING, Source};
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
    let found = args.source.find("eval", JUDGING)?;
    let evaluator = evaluator(&found, &device::open(args.source.device())?)?;
    let run_config = &found.run_config;
    let splits = if args.split.is_empty() { &run_config.data.val_splits } else { &args.split };
    if splits.is_empty() {
        bail!("--split: the config names no split to judge; name one, such as --split val");
    }
    let profile = profile(run_config)?;
    let mut progress = Progress::new();
    let (mut reports, mut shuffled, mut unwritten) = (Vec::new(), None, None);
    for (number, split) in splits.iter().enumerate() {
        let data = EvalData::open(run_config, split, evaluator.inputs())?;
        data.dataset.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
        if let Some(cut) = found.tokenizer.truncated(run_config, data.sentences())? {
            crate::note!("warning: {split}: {cut}");
        }
        let of = data.items.len();
        let mut judge = |seed| evaluator.evaluate(&data, &profile, seed, &mut |done| progress.judging(split, done, of));
        let (report, results) = judge(None)?;
        if let Some(dir) = &found.dir {
            let written = report::write_results(dir, &data, &report, &results)
                .and_then(|()| report::write_figures(dir, &data, &report, &results, run_config.eval.figures));
            // The work is done: what cannot be kept is still told.
            unwritten = unwritten.or(written.err());
        }
        if number == 0 && args.shuffled_text && of > 1 {
            shuffled = Some(judge(Some(run_config.run.seed))?.0);
        }
        reports.push(report);
    }
    progress.finish();
    crate::say!("{}", table::reports(&reports, shuffled.as_ref()));
    match (unwritten, &found.dir) {
        (Some(error), _) => Err(anyhow::Error::from(error).context("the figures above could not be kept")),
        (None, Some(dir)) => {
            crate::say!("  figures    {}", dir.eval().display());
            Ok(())
        }
        (None, None) => Ok(()),
    }
}
