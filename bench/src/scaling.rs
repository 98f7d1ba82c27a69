//! `cargo xtask bench scaling`: what training on several ranks would cost, computed from the figures of `bench train`. Nothing is run.

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::measure::median;
use super::models::{Figures, Size};
use super::steps::Case;
use super::{OutputArgs, command_line, root};
use saymask::origin::Origin;

/// Ranks of the table's columns.
const RANKS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Links of a rank in Gb/s: two usual networks of clusters, and one made for this.
const LINKS: [f64; 3] = [10.0, 100.0, 400.0];
/// From a GPU to the host's memory and back: half of what PCIe 4.0 x16 promises, in bytes/s.
const HOST: f64 = 16e9;
/// From a process on one machine to one on another and back, without data: seconds.
const MESSAGE: f64 = 20e-6;
/// Share of a step that its backward pass takes, where buckets can travel behind it.
const BACKWARD: f64 = 2.0 / 3.0;

/// Options of `bench scaling`.
#[derive(Debug, Args)]
pub struct ScalingArgs {
    /// Assumed speed of a GPU in the products of the image encoders, TFLOP/s.
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    tflops: f64,
    /// Assumed images of a step per GPU.
    #[arg(long, value_name = "N", default_value_t = 8)]
    images: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Line {
    method: String,
    input: u32,
    /// Where the step's time is from.
    step_from: String,
    /// Seconds of a step of one rank.
    step: f64,
    /// Bytes of the gradients in f32.
    bytes: f64,
    link_gbits: f64,
    /// Seconds of a step per number of ranks: gradients exchanged behind the backward pass as far as it goes, and after it.
    overlapped: Vec<f64>,
    after: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Scaling {
    origin: Origin,
    computed_from: Origin,
    lines: Vec<Line>,
}

/// Runs the command.
pub(crate) fn run(args: &ScalingArgs) -> Result<()> {
    let path = root()?.join("docs/figures/train.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let measured: Figures<Case> = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let mut lines = Vec::new();
    for case in measured.cases.iter().filter(|case| case.size != Size::Tiny) {
        let seen = (format!("measured, batch {}, CPU", case.batch), median(&case.seconds));
        let assumed = case.step_flops * args.images as f64 / (1e12 * args.tflops);
        lines.push(line(case, seen, LINKS[0]));
        let said = format!("{} images at {} TFLOP/s, assumed", args.images, args.tflops);
        lines.extend(LINKS.map(|link| line(case, (said.clone(), assumed), link)));
    }
    let origin = Origin::here(&command_line());
    let scaling = Scaling { origin, computed_from: measured.origin, lines };
    args.output.publish("scaling", &scaling, &table(&scaling))
}

fn line(case: &Case, (step_from, step): (String, f64), link_gbits: f64) -> Line {
    let bytes = 4.0 * case.parameters.1 as f64;
    let exchanges = RANKS.map(|ranks| exchange(bytes, ranks, link_gbits));
    Line {
        method: case.method.clone(),
        input: case.input,
        step_from,
        step,
        bytes,
        link_gbits,
        overlapped: exchanges.map(|seconds| step + (seconds - BACKWARD * step).max(0.0)).into(),
        after: exchanges.map(|seconds| step + seconds).into(),
    }
}

/// Seconds of an all-reduce: every rank sends and receives 2 (n - 1) / n of the bytes, which cross its bus twice, in messages to
/// every other rank.
fn exchange(bytes: f64, ranks: usize, link_gbits: f64) -> f64 {
    if ranks == 1 {
        return 0.0;
    }
    let others = (ranks - 1) as f64;
    2.0 * others / ranks as f64 * bytes / (link_gbits * 1e9 / 8.0) + 2.0 * bytes / HOST + 2.0 * others * MESSAGE
}

fn table(scaling: &Scaling) -> String {
    let mut out = String::from("| method | input | step of one rank, ms | from | gradients, MB | link, Gb/s |");
    RANKS.iter().for_each(|ranks| out += &format!(" {ranks} |"));
    out += &format!("\n|---|---|---|---|---|---|{}\n", "---|".repeat(RANKS.len()));
    for line in &scaling.lines {
        let Line { method, input, step_from, step, bytes, link_gbits, .. } = line;
        out += &format!("| {method} | {input} | {:.0} | {step_from} | {:.0} | {link_gbits:.0} |", 1e3 * step, bytes / 1e6);
        for (overlapped, after) in line.overlapped.iter().zip(&line.after) {
            out += &format!(" {:.0} ({:.0}) |", 100.0 * step / overlapped, 100.0 * step / after);
        }
        out += "\n";
    }
    let Origin { machine, commit, .. } = &scaling.computed_from;
    out + &format!(
        "\n**Computed, not measured.** Per cent of the speed that as many ranks would have if gradients took no time, each with a batch of its \
         own: exchanged behind the backward pass ({:.0} % of a step), in brackets after it. An all-reduce is 2 (n - 1) / n of the gradients \
         over a rank's link, {:.0} GB/s to the host's memory and back, and {:.0} us per message; `train.gradient_exchange = \"bf16\"` halves \
         the first part. Data loading, synchronised batch norms and unlike ranks are left out. Parameters and measured steps: `bench train` on \
         {machine} at commit {commit}. `{}` at commit {}.",
        100.0 * BACKWARD,
        HOST / 1e9,
        MESSAGE * 1e6,
        scaling.origin.command,
        scaling.origin.commit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_all_reduce_of_two_sends_each_half_twice() {
        assert_eq!(exchange(1e9, 1, 10.0), 0.0);
        // 1 GB at 1.25 GB/s, 2 GB at 16 GB/s, two messages.
        assert!((exchange(1e9, 2, 10.0) - (0.8 + 0.125 + 40e-6)).abs() < 1e-12);
        // Almost twice the bytes for many.
        assert!(exchange(1e9, 64, 10.0) / exchange(1e9, 2, 10.0) > 1.8);
    }
}
