//! `saymask eval`.

mod from;
mod line;
mod maps;
mod probe;
mod targets;
mod words;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use metrics::{EvalProfile, Report};
use models::run_dir::RunDir;
use models::tokenizer::RunTokenizer;
use referee::{Format, Protocol, Score, tables};
use run_config::{PromptKind, RunConfig};
use trainer::TrainError;
use trainer::data::EvalData;
use trainer::evaluate::{ItemResult, Options, profile};
use trainer::methods::{Evaluator, evaluator};
use trainer::report;
use trainer::world::World;

use crate::progress::Progress;
use crate::ranks::{Launched, RankArgs};
use crate::session::{HalfWeights, JUDGING, Source};
use crate::{device, ranks, table};
pub(crate) use line::head;
use targets::Target;
pub(crate) use words::{split_words, word_kind};

/// Options of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    half: HalfWeights,
    /// Splits to judge, such as val,testA; those of the config if absent, and with --on all that a paper's table has.
    #[arg(long, value_name = "SPLIT", value_delimiter = ',')]
    split: Vec<String>,
    /// Data set to judge on instead of the config's, once per set: refcoco, refcoco+, refcocog:umd, refcocog:google, grefcoco, ...
    #[arg(long, value_name = "SET[:BY]")]
    on: Vec<String>,
    /// Folder that holds the data sets; the config's if absent.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Score what a program wrote, without a model: COCO results, JSONL, or a folder of masks.
    #[arg(long, value_name = "RESULTS", conflicts_with_all = ["config", "weights", "half_weights", "shuffled_text", "probe"])]
    from: Option<PathBuf>,
    /// With --from: grey levels of mask images are probabilities times 255.
    #[arg(long, requires = "from")]
    soft: bool,
    /// Protocols to score the masks under, side by side, such as dit,lavt or all; with --from all if absent.
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',')]
    protocol: Vec<String>,
    /// Folder for results and figures; the run's own if absent.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also keep what the network said before any threshold, as grey PNG files that --from FOLDER --soft reads.
    #[arg(long, conflicts_with = "from")]
    maps: bool,
    /// How the table is written.
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,
    /// The figure in the columns of a paper's line.
    #[arg(long, value_enum, default_value_t = Metric::Oiou)]
    metric: Metric,
    /// Also judge the first split with sentences exchanged between expressions.
    #[arg(long)]
    shuffled_text: bool,
    /// Also judge the first split with words exchanged for their opposites, and count how often the mask follows them.
    #[arg(long, value_enum)]
    probe: Option<Probe>,
    #[command(flatten)]
    ranks: RankArgs,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For a terminal.
    Text,
    /// GitHub's tables.
    Markdown,
    /// `tabular` with booktabs.
    Latex,
    /// Everything, for programs.
    Json,
}

impl From<TableFormat> for Format {
    fn from(format: TableFormat) -> Self {
        match format {
            TableFormat::Text => Self::Text,
            TableFormat::Markdown => Self::Markdown,
            TableFormat::Latex => Self::Latex,
            TableFormat::Json => Self::Json,
        }
    }
}

/// The figure in a paper's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Overall IoU, which GRES and EVF-SAM call cIoU: the figure of all three papers' tables.
    Oiou,
    /// Mean IoU, which EVF-SAM calls gIoU.
    Miou,
}

impl Metric {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oiou => "oIoU",
            Self::Miou => "mIoU",
        }
    }

    /// The figure of a report.
    pub fn of(self, report: &Report) -> f64 {
        match self {
            Self::Oiou => report.oiou,
            Self::Miou => report.miou,
        }
    }
}

/// What else is asked of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Probe {
    /// Sentences whose words are exchanged: left for right, first for second, top for bottom, colours, sizes.
    Words,
}

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    match &args.from {
        Some(results) => {
            ranks::alone("eval --from")?;
            from::run(args, results)
        }
        None => ranks::together(args.ranks, |launched| judge(args, launched)),
    }
}

/// Judges as one of the ranks: each has its part of every split, and the first one keeps what came out.
fn judge(args: &EvalArgs, launched: &Launched) -> Result<()> {
    let world = launched.world();
    let found = args.source.find_kept("eval", JUDGING, args.half)?;
    let run_config = &found.run_config;
    if args.probe.is_some() && run_config.eval.prompt != PromptKind::Text {
        bail!("--probe words: the config judges with points or boxes, which no words change; add --set eval.prompt=text");
    }
    if args.maps && args.out.is_none() && found.dir.is_none() {
        bail!("--maps: weights that belong to no run have no folder of their own; name one with --out FOLDER");
    }
    let protocols = if args.protocol.is_empty() { Vec::new() } else { from::protocols(&args.protocol)? };
    // A split that does not exist is refused before anything is loaded, and long before the first one is judged.
    let targets = targets::open(run_config, args.data.as_deref(), &args.on, &args.split)?;
    for target in &targets {
        for (option, _) in [("--protocol", !args.protocol.is_empty()), ("--probe", args.probe.is_some())].iter().filter(|o| o.1) {
            from::with_sentences(&target.dataset, option)?;
        }
    }
    let evaluator = evaluator(&found, &device::open(&launched.device(args.source.device()))?)?;
    let profile = profile(run_config)?;
    let dir = args.out.clone().map(RunDir::at).or(found.dir);
    let made = world.in_turn(|| Ok::<_, anyhow::Error>(folders(dir.as_ref(), args.out.is_some())))?;
    let mut judged = Judged { unwritten: made.err(), ..Judged::default() };
    let mut progress = Progress::new();
    for (number, target) in targets.iter().enumerate() {
        let (evaluator, tokenizer) = (&*evaluator, &found.tokenizer);
        let (dir, profile, protocols) = (dir.as_ref(), &profile, &protocols[..]);
        let judge = Judge { evaluator, tokenizer, profile, run_config, dir, protocols, world: &world };
        judge.split(target, number == 0, args, &mut progress, &mut judged)?;
    }
    progress.finish();
    say(args, &judged);
    match (judged.unwritten, &dir) {
        (Some(error), _) => Err(error.context("the figures above could not be kept")),
        (None, Some(dir)) if args.format == TableFormat::Text => {
            crate::say!("  figures    {}", dir.eval().display());
            Ok(())
        }
        (None, None) => {
            crate::note!("nothing is kept of this; --out FOLDER keeps masks and figures");
            Ok(())
        }
        (None, Some(_)) => Ok(()),
    }
}

/// What came out of a call.
#[derive(Default)]
struct Judged {
    reports: Vec<Report>,
    shuffled: Option<Report>,
    probed: Option<probe::Probed>,
    /// The masks of each split under the protocols that were asked for.
    protocols: Vec<(String, Vec<Score>)>,
    /// Why something could not be kept. The work is done: what cannot be kept is still told.
    unwritten: Option<anyhow::Error>,
}

struct Judge<'a> {
    evaluator: &'a dyn Evaluator,
    tokenizer: &'a RunTokenizer,
    profile: &'a EvalProfile,
    run_config: &'a RunConfig,
    dir: Option<&'a RunDir>,
    protocols: &'a [Protocol],
    world: &'a World,
}

impl Judge<'_> {
    fn split(&self, target: &Target, first: bool, args: &EvalArgs, progress: &mut Progress, judged: &mut Judged) -> Result<()> {
        let data = self.evaluator.data(self.run_config, target.dataset.clone())?.with_world(self.world);
        let (of, name) = (data.items.len(), target.name());
        if let Some(split) = self.tokenizer.split_tokens(data.sentences())? {
            crate::note!("warning: {name}: {split}");
        }
        if let Some(cut) = self.tokenizer.truncated(self.run_config, data.sentences())? {
            crate::note!("warning: {name}: {cut}");
        }
        let mut on_event = |done| progress.judging(&name, done, of);
        let mut keep = maps::folder(self.dir.filter(|_| args.maps), &data)?;
        let mut sink = |item, map| keep.as_mut().map_or(Ok(()), |folder| folder.write(item, &map));
        let options = Options { sentences: None, maps: if args.maps { Some(&mut sink) } else { None } };
        let (report, results) = self.evaluator.evaluate_with(&data, self.profile, options, &mut on_event)?;
        self.keep(judged, |dir| {
            report::write_results(dir, &data, &report, &results)?;
            report::write_figures(dir, &data, &report, &results, self.run_config.eval.figures)
        });
        if first && of > 1 && (args.shuffled_text || args.probe.is_some()) {
            let seed = Some(self.run_config.run.seed);
            let shuffled = self.evaluator.evaluate(&data, self.profile, seed, &mut on_event)?.0;
            self.keep(judged, |dir| report::write_shuffled(dir, &shuffled));
            judged.shuffled = Some(shuffled);
        }
        if !self.protocols.is_empty() {
            judged.protocols.push((target.name(), from::in_memory(&data, &results, self.protocols)?));
        }
        if first && args.probe == Some(Probe::Words) {
            self.probe(data, &results, progress, judged)?;
        }
        judged.reports.push(report);
        Ok(())
    }

    fn probe(&self, data: EvalData, own: &[ItemResult], progress: &mut Progress, judged: &mut Judged) -> Result<()> {
        let probed = probe::run(self.evaluator, self.profile, data, own, progress)?;
        self.keep(judged, |dir| report::write_json(&dir.eval().join(format!("{}-words.json", probed.stem)), &probed));
        judged.probed = Some(probed);
        Ok(())
    }

    fn keep(&self, judged: &mut Judged, write: impl FnOnce(&RunDir) -> Result<(), TrainError>) {
        if let (Some(dir), None) = (self.dir.filter(|_| self.world.is_first()), &judged.unwritten) {
            judged.unwritten = write(dir).err().map(anyhow::Error::from);
        }
    }
}

/// Folders of a place that no run has made.
fn folders(dir: Option<&RunDir>, named: bool) -> Result<()> {
    let Some(dir) = dir.filter(|_| named) else { return Ok(()) };
    for path in [dir.eval(), dir.figures()] {
        std::fs::create_dir_all(&path).with_context(|| format!("{}: cannot create it", path.display()))?;
    }
    Ok(())
}

fn say(args: &EvalArgs, judged: &Judged) {
    let Judged { reports, shuffled, probed, protocols, .. } = judged;
    let line = line::table(reports, args.metric);
    match args.format {
        TableFormat::Text => {
            crate::say!("{}", table::reports(reports, shuffled.as_ref()));
            if reports.len() > 1 {
                crate::say!("{}", line.render(Format::Text));
            }
            for (name, scores) in protocols {
                crate::say!("{name} under other protocols\n{}", tables::side_by_side(scores).render(Format::Text));
            }
            if let Some(probed) = probed {
                crate::say!("{}", probed.table().render(Format::Text));
                crate::say!("{}", probed.summary(shuffled.as_ref()));
            }
        }
        TableFormat::Json => {
            let all = serde_json::json!({
                "metric": args.metric.name(),
                "mean": line::mean(reports, args.metric),
                "reports": reports,
                "shuffled": shuffled,
                "words": probed,
                "protocols": protocols.iter().flat_map(|(_, scores)| from::reports(scores)).collect::<Vec<_>>(),
            });
            crate::say!("{all:#}");
        }
        format => {
            crate::say!("{}", line.render(format.into()).trim_end());
            for (_, scores) in protocols {
                crate::say!("\n{}", tables::side_by_side(scores).render(format.into()).trim_end());
            }
        }
    }
}
