//! `saymask eval --from`: the referee.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use metrics::Report;
use models::run_dir::{RunDir, write_whole};
use refcoco_data::{Dataset, DatasetSpec, sequential};
use referee::{Answer, Format, Given, Joined, Protocol, Results, Score, Split, score, score_with, tables};
use run_config::RunConfig;
use trainer::data::EvalData;
use trainer::evaluate::ItemResult;

use super::targets::{names, specs};
use super::{EvalArgs, TableFormat};
use crate::progress::Progress;

/// Results, expressions or records that are named when something is wrong with them.
const NAMED: usize = 3;

/// Runs the command.
pub(super) fn run(args: &EvalArgs, path: &Path) -> Result<()> {
    let protocols = protocols(&args.protocol)?;
    let (spec, split, limit) = target(args, path)?;
    let results = Results::open(path, args.soft)?;
    let dataset = Dataset::open(&spec, &split)?.with_masks_read()?;
    dataset.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
    with_sentences(&dataset, "--from")?;
    let split = Split::of(&dataset, &sequential(&dataset, limit)?);
    split.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
    let joined = Joined::new(&split, &results)?;
    joined.notes(&split, &results, NAMED).iter().for_each(|note| crate::note!("warning: {note}"));
    if let Some(kind) = joined.numbers {
        crate::note!("the files' numbers are {kind}s");
    }
    let mut progress = Progress::new();
    let (name, of) = (split.name(), split.expressions.len());
    let scores = score(&split, &results, &joined, &protocols, |done| progress.judging(&name, done, of))?;
    progress.finish();
    say(args, &results, &joined, &name, &scores);
    keep(args, &split, &scores).context("the figures above could not be kept")
}

/// Refuses a set of classes: results are joined to sentences, and protocols judge those.
pub(super) fn with_sentences(dataset: &Dataset, option: &str) -> Result<()> {
    if dataset.class_images.is_empty() {
        return Ok(());
    }
    bail!(
        "{option}: {} has classes instead of sentences; `eval` judges it with a model and without this option",
        dataset.spec.name
    );
}

/// Protocols by their names; all of them for `all` or nothing.
pub(super) fn protocols(wanted: &[String]) -> Result<Vec<Protocol>> {
    let wanted = names(wanted);
    if wanted.is_empty() || wanted.iter().any(|name| name == "all") {
        return Ok(Protocol::all());
    }
    Ok(wanted.iter().map(|name| Protocol::named(name)).collect::<Result<Vec<_>, _>>()?)
}

/// Masks that were just judged, under protocols.
pub(super) fn in_memory(data: &EvalData, results: &[ItemResult], protocols: &[Protocol]) -> Result<Vec<Score>> {
    let split = Split::of(&data.dataset, &data.items);
    let given = |expression: usize| Ok(Given { answer: Some(Answer::Mask(results[expression].mask.clone())), no_target: None });
    Ok(score_with(&split, given, protocols, |_| {})?)
}

/// The figures of the protocols that judged.
pub(super) fn reports(scores: &[Score]) -> impl Iterator<Item = &Report> {
    scores.iter().filter_map(|s| s.outcome.as_ref().ok())
}

/// The data set, the split and the number of expressions that results are about: what the command line says; else what the results'
/// own file name says, if Saymask wrote it; else the config of the run that they lie in.
fn target(args: &EvalArgs, path: &Path) -> Result<(DatasetSpec, String, Option<usize>)> {
    let of_run = run_of(args, path);
    let config = match &of_run {
        Some(dir) => dir.config()?,
        None => RunConfig::from_toml_str("")?,
    };
    let config = config.with_overrides(args.source.set())?;
    if of_run.is_none() && args.data.is_none() && !args.source.set().iter().any(|s| s.trim().starts_with("data.root")) {
        bail!("--from {}: lies in no run, so say where the data sets are: --data FOLDER", path.display());
    }
    let (mut specs, mut splits) = (specs(&config, args.data.as_deref(), &args.on)?, names(&args.split));
    if args.on.is_empty()
        && splits.is_empty()
        && let Some([set, by, split]) = written_by_us(path)
    {
        let root = specs[0].0.root.clone();
        specs = vec![(DatasetSpec { root, name: set, split_by: by }, Vec::new())];
        splits = vec![split];
    }
    if splits.is_empty() && args.on.is_empty() {
        splits.clone_from(&specs[0].1);
    }
    match (specs.as_slice(), splits.as_slice()) {
        ([(spec, _)], [split]) => Ok((spec.clone(), split.clone(), config.eval.limit)),
        _ => bail!("--from {}: results are of one split; name it, such as --on refcoco --split val", path.display()),
    }
}

fn run_of(args: &EvalArgs, path: &Path) -> Option<RunDir> {
    if let Some(run) = args.source.run() {
        return Some(RunDir::at(run));
    }
    let folder = path.canonicalize().ok()?.parent()?.to_owned();
    let run = folder.file_name().filter(|n| *n == "eval").and(folder.parent()).map(RunDir::at)?;
    run.config_path().exists().then_some(run)
}

/// Data set, who split it and the split, from `refcoco-unc-val-results.json` or `refcoco-unc-val-maps`.
fn written_by_us(path: &Path) -> Option<[String; 3]> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix("-results.json").or_else(|| name.strip_suffix("-maps"))?;
    let mut parts = name.rsplitn(3, '-').map(str::to_owned);
    let (split, by, set) = (parts.next()?, parts.next()?, parts.next()?);
    Some([set, by, split])
}

fn say(args: &EvalArgs, results: &Results, joined: &Joined, name: &str, scores: &[Score]) {
    let table = tables::side_by_side(scores);
    match args.format {
        TableFormat::Text => {
            let expressions = joined.records.len();
            crate::say!(
                "{}: {}, {} results; {name}, {expressions} expressions\n",
                results.path.display(),
                results.form,
                results.records.len()
            );
            crate::say!("{}", table.render(Format::Text));
            tables::other_sizes(scores).iter().for_each(|line| crate::say!("{line}"));
            crate::say!("+- are points above the first row; what the protocols do: docs/referee.md");
        }
        TableFormat::Json => crate::say!("{:#}", all(results, joined, scores)),
        format => {
            tables::other_sizes(scores).iter().for_each(|line| crate::note!("{line}"));
            crate::say!("{}", table.render(format.into()).trim_end());
        }
    }
}

fn all(results: &Results, joined: &Joined, scores: &[Score]) -> serde_json::Value {
    let reports: Vec<&Report> = reports(scores).collect();
    let refused: std::collections::BTreeMap<_, _> =
        scores.iter().filter_map(|s| Some((s.protocol.name, s.outcome.as_ref().err()?.first.clone()))).collect();
    serde_json::json!({
        "results": results.path,
        "missing": joined.missing.len(),
        "doubled": joined.doubled.len(),
        "unknown": joined.unknown.len(),
        "protocols": reports,
        "refused": refused,
    })
}

fn keep(args: &EvalArgs, split: &Split, scores: &[Score]) -> Result<()> {
    let Some(out) = &args.out else { return Ok(()) };
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create it", out.display()))?;
    let path: PathBuf = out.join(format!("{}-protocols.json", split.set.join("-")));
    let reports: Vec<&Report> = reports(scores).collect();
    write_whole(&path, (serde_json::to_string_pretty(&reports)? + "\n").as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_say_what_they_are_of() {
        let of = |name: &str| written_by_us(Path::new(name)).map(|parts| parts.join(" "));
        assert_eq!(of("a/refcoco+-unc-testA-results.json").as_deref(), Some("refcoco+ unc testA"));
        assert_eq!(of("refcocog-umd-val-results.json").as_deref(), Some("refcocog umd val"));
        assert_eq!(of("runs/a/eval/refcoco-unc-val-maps").as_deref(), Some("refcoco unc val"));
        assert_eq!(of("val-results.json"), None);
        assert_eq!(of("refcoco-unc-val.json"), None);
    }
}
