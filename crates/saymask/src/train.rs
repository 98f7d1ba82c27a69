//! `saymask train`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use trainer::data::open_train;
use trainer::event::Event;
use trainer::models;
use trainer::plan::{Method, RunPlan};
use trainer::run_dir::RunDir;
use trainer::tokenizer::RunTokenizer;
use trainer::train::Summary;

use crate::origin::{Origin, RunFigures, command_line, program};
use crate::progress::Progress;
use crate::{device, table};

/// The built-in plan of a method.
pub fn demonstration(method: Method) -> &'static str {
    match method {
        Method::Dit => include_str!("../demos/dit.toml"),
        Method::Evf => include_str!("../demos/evf.toml"),
        Method::Risam => include_str!("../demos/risam.toml"),
    }
}

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Recipe, a TOML file; without one, the built-in demonstration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Method of the built-in demonstration.
    #[arg(long, value_name = "METHOD", value_parser = method, default_value = "dit", conflicts_with = "config")]
    method: Method,
    /// Continue the run of that name from its last whole checkpoint.
    #[arg(long)]
    resume: bool,
    /// Device, as `run.device=...` would say it; `devices` lists them.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Changes to the recipe, such as `train.batch_size=8`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

pub fn method(word: &str) -> Result<Method, String> {
    let all = [Method::Dit, Method::Evf, Method::Risam];
    all.into_iter().find(|m| m.name() == word).ok_or_else(|| format!("use one of {}", all.map(Method::name).join(", ")))
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Result<()> {
    let mut overrides = args.overrides;
    overrides.extend(args.device.map(|d| format!("run.device={d}")));
    let mut plan = match &args.config {
        Some(path) => RunPlan::load(path, &overrides)?,
        None => RunPlan::resolve(demonstration(args.method), None, &overrides)?,
    };
    if let Some(threads) = plan.run.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("run.threads")?;
    }
    let device = device::open(&plan.run.device)?;
    if !args.resume && args.config.is_none() {
        plan.run.name = RunDir::free_name(&plan);
    }
    prepare_data(&plan)?;
    let data = Arc::new(open_train(&plan)?);
    let mut progress = Progress::new();
    let mut on_event = |event: Event<'_>| progress.on_event(event);
    let resumed = if args.resume { RunDir::of(&plan).latest_whole()?.checkpoint } else { None };
    let tokenizer = RunTokenizer::open(&plan, &data, resumed.as_ref())?;
    let summary = models::train(&plan, tokenizer, data, &device, args.resume, &mut on_event)?;
    progress.finish();
    if !summary.reports.is_empty() {
        let figures = RunFigures {
            origin: Origin::on(&plan.run.device, &device, &command_line()),
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
pub fn prepare_data(plan: &RunPlan) -> Result<()> {
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
    println!("Next: {} predict {} \"the red circle\" --run {root}", program(), image.display());
}
