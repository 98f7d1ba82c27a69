//! `saymask serve`: a page, an HTTP API, KServe v2 and a Label Studio backend over one model.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use models::FoundWeights;
use nn_ops::weights::StateDict;
use sam_vit::Weights;
use serve::{Limits, Options, SamEngine, TextEngine};

use crate::device;
use crate::segment::{ModelName, Segmenter};
use crate::session::{ANSWERING, HalfWeights, Source};

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on; one that other machines reach needs --token. Port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    addr: String,
    /// What every request must show, as `Authorization: Bearer TOKEN` or as the password of basic authentication. @FILE reads it
    /// from a file, where no list of processes shows it.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Origin whose pages may read answers, such as `https://example.org`; repeatable.
    #[arg(long = "cors", value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Label Studio's media folder, in which the images of its tasks lie.
    #[arg(long, value_name = "FOLDER")]
    media: Option<PathBuf>,
    /// Serve SAM, EfficientSAM or SAM-2 itself from sam_vit_*.pth, efficient_sam_vit*.pt, sam2*_hiera_*.pt or the safetensors of
    /// the Hugging Face ports: points and boxes, no sentences.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "config", "weights", "set"])]
    sam: Option<PathBuf>,
    /// The model's name in addresses; that of its run or weights if absent.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Requests that wait for the model; more are answered with 429.
    #[arg(long, value_name = "N", default_value_t = 16)]
    queue: usize,
    /// Seconds from a request to its answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    deadline: f64,
    /// Megabytes of encoded images that are kept.
    #[arg(long, value_name = "MB", default_value_t = 512)]
    keep: usize,
    /// Megabytes of a request's body.
    #[arg(long, value_name = "MB", default_value_t = 32)]
    max_body: usize,
    /// Megapixels of an image.
    #[arg(long, value_name = "N", default_value_t = 50)]
    max_megapixels: u64,
    #[command(flatten)]
    half: HalfWeights,
    #[command(flatten)]
    source: Source,
}

/// Runs the command until it is interrupted or terminated.
pub fn run(args: &ServeArgs) -> Result<()> {
    let options = options(args)?;
    // Before the model is read, which takes longer than finding out that the port is taken.
    let listener = TcpListener::bind(&args.addr).with_context(|| format!("--addr {}", args.addr))?;
    let device = device::open(args.source.device())?;
    let ready = |addr: std::net::SocketAddr| crate::say!("http://{addr}/");
    let name = |default: String| args.name.clone().unwrap_or(default);
    if let Some(path) = &args.sam {
        let weights = if args.half.half_weights { Weights::Half } else { Weights::Single };
        let model = Segmenter::open(&StateDict::open_model(path)?, ModelName::Auto, weights, &device)?;
        let label = path.display().to_string();
        let stem = path.file_stem().map_or_else(|| "sam".into(), |stem| stem.to_string_lossy().into_owned());
        crate::note!("weights: {label}");
        let name = name(stem);
        match model {
            Segmenter::Sam(sam) => serve::run(listener, SamEngine::new(*sam, &name, &label), options, ready)?,
            Segmenter::Efficient(sam) => serve::run(listener, SamEngine::new(*sam, &name, &label), options, ready)?,
            Segmenter::Sam2(sam2) => serve::run(listener, SamEngine::new(*sam2, &name, &label), options, ready)?,
        }
        return Ok(());
    }
    let found = args.source.find_kept("serve", ANSWERING, args.half)?;
    let model = found.model(&device)?;
    let own = match (&found.dir, &found.weights) {
        (Some(_), _) => found.run_config.run.name.clone(),
        // The label of the model that comes with the program is a sentence.
        (None, FoundWeights::Memory(_)) => "saymask-small".to_owned(),
        (None, _) => found.label.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    let engine = TextEngine::new(model, &name(own), &found.label);
    Ok(serve::run(listener, engine, options, ready)?)
}

fn options(args: &ServeArgs) -> Result<Options> {
    if !(args.deadline.is_finite() && (0.01..=86_400.0).contains(&args.deadline)) {
        bail!("--deadline {}: must be 0.01 to 86400 seconds", args.deadline);
    }
    if args.queue == 0 {
        bail!("--queue 0: at least one request must be able to wait");
    }
    let token = match args.token.as_deref().map(|token| (token, token.strip_prefix('@'))) {
        Some((_, Some(file))) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--token @{file}"))?;
            Some(text.trim().to_owned())
        }
        Some((token, None)) => Some(token.to_owned()),
        None => None,
    };
    let megabytes = |n: usize| n.saturating_mul(1 << 20);
    let limits = Limits {
        queue: args.queue,
        deadline: Duration::from_secs_f64(args.deadline),
        kept_bytes: megabytes(args.keep),
        body_bytes: megabytes(args.max_body),
        pixels: args.max_megapixels.saturating_mul(1_000_000),
        ..Limits::default()
    };
    Ok(Options { token, cors: args.cors.clone(), media: args.media.clone(), limits })
}
