//! `saymask train`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use models::run_dir::RunDir;
use run_config::{Method, RunConfig};
use trainer::data::{open_tokenizer, open_train};
use trainer::event::Event;
use trainer::methods;
use trainer::train::Summary;

use crate::origin::{Origin, RunFigures, command_line, program};
use crate::progress::Progress;
use crate::{device, table};

/// The built-in config of a method.
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
    /// Config, a TOML file; without one, the built-in demonstration.
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
    /// Changes to the config, such as `train.batch_size=8`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

pub fn method(word: &str) -> Result<Method, String> {
    Method::ALL
        .into_iter()
        .find(|m| m.name() == word)
        .ok_or_else(|| format!("use one of {}", Method::ALL.map(Method::name).join(", ")))
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Result<()> {
    let mut overrides = args.overrides;
    overrides.extend(args.device.map(|d| format!("run.device={d}")));
    let mut run_config = match &args.config {
        Some(path) => RunConfig::load(path, &overrides)?,
        None => RunConfig::resolve(demonstration(args.method), None, &overrides)?,
    };
    if let Some(threads) = run_config.run.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("run.threads")?;
    }
    let device = device::open(&run_config.run.device)?;
    if !args.resume && args.config.is_none() {
        run_config.run.name = RunDir::free_name(&run_config);
    }
    prepare_data(&run_config)?;
    let data = Arc::new(open_train(&run_config)?);
    data.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
    let mut progress = Progress::new();
    let mut on_event = |event: Event<'_>| progress.on_event(event);
    let resumed = if args.resume { RunDir::of(&run_config).latest_whole()?.checkpoint } else { None };
    let tokenizer = open_tokenizer(&run_config, &data, resumed.as_ref())?;
    if let Some(cut) = tokenizer.truncated(&run_config, data.texts())? {
        crate::note!("warning: {}: {cut}", run_config.data.train_split);
    }
    let summary = methods::train(&run_config, tokenizer, data, &device, args.resume, &mut on_event)?;
    progress.finish();
    keep_figures(&run_config, &device, &summary)?;
    report(&summary);
    Ok(())
}

/// Writes `figures.json` beside a finished run.
pub(crate) fn keep_figures(run_config: &RunConfig, device: &burn::tensor::Device, summary: &Summary) -> Result<()> {
    if summary.reports.is_empty() {
        return Ok(());
    }
    let figures = RunFigures {
        origin: Origin::on(&run_config.run.device, device, &command_line()),
        steps: summary.step,
        seconds: summary.seconds,
        reports: summary.reports.clone(),
        shuffled: summary.shuffled.clone(),
    };
    Ok(trainer::report::write_json(&summary.dir.root().join("figures.json"), &figures)?)
}

/// Generates the demonstration set where the config asks for one and it is not there yet.
pub fn prepare_data(run_config: &RunConfig) -> Result<()> {
    let Some(synth) = &run_config.data.synth else { return Ok(()) };
    if run_config.data.root.exists() {
        return match refcoco_data::generated_by(&run_config.data.root)? {
            Some(found) if found != *synth => bail!(
                "data.synth: {} holds a set generated with other settings; remove it, or name another folder with data.root=...",
                run_config.data.root.display()
            ),
            _ => Ok(()),
        };
    }
    crate::note!("Generating {} images in {} ...", synth.images, run_config.data.root.display());
    refcoco_data::generate(synth, &run_config.data.root)?;
    Ok(())
}

fn report(summary: &Summary) {
    let root = summary.dir.root().display().to_string();
    if summary.reports.is_empty() {
        crate::say!(
            "Stopped at step {} of {} after {:.0} s; continue with the same command and --resume.",
            summary.step,
            summary.total,
            summary.seconds
        );
        return;
    }
    crate::say!("{}", table::reports(&summary.reports, summary.shuffled.as_ref()));
    crate::say!("{} steps in {:.0} s; weights of step {} judged.", summary.step, summary.seconds, summary.judged_step);
    crate::say!();
    if summary.unreadable > 0 {
        crate::note!(
            "{} images or masks could not be read; others took their place. `data verify --deep` names them.",
            summary.unreadable
        );
    }
    crate::say!("  examples   {}", summary.dir.figures().display());
    crate::say!("  curves     {}", summary.dir.curves().display());
    crate::say!("  results    {}", summary.dir.eval().display());
    if let Some((image, sentence)) = &summary.example {
        crate::say!();
        crate::say!("Next: {} predict {} \"{sentence}\" --run {root}", program(), image.display());
    }
}
