//! What a run that was trained on several data sets makes of each: sentences, classes after a prompt, parts.

use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use coco_mask::Rle;
use models::Source;
use refcoco_data::{Dataset, DatasetSpec};
use run_config::RunConfig;
use sam_vit::components;
use serde::Serialize;
use trainer::data::EvalData;
use trainer::evaluate::{ItemResult, profile};
use trainer::methods::{Evaluator, evaluator};
use trainer::report;
use trainer::train::Summary;

use crate::progress::Progress;

/// Figures of one data set's validation split under its prompt. The sentences of each data set are one kind.
#[derive(Debug, Clone, Serialize)]
struct Kind {
    dataset: String,
    prompt: String,
    samples: usize,
    /// Mean IoU.
    miou: f64,
    /// The same where the answer has several parts, with the prompt and with the bare words; where the prompt adds words.
    several: Option<Several>,
}

/// Mean IoU over masks of several parts.
#[derive(Debug, Clone, Copy, Serialize)]
struct Several {
    samples: usize,
    prompted: f64,
    bare: f64,
}

/// What stands for the words in a prompt.
const PLACE: &str = "{}";

/// Judges the finished run on every data set that it was trained on, prints a line per set, and keeps `eval/kinds.json`. Nothing
/// where there is one set, or none has a prompt of its own.
pub(crate) fn say(run_config: &RunConfig, summary: &Summary, device: &Device) -> Result<()> {
    let data = &run_config.data;
    if summary.reports.is_empty() || data.also.iter().all(|source| source.prompt == PLACE) {
        return Ok(());
    }
    let found = Source::Run(summary.dir.root().into()).find::<&str>(&[])?;
    let evaluator = evaluator(&found, device)?;
    let judge = Judge { evaluator: &*evaluator, run_config };
    let main =
        (DatasetSpec { root: data.root.clone(), name: data.dataset.clone(), split_by: data.split_by.clone() }, &data.prompt);
    let also = data.also.iter().map(|source| {
        let root = source.root.clone().unwrap_or_else(|| data.root.clone());
        (DatasetSpec { root, name: source.dataset.clone(), split_by: source.split_by.clone() }, &source.prompt)
    });
    let mut progress = Progress::new();
    let mut kinds = Vec::new();
    for (spec, prompt) in std::iter::once(main).chain(also) {
        // Sets that are for training only, such as human parsing, have no such split.
        if let Ok(dataset) = Dataset::open(&spec, "val") {
            kinds.push(judge.kind(&dataset, prompt, &mut progress)?);
        }
    }
    progress.finish();
    report::write_json(&summary.dir.eval().join("kinds.json"), &kinds)?;
    crate::say!("{}", table(&kinds));
    Ok(())
}

struct Judge<'a> {
    evaluator: &'a dyn Evaluator,
    run_config: &'a RunConfig,
}

impl Judge<'_> {
    fn kind(&self, dataset: &Dataset, prompt: &str, progress: &mut Progress) -> Result<Kind> {
        let (prompted, masks) = self.ask(dataset, prompt, progress)?;
        let several: Vec<bool> = masks.iter().map(is_several).collect();
        let several = if prompt == PLACE || !several.contains(&true) {
            None
        } else {
            let bare = self.ask(dataset, PLACE, progress)?.0;
            let of = |all: &[ItemResult]| mean(all.iter().filter(|r| several.get(r.item) == Some(&true)).map(|r| r.iou));
            let samples = several.iter().filter(|s| **s).count();
            Some(Several { samples, prompted: of(&prompted), bare: of(&bare) })
        };
        let miou = mean(prompted.iter().map(|r| r.iou));
        Ok(Kind { dataset: dataset.spec.name.clone(), prompt: prompt.to_owned(), samples: prompted.len(), miou, several })
    }

    /// The answers to a prompt, and the true masks.
    fn ask(&self, dataset: &Dataset, prompt: &str, progress: &mut Progress) -> Result<(Vec<ItemResult>, Vec<Rle>)> {
        let dataset = Arc::new(dataset.clone().with_prompt(prompt)?.with_masks_read()?);
        let data = EvalData::of(self.run_config, dataset.clone(), self.evaluator.inputs())?;
        let (name, of) = (format!("{} as \"{prompt}\"", dataset.spec.name), data.items.len());
        let mut on_event = |done| progress.judging(&name, done, of);
        let (_, results) = self.evaluator.evaluate(&data, &profile(self.run_config)?, None, &mut on_event)?;
        Ok((results, dataset.masks(&data.items)?))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), v| (sum + v, count + 1));
    sum / f64::from(count.max(1))
}

/// Whether a mask has several parts, each a quarter of the largest at least: crumbs beside an object that hides it are no second one.
fn is_several(mask: &Rle) -> bool {
    let (_, sizes) = components(&mask.to_row_major(), mask.width() as usize);
    let largest = sizes.iter().copied().max().unwrap_or_default();
    sizes.iter().filter(|size| **size * 4 >= largest).count() > 1
}

fn table(kinds: &[Kind]) -> String {
    let mut out = format!("{:<22}{:<20}{:>8}{:>10}\n", "val of", "asked as", "mIoU", "samples");
    for kind in kinds {
        out += &format!("{:<22}{:<20}{:>8.2}{:>10}\n", kind.dataset, kind.prompt, 100.0 * kind.miou, kind.samples);
    }
    for (kind, several) in kinds.iter().filter_map(|k| Some((k, k.several?))) {
        let Several { samples, prompted, bare } = several;
        out += &format!(
            "{:<22}{samples} masks of several parts: {:.2} as \"{}\", {:.2} as the bare words\n",
            kind.dataset,
            100.0 * prompted,
            kind.prompt,
            100.0 * bare
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_parts_are_not_crumbs() {
        let mask = |rows: [&str; 4]| {
            let pixels: Vec<u8> = rows.iter().flat_map(|r| r.bytes()).map(|b| u8::from(b == b'#')).collect();
            Rle::from_row_major(4, 8, &pixels).unwrap()
        };
        assert!(is_several(&mask(["###...##", "###...##", "###.....", "........"])));
        assert!(!is_several(&mask(["###....#", "###....#", "###.....", "........"])));
        assert!(!is_several(&mask(["###.....", "...##...", "........", "........"])));
        assert!(!is_several(&mask(["........"; 4])));
    }

    #[test]
    fn a_line_per_kind() {
        let kind = |dataset: &str, prompt: &str, several| Kind {
            dataset: dataset.into(),
            prompt: prompt.into(),
            samples: 12,
            miou: 0.5,
            several,
        };
        let several = Some(Several { samples: 5, prompted: 0.75, bare: 0.25 });
        let text = table(&[kind("refcoco", "{}", None), kind("ade20k", "[semantic] {}", several)]);
        assert!(text.contains("refcoco               {}                     50.00        12\n"), "{text}");
        assert!(text.contains("5 masks of several parts: 75.00 as \"[semantic] {}\", 25.00 as the bare words"), "{text}");
    }
}
