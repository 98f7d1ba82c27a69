//! `cargo xtask bench web`: sizes, times and memory of `saymask-web` in Node.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use saymask::origin::Origin;

use serde::{Deserialize, Serialize};

use super::{OutputArgs, command_line, root};

/// Options of `bench web`.
#[derive(Debug, Args)]
pub struct WebArgs {
    /// The package, as `cargo xtask web` builds it.
    #[arg(long, value_name = "FOLDER", default_value = "target/web/saymask-web")]
    package: PathBuf,
    /// Exported model.
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Images, and sentences about them.
    #[arg(long, value_name = "N", default_value_t = 60)]
    sentences: usize,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Figures {
    origin: Origin,
    #[serde(flatten)]
    measured: Measured,
}

/// What `web/tests/bench.mjs` prints; times are milliseconds.
#[derive(Serialize, Deserialize)]
struct Measured {
    node: String,
    wasm_bytes: u64,
    gzip_bytes: u64,
    brotli_bytes: u64,
    model_bytes: u64,
    start_ms: f64,
    load_ms: f64,
    warm_up_ms: f64,
    first_mask_ms: f64,
    embed_ms: Middle,
    ask_ms: Middle,
    sentences: usize,
    resident_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Middle {
    p50: f64,
    p99: f64,
}

/// Runs the command.
pub(crate) fn run(args: &WebArgs) -> Result<()> {
    let script = root()?.join("web/tests/bench.mjs");
    let mut node = Command::new("node");
    node.arg(script).args([&args.package, &args.model]).arg(args.sentences.to_string());
    let out = node.output().context("node could not be started (Debian: nodejs)")?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let measured = serde_json::from_slice(&out.stdout).context("web/tests/bench.mjs printed something else than its figures")?;
    let figures = Figures { origin: Origin::here(&command_line()), measured };
    args.output.publish("web", &figures, &table(&figures))
}

fn table(Figures { origin, measured: m }: &Figures) -> String {
    let mb = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
    let middle = |m: &Middle| format!("{:.0} ms (p99 {:.0} ms)", m.p50, m.p99);
    let rows = [
        ("wasm", mb(m.wasm_bytes)),
        ("wasm, gzip", mb(m.gzip_bytes)),
        ("wasm, brotli", mb(m.brotli_bytes)),
        ("the model's files", mb(m.model_bytes)),
        ("start of the program", format!("{:.0} ms", m.start_ms)),
        ("loading the model", format!("{:.0} ms", m.load_ms)),
        ("warming up, once", format!("{:.0} ms", m.warm_up_ms)),
        ("the first image and sentence", format!("{:.0} ms", m.first_mask_ms)),
        ("an image", middle(&m.embed_ms)),
        ("a sentence about it", middle(&m.ask_ms)),
        ("resident memory of Node at the end", mb(m.resident_bytes)),
    ];
    let mut block = String::from("| in Node, on one thread | |\n|---|---|\n");
    for (name, value) in rows {
        block += &format!("| {name} | {value} |\n");
    }
    format!("{block}\n{} images with a sentence each; Node {}. {}.", m.sentences, m.node, origin.line())
}
