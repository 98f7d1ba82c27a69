//! The config of a fine-tuning run, chosen by the base and by how much data there are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use models::Found;
use models::tokenizer::Grown;
use refcoco_data::{ItemPer, OwnFormat, flip_words};
use run_config::{Every, Init, Method, RunConfig, ScheduleKind};

use super::{Counts, FinetuneArgs};
use crate::train::demonstration;

/// The base's weights below their folder.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// Times that each training image is seen, within the limits below.
const EPOCHS: u64 = 80;
/// Fewest and most steps that are chosen.
const STEPS: (u64, u64) = (200, 2000);
/// Of the rate that the base was trained with: new words must be learned without the old ones being lost. At half of it, the small model
/// lost 6 mIoU on twenty images of the kind that it was trained on; at a tenth or less it lost none.
const RATE: f64 = 0.1;
/// Images of a step where the base says more than there are.
const FEW: usize = 4;

/// A config and why it is as it is.
pub(super) struct Chosen {
    pub(super) config: RunConfig,
    pub(super) reasons: Vec<String>,
}

/// Where the base's weights are kept: beside the run.
pub(super) fn base_folder(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push("-base");
    out.with_file_name(name)
}

/// Chooses a config.
pub(super) fn config(
    args: &FinetuneArgs,
    format: OwnFormat,
    counts: &Counts,
    base: Option<&Found>,
    out: &Path,
) -> Result<Chosen> {
    let mut config = match base {
        Some(base) => base.run_config.clone(),
        None => RunConfig::from_toml_str(demonstration(args.method.unwrap_or(Method::Evf)))?,
    };
    let mut reasons = Vec::new();
    data(&mut config, &args.folder, format, counts);
    if let Some(base) = base.filter(|base| !base.weights.are_initial()) {
        let folder = base_folder(out);
        config.model.init = Init { method: Some(folder.join(WEIGHTS).display().to_string()), ..Init::default() };
        let vocabulary = base.tokenizer.files().first().map(|(name, _)| name.clone()).context("the base has no tokenizer")?;
        config.text.vocabulary = folder.join(vocabulary).display().to_string();
    }
    length(&mut config, args.steps, counts, &mut reasons);
    flips(&mut config, &counts.texts, &mut reasons);
    if base.is_some() {
        config.optim.lr *= RATE;
        // Groups let what starts from nothing catch up.
        config.optim.groups = Vec::new();
        reasons.push(format!("optim.lr = {}: {RATE} of the base's, so that it forgets less", config.optim.lr));
    }
    config.run.name = out.file_name().context("--out has no name")?.to_string_lossy().into_owned();
    config.run.dir = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    if let Some(device) = &args.device {
        config.run.device.clone_from(device);
    }
    judging(&mut config, counts);
    // Written and read again, it is checked like any other.
    let config = RunConfig::from_toml_str(&config.to_toml()?)?;
    Ok(Chosen { config, reasons })
}

/// What is said of new words.
pub(super) fn of_words(grown: &Grown) -> String {
    const NAMED: usize = 12;
    let words: Vec<&str> = grown.words.iter().map(|(word, _)| word.as_str()).collect();
    let more = if words.len() > NAMED { ", ..." } else { "" };
    let named = words[..words.len().min(NAMED)].join(", ");
    format!(
        "text.vocabulary: {} words get a token of their own that the base knows in pieces or not at all: {named}{more}",
        words.len()
    )
}

fn data(config: &mut RunConfig, folder: &Path, format: OwnFormat, counts: &Counts) {
    let data = &mut config.data;
    data.root = folder.to_owned();
    format.name().clone_into(&mut data.dataset);
    "own".clone_into(&mut data.split_by);
    "train".clone_into(&mut data.train_split);
    data.val_splits = vec!["val".to_owned()];
    data.also = Vec::new();
    data.rate = 1;
    data.synth = None;
    let items = match data.items {
        ItemPer::Image => counts.train.0,
        ItemPer::Sentence => counts.train.1,
        ItemPer::Referent | ItemPer::GroupedReferent => counts.referents,
    };
    let train = &mut config.train;
    if train.batch_size > items {
        train.batch_size = items.clamp(1, FEW);
    }
    train.shards = train.shards.min(train.batch_size);
}

fn length(config: &mut RunConfig, steps: Option<u64>, counts: &Counts, reasons: &mut Vec<String>) {
    let (images, train) = (counts.train.0 as u64, &mut config.train);
    let chosen = (images * EPOCHS / train.batch_size.max(1) as u64).clamp(STEPS.0, STEPS.1);
    let steps = steps.unwrap_or(chosen);
    train.steps = Some(steps);
    train.epochs = None;
    train.stop_after = None;
    train.log_every = (steps / 50).max(1);
    // Judged once, at the end: a step that is chosen by the held-out images would flatter them.
    train.eval_every = Every::Never;
    train.save_every = Every::Steps(steps.div_ceil(4));
    train.keep = 1;
    let schedule = &mut config.schedule;
    if schedule.kind.has_decay_epochs() {
        schedule.kind = ScheduleKind::WarmupCosine;
        schedule.decay_epochs = Vec::new();
    }
    schedule.warmup_epochs = None;
    schedule.warmup_steps = schedule.kind.warms_up().then_some((steps / 20).min(50));
    let lr = config.optim.lr * RATE;
    schedule.warmup_lr = schedule.warmup_lr.min(lr);
    schedule.min_lr = schedule.min_lr.min(lr);
    reasons.push(format!(
        "train.steps = {steps}: {images} training images, {} a step; the {} held-out ones are judged once, at the end",
        config.train.batch_size, counts.val.0
    ));
}

/// Mirrored images need sentences whose sides are exchanged, which is done in English.
fn flips(config: &mut RunConfig, texts: &[String], reasons: &mut Vec<String>) {
    let has_sides = |text: &String| flip_words(text) != *text;
    if config.data.augment.flip > 0.0 && !texts.iter().any(has_sides) {
        config.data.augment.flip = 0.0;
        reasons
            .push("data.augment.flip = 0: no sentence says left or right, which would be exchanged in a mirrored image".into());
    }
}

fn judging(config: &mut RunConfig, counts: &Counts) {
    let eval = &mut config.eval;
    eval.limit = None;
    eval.figures = counts.val.1.min(12);
    eval.shuffled_text = counts.val.1 > 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_mirrored_only_where_sides_can_be_exchanged() {
        let flip = |sentence: &str| {
            let mut config = RunConfig::from_toml_str("[data.augment]\nflip = 0.5").unwrap();
            let mut reasons = Vec::new();
            flips(&mut config, &["a cup".to_owned(), sentence.to_owned()], &mut reasons);
            assert_eq!(reasons.is_empty(), config.data.augment.flip > 0.0);
            config.data.augment.flip
        };
        assert_eq!(["der linke Becher", "the bright one", ""].map(flip), [0.0; 3]);
        assert_eq!(["the cup on the Left", "right-hand cup", "lefthand cup"].map(flip), [0.5; 3]);
    }
}
