//! `saymask finetune`: one's own pictures, from a look at the folder to figures before and after and the command to use the result.

mod choose;
mod synonyms;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use metrics::Report;
use models::Found;
use models::run_dir::{RunDir, write_whole};
use models::tokenizer::Grown;
use refcoco_data::{Dataset, DatasetSpec, OwnFormat, VerifyReport, verify_own};
use run_config::{Method, RunConfig};
use trainer::data::{EvalData, open_tokenizer, open_train};
use trainer::evaluate::profile;
use trainer::event::Event;
use trainer::methods::{self, evaluator};
use trainer::report;
use trainer::train::Summary;

use crate::origin::program;
use crate::progress::Progress;
use crate::{device, table, train};

/// What `--from` is told for fresh weights.
const SCRATCH: &str = "scratch";

/// Options of `finetune`.
#[derive(Debug, Args)]
pub struct FinetuneArgs {
    /// Folder of your images and what is said about them.
    folder: PathBuf,
    /// What to start from: a run's folder or checkpoint, hf:OWNER/REPO, a folder with config.json and weights, or `scratch` for a small
    /// model with fresh weights. If absent, the small model that comes with the program; with another --method than its own, scratch.
    #[arg(long, value_name = "RUN|hf:..|FOLDER|scratch")]
    from: Option<String>,
    /// Method of a model from scratch; otherwise the one that is expected of what --from names.
    #[arg(long, value_name = "METHOD", value_parser = train::method)]
    method: Option<Method>,
    /// How the data are written: coco, jsonl, masks, label-studio or yolo-seg; found by looking if absent.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<OwnFormat>,
    /// Folder of the run; a free name below `runs` if absent.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Optimiser steps; chosen by the number of images if absent.
    #[arg(long, value_name = "NUMBER")]
    steps: Option<u64>,
    /// Device, as `run.device=...` would say it; `devices` lists them.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Look, choose and print the config, and train nothing.
    #[arg(long)]
    dry_run: bool,
    /// Changes to the chosen config, such as `optim.lr=1e-4`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

fn format(word: &str) -> Result<OwnFormat, String> {
    OwnFormat::named(word).ok_or_else(|| format!("use one of {}", OwnFormat::names()))
}

/// Runs the command.
pub fn run(args: &FinetuneArgs) -> Result<()> {
    crate::ranks::alone("finetune")?;
    let format = args.format.map_or_else(|| OwnFormat::detect(&args.folder), Ok)?;
    let counts = look(&args.folder, format)?;
    let base = base(args)?;
    let out = out(args)?;
    let mut grown = match base.as_ref().filter(|base| !base.weights.are_initial()) {
        Some(base) => base.tokenizer.with_words(&counts.texts)?,
        None => None,
    };
    let mut chosen = choose::config(args, format, &counts, base.as_ref(), &out)?;
    if let Some(grown) = &grown {
        chosen.reasons.push(choose::of_words(grown));
    }
    let run_config = chosen.config.with_overrides(&args.overrides)?;
    said(&chosen, &run_config, base.as_ref(), &out)?;
    if args.dry_run {
        return Ok(());
    }
    let device = device::open(&run_config.run.device)?;
    let mut progress = Progress::new();
    if let (Some(base), Some(grown)) = (&base, &mut grown) {
        meaning(base, grown, &run_config, &device, &mut progress)?;
    }
    if let Some(base) = base.as_ref().filter(|base| !base.weights.are_initial()) {
        keep_base(base, grown.as_ref(), &choose::base_folder(&out), &device)?;
    }
    let before = match &base {
        None => None,
        Some(base) => Some(judge_before(base, &run_config, &device, &mut progress)?),
    };
    let data = Arc::new(open_train(&run_config)?);
    let tokenizer = open_tokenizer(&run_config, &data, None)?;
    if let Some(cut) = tokenizer.truncated(&run_config, data.texts())? {
        crate::note!("warning: {}: {cut}", run_config.data.train_split);
    }
    let mut on_event = |event: Event<'_>| progress.on_event(event);
    let summary = methods::train(&run_config, tokenizer, data, &device, false, &mut on_event)?;
    progress.finish();
    train::keep_figures(&run_config, &device, &summary)?;
    if let Some(before) = &before {
        before.keep(&summary.dir)?;
    }
    crate::report::write_run(&summary.dir)?;
    tell(&summary, before.as_ref().map(|b| &b.report), &args.folder)
}

/// What a folder holds per split.
#[derive(Debug)]
struct Counts {
    train: (usize, usize),
    val: (usize, usize),
    /// Referents of the training split.
    referents: usize,
    /// Sentences of the training split.
    texts: Vec<String>,
}

/// Checks every record, image and mask, and says what was found.
fn look(folder: &Path, format: OwnFormat) -> Result<Counts> {
    let report: VerifyReport = verify_own(folder, format, true)?;
    crate::say!("{}: {}", folder.display(), format.name());
    for split in &report.splits {
        crate::say!("  {:<8}{:>6} images{:>7} referents{:>7} sentences", split.split, split.images, split.refs, split.sentences);
    }
    report.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
    if let Some(first) = report.errors.first() {
        report.errors.iter().for_each(|error| crate::note!("error: {error}"));
        bail!("nothing was trained, for {} faults are named above, the first: {first}", report.errors.len());
    }
    // Opening says what to do where a split has nothing.
    let open = |split: &str| Dataset::open(&DatasetSpec::new(folder, format.name()), split);
    let (train, val) = (open("train")?, open("val")?);
    Ok(Counts {
        train: (train.images.len(), train.sentences()),
        val: (val.images.len(), val.sentences()),
        referents: train.referents.len(),
        texts: train.texts().map(std::borrow::Cow::into_owned).collect(),
    })
}

/// The model to start from.
fn base(args: &FinetuneArgs) -> Result<Option<Found>> {
    let Some(from) = &args.from else {
        let shipped = models::Source::Shipped.find::<&str>(&[])?;
        return Ok(args.method.is_none_or(|method| method == shipped.run_config.model.method).then_some(shipped));
    };
    if from == SCRATCH {
        return Ok(None);
    }
    let path = Path::new(from);
    let of_run = path.join("config.toml").is_file() || path.join(models::manifest::MANIFEST).is_file();
    let source = if of_run {
        models::Source::Run(path.to_owned())
    } else {
        models::Source::Weights { weights: from.clone(), config: None }
    };
    let found = source.find::<&str>(&[]).with_context(|| format!("--from {from}"))?;
    if let Some(method) = args.method.filter(|m| *m != found.run_config.model.method) {
        bail!("--method {}: {from} is of {}", method.name(), found.run_config.model.method.name());
    }
    Ok(Some(found))
}

/// The run's folder, which must not exist yet.
fn out(args: &FinetuneArgs) -> Result<PathBuf> {
    if let Some(out) = &args.out {
        if out.exists() {
            bail!("--out {}: is there already; name a folder that does not exist", out.display());
        }
        return Ok(out.clone());
    }
    let name = args.folder.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.unwrap_or_default().chars().map(plain).collect();
    let name = format!("finetune-{}", name.trim_matches(['.', '-']));
    let free = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") });
    let mut free = free.map(|name| Path::new("runs").join(name)).filter(|path| !path.exists());
    free.next().context("no free name below runs")
}

/// Prints what was chosen, and why.
fn said(chosen: &choose::Chosen, run_config: &RunConfig, base: Option<&Found>, out: &Path) -> Result<()> {
    match base {
        Some(base) => crate::say!("from {} ({})", base.label, base.run_config.model.method.name()),
        None => crate::say!(
            "from fresh weights: a small {} of its own; --from starts from a trained one",
            run_config.model.method.name()
        ),
    }
    chosen.reasons.iter().for_each(|reason| crate::say!("  {reason}"));
    if let Some(base) = base {
        crate::say!("changes to its config, kept whole in {}:", out.join("config.toml").display());
        for difference in run_config.differences(&base.run_config)? {
            crate::say!("  {} = {}", difference.key, difference.here.as_deref().unwrap_or("(absent)"));
        }
    }
    Ok(())
}

/// Finds out which known words the new ones stand for, and says it.
fn meaning(
    base: &Found,
    grown: &mut Grown,
    run_config: &RunConfig,
    device: &burn::tensor::Device,
    progress: &mut Progress,
) -> Result<()> {
    let found = Found { run_config: run_config.clone(), ..base.clone() };
    let evaluator = evaluator(&found, device)?;
    let data = EvalData::open(run_config, &run_config.data.train_split, evaluator.inputs())?;
    let known = base.tokenizer.whole_words()?;
    let synonyms = synonyms::find(&*evaluator, &profile(run_config)?, data, grown, &known, progress)?;
    progress.finish();
    let pairs: Vec<String> = synonyms.iter().map(|(word, known)| format!("{word} = {known}")).collect();
    if !pairs.is_empty() {
        crate::say!("new words that known ones served for on the training images: {}", pairs.join(", "));
    }
    synonyms::name(grown, &synonyms, &*base.tokenizer.shared())
}

/// Writes a run's weights and tokenizer, with new words, to where the new run's config finds them: the run stays whole when the old one is
/// removed.
fn keep_base(base: &Found, grown: Option<&Grown>, folder: &Path, device: &burn::tensor::Device) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    let says = [("format", "pt"), ("source", base.label.as_str())];
    let mut weights = base.state_dict(device)?;
    if let Some(grown) = grown {
        vocabulary::grow(&mut weights, base.tokenizer.shared().vocab_size(), grown)?;
    }
    weights.save(folder.join(choose::WEIGHTS), &says)?;
    // The base's own config.json says how many tokens it had.
    let files = match grown {
        Some(grown) => grown.tokenizer.files(),
        None => base.files()?,
    };
    for (name, bytes) in files {
        write_whole(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// What the model said before.
struct Before {
    data: EvalData,
    report: Report,
    results: Vec<trainer::evaluate::ItemResult>,
    figures: usize,
}

impl Before {
    /// Writes it below the run, in `before`.
    fn keep(&self, dir: &RunDir) -> Result<()> {
        let before = RunDir::at(dir.root().join("before"));
        for path in [before.eval(), before.figures()] {
            std::fs::create_dir_all(&path).with_context(|| format!("{}: cannot create it", path.display()))?;
        }
        report::write_results(&before, &self.data, &self.report, &self.results)?;
        Ok(report::write_figures(&before, &self.data, &self.report, &self.results, self.figures)?)
    }
}

fn judge_before(base: &Found, run_config: &RunConfig, device: &burn::tensor::Device, progress: &mut Progress) -> Result<Before> {
    // The weights that are there, on the new data, under the new config's way of judging.
    let found = Found { run_config: run_config.clone(), ..base.clone() };
    let evaluator = evaluator(&found, device)?;
    let data = EvalData::open(run_config, &run_config.data.val_splits[0], evaluator.inputs())?;
    let of = data.items.len();
    let (report, results) =
        evaluator.evaluate(&data, &profile(run_config)?, None, &mut |done| progress.judging("before", done, of))?;
    Ok(Before { data, report, results, figures: run_config.eval.figures })
}

/// Figures before and after, and what to do with the result.
fn tell(summary: &Summary, before: Option<&Report>, folder: &Path) -> Result<()> {
    let Some(after) = summary.reports.first() else {
        bail!("stopped at step {} of {} before it was judged", summary.step, summary.total);
    };
    crate::say!("{}", table::reports(&summary.reports, summary.shuffled.as_ref()));
    if let Some(before) = before {
        let line = |name: &str, r: &Report| crate::say!("{name:<8}mIoU {:>6.2}   oIoU {:>6.2}", 100.0 * r.miou, 100.0 * r.oiou);
        crate::say!("on {} held-out sentences of {}:", after.samples, folder.display());
        line("before", before);
        line("after", after);
        crate::say!(
            "gained  mIoU {:>+6.2}   oIoU {:>+6.2}",
            100.0 * (after.miou - before.miou),
            100.0 * (after.oiou - before.oiou)
        );
    }
    crate::say!("{} steps in {:.0} s", summary.step, summary.seconds);
    crate::say!();
    let root = summary.dir.root();
    crate::say!("  report     {}", root.join(crate::report::FILE).display());
    crate::say!("  examples   {}", summary.dir.figures().display());
    if before.is_some() {
        crate::say!("  before     {}", root.join("before/figures").display());
    }
    if let Some((image, sentence)) = &summary.example {
        crate::say!();
        crate::say!("Next: {} predict {} \"{sentence}\" --run {}", program(), image.display(), root.display());
    }
    Ok(())
}
