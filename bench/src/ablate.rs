//! `cargo xtask ablate`: rows of the papers' tables at toy size on generated scenes, beside the papers' figures.
//!
//! A row is the method's demonstration with what the table changes, trained once per seed, for fewer steps. Rows of several tables
//! that are one config are trained once. A run that is finished is not repeated and one that was broken off is taken up again, so
//! the command can be stopped at any time.

mod rows;
mod toy_sam;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use figures::{Axis, Panel, Series, curves};
use models::run_dir::RunDir;
use run_config::{Method, RunConfig};
use saymask::origin::{Origin, RunFigures};
use saymask::train::{demonstration, method};
use serde::Serialize;
use trainer::run_log::{LogLine, read_log};

use super::reliability::program;
use super::{WriteArgs, command_line, fill, root, save};
use rows::{Row, TABLES, Table};

/// Options of `ablate`.
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// Method whose tables are trained: dit, evf or risam.
    #[arg(value_parser = method)]
    method: Method,
    /// Tables, such as 1 or 2,3; all of the method's if absent.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    table: Vec<String>,
    /// Runs per row, each with its own seed.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Optimiser steps per run.
    #[arg(long, value_name = "N", default_value_t = 1600)]
    steps: u64,
    /// Where runs are kept and taken up again.
    #[arg(long, value_name = "FOLDER", default_value = "runs/ablate")]
    dir: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
}

/// What is written into docs/figures.
#[derive(Serialize)]
struct Figures {
    origin: Origin,
    steps: u64,
    tables: Vec<Trained>,
}

/// A table whose rows were trained.
#[derive(Serialize)]
struct Trained {
    table: String,
    rows: Vec<TrainedRow>,
}

#[derive(Serialize)]
struct TrainedRow {
    name: String,
    /// The paper's figure, in percent; none where it prints none.
    paper: Option<f64>,
    /// Overall and mean IoU from 0 to 1, one per seed.
    oiou: Vec<f64>,
    miou: Vec<f64>,
    /// Mean IoU on `val` by step, the mean of all seeds.
    curve: Vec<(f64, f64)>,
}

/// Runs the command.
pub(crate) fn run(args: &AblateArgs) -> Result<()> {
    let all: Vec<&Table> = TABLES.iter().filter(|table| table.method == args.method).collect();
    let known = || all.iter().map(|table| table.number).collect::<Vec<_>>().join(", ");
    for number in &args.table {
        ensure!(all.iter().any(|table| table.number == number), "--table {number}: {} has {}", args.method.name(), known());
    }
    let (chosen, left): (Vec<&Table>, Vec<&Table>) =
        all.iter().partition(|table| args.table.is_empty() || args.table.iter().any(|number| number == table.number));
    let mut tables = Vec::new();
    for table in chosen {
        tables.push(train(table, args)?);
    }
    let figures = Figures { origin: Origin::here(&command_line()), steps: args.steps, tables };
    let left: Vec<String> = left.iter().map(|table| table.title()).collect();
    let block = block(&figures, args, &left);
    saymask::say!("{block}");
    if args.write.write {
        let name = format!("ablations-{}", args.method.name());
        let docs = root()?.join("docs");
        for table in &figures.tables {
            save(&docs.join(file(args.method, &table.table)), table.drawn(args.steps).as_bytes())?;
        }
        save(&docs.join(format!("figures/{name}.json")), (serde_json::to_string_pretty(&figures)? + "\n").as_bytes())?;
        fill(&name, &block)?;
    }
    Ok(())
}

/// The figure of a table, below `docs`.
fn file(method: Method, table: &str) -> String {
    format!("ablations/{}-{}.svg", method.name(), table.to_lowercase().replace(' ', ""))
}

/// Trains every row of a table, as often as there are seeds.
fn train(table: &Table, args: &AblateArgs) -> Result<Trained> {
    let mut rows = Vec::new();
    for row in table.rows {
        let (name, paper) = heading(row)?;
        let mut done = TrainedRow { name, paper, oiou: Vec::new(), miou: Vec::new(), curve: Vec::new() };
        let mut curves = BTreeMap::<u64, Vec<f64>>::new();
        for seed in 1..=args.seeds {
            saymask::note!("{}, {}, seed {seed}", table.title(), done.name);
            let run_config = config(row, table.method, seed, args)?;
            let figures = trained(&run_config, &args.dir)?;
            let report = figures.reports.first().context("the run was not judged")?;
            done.oiou.push(report.oiou);
            done.miou.push(report.miou);
            for line in read_log(&RunDir::of(&run_config).log())? {
                if let LogLine::Eval(line) = line {
                    curves.entry(line.step).or_default().extend(line.metrics.get("miou"));
                }
            }
        }
        done.curve = curves.iter().map(|(step, values)| (*step as f64, mean(values))).collect();
        rows.push(done);
    }
    Ok(Trained { table: table.title(), rows })
}

/// A row's name and the paper's first figure, as its config's first line says them.
fn heading(row: &Row) -> Result<(String, Option<f64>)> {
    let path = root()?.join("configs").join(row.file).with_extension("toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let text = lines.join(" ");
    let what = text.split(". ").next().unwrap_or_default().split_once(", ").map_or("", |(_, what)| what);
    let figure = text.split_once("IoU ").map(|(_, rest)| rest.trim_start_matches("testA "));
    let figure = figure.and_then(|rest| rest.split([' ', '/']).next()?.trim_end_matches('.').parse().ok());
    Ok((row.name.unwrap_or(what).trim_matches('"').to_owned(), figure))
}

/// A row at toy size.
fn config(row: &Row, method: Method, seed: u64, args: &AblateArgs) -> Result<RunConfig> {
    let judged = (args.steps / 4).max(1);
    let mut set: Vec<String> = row.set.iter().map(|key| (*key).to_owned()).collect();
    set.push(format!("run.name={}-seed-{seed}", stem(row, method)));
    set.extend(common(&args.dir, seed, args.steps, judged));
    if row.frozen_sam {
        let sam = toy_sam::weights(&args.dir, args.steps)?;
        set.push(format!("model.init.sam={}", sam.display()));
    }
    Ok(RunConfig::resolve(demonstration(method), None, &set)?)
}

/// What a row's runs are called: after the first row of the method with these changes, so that rows that are one config share them.
fn stem(row: &Row, method: Method) -> String {
    let rows = TABLES.iter().filter(|table| table.method == method).flat_map(|table| table.rows);
    let first = rows.into_iter().find(|other| other.set == row.set).unwrap_or(row);
    first.file.replace('/', "-")
}

/// What every run here has in common.
fn common(dir: &Path, seed: u64, steps: u64, judged: u64) -> Vec<String> {
    vec![
        format!("run.dir={}", dir.display()),
        format!("run.seed={seed}"),
        format!("train.steps={steps}"),
        format!("schedule.warmup_steps={}", (steps / 10).min(100)),
        format!("train.eval_every={judged}"),
        format!("train.save_every={judged}"),
        "train.keep=1".into(),
        "eval.figures=0".into(),
        "eval.shuffled_text=false".into(),
    ]
}

/// The figures of a run: those that are there, else of the run that is begun, or taken up again, by the program.
fn trained(run_config: &RunConfig, dir: &Path) -> Result<RunFigures> {
    let folder = RunDir::of(run_config);
    let (path, begun) = (folder.root().join("figures.json"), folder.root().join("config.toml").exists());
    if begun {
        let different = folder.config()?.differences(run_config)?;
        let keys: Vec<&str> = different.iter().map(|difference| difference.key.as_str()).collect();
        let root = folder.root().display();
        ensure!(keys.is_empty(), "{root}: was trained with another {}; remove it, or name another --dir", keys.join(", "));
    }
    if !path.exists() {
        let file = dir.join("configs").join(format!("{}.toml", run_config.run.name));
        save(&file, run_config.to_toml()?.as_bytes())?;
        let mut command = Command::new(program()?);
        command.arg("train").arg("--config").arg(&file).args(begun.then_some("--resume"));
        let status = command.stdout(std::process::Stdio::null()).status().context("the program could not be started")?;
        ensure!(status.success(), "{}: its training ended with {status}", run_config.run.name);
    }
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of a sample; 0 of a single one.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len().max(2) - 1) as f64).sqrt()
}

/// The tables as Markdown.
fn block(figures: &Figures, args: &AblateArgs, left: &[String]) -> String {
    let mut out = String::new();
    for table in &figures.tables {
        out += &format!("### {}\n\n| row | paper | oIoU here | mIoU here |\n|---|---|---|---|\n", table.table);
        for row in &table.rows {
            let paper = row.paper.map_or("-".to_owned(), |paper| format!("{paper:.1}"));
            let both = |values: &[f64]| format!("{:.1} ± {:.1}", 100.0 * mean(values), 100.0 * deviation(values));
            out += &format!("| {} | {paper} | {} | {} |\n", row.name, both(&row.oiou), both(&row.miou));
        }
        out += &format!("\n{}\n\n![Mean IoU by step]({})\n\n", table.order(), file(args.method, &table.table));
    }
    if !left.is_empty() {
        out += &format!("Not run: {}.\n\n", left.join(", "));
    }
    let seeds =
        if args.seeds == 1 { "one seed".to_owned() } else { format!("{} seeds, ± is their standard deviation", args.seeds) };
    out += &format!("{} steps per run, {seeds}; 1,000 sentences of `val`. {}.", figures.steps, figures.origin.line());
    out
}

impl Trained {
    /// Where the paper's order of rows is ours, and where it is not.
    fn order(&self) -> String {
        if self.rows.iter().any(|row| row.oiou.len() < 2) {
            return "One seed has no spread, so nothing is said of an order.".into();
        }
        let (mut same, mut open, mut other) = (0, 0, Vec::new());
        for (at, a) in self.rows.iter().enumerate() {
            for b in &self.rows[at + 1..] {
                let (Some(paper_a), Some(paper_b)) = (a.paper, b.paper) else { continue };
                if paper_a == paper_b {
                    continue;
                }
                let (better, worse) = if paper_a > paper_b { (a, b) } else { (b, a) };
                let gap = mean(&better.oiou) - mean(&worse.oiou);
                let spread = deviation(&better.oiou) + deviation(&worse.oiou);
                if gap.abs() <= spread {
                    open += 1;
                } else if gap > 0.0 {
                    same += 1;
                } else {
                    other.push(format!("{} lies {:.1} below {}", better.name, -100.0 * gap, worse.name));
                }
            }
        }
        let pairs = same + open + other.len();
        let mut out = format!("Of {pairs} pairs of rows, {same} lie in the paper's order and {open} within their spread.");
        if !other.is_empty() {
            out += &format!(" The other way round: {}.", other.join("; "));
        }
        out
    }

    /// Mean IoU by step, a line per row.
    fn drawn(&self, steps: u64) -> String {
        const COLOURS: [&str; 10] =
            ["#3b82c4", "#d9822b", "#3a9d5d", "#c0504d", "#8064a2", "#9a7d4f", "#d16ba5", "#7f8c8d", "#a8a032", "#35a7b5"];
        let line =
            |(at, row): (usize, &TrainedRow)| Series::new(&row.name, COLOURS[at % COLOURS.len()], row.curve.clone()).marked();
        let series = self.rows.iter().enumerate().map(line).collect();
        curves(&self.table, steps, &[Panel { heading: "mIoU on val", series, axis: Axis::Tight }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(method: Method) -> AblateArgs {
        let write = WriteArgs { write: false };
        AblateArgs { method, table: Vec::new(), seeds: 1, steps: 8, dir: "runs/ablate".into(), write }
    }

    #[test]
    fn every_row_is_a_config_with_a_name_and_changes_what_it_says() {
        for table in TABLES {
            let mut seen = Vec::new();
            for row in table.rows {
                let (name, _) = heading(row).unwrap();
                assert!(!name.is_empty() && name.len() < 120, "{}: {name:?}", row.file);
                let keys = Row { frozen_sam: false, ..*row };
                let run_config = config(&keys, table.method, 1, &args(table.method)).unwrap();
                assert!(!seen.contains(&run_config.model), "{}: another row of its table is the same model", row.file);
                seen.push(run_config.model);
            }
        }
    }

    #[test]
    fn rows_that_are_one_config_share_their_runs() {
        let stems = |number: &str| {
            let table = TABLES.iter().find(|t| t.method == Method::Dit && t.number == number).unwrap();
            table.rows.iter().map(|row| stem(row, Method::Dit)).collect::<Vec<_>>()
        };
        assert_eq!(stems("2")[0], "dit-table1-e2e");
        assert_eq!(stems("9"), ["dit-table9-cascade", "dit-table1-layer-wise-frozen"]);
        assert_eq!(stems("1").iter().collect::<std::collections::BTreeSet<_>>().len(), 10);
    }

    #[test]
    fn papers_figures_are_read() {
        let figure = |file: &'static str| heading(&Row { file, name: None, set: &[], frozen_sam: false }).unwrap();
        assert_eq!(figure("dit/table1/layer-wise"), ("Layer-wise DIT".to_owned(), Some(71.98)));
        assert_eq!(figure("risam/table2/conv-refcoco").1, Some(71.27));
        assert_eq!(figure("evf/table4/encoder").1, Some(82.9));
        assert_eq!(figure("evf/table5/concat").1, None);
    }

    #[test]
    fn an_order_is_told_beyond_the_spread_only() {
        let row = |name: &str, paper: f64, oiou: &[f64]| TrainedRow {
            name: name.into(),
            paper: Some(paper),
            oiou: oiou.to_vec(),
            miou: Vec::new(),
            curve: Vec::new(),
        };
        let rows = vec![row("a", 3.0, &[0.5, 0.52]), row("b", 2.0, &[0.3, 0.31]), row("c", 1.0, &[0.52, 0.5])];
        let told = Trained { table: "Table 1".into(), rows }.order();
        assert!(told.starts_with("Of 3 pairs of rows, 1 lie in the paper's order and 1 within"), "{told}");
        assert!(told.ends_with("The other way round: b lies 20.5 below c."), "{told}");
    }
}
