//! `saymask train`.

use std::path::PathBuf;
use std::str::FromStr;
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
use crate::ranks::{Launched, RankArgs};
use crate::{device, kinds, ranks, table};

/// The built-in config of a method.
pub fn demonstration(method: Method) -> &'static str {
    match method {
        Method::Dit => include_str!("../demos/dit.toml"),
        Method::Evf => include_str!("../demos/evf.toml"),
        Method::Risam => include_str!("../demos/risam.toml"),
    }
}

/// A built-in demonstration.
#[derive(Debug, Clone, Copy)]
pub struct Demonstration {
    name: &'static str,
    config: &'static str,
}

/// All of them: one per method, EVF-SAM on several kinds of data, and RISAM's equations as they are printed.
const DEMONSTRATIONS: [Demonstration; 5] = [
    Demonstration { name: "dit", config: include_str!("../demos/dit.toml") },
    Demonstration { name: "evf", config: include_str!("../demos/evf.toml") },
    Demonstration { name: "risam", config: include_str!("../demos/risam.toml") },
    Demonstration { name: "evf-multitask", config: include_str!("../demos/evf-multitask.toml") },
    Demonstration { name: "risam-as-printed", config: include_str!("../demos/risam-as-printed.toml") },
];

impl FromStr for Demonstration {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let names = || DEMONSTRATIONS.map(|d| d.name).join(", ");
        DEMONSTRATIONS.into_iter().find(|d| d.name == word).ok_or_else(|| format!("use one of {}", names()))
    }
}

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Config, a TOML file; without one, the built-in demonstration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Method of the built-in demonstration: dit, evf, risam; evf-multitask, which is EVF-SAM on sentences, classes and parts;
    /// risam-as-printed, which is RISAM without what its paper leaves open or out.
    #[arg(long, value_name = "METHOD", default_value = "dit", conflicts_with = "config")]
    method: Demonstration,
    /// Continue the run of that name from its last whole checkpoint.
    #[arg(long)]
    resume: bool,
    /// Device, as `run.device=...` would say it; `devices` lists them. Under mpirun, `cuda:{local_rank}` gives each rank of a machine
    /// its own.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    #[command(flatten)]
    ranks: RankArgs,
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
    ranks::together(args.ranks, |launched| train(args, launched))
}

/// Trains as one of the ranks.
fn train(args: TrainArgs, launched: &Launched) -> Result<()> {
    let world = launched.world();
    let mut overrides = args.overrides;
    overrides.extend(args.device.map(|d| format!("run.device={d}")));
    let mut run_config = match &args.config {
        Some(path) => RunConfig::load(path, &overrides)?,
        None => RunConfig::resolve(args.method.config, None, &overrides)?,
    };
    if let Some(threads) = run_config.run.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("run.threads")?;
    }
    let device = device::open(&launched.device(&run_config.run.device))?;
    if !args.resume && args.config.is_none() {
        run_config.run.name = world.from_first(RunDir::free_name(&run_config))?;
    }
    world.in_turn(|| prepare_data(&run_config))?;
    let data = Arc::new(open_train(&run_config)?);
    data.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
    let mut progress = Progress::new();
    let mut on_event = |event: Event<'_>| progress.on_event(event);
    let resumed = if args.resume { RunDir::of(&run_config).latest_whole()?.checkpoint } else { None };
    let tokenizer = open_tokenizer(&run_config, &data, resumed.as_ref())?;
    if let Some(split) = tokenizer.split_tokens(data.texts())? {
        crate::note!("warning: {split}");
    }
    if let Some(cut) = tokenizer.truncated(&run_config, data.texts())? {
        crate::note!("warning: {}: {cut}", run_config.data.train_split);
    }
    let summary = methods::train_on_ranks(&run_config, tokenizer, data, &device, &world, args.resume, &mut on_event)?;
    progress.finish();
    if !world.is_first() {
        return Ok(());
    }
    run_config.run.device = launched.device(&run_config.run.device);
    keep_figures(&run_config, &device, &summary)?;
    report(&summary);
    if args.config.is_none() {
        kinds::say(&run_config, &summary, &device)?;
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// The two demonstrations of RISAM differ in what the paper does not print, and in their name.
    #[test]
    fn the_printed_risam_is_the_demonstration_without_additions() {
        let read = |name: &str| RunConfig::from_toml_str(Demonstration::from_str(name).unwrap().config).unwrap();
        let (ours, printed) = (read("risam"), read("risam-as-printed"));
        let keys: Vec<String> = ours.differences(&printed).unwrap().into_iter().map(|d| d.key).collect();
        let added = ["dice_smooth", "ffn", "language_softmax", "norm", "tap_layer_norm", "upsampling", "visual_position"];
        assert_eq!(keys, added.map(|key| format!("model.risam.{key}")));
        let config: fusion_risam::RisamConfig = printed.method_section().unwrap();
        let defaults = fusion_risam::RisamConfig::default();
        assert_eq!((config.norm, config.ffn, config.language_softmax), (defaults.norm, 0, defaults.language_softmax));
        assert_eq!(
            (config.upsampling, config.visual_position, config.dice_smooth),
            (defaults.upsampling, defaults.visual_position, 0.0)
        );
        assert_eq!((ours.run.name.as_str(), printed.run.name.as_str()), ("demo-risam", "demo-risam-as-printed"));
    }
}
