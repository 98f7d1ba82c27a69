//! Every judged expression with what may explain how well it was answered: words, size, place, candidates.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use coco_mask::{Rle, intersection_union};
use metrics::Report;
use refcoco_data::{Dataset, DatasetSpec};
use run_config::RunConfig;
use serde::Deserialize;

use crate::eval::word_kind;

/// `eval/SET-BY-SPLIT-results.json`.
pub(super) type Results = Vec<ResultRow>;

/// An expression as `eval` wrote it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ResultRow {
    ref_id: i64,
    sent_id: i64,
    sentence: String,
    segmentation: Runs,
    iou: f64,
    score: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct Runs {
    size: [u32; 2],
    counts: String,
}

/// An expression, its answer, and what it is about.
pub(super) struct Row {
    /// Numbers of the expression, the same in every run on this set.
    pub(super) key: (i64, i64),
    pub(super) sentence: String,
    pub(super) mask: Rle,
    pub(super) truth: Rle,
    /// Index of the image in the data set.
    pub(super) image: usize,
    pub(super) iou: f64,
    pub(super) score: f64,
    pub(super) intersection: u64,
    pub(super) union: u64,
    /// Groups that it belongs to, by what is grouped.
    pub(super) groups: BTreeMap<&'static str, String>,
}

/// All expressions of a split.
pub(super) struct Items {
    pub(super) dataset: Arc<Dataset>,
    pub(super) rows: Vec<Row>,
}

impl Items {
    /// Joins results to the data that they are of.
    pub(super) fn new(config: &RunConfig, report: &Report, results: &Results) -> Result<Self> {
        let spec =
            DatasetSpec { root: config.data.root.clone(), name: report.dataset.clone(), split_by: report.split_by.clone() };
        let dataset = Dataset::open(&spec, &report.split).context("the data of this split cannot be read")?.with_masks_read()?;
        let mut places = BTreeMap::new();
        for (r, referent) in dataset.referents.iter().enumerate() {
            for (s, sentence) in referent.sentences.iter().enumerate() {
                places.insert((referent.ref_id, sentence.id), (r, s));
            }
        }
        let candidates = candidates(&dataset);
        let mut rows = Vec::with_capacity(results.len());
        for result in results {
            let key = (result.ref_id, result.sent_id);
            let Some(&(r, s)) = places.get(&key) else { continue };
            let referent = &dataset.referents[r];
            let mask =
                Rle::from_compressed(result.segmentation.size[0], result.segmentation.size[1], &result.segmentation.counts)?;
            let (intersection, union) = intersection_union(&mask, &referent.mask)?;
            let kind = referent.sentences[s].kind.map(|kind| kind.name().to_owned());
            let groups = groups(&result.sentence, kind, &referent.mask, candidates[r]);
            rows.push(Row {
                key,
                sentence: result.sentence.clone(),
                mask,
                truth: referent.mask.clone(),
                image: referent.image,
                iou: result.iou,
                score: result.score,
                intersection,
                union,
                groups,
            });
        }
        if rows.is_empty() {
            anyhow::bail!("none of its {} results is of the data that are there now", results.len());
        }
        Ok(Self { dataset: Arc::new(dataset), rows })
    }
}

/// Referents per image of the same category, or of any where there are no categories.
fn candidates(dataset: &Dataset) -> Vec<usize> {
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for referent in dataset.referents.iter().filter(|r| !r.mask.is_empty()) {
        *counts.entry((referent.image, &referent.category)).or_default() += 1;
    }
    dataset.referents.iter().map(|r| counts.get(&(r.image, r.category.as_str())).copied().unwrap_or(0)).collect()
}

/// Headings of groups, in the order of the report.
pub(super) const HEADINGS: [&str; 5] =
    ["kind of sentence", "length of sentence", "size of the object", "place of the object", "candidates"];

fn groups(sentence: &str, kind: Option<String>, truth: &Rle, candidates: usize) -> BTreeMap<&'static str, String> {
    let words = sentence.split_whitespace().count();
    let length = match words {
        0..=1 => "1 word",
        2..=3 => "2 to 3 words",
        4..=6 => "4 to 6 words",
        7..=10 => "7 to 10 words",
        _ => "more than 10 words",
    };
    let share = truth.area() as f64 / (f64::from(truth.width()) * f64::from(truth.height()));
    let size = match share {
        s if s <= 0.0 => "nothing is meant",
        s if s < 0.01 => "below 1 % of the image",
        s if s < 0.05 => "1 to 5 %",
        s if s < 0.2 => "5 to 20 %",
        _ => "20 % and more",
    };
    let [x, y, w, h] = truth.bbox();
    let third = |at: f64, side: u32| (3.0 * at / f64::from(side)).floor().clamp(0.0, 2.0) as usize;
    let across = ["left", "middle", "right"][third(x + w / 2.0, truth.width())];
    let down = ["top", "middle", "bottom"][third(y + h / 2.0, truth.height())];
    let place = match (truth.is_empty(), across, down) {
        (true, _, _) => "nothing is meant".to_owned(),
        (false, "middle", "middle") => "centre".to_owned(),
        (false, across, "middle") => across.to_owned(),
        (false, "middle", down) => down.to_owned(),
        (false, across, down) => format!("{down} {across}"),
    };
    let others = match candidates {
        0 => "none".to_owned(),
        1 => "the only one of its category".to_owned(),
        n @ 2..=4 => format!("one of {n}"),
        _ => "one of 5 or more".to_owned(),
    };
    BTreeMap::from([
        (HEADINGS[0], kind.unwrap_or_else(|| word_kind(sentence).to_owned())),
        (HEADINGS[1], length.to_owned()),
        (HEADINGS[2], size.to_owned()),
        (HEADINGS[3], place),
        (HEADINGS[4], others),
    ])
}
