//! `cargo xtask bench train`: one training step of every method.

use anyhow::{Result, ensure};
use burn::tensor::Device;
use clap::Args;
use models::methods::AnyMethod;
use models::with_method;
use nn_ops::formula;
use pil_ops::{Fit, Image, Letterbox};
use refcoco_data::Transformed;
use run_config::{Method, RunConfig};
use serde::{Deserialize, Serialize};
use trainer::batch::{HostBatch, Inputs};
use trainer::segmenter::Segmenter;
use trainer::step::StepContext;

use super::flops::work;
use super::measure::{Memory, median, timed};
use super::models::{Figures, Models, SENTENCES, Size, config_and_tokenizer};
use super::torch::{Torch, heads, says};
use saymask::device;

/// Options of `bench train`.
#[derive(Debug, Args)]
pub struct TrainBenchArgs {
    #[command(flatten)]
    models: Models,
    /// Images of a step, a sentence each; repeatable.
    #[arg(long = "batch", value_name = "N", default_values_t = [1])]
    batches: Vec<usize>,
}

/// A method at a size and a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub method: String,
    pub size: Size,
    /// Side of the network's input.
    pub input: u32,
    pub batch: usize,
    /// Seconds of each step: forward, backward, clipping, optimiser, moving average.
    pub seconds: Vec<f64>,
    /// Parameters in all and those that are trained.
    pub parameters: (usize, usize),
    /// Operations of the image encoders for one image, backward included where they are trained.
    pub step_flops: f64,
    memory: Memory,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    torch: Vec<Torch>,
}

/// Runs the command.
pub(crate) fn run(args: &TrainBenchArgs) -> Result<()> {
    let models = &args.models;
    models.check()?;
    ensure!(!args.batches.contains(&0), "--batch must be at least 1");
    if models.describe {
        saymask::say!("{}", models.described()?);
        return Ok(());
    }
    if models.alone {
        saymask::say!("{}", serde_json::to_string(&measure(models.methods[0], models.sizes[0], args.batches[0], models)?)?);
        return Ok(());
    }
    let figures = models.gather(|method, size| {
        let one = |batch: &usize| {
            let of = format!("{} {}, batch {batch}", method.name(), size.title());
            saymask::note!("{of} ...");
            let more = ["--batch", &batch.to_string()];
            let mut case: Case = models.child("train", method, size, &more)?;
            case.torch = models.torch("train", method, size, &more)?;
            case.torch.iter().try_for_each(|t| t.expect(&of, case.parameters.0, Some(case.parameters.1)))?;
            Ok(case)
        };
        args.batches.iter().map(one).collect()
    })?;
    models.output.publish("train", &figures, &table(&figures))
}

fn measure(method: Method, size: Size, batch: usize, args: &Models) -> Result<Case> {
    let device = device::open(&args.device)?;
    let (run_config, tokenizer) = config_and_tokenizer(method, size, args)?;
    let any = AnyMethod::new(&run_config, tokenizer)?;
    let (seconds, parameters, memory) = with_method!(&any, method => steps(method, &run_config, &device, batch, args)?);
    let step_flops = work(&run_config)?.step;
    let (method, input) = (method.name().into(), run_config.data.image_size);
    Ok(Case { method, size, input, batch, seconds, parameters, step_flops, memory, torch: Vec::new() })
}

/// The trainer's own step, again and again on the same batch.
fn steps<S: Segmenter>(
    segmenter: &S,
    run_config: &RunConfig,
    device: &Device,
    count: usize,
    args: &Models,
) -> Result<(Vec<f64>, (usize, usize), Memory)> {
    let context = StepContext::new(segmenter, run_config, device)?;
    let mut training = context.begin()?;
    let all = nn_ops::weights::parameters(&training.net, &segmenter.names());
    let all = all.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    let trained = nn_ops::weights::trained(&training.net, &segmenter.names()).iter().map(|p| p.elements).sum();
    let batch = synthetic_batch(count, run_config.data.image_size as usize, &SENTENCES, &segmenter.inputs())?;
    let (mut seconds, mut memory) = (Vec::new(), Memory::default());
    for pass in 0..args.warm_up + args.repeat {
        // One batch is a step, however many the config accumulates.
        let mut once = Some(batch.clone());
        let (took, (next, report)) = timed(device, || Ok(training.step(&context, run_config.optim.lr, || Ok(once.take()))?))?;
        ensure!(report.skipped.is_none(), "loss {}, gradient norm {}: nothing worth timing", report.loss, report.grad_norm);
        training = next;
        memory.note(device);
        if pass >= args.warm_up {
            seconds.push(took);
        }
    }
    Ok((seconds, (all, trained), memory))
}

/// Images that fill their canvas, with half of it as the truth and a sentence each.
pub(crate) fn synthetic_batch(count: usize, side: usize, sentences: &[&str], inputs: &Inputs) -> Result<HostBatch> {
    let letterbox = Letterbox::new(side, side, side, Fit::TopLeft)?;
    let sample = |i: usize| {
        let values = formula::tensor("bench", &format!("in.image.{i}"), &[side, side, 3], 127.5, 127.5);
        let image = Image::new(side, side, 3, values.iter().map(|v| *v as u8).collect())?;
        Ok(Transformed {
            image: Some(image.clone()),
            photo: Some(image),
            mask: (0..side * side).map(|i| if i % side < side / 2 { 255 } else { 0 }).collect(),
            full_mask: Vec::new(),
            letterbox,
            sentence: sentences[i % sentences.len()].to_owned(),
        })
    };
    let samples = (0..count).map(sample).collect::<Result<_>>()?;
    Ok(HostBatch::new(samples, (0..count).collect(), inputs)?)
}

fn table(figures: &Figures<Case>) -> String {
    let torch = figures.cases.first().map_or(&[][..], |c| &c.torch);
    let (head, rule) = heads(torch, &["step, ms", "ours by it", "memory, GB"]);
    let mut out = format!(
        "| method | model | input | batch | trained of all, M | step, ms | images/s | of peak | memory, GB |{head}\n\
         |---|---|---|---|---|---|---|---|---|{rule}\n",
    );
    for case in &figures.cases {
        let seconds = median(&case.seconds);
        let millions = |n: usize| format!("{:.1}", n as f64 / 1e6);
        out += &format!(
            "| {} | {} | {} | {} | {} of {} | {:.0} | {:.2} | {:.0} % | {} |",
            case.method,
            case.size.title(),
            case.input,
            case.batch,
            millions(case.parameters.1),
            millions(case.parameters.0),
            1e3 * seconds,
            case.batch as f64 / seconds,
            100.0 * case.batch as f64 * case.step_flops / seconds / figures.peak.flops,
            case.memory.cell()
        );
        for other in &case.torch {
            let theirs = median(&other.passes.seconds);
            out += &format!(" {:.0} | {:.2}x | {} |", 1e3 * theirs, seconds / theirs, other.memory.cell());
        }
        out += "\n";
    }
    let steps = figures.cases.first().map_or(0, |c| c.seconds.len());
    let memory = figures.cases.first().map_or("", |c| c.memory.says());
    out + &format!(
        "\nForward, backward, clipping, optimiser and moving average, as the method's config{} has them; {} weights, medians of \
         {steps} steps, memory is {memory}.{} {}",
        figures.changes(),
        figures.weights,
        says(torch),
        figures.origin_line()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_batches_fit_their_side() {
        let batch = synthetic_batch(3, 16, &SENTENCES, &Inputs::CANVAS).unwrap();
        assert_eq!((batch.len(), batch.image_count()), (3, 3));
        assert_eq!((batch.images.len(), batch.masks.len()), (3 * 3 * 256, 3 * 256));
        assert_eq!(batch.masks.iter().sum::<f32>(), 3.0 * 128.0);
    }

    #[test]
    fn a_tables_share_is_work_by_time_by_peak() {
        // What a table reads of figures, as a file would hold it.
        let text = r#"{"origin": {"machine": "m", "commit": "c", "command": "x"}, "weights": "random", "load": null,
            "peak": {"precision": "f32", "side": 4096, "flops": 4e13}, "set": ["a=1"], "cases": [{"method": "dit", "size": "b",
            "input": 512, "batch": 4, "seconds": [0.5, 0.2, 0.4], "parameters": [90000000, 2000000], "step_flops": 1e12,
            "memory": {"host_bytes": 9, "device_bytes": 2000000000}, "torch": [{"label": "eager, f32", "versions": "PyTorch 9",
            "parameters": [1, 1], "seconds": [0.5], "host_bytes": 3000000000}]}]}"#;
        let mut figures: Figures<Case> = serde_json::from_str(text).unwrap();
        let text = table(&figures);
        assert!(
            text.contains("| dit | ViT-B | 512 | 4 | 2.0 of 90.0 | 400 | 10.00 | 25 % | 2.00 | 500 | 0.80x | 3.00 |"),
            "{text}"
        );
        assert!(text.contains("with a=1") && text.contains("medians of 3") && text.contains("pools"), "{text}");
        assert!(text.contains("PyTorch (eager, f32): step") && text.contains("PyTorch 9"), "{text}");
        let bars = |text: &str| text.lines().take(3).map(|l| l.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(bars(&text), [13; 3], "{text}");
        figures.cases[0].torch.clear();
        let text = table(&figures);
        assert!(bars(&text) == [10; 3] && !text.contains("PyTorch"), "{text}");
    }
}
