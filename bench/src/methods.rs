//! `cargo xtask bench methods`: from an image and a sentence to a mask, for every method.

use anyhow::{Result, bail};
use clap::Args;
use models::{AnyModel, FoundWeights};
use nn_ops::formula;
use pil_ops::Image;
use run_config::Method;
use serde::{Deserialize, Serialize};

use super::case::count;
use super::flops::work;
use super::measure::{Memory, median, timed};
use super::models::{Figures, Models, SENTENCES, Size, config_and_tokenizer};
use super::torch::{Torch, heads, says};
use saymask::device;

/// Options of `bench methods`.
#[derive(Debug, Args)]
pub struct MethodsArgs {
    #[command(flatten)]
    models: Models,
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
    #[serde(default)]
    parameters: usize,
    /// Operations of the image encoders, forward.
    forward_flops: f64,
    memory: Memory,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    torch: Vec<Torch>,
}

/// Runs the command.
pub(crate) fn run(args: &MethodsArgs) -> Result<()> {
    let models = &args.models;
    models.check()?;
    if models.describe {
        saymask::say!("{}", models.described()?);
        return Ok(());
    }
    if models.alone {
        saymask::say!("{}", serde_json::to_string(&measure(models.methods[0], models.sizes[0], models)?)?);
        return Ok(());
    }
    let figures = models.gather(|method, size| {
        let of = format!("{} {}", method.name(), size.title());
        saymask::note!("{of} ...");
        let mut case: Case = models.child("methods", method, size, &[])?;
        case.torch = models.torch("methods", method, size, &[])?;
        case.torch.iter().try_for_each(|t| t.expect(&of, case.parameters, None))?;
        Ok(vec![case])
    })?;
    models.output.publish("methods", &figures, &table(&figures))
}

/// One case in this process, with random weights.
fn measure(method: Method, size: Size, args: &Models) -> Result<Case> {
    let device = device::open(&args.device)?;
    let (run_config, tokenizer) = config_and_tokenizer(method, size, args)?;
    let parameters = count(&run_config, tokenizer.clone(), &device)?;
    let model = AnyModel::open(&run_config, tokenizer, &device, &FoundWeights::Initial)?;
    let (width, height) = size.photo();
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
    let forward_flops = work(&run_config)?.forward;
    let (method, input) = (method.name().into(), run_config.data.image_size);
    Ok(Case { method, size, input, first, further, parameters, forward_flops, memory, torch: Vec::new() })
}

fn table(figures: &Figures<Case>) -> String {
    let torch = figures.cases.first().map_or(&[][..], |c| &c.torch);
    let (head, rule) = heads(torch, &["image + sentence, ms", "each further, ms", "memory, GB"]);
    let mut out = format!(
        "| method | model | input | image + sentence, ms | masks/s | each further sentence, ms | of peak | memory, GB |{head}\n\
         |---|---|---|---|---|---|---|---|{rule}\n",
    );
    let ms = |seconds: &[f64]| format!("{:.1}", 1e3 * median(seconds));
    for case in &figures.cases {
        let first = median(&case.first);
        out += &format!(
            "| {} | {} | {} | {} | {:.2} | {} | {:.0} % | {} |",
            case.method,
            case.size.title(),
            case.input,
            ms(&case.first),
            1.0 / first,
            ms(&case.further),
            100.0 * case.forward_flops / first / figures.peak.flops,
            case.memory.cell()
        );
        for other in &case.torch {
            out += &format!(" {} | {} | {} |", ms(&other.passes.first), ms(&other.passes.further), other.memory.cell());
        }
        out += "\n";
    }
    let passes = figures.cases.first().map_or(0, |c| c.first.len());
    let memory = figures.cases.first().map_or("", |c| c.memory.says());
    out + &format!(
        "\nFrom a decoded photograph to the mask at its size, by the method's config{}; {} weights, medians of {passes} passes, \
         memory is {memory}. DIT's text runs through the image encoder, so it encodes the image again for every sentence; EVF-SAM \
         and RISAM encode it once.{} {}",
        figures.changes(),
        figures.weights,
        says(torch),
        figures.origin_line()
    )
}
