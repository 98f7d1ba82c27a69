//! `saymask compare`: the figures of runs beside each other and beside the paper's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use metrics::Report;
use models::run_dir::RunDir;
use referee::{Cell, Table};
use run_config::RunConfig;

use crate::eval::{Metric, TableFormat, head};
use crate::paper;

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders, or folders that `eval --out` wrote.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The figure in the columns.
    #[arg(long, value_enum, default_value_t = Metric::Oiou)]
    metric: Metric,
    /// How the table is written.
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,
    /// Folder of the configs whose headers hold the papers' figures.
    #[arg(long, value_name = "FOLDER", default_value = "configs")]
    configs: PathBuf,
}

/// What a folder holds.
struct Run {
    name: String,
    reports: BTreeMap<Column, Report>,
    config: Option<RunConfig>,
}

/// A column: data set, who split it, split; in the order of papers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    order: (usize, usize),
    dataset: String,
    split_by: String,
    split: String,
}

impl Column {
    fn new(dataset: &str, split_by: &str, split: &str) -> Self {
        let place = |words: &[&str], word: &str| words.iter().position(|w| *w == word).unwrap_or(words.len());
        let sets = ["refcoco", "refcoco+", "refcocog", "grefcoco", "refclef", "phrasecut"];
        let order = (place(&sets, dataset), place(&["val", "testA", "testB", "test"], split));
        Self { order, dataset: dataset.into(), split_by: split_by.into(), split: split.into() }
    }

    fn head(&self) -> String {
        head(&self.dataset, &self.split_by, &self.split)
    }
}

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<()> {
    let runs = args.runs.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let columns: BTreeSet<&Column> = runs.iter().flat_map(|r| r.reports.keys()).collect();
    let columns: Vec<&Column> = columns.into_iter().collect();
    let mut table = Table::new(std::iter::once(args.metric.name().to_owned()).chain(columns.iter().map(|c| c.head())));
    let mut notes = Vec::new();
    for run in &runs {
        let figure = |column: &&Column| run.reports.get(*column).map(|r| args.metric.of(r));
        table.rows.push(row(&run.name, &columns, figure, Cell::Share));
        let Some((words, paper)) = papers(args, run) else { continue };
        let printed = |column: &&Column| paper.get(*column).map(|percent| percent / 100.0);
        table.rows.push(row(&format!("  paper, {words}"), &columns, printed, Cell::Share));
        let difference = |column: &&Column| Some(figure(column)? - printed(column)?);
        table.rows.push(row("  difference", &columns, difference, Cell::Points));
    }
    notes.extend(unlike(&runs));
    let text = table.render(args.format.into());
    if args.format == TableFormat::Text {
        crate::say!("{text}");
        notes.iter().for_each(|note| crate::say!("{note}"));
    } else {
        crate::say!("{}", text.trim_end());
        notes.iter().for_each(|note| crate::note!("warning: {note}"));
    }
    Ok(())
}

fn row(name: &str, columns: &[&Column], figure: impl Fn(&&Column) -> Option<f64>, cell: fn(f64) -> Cell) -> Vec<Cell> {
    let figures = columns.iter().map(|column| figure(column).map_or(Cell::None, cell));
    std::iter::once(Cell::Text(name.to_owned())).chain(figures).collect()
}

/// The paper's figures for the data set that a run's config is about; papers print overall IoU.
fn papers(args: &CompareArgs, run: &Run) -> Option<(String, BTreeMap<Column, f64>)> {
    let config = run.config.as_ref().filter(|_| args.metric == Metric::Oiou)?;
    let (dataset, by) = (&config.data.dataset, &config.data.split_by);
    let row = paper::row(&args.configs, &config.run.name, dataset, by)?;
    let figures = row.figures.into_iter().map(|(split, v)| (Column::new(dataset, by, &split), v)).collect();
    Some((row.config, figures))
}

/// What makes figures not like for like.
fn unlike(runs: &[Run]) -> Vec<String> {
    let mut out = Vec::new();
    let named = |of: fn(&Report) -> String| {
        let mut by: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for run in runs {
            for report in run.reports.values() {
                by.entry(of(report)).or_default().insert(&run.name);
            }
        }
        by
    };
    let profiles = named(|r| format!("{} above {}", r.profile, r.threshold));
    if profiles.len() > 1 {
        let each = |(profile, runs): (&String, &BTreeSet<&str>)| {
            format!("{profile}: {}", runs.iter().copied().collect::<Vec<_>>().join(", "))
        };
        let all = profiles.iter().map(each).collect::<Vec<_>>().join("; ");
        out.push(format!("Not like for like: judged under several profiles ({all}); `eval --from` scores all under each."));
    }
    let mut counts: BTreeMap<&Column, BTreeSet<u64>> = BTreeMap::new();
    for run in runs {
        for (column, report) in &run.reports {
            counts.entry(column).or_default().insert(report.samples);
        }
    }
    for (column, counts) in counts.iter().filter(|(_, counts)| counts.len() > 1) {
        let counts = counts.iter().map(u64::to_string).collect::<Vec<_>>().join(" and ");
        out.push(format!("Not like for like: {} was judged on {counts} expressions.", column.head()));
    }
    out
}

fn read(path: &Path) -> Result<Run> {
    let dir = RunDir::at(path);
    let config = if dir.config_path().exists() { Some(dir.config()?) } else { None };
    let folder = dir.eval();
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("{}: holds no results; `eval --run` or `eval --out` writes them", folder.display()))?;
    let mut reports = BTreeMap::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{}: cannot read it", folder.display()))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let other = ["-results.json", "-shuffled.json", "-words.json", "-protocols.json"].iter().any(|end| name.ends_with(end));
        if other || !name.ends_with(".json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read it", path.display()))?;
        let report: Report =
            serde_json::from_str(&text).with_context(|| format!("{}: holds no figures of `eval`", path.display()))?;
        let (mut dataset, mut by) = (report.dataset.clone(), report.split_by.clone());
        if dataset.is_empty() {
            // Older files do not say it; the run was trained on it.
            let data = config.as_ref().map(|c| &c.data);
            (dataset, by) = data.map_or(("?".into(), "?".into()), |d| (d.dataset.clone(), d.split_by.clone()));
        }
        reports.insert(Column::new(&dataset, &by, &report.split), report);
    }
    if reports.is_empty() {
        bail!("{}: holds no figures; `eval --run {}` writes them", folder.display(), path.display());
    }
    let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    Ok(Run { name, reports, config })
}
