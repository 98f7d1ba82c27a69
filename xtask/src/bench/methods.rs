//! `cargo xtask bench methods`: from an image and a sentence to a mask, for every method.

use anyhow::{Result, bail};
use clap::Args;
use nn_ops::formula;
use pil_ops::Image;
use serde::{Deserialize, Serialize};
use trainer::models;
use trainer::plan::Method;

use super::flops::work;
use super::measure::{Memory, Peak, Precision, load, matrix_peak, median, timed};
use super::models::{Models, SENTENCES, Size, plan};
use super::{Origin, OutputArgs};
use crate::device;

/// Options of `bench methods`.
#[derive(Debug, Args)]
pub struct MethodsArgs {
    #[command(flatten)]
    models: Models,
    /// Numbers that the matrix peak is measured in.
    #[arg(long, value_enum, default_value = "f32")]
    peak: Precision,
    #[command(flatten)]
    output: OutputArgs,
}

/// A method at a size.
#[derive(Debug, Serialize, Deserialize)]
struct Case {
    method: String,
    size: Size,
    /// Side of the network's input.
    input: u32,
    /// Seconds from an image and one sentence to its mask on the host.
    first: Vec<f64>,
    /// Seconds of each further sentence on the same image.
    further: Vec<f64>,
    /// Operations of the image encoders, forward.
    forward_flops: f64,
    memory: Memory,
}

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    origin: Origin,
    weights: String,
    /// Load of the machine before the first case, over one minute.
    load: Option<f64>,
    peak: Peak,
    cases: Vec<Case>,
}

/// Runs the command.
pub(super) fn run(args: &MethodsArgs) -> Result<()> {
    args.models.check()?;
    if args.models.alone {
        println!("{}", serde_json::to_string(&measure(args.models.methods[0], args.models.sizes[0], &args.models)?)?);
        return Ok(());
    }
    let load = load();
    let device = device::open(&args.models.device)?;
    let given: Vec<String> = std::env::args().skip(1).collect();
    let origin = Origin::on(&args.models.device, &device, &format!("cargo xtask {}", given.join(" ")));
    let mut cases: Vec<Case> = Vec::new();
    for &size in &args.models.sizes {
        for &method in &args.models.methods {
            eprintln!("{} {} ...", method.name(), size.title());
            cases.push(args.models.child("methods", method, size, &[])?);
        }
    }
    let peak = matrix_peak(&device, args.peak)?;
    let figures = Figures { origin, weights: "random".into(), load, peak, cases };
    let table = table(&figures);
    args.output.publish("methods", &figures, &table)
}

/// One case in this process, with random weights.
fn measure(method: Method, size: Size, args: &Models) -> Result<Case> {
    let device = device::open(&args.device)?;
    let (plan, tokenizer) = plan(method, size, args)?;
    let model = models::open(&plan, tokenizer, &device, None)?;
    // A photograph's shape, a little smaller than the canvas of the demonstration's pictures.
    let (width, height) = if size == Size::Tiny { (128, 96) } else { (640, 480) };
    let values = formula::tensor("bench", "in.image", &[height, width, 3], 127.5, 127.5);
    let image = Image::new(width, height, 3, values.iter().map(|v| *v as u8).collect())?;
    let (mut first, mut further, mut memory) = (Vec::new(), Vec::new(), Memory::default());
    for pass in 0..args.warm_up + args.repeat {
        let (one, masks) = timed(&device, || Ok(model.predict(&image, &SENTENCES[..1])?))?;
        let (all, more) = timed(&device, || Ok(model.predict(&image, &SENTENCES)?))?;
        if (masks.len(), more.len()) != (1, SENTENCES.len()) {
            bail!("{}: {} and {} masks", method.name(), masks.len(), more.len());
        }
        memory.note(&device);
        if pass >= args.warm_up {
            first.push(one);
            further.push((all - one) / (SENTENCES.len() - 1) as f64);
        }
    }
    let forward_flops = work(&plan)?.forward;
    Ok(Case { method: method.name().into(), size, input: plan.data.image_size, first, further, forward_flops, memory })
}

fn table(figures: &Figures) -> String {
    let mut out = String::from(
        "| method | model | input | image + sentence, ms | masks/s | each further sentence, ms | of peak | memory, GB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for case in &figures.cases {
        let first = median(&case.first);
        out += &format!(
            "| {} | {} | {} | {:.1} | {:.2} | {:.1} | {:.0} % | {} |\n",
            case.method,
            case.size.title(),
            case.input,
            1e3 * first,
            1.0 / first,
            1e3 * median(&case.further),
            100.0 * case.forward_flops / first / figures.peak.flops,
            case.memory.cell()
        );
    }
    let passes = figures.cases.first().map_or(0, |c| c.first.len());
    let memory = figures.cases.first().map_or("", |c| c.memory.says());
    let load = figures.load.map_or(String::new(), |l| format!(" Load before it began: {l:.1}."));
    out + &format!(
        "\nFrom a decoded photograph to the mask at its size; {} weights, medians of {passes} passes, memory is {memory}. DIT's \
         text runs through the image encoder, so it encodes the image again for every sentence; EVF-SAM and RISAM encode it once. \
         {}{load} {}.",
        figures.weights,
        figures.peak.line(),
        figures.origin.line()
    )
}
