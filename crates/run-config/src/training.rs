//! The sections of a run config about training: optimiser, schedule, loop, evaluation.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Every, Precision, Recompute};

/// `[optim]`: the optimiser. The defaults are DIT's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimSection {
    /// Which one. Default "adam".
    pub name: Optimizer,
    /// Learning rate at the top of the schedule. Default 1e-4.
    pub lr: f64,
    /// Decay of the running mean and of the running square. Default `[0.9, 0.98]`.
    pub betas: [f64; 2],
    /// Added to the denominator. Default 1e-9.
    pub eps: f64,
    /// Weight decay: decoupled for "adamw", added to the gradient for "adam". Default 0.
    pub weight_decay: f64,
    /// Largest global L2 norm of the gradient; 0 does not clip. Default 0.15.
    pub grad_clip: f64,
    /// Batches whose gradients are averaged into one step. Default 1.
    pub accumulate: usize,
    /// Exceptions for some parameters; the first matching one counts. Default `[]`.
    pub groups: Vec<Group>,
}

impl Default for OptimSection {
    fn default() -> Self {
        Self {
            name: Optimizer::Adam,
            lr: 1e-4,
            betas: [0.9, 0.98],
            eps: 1e-9,
            weight_decay: 0.0,
            grad_clip: 0.15,
            accumulate: 1,
            groups: Vec::new(),
        }
    }
}

impl OptimSection {
    /// The index of the first group whose pattern names the parameter.
    #[must_use]
    pub fn group_of(&self, parameter: &str) -> Option<usize> {
        self.groups.iter().position(|group| super::pattern_matches(&group.pattern, parameter))
    }
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam; weight decay is part of the gradient.
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// `[[optim.groups]]`: parameters with a learning rate or weight decay of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Which parameters; see [`pattern_matches`](super::pattern_matches). Required.
    pub pattern: String,
    /// Factor on the learning rate. Default 1.
    #[serde(default = "one")]
    pub lr_scale: f64,
    /// Factor on the learning rate per layer that lies between a parameter's layer and the end of the part: the last layer and what
    /// follows it keep the rate, embeddings have the least. Layers are counted by the number behind `blocks`, `layers`, `layer` or
    /// `resblocks` in their names. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Weight decay instead of `optim.weight_decay`. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// `[schedule]`: the learning rate over the steps; see the trainer's `Schedule`. The defaults are DIT's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSection {
    /// Shape of the curve. Default "warmup-cosine".
    pub kind: ScheduleKind,
    /// Length of the warm-up in epochs. Default 3 (for shorter runs a tenth of the epochs), unless `warmup_steps` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<u64>,
    /// Length of the warm-up in steps. Default: a tenth when the run's length is given in steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Learning rate at the first step of "warmup-cosine" and "warmup-linear". Default 1e-7.
    pub warmup_lr: f64,
    /// Learning rate at the end of "warmup-cosine" and "warmup-linear". Default 1e-6.
    pub min_lr: f64,
    /// Epochs, counted from 0, at whose start "step" and "warmup-step" lower the rate. Default `[]`.
    pub decay_epochs: Vec<u64>,
    /// Factor at each of them. Default 0.2.
    pub decay_rate: f64,
}

impl Default for ScheduleSection {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::WarmupCosine,
            warmup_epochs: None,
            warmup_steps: None,
            warmup_lr: 1e-7,
            min_lr: 1e-6,
            decay_epochs: Vec::new(),
            decay_rate: 0.2,
        }
    }
}

/// Shape of the learning-rate curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Straight up, then half a cosine down (DIT's `wcosine`).
    WarmupCosine,
    /// Straight up from 0, then a factor at each decay epoch (DIT's `step`).
    WarmupStep,
    /// Straight up, straight down (EVF-SAM).
    WarmupLinear,
    /// Always `optim.lr`.
    Constant,
    /// A factor at each decay epoch, no warm-up (RISAM).
    Step,
}

impl ScheduleKind {
    /// Whether the curve begins with a warm-up.
    #[must_use]
    pub fn warms_up(self) -> bool {
        matches!(self, Self::WarmupCosine | Self::WarmupStep | Self::WarmupLinear)
    }

    /// Whether the curve goes down at `schedule.decay_epochs`.
    #[must_use]
    pub fn has_decay_epochs(self) -> bool {
        matches!(self, Self::WarmupStep | Self::Step)
    }

    /// The word in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WarmupCosine => "warmup-cosine",
            Self::WarmupStep => "warmup-step",
            Self::WarmupLinear => "warmup-linear",
            Self::Constant => "constant",
            Self::Step => "step",
        }
    }
}

/// `[train]`: the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Items a batch; where several ranks train together, of all of them, each of which takes its part. Default 8.
    pub batch_size: usize,
    /// Parts into which a batch is cut, each on its own thread: for small models on the CPU, where one sample cannot keep
    /// all cores busy. Needs a model without dropout. Default 1.
    pub shards: usize,
    /// What forward and backward compute in; parameters and optimiser stay in f32. Default "f32".
    pub precision: Precision,
    /// What the backward pass computes again instead of keeping it: less memory, more time, the same gradients. "operations":
    /// the cheap ones; "blocks": each block of the image encoder and of BEiT-3, of which only the inputs are kept. Default
    /// "none". Older configs say `false` for "none" and `true` for "operations".
    pub recompute: Recompute,
    /// Length in epochs. Default 40, unless `steps` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length in optimiser steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Steps between log lines. Default 20.
    pub log_every: u64,
    /// How often the first validation split is evaluated. Default "epoch".
    pub eval_every: Every,
    /// How often a checkpoint is written, besides after each evaluation. Default "epoch".
    pub save_every: Every,
    /// Newest checkpoints kept, besides the best one. Default 3.
    pub keep: usize,
    /// Sides drawn from per step, to which the batch is resized with nearest neighbours. Default `[]`: never resized.
    pub multi_scale: Vec<u32>,
    /// Kinds of prompt, of which each item draws one. Default `["text"]`.
    pub prompts: Vec<PromptKind>,
    /// Where masks are compared. Default "canvas".
    pub loss_size: LossSize,
    /// Folder in which the features of a frozen image encoder are kept, so that it runs once an image. Needs a method with
    /// such an encoder and training without augmentation. Default: computed in every step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache: Option<PathBuf>,
    /// Save and stop after this many minutes. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_minutes: Option<f64>,
    /// Save and stop after this step, with the schedule of the full length. Default: go to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<u64>,
    /// Running average of the weights.
    pub ema: Ema,
    /// Whose statistics batch norms take where several ranks train together. Default "synchronised".
    pub batch_norm: BatchNorms,
    /// What gradients are in while they travel between ranks; "bf16" halves the bytes, and what it loses in a step is added in the
    /// next one. A run that is resumed begins with nothing lost. Default "f32".
    pub gradient_exchange: Precision,
    /// Low-rank adapters in place of the weights of linear layers. Default: none, weights themselves are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            batch_size: 8,
            shards: 1,
            precision: Precision::F32,
            recompute: Recompute::None,
            epochs: None,
            steps: None,
            log_every: 20,
            eval_every: Every::Epoch,
            save_every: Every::Epoch,
            keep: 3,
            multi_scale: Vec::new(),
            prompts: vec![PromptKind::Text],
            loss_size: LossSize::Canvas,
            feature_cache: None,
            time_limit_minutes: None,
            stop_after: None,
            ema: Ema::default(),
            batch_norm: BatchNorms::Synchronised,
            gradient_exchange: Precision::F32,
            lora: None,
        }
    }
}

impl TrainSection {
    /// Optimiser steps of the whole run.
    #[must_use]
    pub fn total_steps(&self, steps_per_epoch: u64) -> u64 {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, epochs) => epochs.unwrap_or(0).saturating_mul(steps_per_epoch),
        }
    }
}

/// `train.lora`: adapters of low rank on linear layers, whose own weights stay as they are. What else is trained is up to
/// `model.freeze`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank of an adapter. Default 8.
    #[serde(default = "lora_rank")]
    pub rank: usize,
    /// What an adapter adds is multiplied by `alpha / rank`. Default 16.
    #[serde(default = "lora_alpha")]
    pub alpha: f64,
    /// Names of weights that get an adapter, where they belong to linear layers; see
    /// [`pattern_matches`](super::pattern_matches). Required: `["*"]` is all of them.
    pub parts: Vec<String>,
}

fn lora_rank() -> usize {
    8
}

fn lora_alpha() -> f64 {
    16.0
}

impl Lora {
    /// Whether the weight `name` gets an adapter, if it belongs to a linear layer.
    #[must_use]
    pub fn adapts(&self, name: &str) -> bool {
        self.parts.iter().any(|pattern| super::pattern_matches(pattern, name))
    }
}

/// Whose statistics batch norms take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorms {
    /// Those of the whole batch: a run does not depend on the number of ranks. Two small messages per norm and step.
    #[default]
    Synchronised,
    /// Those of each rank's part. The first rank's running statistics are judged and saved.
    Local,
}

/// Where the loss compares masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossSize {
    /// On the network's input.
    #[default]
    Canvas,
    /// At each photograph's own size, as EVF-SAM's released code does.
    Original,
}

/// What the model is told about the object (DIT Tab. 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptKind {
    /// The sentence.
    Text,
    /// Five points drawn from the true mask.
    Points,
    /// The box of the true mask.
    Box,
}

/// `[train.ema]`: running average of the weights, which is what is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ema {
    /// Whether it is kept. Default true.
    pub enabled: bool,
    /// Largest decay. Default 0.9997.
    pub decay: f64,
}

impl Default for Ema {
    fn default() -> Self {
        Self { enabled: true, decay: 0.9997 }
    }
}

impl Ema {
    /// Decay of the update after `updates` earlier ones: `min(decay, (1 + s) / (10 + s))` (DIT's code).
    #[must_use]
    pub fn decay_at(&self, updates: u64) -> f64 {
        let s = updates as f64;
        self.decay.min((1.0 + s) / (10.0 + s))
    }
}

/// `[eval]`: how predictions are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// Whose way of resizing, thresholding and counting. Default "saymask".
    pub profile: Profile,
    /// Probability above which a pixel belongs to the mask. Default: the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// What evaluation and prediction compute in. Default "f32".
    pub precision: Precision,
    /// Whether evaluation and prediction keep the matrices of the encoders' blocks in half precision: about half the memory, while
    /// arithmetic stays as it is. Not for training. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub half_weights: bool,
    /// What the model is told. Default "text".
    pub prompt: PromptKind,
    /// Items a batch of one process; where several ranks judge, each takes whole batches. Default 8.
    pub batch_size: usize,
    /// Largest number of items of a split. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Metric that chooses the best checkpoint. Default "miou".
    pub select: Select,
    /// Examples drawn into the page of examples; 0 draws none. Default 8.
    pub figures: usize,
    /// At the end, also judge with the sentences shuffled between the items. Default false.
    pub shuffled_text: bool,
}

impl Default for EvalSection {
    fn default() -> Self {
        Self {
            profile: Profile::Saymask,
            threshold: None,
            precision: Precision::F32,
            half_weights: false,
            prompt: PromptKind::Text,
            batch_size: 8,
            limit: None,
            select: Select::Miou,
            figures: 8,
            shuffled_text: false,
        }
    }
}

/// Whose evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// At the image's own size, exact counts.
    Saymask,
    /// As DIT's code does it.
    Dit,
    /// As EVF-SAM's code does it.
    Evf,
    /// As RISAM's paper says.
    Risam,
    /// Generalised: several targets or none.
    Gres,
    /// As PhraseCut's evaluator does it.
    Phrasecut,
}

impl Profile {
    /// The word in the config, which is also the profile's name in `metrics`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Saymask => "saymask",
            Self::Dit => "dit",
            Self::Evf => "evf",
            Self::Risam => "risam",
            Self::Gres => "gres",
            Self::Phrasecut => "phrasecut",
        }
    }
}

/// Metric that chooses the best checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// Mean IoU over sentences.
    Miou,
    /// Overall IoU: summed intersections over summed unions.
    Oiou,
}

impl Select {
    /// The metric's key in log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Miou => "miou",
            Self::Oiou => "oiou",
        }
    }
}
