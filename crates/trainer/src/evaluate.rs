//! Evaluation: masks at the original size, metrics under a named profile.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use coco_mask::Rle;
use metrics::{Confusion, EvalProfile, Meter, Report, Resample, Sample, Space};
use pil_ops::Letterbox;
use rayon::prelude::*;
use refcoco_data::Item;
use sam_vit::{Prediction, SamError};
use serde::{Deserialize, Serialize};

use crate::data::{EvalBatch, EvalData};
use crate::encoded::Encoded;
use crate::error::TrainError;
use crate::segmenter::Segmenter;
use run_config::RunConfig;

/// One expression and what the model made of it.
#[derive(Debug, Clone)]
pub struct ItemResult {
    /// Index of the item in the evaluation order.
    pub item: usize,
    /// The sentence that the model read.
    pub sentence: String,
    /// The predicted mask at the original size.
    pub mask: Rle,
    /// Mean foreground probability inside the mask.
    pub score: f32,
    /// IoU with the truth, under the profile's rules.
    pub iou: f64,
}

/// The profile that the config asks for, its threshold replaced where the config says so.
///
/// # Errors
/// A profile that does not exist.
pub fn profile(run_config: &RunConfig) -> Result<EvalProfile, TrainError> {
    let mut profile = EvalProfile::named(run_config.eval.profile.name())?;
    if let Some(threshold) = run_config.eval.threshold {
        // The config speaks of probabilities, whatever the profile compares.
        (profile.threshold, profile.space) = (threshold, Space::Probability);
    }
    Ok(profile)
}

/// Evaluates a split. Where several ranks judge it together, each judges its part of the batches, and all return all of it.
///
/// With `shuffle`, every image is given the sentence of another expression, by a fixed permutation: what is left then is
/// what the model knows without its text.
///
/// `on_event` hears the number of items done.
///
/// # Errors
/// Unreadable images, sentences that the tokenizer refuses, device failures.
pub fn evaluate<S: Segmenter>(
    segmenter: &S,
    net: &S::Net,
    data: &EvalData,
    profile: &EvalProfile,
    shuffle: Option<u64>,
    device: &Device,
    on_event: impl FnMut(usize),
) -> Result<(Report, Vec<ItemResult>), TrainError> {
    let shuffled = |seed| derangement(data.items.len(), seed).into_iter().map(|item| sentence(data, item).into_owned()).collect();
    let sentences: Option<Vec<String>> = shuffle.map(shuffled);
    let options = Options { sentences: sentences.as_deref(), maps: None };
    evaluate_with(segmenter, net, data, profile, options, device, on_event)
}

/// Probabilities at the network's size, of the image's area alone, in steps of 1/255.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbabilityMap {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// `height * width` probabilities times 255, rounded, row after row.
    pub levels: Vec<u8>,
}

impl ProbabilityMap {
    /// From logits of the whole canvas.
    fn new(logits: &[f32], letterbox: &Letterbox) -> Result<Self, TrainError> {
        let valid = letterbox.crop(logits).map_err(SamError::from)?;
        let levels = valid.into_iter().map(|v| (255.0 / (1.0 + (-v).exp())).round() as u8).collect();
        Ok(Self { height: letterbox.height as u32, width: letterbox.width as u32, levels })
    }
}

/// What hears the map of each item, image by image.
pub type MapSink<'a> = dyn FnMut(usize, ProbabilityMap) -> Result<(), TrainError> + 'a;

/// What [`evaluate_with`] does besides.
#[derive(Default)]
pub struct Options<'a> {
    /// Other sentences than the items' own, one per item.
    pub sentences: Option<&'a [String]>,
    /// What the network said before anything was resized or compared with a threshold.
    pub maps: Option<&'a mut MapSink<'a>>,
}

/// [`evaluate`] with other sentences, or with the maps of probabilities.
///
/// # Errors
/// As there, and those of the sink.
pub fn evaluate_with<S: Segmenter>(
    segmenter: &S,
    net: &S::Net,
    data: &EvalData,
    profile: &EvalProfile,
    options: Options<'_>,
    device: &Device,
    mut on_event: impl FnMut(usize),
) -> Result<(Report, Vec<ItemResult>), TrainError> {
    let Options { sentences, maps: mut sink } = options;
    debug_assert!(net.devices().iter().all(|d| !d.is_autodiff()), "an evaluation on an autodiff device would keep every graph");
    debug_assert!(sentences.is_none_or(|s| s.len() == data.items.len()), "one sentence per item");
    let mut counted = Vec::with_capacity(data.items.len());
    let mut encoded = Encoded::new(segmenter, net, device, data.keeps_features());
    for of_batch in data.batches() {
        let mut of_batch = of_batch?;
        encoded.fill(&mut of_batch)?;
        let EvalBatch { items: numbers, mut batch, .. } = of_batch;
        if let Some(other) = sentences {
            batch.sentences = numbers.iter().map(|item| other[*item].clone()).collect();
        }
        let logits = segmenter.judged(net, &batch, device)?;
        let side = logits.dims()[3];
        let maps = split(logits)?;
        let wanted = sink.is_some();
        let items: Vec<Item> = numbers.iter().map(|item| data.items[*item]).collect();
        let truths = data.dataset.masks(&items)?;
        let results: Vec<Result<Judged, TrainError>> = (0..batch.len())
            .into_par_iter()
            .map(|i| {
                let item = &items[i];
                let truth = &truths[i];
                let letterbox = batch.letterboxes[batch.image_of[i]];
                // A map of another side is one that a stretched image fills.
                let letterbox = if side == letterbox.canvas { letterbox } else { letterbox.rescaled(side) };
                let Prediction { mut mask, mut score, .. } = prediction_of(&maps[i], &letterbox, profile)?;
                // No method has a head for it: too small a mask means that there is nothing, and is taken back.
                let says_none = profile.says_none(mask.area(), None);
                if says_none {
                    (mask, score) = (Rle::empty(mask.height(), mask.width())?, 0.0);
                }
                let kind = data.dataset.kind(item).map(|k| k.name());
                let sample = Sample {
                    says_none,
                    kinds: kind.into_iter().chain(data.dataset.groups(item).iter().copied()).map(str::to_owned).collect(),
                    ..Sample::new(Confusion::from_rle(&mask, truth)?, truth.area())
                };
                let map = wanted.then(|| ProbabilityMap::new(&maps[i], &letterbox)).transpose()?;
                Ok((ItemResult { item: numbers[i], sentence: batch.sentences[i].clone(), mask, score, iou: 0.0 }, sample, map))
            })
            .collect();
        for result in results {
            let (one, sample, map) = result?;
            if let (Some(sink), Some(map)) = (&mut sink, map) {
                sink(one.item, map)?;
            }
            counted.push((one, sample));
        }
        // Ranks have parts of one size.
        on_event((counted.len() * data.world().size()).min(data.items.len()));
    }
    if !data.world().is_alone() {
        let own: Vec<Sent> = counted.iter().map(|(one, sample)| Sent::new(one, sample)).collect();
        counted = data.world().gather(own)?.into_iter().flatten().map(Sent::into_parts).collect::<Result<_, _>>()?;
    }
    counted.sort_by_key(|(one, _)| one.item);
    // Sums run in item order, so a report depends neither on threads nor on ranks.
    let mut meter = Meter::new(profile.clone());
    let mut judged = Vec::with_capacity(counted.len());
    for (mut one, sample) in counted {
        one.iou = meter.add(&sample);
        judged.push(one);
    }
    on_event(judged.len());
    let spec = &data.dataset.spec;
    Ok((meter.report(&data.dataset.split).of(&spec.name, &spec.split_by), judged))
}

/// What a rank tells the others of an item.
#[derive(Serialize, Deserialize)]
struct Sent {
    item: usize,
    sentence: String,
    mask: (u32, u32, String),
    /// The score's bits.
    score: u32,
    confusion: Confusion,
    truth_pixels: u64,
    says_none: bool,
    missing: bool,
    kinds: Vec<String>,
}

impl Sent {
    fn new(one: &ItemResult, sample: &Sample) -> Self {
        Self {
            item: one.item,
            sentence: one.sentence.clone(),
            mask: (one.mask.height(), one.mask.width(), one.mask.to_compressed()),
            score: one.score.to_bits(),
            confusion: sample.confusion,
            truth_pixels: sample.truth_pixels,
            says_none: sample.says_none,
            missing: sample.missing,
            kinds: sample.kinds.clone(),
        }
    }

    fn into_parts(self) -> Result<(ItemResult, Sample), TrainError> {
        let (height, width, counts) = self.mask;
        let mask = Rle::from_compressed(height, width, counts)?;
        let score = f32::from_bits(self.score);
        let one = ItemResult { item: self.item, sentence: self.sentence, mask, score, iou: 0.0 };
        let Self { confusion, truth_pixels, says_none, missing, kinds, .. } = self;
        Ok((one, Sample { confusion, truth_pixels, says_none, missing, kinds }))
    }
}

/// An item's result, what the meter counts of it, and its map where one is wanted.
type Judged = (ItemResult, Sample, Option<ProbabilityMap>);

/// The sentence of an item.
pub fn sentence(data: &EvalData, item: usize) -> Cow<'_, str> {
    data.dataset.text(&data.items[item])
}

/// Logits of a batch on the host, one map a sample with its sides.
fn split(logits: Tensor<4>) -> Result<Vec<Vec<f32>>, TrainError> {
    let [count, _, height, width] = logits.dims();
    let lost = |e| TrainError::Device { what: "mask logits", reason: format!("{e}") };
    let values = logits.try_into_vec_as::<f32>().map_err(lost)?;
    Ok((0..count).map(|i| values[i * height * width..(i + 1) * height * width].to_vec()).collect())
}

/// The mask at the original size, its score and its box, from logits at the network's input size.
///
/// # Errors
/// A letterbox that does not fit the map.
pub fn prediction_of(logits: &[f32], letterbox: &Letterbox, profile: &EvalProfile) -> Result<Prediction, TrainError> {
    let found = Prediction::from_logits(logits, letterbox, profile.logit_threshold() as f32)?;
    if profile.resample == Resample::Logits {
        return Ok(found);
    }
    let valid = letterbox.crop(logits).map_err(SamError::from)?;
    let bytes = profile.binarise(&valid, (letterbox.height, letterbox.width), letterbox.original)?;
    let mask = Rle::from_row_major(found.mask.height(), found.mask.width(), &bytes)?;
    Ok(Prediction { bbox: mask.bbox(), mask, ..found })
}

/// A permutation without fixed points: a keyed shuffle, read as one cycle.
fn derangement(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let keys: Vec<u64> = nn_ops::formula::uniform(&seed.to_string(), "derangement", count).map(f64::to_bits).collect();
    order.sort_by_key(|i| (keys[*i], *i));
    let mut to = vec![0; count];
    for (at, from) in order.iter().enumerate() {
        to[*from] = order[(at + 1) % count];
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derangement_moves_every_item_and_keeps_all() {
        for count in [2, 3, 17, 100] {
            let to = derangement(count, 7);
            assert!(to.iter().enumerate().all(|(i, t)| i != *t));
            let mut sorted = to.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        }
    }
}
