//! `cargo xtask bench reliability`: kills, full disks and damaged files, as a table; `bench soak`: memory and pace of finished runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use saymask::origin::Origin;

use serde::Serialize;
use test_support::reliability::Stages;
use trainer::run_log::TimingLine;

use super::measure::median;
use super::{OutputArgs, command_line};

/// Options of `bench reliability`.
#[derive(Debug, Args)]
pub struct ReliabilityArgs {
    /// 200 moments per command, first at every call that changes a disk (with `strace`), and every limit of a file's size.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Figures {
    origin: Origin,
    traced: bool,
    /// Seconds that `predict` takes for a photograph of 48 megapixels, with its overlay, and the model's part of them.
    large_photo: [f64; 2],
    rows: Vec<Row>,
}

/// One kind of fault.
#[derive(Serialize)]
struct Row {
    fault: String,
    tried: usize,
    survived: usize,
    lost: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &ReliabilityArgs) -> Result<()> {
    let traced = args.full && test_support::kill::can_trace();
    let (moments, limits) = if args.full { (200, (0..14).map(|n| 1 << n).collect()) } else { (10, vec![1, 8, 64]) };
    let stages = Stages::new(&program()?);
    let mut rows = Vec::new();
    for (name, tally) in stages.kill(moments, traced) {
        let tried = tally.killed + tally.late;
        rows.push(Row { fault: format!("killed: {name}"), tried, survived: tally.survived, lost: tally.lost });
    }
    for (name, tried, lost) in stages.full(&limits) {
        rows.push(Row { fault: format!("files may not grow: {name}"), tried, survived: tried - lost.len(), lost });
    }
    let room: &[u64] = if args.full { &[0, 4, 16, 40, 64, 100, 160, 250, 400, 640] } else { &[4, 100] };
    for (name, tried, lost) in stages.mounted(room).into_iter().flatten() {
        rows.push(Row { fault: format!("full file system: {name}"), tried, survived: tried - lost.len(), lost });
    }
    let large_photo = large_photo()?;
    let figures = Figures { origin: Origin::here(&command_line()), traced, large_photo, rows };
    let mut block = String::from("| fault | tried | survived | lost |\n|---|---|---|---|\n");
    for row in &figures.rows {
        block += &format!("| {} | {} | {} | {} |\n", row.fault, row.tried, row.survived, row.lost.len());
    }
    let how =
        if traced { "at every call that changes a disk, then spread over its time" } else { "at moments spread over its time" };
    let [all, model] = large_photo;
    block += &format!(
        "\nA command is killed {how}. A photograph of 48 megapixels takes `predict` {all:.1} s with its overlay, {model:.1} of them to decode, \
         read and ask. {}.",
        figures.origin.line()
    );
    args.output.publish("reliability", &figures, &block)?;
    let lost: Vec<&str> = figures.rows.iter().flat_map(|row| row.lost.iter().map(String::as_str)).collect();
    ensure!(lost.is_empty(), "lost: {}", lost.join("; "));
    Ok(())
}

/// Seconds of `predict` on a photograph of 8000 x 6000 pixels with the small model: the whole command, and what it says that it took from
/// the file to the mask. The fastest of three.
fn large_photo() -> Result<[f64; 2]> {
    let folder = std::env::temp_dir().join(format!("saymask-bench-{}", std::process::id()));
    let photo = folder.join("large.jpg");
    let noise = |x: u32, y: u32| (x.wrapping_mul(0x9E37_79B9) ^ y.wrapping_mul(0x85EB_CA6B)) >> 29;
    let pixel = |x: u32, y: u32| {
        let inside = (x as f64 - 2000.0).hypot(y as f64 - 2000.0) < 1000.0;
        let base: [u8; 3] = if inside { [220, 30, 30] } else { [(x / 40) as u8, 120, (y / 30) as u8] };
        image::Rgb(base.map(|level| level.saturating_add(noise(x, y) as u8)))
    };
    std::fs::create_dir_all(&folder)?;
    image::RgbImage::from_fn(8000, 6000, pixel).save(&photo)?;
    let mut best = [f64::INFINITY; 2];
    for _ in 0..3 {
        let begun = Instant::now();
        let out = Command::new(program()?)
            .arg("predict")
            .arg(&photo)
            .arg("red circle")
            .arg("--out")
            .arg(folder.join("out"))
            .output()?;
        let all = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.success(), "predict on a large photograph: {said}");
        let ms = said.lines().find_map(|line| line.split_once(" sentences in ")?.1.trim_end_matches(" ms").parse::<f64>().ok());
        if all < best[0] {
            best = [all, ms.context("predict did not say how long it took")? / 1000.0];
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(best)
}

/// The program beside this one, built before.
pub(crate) fn program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("this program's own path")?;
    let program = this.with_file_name(format!("saymask{}", std::env::consts::EXE_SUFFIX));
    ensure!(program.is_file(), "{}: build it first, with `cargo build -p saymask`", program.display());
    Ok(program)
}

/// Options of `bench soak`.
#[derive(Debug, Args)]
pub struct SoakArgs {
    /// Finished runs; at least 3,000 steps say something.
    #[arg(long, value_name = "FOLDER", required = true)]
    run: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A run's memory and pace, early and late.
#[derive(Serialize)]
struct Soak {
    run: String,
    steps: u64,
    /// MB around step 300; medians of the second and of the last third of the steps after it.
    memory: [f64; 3],
    /// Training items per second over the first and the last third of the steps after 300; medians.
    pace: [f64; 2],
}

/// Memory and pace of runs, from their `timing.jsonl`.
pub(crate) fn soak(args: &SoakArgs) -> Result<()> {
    let runs = args.run.iter().map(|folder| of_run(folder)).collect::<Result<Vec<_>>>()?;
    let mut block = String::from(
        "| run | steps | MB at step 300 | MB, second third | MB, last third | change | items/s early | late |\n|---|---|---|---|---|---|---|---|\n",
    );
    for Soak { run, steps, memory: [begin, middle, late], pace: [first, last] } in &runs {
        block += &format!(
            "| {run} | {steps} | {begin:.0} | {middle:.0} | {late:.0} | {:+.1} % | {first:.1} | {last:.1} |\n",
            100.0 * (late / middle - 1.0)
        );
    }
    block += "\nThirds of the steps after 300, medians. What grows in the first one is the cache of decoded images, which fills as images are \
              seen for the first time. ";
    block += &format!("{}.", Origin::here(&command_line()).line());
    args.output.publish("soak", &runs, &block)
}

fn of_run(folder: &std::path::Path) -> Result<Soak> {
    let path = folder.join("timing.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text
        .lines()
        .map(serde_json::from_str::<TimingLine>)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| path.display().to_string())?;
    let later: Vec<&TimingLine> = lines.iter().filter(|line| line.step >= 300).collect();
    let (Some(first), Some(last)) = (later.first(), later.last()) else {
        anyhow::bail!("{}: no line after step 300", path.display());
    };
    let memory = |lines: &[&TimingLine]| {
        let of = lines.iter().map(|line| line.memory_mb).collect::<Option<Vec<f64>>>();
        of.map(|of| median(&of)).with_context(|| format!("{}: no memory in it", path.display()))
    };
    let pace = |lines: &[&TimingLine]| median(&lines.iter().map(|line| line.items_per_second).collect::<Vec<_>>());
    let third = (later.len() / 3).max(1);
    let end = later.len() - third;
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Soak {
        run: name,
        steps: last.step,
        memory: [memory(&[*first])?, memory(&later[third.min(end)..end.max(third.min(end) + 1)])?, memory(&later[end..])?],
        pace: [pace(&later[..third]), pace(&later[end..])],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_pace_are_taken_after_the_first_steps() {
        let folder = tempfile::tempdir().unwrap();
        let line = |step: u64, mb: f64, pace: f64| {
            serde_json::to_string(&TimingLine { step, seconds: 1.0, items_per_second: pace, waiting: 0.0, memory_mb: Some(mb) })
                .unwrap()
        };
        let lines = [line(20, 50.0, 1.0), line(300, 100.0, 8.0), line(600, 101.0, 7.0), line(900, 102.0, 8.0)];
        std::fs::write(folder.path().join("timing.jsonl"), lines.join("\n")).unwrap();
        let soak = of_run(folder.path()).unwrap();
        assert_eq!((soak.steps, soak.memory, soak.pace), (900, [100.0, 101.0, 102.0], [8.0, 8.0]));
        std::fs::write(folder.path().join("timing.jsonl"), line(20, 50.0, 1.0)).unwrap();
        assert!(of_run(folder.path()).is_err());
    }
}
