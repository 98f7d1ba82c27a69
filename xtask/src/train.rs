//! `cargo xtask train`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use text_encoders::tokenizer::WordPiece;
use trainer::data::open_split;
use trainer::plan::RunPlan;
use trainer::run_dir::RunDir;
use trainer::train::{Event, Summary, train};

use crate::bench::{Origin, RunFigures};
use crate::progress::Progress;
use crate::session::method;
use crate::{device, table};

/// The built-in plan.
const DEMO: &str = include_str!("../../configs/demo-dit.toml");

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Recipe, a TOML file; without one, the built-in demonstration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Continue the run of that name from its last whole checkpoint.
    #[arg(long)]
    resume: bool,
    /// Device, as `run.device=...` would say it.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Changes to the recipe, such as `train.batch_size=8`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Result<()> {
    let mut overrides = args.overrides;
    overrides.extend(args.device.map(|d| format!("run.device={d}")));
    let mut plan = match &args.config {
        Some(path) => RunPlan::load(path, &overrides)?,
        None => RunPlan::resolve(DEMO, None, &overrides)?,
    };
    if let Some(threads) = plan.run.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("run.threads")?;
    }
    let device = device::open(&plan.run.device)?;
    if !args.resume && args.config.is_none() {
        plan.run.name = RunDir::free_name(&plan);
    }
    prepare_data(&plan)?;
    let data = Arc::new(open_split(&plan, &plan.data.train_split)?);
    let mut progress = Progress::new();
    let mut tell = |event: Event<'_>| progress.tell(event);
    let segmenter = method(&plan, tokenizer(&plan, &data, args.resume)?)?;
    let summary = train(&segmenter, &plan, data, &device, args.resume, &mut tell)?;
    progress.finish();
    if !summary.reports.is_empty() {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let figures = RunFigures {
            origin: Origin::here(&format!("cargo xtask {}", words.join(" "))),
            steps: summary.step,
            seconds: summary.seconds,
            reports: summary.reports.clone(),
            shuffled: summary.shuffled.clone(),
        };
        trainer::report::write_json(&summary.dir.root().join("figures.json"), &figures)?;
    }
    report(&plan, &summary);
    Ok(())
}

/// Generates the demonstration set where the plan asks for one and it is not there yet.
fn prepare_data(plan: &RunPlan) -> Result<()> {
    let Some(synth) = &plan.data.synth else { return Ok(()) };
    if plan.data.root.exists() {
        return match refcoco_data::generated_by(&plan.data.root)? {
            Some(found) if found != *synth => bail!(
                "data.synth: {} holds a set generated with other settings; remove it, or name another folder with data.root=...",
                plan.data.root.display()
            ),
            _ => Ok(()),
        };
    }
    eprintln!("Generating {} images in {} ...", synth.images, plan.data.root.display());
    refcoco_data::generate(synth, &plan.data.root)?;
    Ok(())
}

/// The plan's vocabulary: read from its file, from the run that is continued, or made from the training sentences.
fn tokenizer(plan: &RunPlan, data: &refcoco_data::Dataset, resume: bool) -> Result<WordPiece> {
    if let Some(path) = plan.text.vocabulary_file() {
        return Ok(WordPiece::load(path)?);
    }
    if resume && let Some(checkpoint) = RunDir::of(plan).latest_whole()?.checkpoint {
        return Ok(WordPiece::load(checkpoint.file("vocab.txt")?)?);
    }
    let sentences = data.referents.iter().flat_map(|r| r.sentences.iter().map(|s| s.text.as_str()));
    Ok(WordPiece::train(sentences, 1000)?)
}

fn report(plan: &RunPlan, summary: &Summary) {
    let root = summary.dir.root().display().to_string();
    if summary.reports.is_empty() {
        println!(
            "Stopped at step {} of {} after {:.0} s; continue with the same command and --resume.",
            summary.step, summary.total, summary.seconds
        );
        return;
    }
    println!("{}", table::reports(&summary.reports, summary.shuffled.as_ref()));
    println!("{} steps in {:.0} s; weights of step {} judged.", summary.step, summary.seconds, summary.judged_step);
    println!();
    println!("  pictures   {}", summary.dir.pictures().display());
    println!("  curves     {}", summary.dir.curves().display());
    println!("  figures    {}", summary.dir.eval().display());
    println!();
    let image = plan.data.root.join("images/train2014/COCO_train2014_000000000001.jpg");
    println!("Next: cargo xtask predict {} \"the red circle\" --run {root}", image.display());
}
