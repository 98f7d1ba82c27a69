//! `cargo xtask bench serve`: what `saymask serve` adds to `predict`, and thousands of mixed requests with its memory.

mod load;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pil_ops::Decode;
use saymask::origin::Origin;

use saymask::{device, images};
use serde::Serialize;
use test_support::http::{Connection, FORM, form};

use super::{OutputArgs, command_line};
use load::{Load, load};

/// Options of `bench serve`.
#[derive(Debug, Args)]
pub struct ServeBenchArgs {
    /// Finished run whose model is served; if absent, the small model that comes with the program.
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
    /// Image that is asked about.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Sentence that is asked.
    #[arg(long, value_name = "TEXT", default_value = "the red circle")]
    sentence: String,
    /// Mixed requests, valid and broken.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    requests: usize,
    /// Clients that ask at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    clients: usize,
    /// Megabytes of encoded images that the server keeps: few, so that they are full before memory is first read.
    #[arg(long, value_name = "MB", default_value_t = 2)]
    keep: usize,
    /// Pairs of `predict` and a request, one after the other.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pairs: usize,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Figures {
    origin: Origin,
    model: String,
    image: String,
    keep_mb: usize,
    start_seconds: f64,
    /// Milliseconds of `predict` in this process: decoding, encoding, one sentence.
    predict: Percentiles,
    /// Milliseconds of POST /v1/segment with the same, as a client sees it.
    request: Percentiles,
    /// Milliseconds of a sentence on a kept image, as a client sees it.
    kept: Percentiles,
    load: Load,
}

/// Of milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    count: usize,
    p50: f64,
    p99: f64,
}

impl Percentiles {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or_default();
        Self { count: values.len(), p50: at(0.5), p99: at(0.99) }
    }
}

/// Runs the command.
pub(crate) fn run(args: &ServeBenchArgs) -> Result<()> {
    let file = std::fs::read(&args.image).with_context(|| args.image.display().to_string())?;
    let size = images::open_image(&args.image)?;
    let server = Server::start(args.run.as_deref(), args.keep)?;
    let (predict, request) = pairs(args, &file, server.addr)?;
    let kept = kept(args, &file, server.addr)?;
    saymask::note!("{} mixed requests ...", args.requests);
    let load = load(server.addr, server.child.id(), &file, &args.sentence, args.requests, args.clients)?;
    let figures = Figures {
        origin: Origin::here(&command_line()),
        model: match args.run.as_deref().and_then(Path::file_name) {
            Some(name) => format!("`{}`", name.to_string_lossy()),
            None => "that comes with the program".to_owned(),
        },
        image: format!("{} x {}", size.width(), size.height()),
        keep_mb: args.keep,
        start_seconds: server.started.as_secs_f64(),
        predict,
        request,
        kept,
        load,
    };
    let (load, ok) = (&figures.load, figures.load.failures.is_empty());
    args.output.publish("serve", &figures, &table(&figures))?;
    ensure!(ok, "{} requests failed, the first: {}", load.failures.len(), load.failures[0]);
    Ok(())
}

fn table(figures: &Figures) -> String {
    let Figures { predict, request, kept, load, .. } = figures;
    let row = |name: &str, p: &Percentiles| format!("| {name} | {} | {:.1} | {:.1} |\n", p.count, p.p50, p.p99);
    let mut block = String::from("| | requests | p50, ms | p99, ms |\n|---|---|---|---|\n");
    block += &row("`predict` in one process: decode, encode, one sentence", predict);
    block += &row("the same as POST /v1/segment", request);
    block += &row("a sentence on a kept image", kept);
    for (name, percentiles) in &load.kinds {
        block += &row(&format!("under load: {name}"), percentiles);
    }
    block += &format!(
        "\nThe server adds {:.1} ms to `predict` (medians). It answered {:.1} s after its start. {} requests by {} clients at once in {:.0} s: \
         {} failures, {} times 429; resident memory {:.0} MB after a tenth, {:.0} MB at the end ({:+.1} %), {} MB of encoded images kept. Model {}, image {}. {}.",
        request.p50 - predict.p50,
        figures.start_seconds,
        load.requests,
        load.clients,
        load.seconds,
        load.failures.len(),
        load.busy,
        load.memory_mb[0],
        load.memory_mb[1],
        100.0 * (load.memory_mb[1] / load.memory_mb[0] - 1.0),
        figures.keep_mb,
        figures.model,
        figures.image,
        figures.origin.line(),
    );
    block
}

/// The same image and sentence by `predict` here and by the server, in turn. Bytes behind the image's end make each file another
/// one, so that nothing is kept.
fn pairs(args: &ServeBenchArgs, file: &[u8], addr: SocketAddr) -> Result<(Percentiles, Percentiles)> {
    let source = args.run.clone().map_or(models::Source::Shipped, models::Source::Run);
    let model = source.find::<&str>(&[])?.model(&device::open("cpu")?)?;
    let mut connection = Connection::open(addr)?;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for number in 0..args.pairs + 3 {
        let bytes = [file, format!("pair {number}").as_bytes()].concat();
        let begun = Instant::now();
        let found = model.predict(&Decode::UPRIGHT.bytes(&bytes)?, &[&args.sentence])?;
        let took = begun.elapsed();
        let body = form(&[("image", &bytes), ("sentence", args.sentence.as_bytes())]);
        let begun = Instant::now();
        let reply = connection.send("POST", "/v1/segment", &[("Content-Type", FORM)], &body)?;
        let answered = begun.elapsed();
        ensure!(reply.status == 200, "{}", reply.text());
        let same = reply.json()["predictions"][0]["segmentation"]["counts"] == found[0].mask.to_compressed();
        ensure!(same, "the server's mask is not `predict`'s");
        // The first of both warm up.
        if number >= 3 {
            here.push(milliseconds(took));
            there.push(milliseconds(answered));
        }
    }
    Ok((Percentiles::of(here), Percentiles::of(there)))
}

fn kept(args: &ServeBenchArgs, file: &[u8], addr: SocketAddr) -> Result<Percentiles> {
    let mut connection = Connection::open(addr)?;
    let made = connection.send("POST", "/v1/images", &[("Content-Type", "image/png")], file)?.json();
    let path = format!("/v1/images/{}/segment", made["id"].as_str().context("no id")?);
    let body = serde_json::json!({ "sentences": [args.sentence] }).to_string();
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let reply = connection.send("POST", &path, &[("Content-Type", "application/json")], body.as_bytes())?;
        ensure!(reply.status == 200, "{}", reply.text());
        took.push(milliseconds(begun.elapsed()));
    }
    Ok(Percentiles::of(took))
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A server in a process of its own, which ends with this value.
struct Server {
    child: Child,
    addr: SocketAddr,
    started: Duration,
}

impl Server {
    fn start(run: Option<&Path>, keep: usize) -> Result<Self> {
        let begun = Instant::now();
        let mut command = Command::new(super::reliability::program()?);
        command.args(["serve", "--addr", "127.0.0.1:0", "--keep", &keep.to_string()]);
        match run {
            Some(run) => command.arg("--run").arg(run),
            // Where no run lies that would be served instead.
            None => command.current_dir(std::env::temp_dir()),
        };
        let mut child = command.stdout(Stdio::piped()).spawn().context("the server could not be started")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the server's output")?;
        BufReader::new(out).read_line(&mut line)?;
        let addr = line.trim().trim_start_matches("http://").trim_end_matches('/').parse();
        let addr = addr.with_context(|| format!("the server printed no address but {line:?}"))?;
        Ok(Self { child, addr, started: begun.elapsed() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_sorted_values() {
        let p = Percentiles::of((0..=100).rev().map(f64::from).collect());
        assert_eq!((p.count, p.p50, p.p99), (101, 50.0, 99.0));
        assert_eq!(Percentiles::of(vec![]).p99, 0.0);
    }
}
