//! Time and memory of Segment Anything, each case in a process of its own.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use burn::tensor::{DType, Int, Tensor, TensorData};
use clap::{Args, ValueEnum};
use models::precision::seen;
use nn_ops::formula;
use run_config::Precision;
use sam_vit::{Output, Prompts, SamConfig};
use serde::{Deserialize, Serialize};

use super::measure::{load, median, status};
use super::torch::TorchArgs;
use super::{Origin, OutputArgs, child, command_line};
use saymask::device;

/// Rounds that alternate between ours and PyTorch, so that both meet the same weather.
const ROUNDS: usize = 2;
/// Passes of the decoder for each of the encoder: it takes a hundredth of the time. The script knows the same number.
const DECODER_PASSES: usize = 5;

/// Size of a SAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SamSize {
    /// ViT-B.
    B,
    /// ViT-L.
    L,
    /// ViT-H.
    H,
}

impl SamSize {
    fn config(self) -> SamConfig {
        match self {
            Self::B => SamConfig::vit_b(),
            Self::L => SamConfig::vit_l(),
            Self::H => SamConfig::vit_h(),
        }
    }
}

/// Options of `bench sam`.
#[derive(Debug, Args)]
pub struct SamArgs {
    /// Model; repeatable.
    #[arg(long = "size", value_enum, default_values = ["b", "l", "h"])]
    sizes: Vec<SamSize>,
    /// Side of the input in pixels; repeatable.
    #[arg(long = "input", value_name = "PIXELS", default_values_t = [1024, 512])]
    inputs: Vec<usize>,
    /// What the model is kept and computed in; repeatable.
    #[arg(long = "precision", value_enum, default_values = ["f32"])]
    precisions: Vec<Kept>,
    /// Images of a pass of the encoder.
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Timed calls of the encoder a case and round, after one that is not timed; five times as many of the decoder.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    #[command(flatten)]
    torch: TorchArgs,
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help = device::HELP)]
    device: String,
    #[command(flatten)]
    output: OutputArgs,
    /// Measure one case in this process and print it as JSON.
    #[arg(long, hide = true)]
    alone: bool,
}

/// What a model is kept and computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kept {
    /// f32 throughout.
    #[default]
    F32,
    /// f32, but for the matrices of the encoder, which are kept in f16 and widened where they are used.
    HalfWeights,
    /// bf16, norms and softmax in f32.
    Bf16,
}

impl Kept {
    /// On the command line.
    fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::HalfWeights => "half-weights",
            Self::Bf16 => "bf16",
        }
    }

    /// As the table shows it, behind the model's name.
    fn title(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::HalfWeights => ", weights in f16",
            Self::Bf16 => ", bf16",
        }
    }

    /// What PyTorch computes in beside it.
    fn torch(self) -> &'static str {
        if self == Self::Bf16 { "bf16" } else { "f32" }
    }
}

/// What one implementation needed for one case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Measure {
    /// Seconds of each pass of the image encoder.
    encoder: Vec<f64>,
    /// Seconds of each pass of prompt encoder and mask decoder, for one click.
    decoder: Vec<f64>,
    /// Largest resident memory of the process, weights included, where the system tells.
    #[serde(alias = "host_bytes")]
    peak_bytes: Option<u64>,
    /// Largest reserve of the device's memory pools, where it has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_bytes: Option<u64>,
    /// Versions, where they are not our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    versions: Option<String>,
    /// Attention and precision, where they are not our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

/// A model at an input size.
#[derive(Debug, Serialize, Deserialize)]
struct Case {
    size: String,
    input: usize,
    /// Images of a pass of the encoder.
    #[serde(default = "one")]
    batch: usize,
    #[serde(default)]
    precision: Kept,
    ours: Measure,
    torch: Option<Measure>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    origin: Origin,
    threads: usize,
    weights: String,
    /// Load of the machine before the first case, over one minute.
    load: Option<f64>,
    cases: Vec<Case>,
}

fn one() -> usize {
    1
}

/// Runs the command.
pub(crate) fn run(args: &SamArgs) -> Result<()> {
    if args.repeat == 0 || args.batch == 0 {
        bail!("--repeat and --batch must be at least 1");
    }
    let [options] = &args.torch.torch_options[..] else { bail!("bench sam takes --torch-options once") };
    if args.alone {
        saymask::say!("{}", serde_json::to_string(&measure(args.sizes[0], args.inputs[0], args.precisions[0], args)?)?);
        return Ok(());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let device = device::open(&args.device)?;
    let mut figures = Figures {
        origin: Origin::on(&args.device, &device, &command_line()),
        threads,
        weights: "random".into(),
        load: load(),
        cases: Vec::new(),
    };
    for &size in &args.sizes {
        for &input in &args.inputs {
            // PyTorch once for each of its own precisions.
            let mut others: Vec<(&str, Measure)> = Vec::new();
            for &precision in &args.precisions {
                let name = format!("{size:?}").to_lowercase();
                saymask::note!("ViT-{}{} at {input} ...", name.to_uppercase(), precision.title());
                let mut case = Case { size: name, input, batch: args.batch, precision, ours: Measure::default(), torch: None };
                let known = others.iter().find(|(of, _)| *of == precision.torch()).map(|(_, m)| m.clone());
                for _ in 0..if args.torch.torch { ROUNDS } else { 1 } {
                    case.ours.merge(child::figures(&mut ours(args, &case)?, "")?);
                    if args.torch.torch && known.is_none() {
                        let other = child::figures(&mut torch(args, &case, options)?, "")?;
                        case.torch.get_or_insert_default().merge(other);
                    }
                }
                match known {
                    Some(known) => case.torch = Some(known),
                    None => others.extend(case.torch.clone().map(|t| (precision.torch(), t))),
                }
                figures.cases.push(case);
            }
        }
    }
    let table = table(&figures);
    args.output.publish("sam", &figures, &table)
}

/// This program on one case.
fn ours(args: &SamArgs, case: &Case) -> Result<Command> {
    let mut command = child::this("sam")?;
    let numbers = [case.input, args.repeat].map(|n| n.to_string());
    command.args(["--alone", "--size", &case.size, "--input", &numbers[0], "--repeat", &numbers[1]]);
    command.args(["--device", &args.device, "--batch", &args.batch.to_string(), "--precision", case.precision.word()]);
    Ok(command)
}

fn torch(args: &SamArgs, case: &Case, options: &str) -> Result<Command> {
    let [input, repeat, batch] = [case.input, args.repeat, case.batch].map(|n| n.to_string());
    let size =
        ["--size", &case.size, "--input", &input, "--repeat", &repeat, "--batch", &batch, "--dtype", case.precision.torch()];
    args.torch.command("sam", &size, options)
}

/// One case in this process, with random weights.
fn measure(size: SamSize, input: usize, precision: Kept, args: &SamArgs) -> Result<Measure> {
    let (device, repeat, batch) = (device::open(&args.device)?, args.repeat, args.batch);
    if precision == Kept::Bf16 && !device.supports_dtype(DType::BF16) {
        bail!("--precision bf16: {} cannot compute in it", args.device);
    }
    let sam = size.config().init(&device);
    let sam = match precision {
        Kept::F32 => sam,
        Kept::HalfWeights => sam.with_half_weights()?,
        Kept::Bf16 => seen(&sam, Precision::Bf16),
    };
    let values = formula::tensor("bench", "in.image", &[batch, 3, input, input], 0.0, 2.0);
    let image = Tensor::<4>::from_data(TensorData::new(values, [batch, 3, input, input]), &device);
    let mut measure = Measure::default();
    let mut embedding = sam.image_encoder.forward(image.clone());
    for _ in 0..repeat {
        device.sync()?;
        let begun = Instant::now();
        embedding = sam.image_encoder.forward(image.clone());
        device.sync()?;
        measure.encoder.push(begun.elapsed().as_secs_f64());
    }
    // A click belongs to one image.
    let embedding = embedding.narrow(0, 0, 1);
    let middle = input as f32 / 2.0;
    let points = Tensor::<3>::from_floats([[[middle, middle]]], &device);
    let prompts = Prompts { points: Some((points, Tensor::<2, Int>::ones([1, 1], &device))), ..Prompts::default() };
    for pass in 0..=repeat * DECODER_PASSES {
        let begun = Instant::now();
        let (masks, _) = sam.decode(embedding.clone(), prompts.clone(), (input, input), Output::Multi);
        drop(masks);
        device.sync()?;
        if pass > 0 {
            measure.decoder.push(begun.elapsed().as_secs_f64());
        }
    }
    measure.peak_bytes = status("VmHWM:");
    measure.device_bytes = device.memory_pool_usage().map(|p| p.bytes_reserved);
    Ok(measure)
}

impl Measure {
    fn merge(&mut self, other: Self) {
        self.encoder.extend(other.encoder);
        self.decoder.extend(other.decoder);
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.device_bytes = self.device_bytes.max(other.device_bytes);
        (self.versions, self.label) = (other.versions, other.label);
    }
}

/// Encoder and decoder by their medians (the fastest pass in brackets), and peak memory.
fn table(figures: &Figures) -> String {
    let both = figures.cases.iter().any(|c| c.torch.is_some());
    let head = "| model | input | encoder, s | decoder, ms | peak, GB |";
    let (more, rule) = if both { (" PyTorch encoder, s | decoder, ms | peak, GB |", "|---|---|---|") } else { ("", "") };
    let mut out = format!("{head}{more}\n|---|---|---|---|---|{}\n", rule.trim_start_matches('|'));
    let cells = |m: &Measure| {
        let fastest = |s: &[f64]| s.iter().copied().fold(f64::INFINITY, f64::min);
        let peak = m.device_bytes.or(m.peak_bytes).map_or_else(|| "?".into(), |b| format!("{:.2}", b as f64 / 1e9));
        let (encoder, decoder) = (median(&m.encoder), median(&m.decoder));
        format!(" {encoder:.2} ({:.2}) | {:.0} ({:.0}) | {peak} |", fastest(&m.encoder), 1e3 * decoder, 1e3 * fastest(&m.decoder))
    };
    for case in &figures.cases {
        let empty = if both { " | | |" } else { "" };
        let other = case.torch.as_ref().map_or_else(|| empty.to_owned(), cells);
        let model = format!("ViT-{}{}", case.size.to_uppercase(), case.precision.title());
        out += &format!("| {model} | {} |{}{other}\n", case.input, cells(&case.ours));
    }
    let torch = figures.cases.iter().find_map(|c| c.torch.as_ref());
    let words = torch.map(|t| [&t.versions, &t.label].into_iter().flatten().cloned().collect::<Vec<_>>().join(", "));
    let versions = words.map_or_else(String::new, |v| format!(" {v}, as many threads."));
    let images = figures.cases.first().map_or(1, |c| c.batch);
    let images = if images == 1 { "One image".to_owned() } else { format!("{images} images in the encoder") };
    let pools = figures.cases.iter().any(|c| c.ours.device_bytes.is_some());
    let peak = if pools { "Peak is what the device's memory pools reserved" } else { "Peak is the whole process" };
    let busy = figures.load.filter(|load| *load > 0.5).map_or_else(String::new, |load| {
        format!(" Other work took time from both: the load was {load:.1} on {} threads.", figures.threads)
    });
    out + &format!(
        "\n{images}, one click, {} weights; medians, in brackets the fastest pass. {peak}.{versions}{busy}\n{}.",
        figures.weights,
        figures.origin.line()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_medians_of_both() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        let ours = Measure { encoder: vec![5.0, 1.0, 2.0], decoder: vec![0.1], peak_bytes: Some(1 << 30), ..Measure::default() };
        let torch = Some(Measure { versions: Some("torch 9".into()), ..ours.clone() });
        let origin = Origin { machine: "m".into(), commit: "c".into(), command: "x".into(), device: None, driver: None };
        let mut figures = Figures { origin, threads: 2, weights: "random".into(), load: Some(7.0), cases: Vec::new() };
        figures.cases.push(Case { size: "b".into(), input: 64, batch: 1, precision: Kept::HalfWeights, ours, torch });
        let text = table(&figures);
        assert!(text.contains("| ViT-B, weights in f16 | 64 | 2.00 (1.00) | 100 (100) | 1.07 | 2.00 (1.00) |"), "{text}");
        assert!(text.contains("torch 9") && text.contains("random weights") && text.contains("load was 7.0"), "{text}");
        let columns: Vec<usize> = text.lines().take(3).map(|l| l.matches('|').count()).collect();
        assert_eq!(columns, [9, 9, 9], "{text}");
    }
}
