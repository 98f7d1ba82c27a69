//! What text in the image encoder costs: L-DIT beside the default fusion, and the memory of a training step.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Tensor, TensorData};
use clap::{Args, ValueEnum};
use fusion_dit::{DitConfig, DitModel, Variant};
use models::methods::DitMethod;
use models::tokenizer::RunTokenizer;
use nn_ops::formula;
use run_config::{Init, Recompute, RunConfig};
use serde::{Deserialize, Serialize};
use text_encoders::tokenizer::WordPiece;
use trainer::segmenter::Segmenter;
use trainer::step::StepContext;

use super::child::figures;
use super::measure::{load, median, status};
use super::steps::synthetic_batch;
use saymask::origin::Origin;

use super::{WriteArgs, child, command_line, fill, save};
use crate::root;

/// Side of the input in pixels, as the paper has it.
const SIDE: usize = 512;
/// What the models are asked.
const SENTENCE: &str = "the man in the red shirt on the left";
/// Milliseconds of either fusion in the paper (Tab. 6).
const PAPER_MS: f64 = 123.0;

/// Options of `bench dit`.
#[derive(Debug, Args)]
pub struct DitArgs {
    /// Timed pairs of forward passes, after one that is not timed.
    #[arg(long, value_name = "N", default_value_t = 7)]
    repeat: usize,
    /// Samples of a training step; repeatable.
    #[arg(long = "batch", value_name = "N", default_values_t = [1, 2])]
    batches: Vec<usize>,
    #[command(flatten)]
    write: WriteArgs,
    /// Measure one thing in this process and print it as JSON.
    #[arg(long, hide = true)]
    alone: Option<Case>,
    /// Recompute the blocks of encoders in this one thing.
    #[arg(long, hide = true, requires = "alone")]
    blocks: bool,
}

/// One process's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Case {
    /// Both fusions, forward.
    Forward,
    /// A training step, image and text encoder frozen.
    BothFrozen,
    /// A training step, image encoder frozen.
    ImageFrozen,
    /// A training step, nothing frozen.
    Tuned,
}

impl Case {
    const STEPS: [Self; 3] = [Self::BothFrozen, Self::ImageFrozen, Self::Tuned];

    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::BothFrozen => "both-frozen",
            Self::ImageFrozen => "image-frozen",
            Self::Tuned => "tuned",
        }
    }

    /// Words for the table, and the paper's memory at batch 32 in GB (Tab. 8).
    fn says(self) -> (&'static str, f64) {
        match self {
            Self::Forward => ("forward", 0.0),
            Self::BothFrozen => ("image and text encoder frozen", 11.9),
            Self::ImageFrozen => ("image encoder frozen", 12.4),
            Self::Tuned => ("nothing frozen", 17.1),
        }
    }
}

/// Seconds of forward passes at batch 1, in pairs.
#[derive(Debug, Serialize, Deserialize)]
struct Forward {
    default_fusion: Vec<f64>,
    layer_wise: Vec<f64>,
}

/// One training step: forward, backward, clip, Adam, moving average.
#[derive(Debug, Serialize, Deserialize)]
struct Step {
    case: Case,
    batch: usize,
    /// What the backward pass computes again.
    #[serde(default)]
    recompute: Recompute,
    /// Parameters that are trained.
    trained: usize,
    /// Resident memory before the step: weights and their average.
    before_bytes: u64,
    /// Largest resident memory of the process.
    peak_bytes: u64,
    seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    origin: Origin,
    side: usize,
    weights: String,
    /// Load of the machine before the first case, over one minute.
    load: Option<f64>,
    forward: Forward,
    steps: Vec<Step>,
}

/// Runs the command.
pub(crate) fn run(args: &DitArgs) -> Result<()> {
    ensure!(args.repeat > 0 && !args.batches.contains(&0), "--repeat and --batch must be at least 1");
    match args.alone {
        Some(Case::Forward) => {
            saymask::say!("{}", serde_json::to_string(&forward(args.repeat)?)?);
            return Ok(());
        }
        Some(case) => {
            let recompute = if args.blocks { Recompute::Blocks } else { Recompute::None };
            saymask::say!("{}", serde_json::to_string(&step(case, recompute, args.batches[0])?)?);
            return Ok(());
        }
        None => {}
    }
    let load = load();
    let origin = Origin::here(&command_line());
    saymask::note!("forward passes ...");
    let forward = measured(&["--alone", "forward", "--repeat", &args.repeat.to_string()])?;
    let mut steps = Vec::new();
    for case in Case::STEPS {
        for batch in &args.batches {
            let batch = batch.to_string();
            for more in [&[][..], &["--blocks"]] {
                saymask::note!("training step, {}, batch {batch} {} ...", case.says().0, more.concat());
                steps.push(measured(&[&["--alone", case.name(), "--batch", &batch][..], more].concat())?);
            }
        }
    }
    let figures = Figures { origin, side: SIDE, weights: "random".into(), load, forward, steps };
    let table = table(&figures, &args.batches);
    saymask::say!("{table}");
    if args.write.write {
        save(&root()?.join("docs/figures/dit.json"), (serde_json::to_string_pretty(&figures)? + "\n").as_bytes())?;
        fill("dit", &table)?;
    }
    Ok(())
}

/// This program on one case, in a process whose memory is the case's.
fn measured<T: serde::de::DeserializeOwned>(words: &[&str]) -> Result<T> {
    figures(child::this("dit")?.args(words), "").with_context(|| words.join(" "))
}

/// Both fusions in turn, so that both meet the same weather.
fn forward(repeat: usize) -> Result<Forward> {
    let device = saymask::device::open("cpu")?;
    let words = WordPiece::train([SENTENCE], 60)?;
    let values = formula::tensor("bench", "in.image", &[3, SIDE, SIDE], 0.0, 2.0);
    let image = Tensor::<4>::from_data(TensorData::new(values, [1, 3, SIDE, SIDE]), &device);
    let model = |variant| -> Result<DitModel> { Ok(DitConfig { variant, ..DitConfig::layer_wise_vit_b() }.init(&device)?) };
    let models = [model(Variant::DefaultSam)?, model(Variant::LayerWise)?];
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..=repeat {
        for (model, seconds) in models.iter().zip(&mut seconds) {
            let begun = Instant::now();
            let batch = model.tokens(&words, &[SENTENCE])?;
            let logits = model.forward(image.clone(), &batch, &[0])?.logits;
            drop(logits.into_data());
            if round > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let [default_fusion, layer_wise] = seconds;
    Ok(Forward { default_fusion, layer_wise })
}

/// The step of the row's own config on a made batch.
fn step(case: Case, recompute: Recompute, batch: usize) -> Result<Step> {
    let path = root()?.join(format!("configs/dit/table8/{}.toml", case.name()));
    let mut run_config = RunConfig::load(&path, &["text.vocabulary=train-from-data"])?;
    run_config.model.init = Init::default();
    run_config.train.recompute = recompute;
    let folder = std::env::temp_dir().join(format!("saymask-bench-{}", std::process::id()));
    let tokenizer = vocabulary(&folder)?;
    let segmenter = DitMethod::new(&run_config, tokenizer)?;
    let context = StepContext::new(&segmenter, &run_config, &saymask::device::open("cpu")?)?;
    let training = context.begin()?;
    let trained = nn_ops::weights::trained(&training.net, &segmenter.names()).iter().map(|p| p.elements).sum();
    let made = synthetic_batch(batch, SIDE, &[SENTENCE], &segmenter.inputs())?;
    let before_bytes = status("VmRSS:").context("memory is read from Linux's /proc/self/status")?;
    let begun = Instant::now();
    let (training, report) = training.step(&context, run_config.optim.lr, || Ok(Some(made.clone())))?;
    ensure!(report.skipped.is_none() && training.average.is_some(), "a step that does all that the config says");
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Step {
        case,
        batch,
        recompute,
        trained,
        before_bytes,
        peak_bytes: status("VmHWM:").context("memory is read from Linux's /proc/self/status")?,
        seconds,
    })
}

/// BERT's rows with a few of its words: what is read does not change what it costs.
fn vocabulary(folder: &Path) -> Result<RunTokenizer> {
    let mut tokens: Vec<String> = WordPiece::train([SENTENCE], 60)?.tokens().to_vec();
    let rows = DitConfig::default().bert.vocab_size;
    tokens.extend((tokens.len()..rows).map(|i| format!("[unused{i}]")));
    std::fs::create_dir_all(folder)?;
    let file = folder.join("vocab.txt");
    std::fs::write(&file, tokens.join("\n") + "\n")?;
    let loaded = RunTokenizer::load(run_config::Tokenizer::Wordpiece, &file);
    std::fs::remove_dir_all(folder)?;
    Ok(loaded?)
}

fn table(figures: &Figures, batches: &[usize]) -> String {
    let Forward { default_fusion, layer_wise } = &figures.forward;
    let [plain, ours] = [default_fusion, layer_wise].map(|s| 1e3 * median(s));
    // Pairs were timed side by side, so the ratio of each is steadier than the ratio of two medians.
    let ratio = median(&layer_wise.iter().zip(default_fusion).map(|(a, b)| a / b).collect::<Vec<_>>());
    let mut out = format!("```\n{:<44}{:>12}{:>22}\n", "forward at 512, ViT-B, one sentence", "here", "paper (its GPU)");
    out += &format!("{:<44}{:>9.0} ms{:>19} ms\n", "default fusion", plain, PAPER_MS);
    out += &format!("{:<44}{:>9.0} ms{:>19} ms\n", "layer-wise", ours, PAPER_MS);
    out += &format!("{:<44}{:>11.3}x{:>21.3}x\n\n", "layer-wise / default (aim: at most 1.05)", ratio, 1.0);
    out += &format!("{:<44}", "peak memory of a training step at 512");
    for batch in batches {
        out += &format!("{:>12}", format!("batch {batch}"));
    }
    out += &format!("{:>22}\n", "paper, GPU, batch 32");
    for case in Case::STEPS {
        let (name, paper) = case.says();
        for (name, recompute) in [(name, Recompute::None), ("  blocks recomputed", Recompute::Blocks)] {
            out += &format!("{name:<44}");
            for batch in batches {
                let step = figures.steps.iter().find(|s| s.case == case && s.batch == *batch && s.recompute == recompute);
                let text = step.map_or("-".into(), |s| format!("{:.2} GB", s.peak_bytes as f64 / 1e9));
                out += &format!("{text:>12}");
            }
            match recompute {
                Recompute::None => out += &format!("{paper:>19.1} GB\n"),
                _ => out += &format!("{:>22}\n", "-"),
            }
        }
    }
    let load = figures.load.map_or(String::new(), |l| format!(", load {l:.1} before it began"));
    out + &format!(
        "```\n\nRandom weights, f32, CPU. Times: median of {} pairs in one process. Memory: largest resident size of a process that \
         takes one step (forward, backward, clipping, Adam, moving average), weights included. {}{load}.",
        default_fusion.len(),
        figures.origin.line()
    )
}
