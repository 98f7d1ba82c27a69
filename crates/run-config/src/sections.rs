//! The sections of a run config. Every field has a default; the defaults of `[optim]`, `[schedule]` and `[train]` are DIT's config.

use std::path::{Path, PathBuf};

use pil_ops::Fit;
use refcoco_data::{Augment, ItemPer, SynthConfig};
use serde::{Deserialize, Serialize};

use crate::pattern::pattern_matches;

/// `[run]`: where the run is kept and what it runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSection {
    /// Name of the run's folder below `dir`. Default "run".
    pub name: String,
    /// Folder of all runs. Default "runs".
    pub dir: PathBuf,
    /// Seed of everything random. Default 123456.
    pub seed: u64,
    /// Device, as the command line spells it ("cpu", "cuda:1"). Default "cpu".
    pub device: String,
    /// Host threads. Default: as many as the machine has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

impl Default for RunSection {
    fn default() -> Self {
        Self { name: "run".to_owned(), dir: PathBuf::from("runs"), seed: 123_456, device: "cpu".to_owned(), threads: None }
    }
}

/// `[data]`: what is read and how it becomes a square canvas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Folder of the data set. Default "data/demo".
    pub root: PathBuf,
    /// Data set below it: "refcoco", "refcoco+", "refcocog", "grefcoco", "phrasecut", "ade20k", ...; or how one's own data in it are
    /// written: "coco", "jsonl", "masks", "label-studio" or "yolo-seg". Default "refcoco".
    pub dataset: String,
    /// Who made the splits: "unc", "umd", "google"; of a set in one version, its name: "vg" for PhraseCut, "challenge" for ADE20K,
    /// "v2.0" for Mapillary Vistas, "atr" for human parsing, "seg" for PartImageNet, "vlpart" for PASCAL-Part, "v1" for
    /// Objects365, "own" for data of one's own (which is then the default). Default "unc".
    pub split_by: String,
    /// What is asked, in training and in evaluation: `{}` stands for the sentence, or for the name of the class. Default "{}".
    pub prompt: String,
    /// How often an image is drawn from this set, relative to the rates of `also`. Default 1.
    pub rate: u32,
    /// Further data sets that are trained on. Items must be images: each is drawn from one of all sets, by their
    /// rates. Default `[]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<DataSource>,
    /// Where several sets are trained on, leave out every image that a split of any of them other than "train" holds: the RefCOCO family
    /// shares its images, so that one set's training image may be another's test image. `false` trains on them as the papers did.
    /// Default true.
    pub exclude_held_out: bool,
    /// Split trained on. Default "train".
    pub train_split: String,
    /// Splits evaluated during and after training; the first one chooses the best checkpoint. Default `["val"]`.
    pub val_splits: Vec<String>,
    /// Side of the square canvas in pixels. Default 512.
    pub image_size: u32,
    /// How the image lies on the canvas: "centre", "top-left", or over all of it, "stretched" or "stretched-bicubic". Default
    /// "centre".
    pub fit: Fit,
    /// What counts as one training item: "referent", "grouped-referent", "sentence" or "image". Default "referent".
    pub items: ItemPer,
    /// Most sentences or classes of an image, drawn anew each epoch, where items are images. Default 3.
    pub expressions: usize,
    /// Batches prepared ahead; 0 prepares each when it is asked for. Default 3.
    pub prefetch: usize,
    /// Images or masks that training replaces by others because they cannot be read, before the run ends; each is named. Default
    /// 100.
    pub max_unreadable: usize,
    /// Random changes of the training images. Default: none.
    pub augment: Augment,
    /// Generate a demonstration set when `root` does not exist. Default: do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synth: Option<SynthConfig>,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            root: PathBuf::from("data/demo"),
            dataset: "refcoco".to_owned(),
            split_by: "unc".to_owned(),
            prompt: plain_prompt(),
            rate: 1,
            also: Vec::new(),
            exclude_held_out: true,
            train_split: "train".to_owned(),
            val_splits: vec!["val".to_owned()],
            image_size: 512,
            fit: Fit::Centre,
            items: ItemPer::Referent,
            expressions: 3,
            prefetch: 3,
            max_unreadable: 100,
            augment: Augment::default(),
            synth: None,
        }
    }
}

/// An entry of `data.also`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// Folder of the set. Default: `data.root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Data set, as `data.dataset`.
    pub dataset: String,
    /// Who made its splits, as `data.split_by`.
    pub split_by: String,
    /// What is asked: `{}` stands for the sentence, or for the name of the class. EVF-SAM asks `[semantic] {}` for everything of a
    /// class. Default "{}".
    #[serde(default = "plain_prompt")]
    pub prompt: String,
    /// How often an image is drawn from this set, relative to the others. Default 1.
    #[serde(default = "once")]
    pub rate: u32,
}

/// The prompt that is the sentence itself.
fn plain_prompt() -> String {
    PROMPT_PLACE.to_owned()
}

fn once() -> u32 {
    1
}

/// What stands for the sentence in a prompt.
pub(crate) const PROMPT_PLACE: &str = "{}";

/// How SAM is made to understand text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Deep instruction tuning.
    Dit,
    /// Early vision-language fusion.
    Evf,
    /// Mutual-aware attention.
    Risam,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::Dit, Self::Evf, Self::Risam];

    /// The word in the config, which also names the method's own table below `[model]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dit => "dit",
            Self::Evf => "evf",
            Self::Risam => "risam",
        }
    }
}

/// `[model]`: the method, its own table, first weights and what is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// Method trained. Default "dit".
    pub method: Method,
    /// Names of parameters left as they are; see [`pattern_matches`](super::pattern_matches). Default `[]`.
    pub freeze: Vec<String>,
    /// Exceptions from `freeze`. Default `[]`.
    pub train: Vec<String>,
    /// Weights to start from. Default: none, everything is drawn.
    pub init: Init,
    /// `[model.dit]`, read by the method itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dit: Option<toml::Table>,
    /// `[model.evf]`, read by the method itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evf: Option<toml::Table>,
    /// `[model.risam]`, read by the method itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risam: Option<toml::Table>,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            method: Method::Dit,
            freeze: Vec::new(),
            train: Vec::new(),
            init: Init::default(),
            dit: None,
            evf: None,
            risam: None,
        }
    }
}

impl ModelSection {
    /// Whether the parameter `name` is trained: not frozen, or an exception.
    #[must_use]
    pub fn trains(&self, name: &str) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|p| pattern_matches(p, name));
        !named(&self.freeze) || named(&self.train)
    }

    /// The tables given for methods, by name.
    pub(crate) fn tables(&self) -> [(Method, Option<&toml::Table>); 3] {
        [(Method::Dit, self.dit.as_ref()), (Method::Evf, self.evf.as_ref()), (Method::Risam, self.risam.as_ref())]
    }
}

/// `[model.init]`: weight files to start from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Init {
    /// SAM's weights. RISAM on another backbone reads them only where a part of it is SAM's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sam: Option<String>,
    /// BERT's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bert: Option<String>,
    /// CLIP's weights; RISAM on CLIP's image tower takes both towers from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// BEiT-3's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beit3: Option<String>,
    /// Swin's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swin: Option<String>,
    /// ViLT's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vilt: Option<String>,
    /// Weights of the whole method, read after the others; DIT does not read the others then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// `[text]`: from sentence to token ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextSection {
    /// Kind of tokenizer. Default "wordpiece".
    pub tokenizer: Tokenizer,
    /// Its vocabulary file, or "train-from-data" to make one from the training sentences, or "from-weights" to take that which lies
    /// beside `model.init.method`. Default "train-from-data".
    pub vocabulary: String,
    /// Longest sentence in tokens, special ones included. Default 20.
    pub max_tokens: usize,
    /// Texts that become one token each, after all of the vocabulary's own: EVF-SAM's multi-task data have `[semantic]`, which gets
    /// BEiT-3's id 64002. They are kept beside the weights. "sentencepiece" alone takes them. Default `[]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added_tokens: Vec<String>,
}

impl Default for TextSection {
    fn default() -> Self {
        Self { tokenizer: Tokenizer::Wordpiece, vocabulary: TRAIN_FROM_DATA.to_owned(), max_tokens: 20, added_tokens: Vec::new() }
    }
}

/// The word that stands for a vocabulary made from the training sentences.
pub(crate) const TRAIN_FROM_DATA: &str = "train-from-data";

/// The word that stands for the vocabulary beside the weights of the whole method.
pub(crate) const FROM_WEIGHTS: &str = "from-weights";

impl TextSection {
    /// The vocabulary file, or `None` when it is made from the training sentences or lies beside weights.
    #[must_use]
    pub fn vocabulary_file(&self) -> Option<&Path> {
        (self.vocabulary != TRAIN_FROM_DATA && !self.vocabulary_from_weights()).then(|| Path::new(&self.vocabulary))
    }

    /// Whether the vocabulary is the one beside `model.init.method`.
    #[must_use]
    pub fn vocabulary_from_weights(&self) -> bool {
        self.vocabulary == FROM_WEIGHTS
    }
}

/// Kind of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokenizer {
    /// BERT's word pieces.
    Wordpiece,
    /// CLIP's byte pairs.
    Clip,
    /// BEiT-3's unigram pieces.
    Sentencepiece,
}

impl Tokenizer {
    /// The word in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wordpiece => "wordpiece",
            Self::Clip => "clip",
            Self::Sentencepiece => "sentencepiece",
        }
    }
}
