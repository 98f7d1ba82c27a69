//! What a run's folder holds: config, log, figures per split, and every expression that was judged.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use metrics::Report;
use models::run_dir::RunDir;
use run_config::RunConfig;
use serde::de::DeserializeOwned;
use trainer::run_log::{LogLine, TimingLine, read_log};

use super::items::{Items, Results};
use super::name_of;
use crate::origin::RunFigures;

/// Files of `eval` that hold something else than a split's figures.
const OTHERS: [&str; 4] = ["-results.json", "-shuffled.json", "-words.json", "-protocols.json"];

/// A run.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) dir: RunDir,
    pub(super) config: RunConfig,
    pub(super) log: Vec<LogLine>,
    pub(super) timing: Vec<TimingLine>,
    /// Where it ran, if it was finished.
    pub(super) figures: Option<RunFigures>,
    pub(super) splits: Vec<Judged>,
}

/// A split that was judged.
pub(super) struct Judged {
    pub(super) report: Report,
    pub(super) shuffled: Option<Report>,
    /// Figures of the weights that the run began with.
    pub(super) before: Option<(Report, Option<Items>)>,
    /// Every expression, where the results and the data are there; else why not.
    pub(super) items: Result<Items, String>,
    /// What exchanged words did, if that was asked.
    pub(super) words: Option<serde_json::Value>,
}

impl Run {
    /// Opens a run's folder.
    pub(super) fn open(dir: &RunDir) -> Result<Self> {
        let config = dir.config()?;
        let log = if dir.log().is_file() { read_log(&dir.log())? } else { Vec::new() };
        let mut splits = Vec::new();
        for path in files(&dir.eval())? {
            splits.push(judged(dir, &config, &path)?);
        }
        if log.is_empty() && splits.is_empty() {
            bail!("{}: holds neither a log nor figures; train first", dir.root().display());
        }
        let name = name_of(dir.root());
        let figures = json(&dir.root().join("figures.json"))?;
        Ok(Self { name, dir: dir.clone(), config, log, timing: timing(dir), figures, splits })
    }
}

/// The files of figures, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{}: cannot list it", folder.display()))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".json") && !OTHERS.iter().any(|end| name.ends_with(end)) {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

/// A file's contents; none where there is no such file.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read it", path.display()))?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{}: is not as Saymask wrote it", path.display()))?))
}

fn judged(dir: &RunDir, config: &RunConfig, path: &Path) -> Result<Judged> {
    let report: Report = json(path)?.with_context(|| format!("{}: is gone", path.display()))?;
    let stem = report.stem();
    let beside = |end: &str| dir.eval().join(format!("{stem}{end}"));
    let results: Option<Results> = json(&beside("-results.json"))?;
    let items = match results {
        None => Err("the masks of this split were not kept".to_owned()),
        Some(results) => Items::new(config, &report, &results).map_err(|e| format!("{e:#}")),
    };
    let eval = dir.root().join("before/eval");
    let before = match json::<Report>(&eval.join(format!("{stem}.json")))? {
        None => None,
        Some(report) => {
            let results: Option<Results> = json(&eval.join(format!("{stem}-results.json")))?;
            let items = results.and_then(|results| Items::new(config, &report, &results).ok());
            Some((report, items))
        }
    };
    let (shuffled, words) = (json(&beside("-shuffled.json"))?, json(&beside("-words.json"))?);
    Ok(Judged { report, shuffled, before, items, words })
}

/// Wall-clock lines; a torn one is left out.
fn timing(dir: &RunDir) -> Vec<TimingLine> {
    let text = std::fs::read_to_string(dir.timing()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
