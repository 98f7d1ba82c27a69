//! `saymask agree`: a trained model's masks on two devices.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use coco_mask::{Rle, intersection_union};
use metrics::Report;
use serde::Serialize;
use trainer::data::EvalData;
use trainer::evaluate::{ItemResult, profile};
use trainer::report::write_json;

use trainer::methods::evaluator;

use crate::device;
use crate::progress::Progress;
use crate::session::{JUDGING, Source};

/// Mean overlap below which two devices disagree. Logits close to the threshold may fall on either side of it.
const BOUND: f64 = 0.995;

/// Options of `agree`.
#[derive(Debug, Args)]
pub struct AgreeArgs {
    #[command(flatten)]
    source: Source,
    /// The device that is right.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    against: String,
    /// Split; the config's first one if absent.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// Expressions compared.
    #[arg(long, value_name = "N", default_value_t = 64)]
    limit: usize,
    /// Smallest mean IoU between the devices' masks.
    #[arg(long, value_name = "IOU", default_value_t = BOUND)]
    bound: f64,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How alike two devices' masks are.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Agreement {
    device: String,
    against: String,
    weights: String,
    split: String,
    expressions: usize,
    /// Mean IoU between the devices' masks of one expression.
    mean: f64,
    /// Smallest of them.
    lowest: f64,
    /// Expression of the smallest.
    lowest_at: String,
    /// Expressions whose mask is empty, or the whole image, on both devices: they agree by saying nothing.
    plain: usize,
    /// mIoU against the truth on each device.
    miou: [f64; 2],
    bound: f64,
}

/// Runs the command; whether the devices agree.
pub fn run(args: &AgreeArgs) -> Result<bool> {
    if args.limit == 0 {
        bail!("--limit must be at least 1");
    }
    let mut found: Vec<(Report, Vec<ItemResult>)> = Vec::new();
    let (mut label, mut split) = (String::new(), String::new());
    let devices = [args.against.as_str(), args.source.device()];
    for device in devices {
        let source = args.source.find("agree", JUDGING)?;
        let evaluator = evaluator(&source, &device::open(device)?)?;
        let run_config = source.run_config.with_overrides(&[format!("eval.limit={}", args.limit)])?;
        let first =
            || run_config.data.val_splits.first().cloned().context("--split: the config names no split to judge; name one");
        split = args.split.clone().map_or_else(first, Ok)?;
        let data = EvalData::open(&run_config, &split, evaluator.inputs())?;
        let of = data.items.len();
        let (mut progress, name) = (Progress::new(), format!("{split} on {device}"));
        found.push(evaluator.evaluate(&data, &profile(&run_config)?, None, &mut |done| progress.judging(&name, done, of))?);
        progress.finish();
        label = source.label;
    }
    let [(right, expected), (report, judged)] = found.as_slice() else { bail!("two devices are compared") };
    let agreement = Agreement {
        device: devices[1].into(),
        against: devices[0].into(),
        weights: label,
        split,
        bound: args.bound,
        miou: [report.miou, right.miou],
        ..compare(judged, expected)?
    };
    crate::say!("{}", agreement.lines());
    if let Some(path) = &args.json {
        write_json(path, &agreement)?;
    }
    Ok(agreement.passed())
}

/// IoU of each pair of masks; two empty ones are alike.
fn overlap(a: &Rle, b: &Rle) -> Result<f64> {
    let (intersection, union) = intersection_union(a, b)?;
    Ok(if union == 0 { 1.0 } else { intersection as f64 / union as f64 })
}

fn whole(mask: &Rle) -> bool {
    mask.area() == u64::from(mask.height()) * u64::from(mask.width())
}

fn compare(judged: &[ItemResult], expected: &[ItemResult]) -> Result<Agreement> {
    if judged.len() != expected.len() || judged.is_empty() {
        bail!("{} expressions on one device and {} on the other", judged.len(), expected.len());
    }
    let (mut sum, mut lowest, mut lowest_at, mut plain) = (0.0, f64::INFINITY, String::new(), 0);
    for (a, b) in judged.iter().zip(expected) {
        let iou = overlap(&a.mask, &b.mask)?;
        sum += iou;
        let both = |holds: fn(&Rle) -> bool| holds(&a.mask) && holds(&b.mask);
        plain += usize::from(both(Rle::is_empty) || both(whole));
        if iou < lowest {
            (lowest, lowest_at) = (iou, a.sentence.clone());
        }
    }
    Ok(Agreement {
        device: String::new(),
        against: String::new(),
        weights: String::new(),
        split: String::new(),
        expressions: judged.len(),
        mean: sum / judged.len() as f64,
        lowest,
        lowest_at,
        plain,
        miou: [0.0; 2],
        bound: BOUND,
    })
}

impl Agreement {
    fn passed(&self) -> bool {
        self.mean >= self.bound
    }

    fn lines(&self) -> String {
        let [here, there] = self.miou.map(|v| 100.0 * v);
        format!(
            "{} against {}, {}, {} expressions of {}\n\
             IoU between the masks: mean {:.5}, lowest {:.5} (\"{}\"); bound of the mean {}\n\
             empty, or the whole image, on both devices: {} of {}\n\
             mIoU against the truth: {here:.2} and {there:.2}\n\
             {}",
            self.device,
            self.against,
            self.weights,
            self.expressions,
            self.split,
            self.mean,
            self.lowest,
            self.lowest_at,
            self.bound,
            self.plain,
            self.expressions,
            match (self.passed(), self.plain == self.expressions) {
                (true, false) => "the devices agree",
                (true, true) => "the devices agree, but on nothing that has a shape: compare a model that was trained for longer",
                (false, _) => "the devices DISAGREE",
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rows: &[[u8; 4]]) -> Vec<ItemResult> {
        let one = |(item, bytes): (usize, &[u8; 4])| ItemResult {
            item,
            sentence: format!("s{item}"),
            mask: Rle::from_row_major(2, 2, bytes).unwrap(),
            score: 0.0,
            iou: 0.0,
        };
        rows.iter().enumerate().map(one).collect()
    }

    #[test]
    fn masks_are_compared_expression_by_expression() {
        let a = judged(&[[1, 1, 0, 0], [0; 4], [1, 1, 1, 1], [1, 0, 0, 0], [1; 4]]);
        let b = judged(&[[1, 1, 0, 0], [0; 4], [1, 1, 1, 0], [0, 1, 0, 0], [1; 4]]);
        let found = compare(&a, &b).unwrap();
        assert_eq!((found.mean, found.lowest, found.plain), ((1.0 + 1.0 + 0.75 + 1.0) / 5.0, 0.0, 2));
        assert_eq!(found.lowest_at, "s3");
        assert!(!found.passed() && found.lines().contains("DISAGREE"), "{}", found.lines());
        assert!(compare(&a, &a).unwrap().lines().ends_with("the devices agree"));
        let plain = compare(&a[1..2], &b[1..2]).unwrap();
        assert!(plain.passed() && plain.lines().contains("trained for longer"), "{}", plain.lines());
        assert!(compare(&a, &b[..3]).is_err() && compare(&[], &[]).is_err());
    }
}
