//! Memory of a training step, estimated from shapes before the first one, against what there is.

use std::fmt::Write;

use burn::module::Module;
use nn_ops::weights::trained;
use refcoco_data::ItemPer;
use run_config::{Precision, Recompute, RunConfig};

use crate::segmenter::Segmenter;

/// What of a batch a part of the network works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// A row per image.
    Images,
    /// A row per sentence.
    Sentences,
}

/// Pieces of a network that follow each other and are alike, such as an encoder's blocks: how many numbers a backward pass through
/// them needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// Number of pieces.
    pub pieces: usize,
    /// Numbers that a piece keeps per row.
    pub kept: usize,
    /// Numbers that a piece hands on per row.
    pub passed: usize,
    /// Of what there is a row each.
    pub rows: Rows,
    /// Whether `train.recompute = "blocks"` keeps only what is handed on.
    pub recomputed: bool,
    /// Official prefixes of the parameters whose gradients need what is kept here: its own, and those of what comes before.
    pub reached_by: Vec<&'static str>,
    /// Whether it is the image encoder, whose output `train.feature_cache` keeps.
    pub cached: bool,
}

/// Numbers that a transformer's block keeps of `tokens` tokens: the input of its two norms, attention's queries, keys and values and
/// what it gives, the inputs of the linear layers, the MLP before and after its activation.
#[must_use]
pub fn block(tokens: usize, width: usize, hidden: usize) -> usize {
    tokens * (8 * width + 2 * hidden)
}

/// The blocks of a transformer, over `tokens` tokens each.
#[must_use]
pub fn blocks(pieces: usize, tokens: usize, width: usize, hidden: usize, rows: Rows) -> Stack {
    let kept = block(tokens, width, hidden);
    Stack { pieces, kept, passed: tokens * width, rows, recomputed: false, reached_by: Vec::new(), cached: false }
}

/// SAM's mask decoder, with two more layers than `layers` for its last attention and its convolutions: `grid` regions a side, `width`
/// channels; then logits of `side` pixels a side, and the loss on them.
#[must_use]
pub fn mask_decoder(layers: usize, grid: usize, width: usize, side: usize) -> [Stack; 2] {
    let regions = grid * grid;
    // Queries, keys and values of two attentions, their outputs, norms and positions.
    let layer = Stack { kept: 12 * regions * width, ..blocks(layers + 1, regions, width, 0, Rows::Sentences) };
    // Upscaled twice, to a quarter and an eighth of the channels, each with its norm or activation; then logits and loss.
    let upscaled = 3 * (4 * regions * width / 4) + 3 * (16 * regions * width / 8);
    let logits = 6 * side * side;
    let last = Stack { kept: upscaled + logits, passed: side * side, pieces: 1, ..layer.clone() };
    [layer, last]
}

/// Bytes that a training step needs, by what for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Parameters, and their copies in the precision of the pass.
    pub weights: f64,
    /// Gradients; twice while micro-batches are added up.
    pub gradients: f64,
    /// Adam's two means.
    pub optimiser: f64,
    /// The moving average of the weights.
    pub average: f64,
    /// What the backward pass needs of the forward pass.
    pub activations: f64,
}

impl Estimate {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.optimiser + self.average + self.activations
    }
}

/// What of a network the estimate depends on.
struct Network {
    parameters: usize,
    trained: Vec<(String, usize)>,
    stacks: Vec<Stack>,
}

impl Network {
    fn estimate(&self, run_config: &RunConfig, ranks: usize) -> Estimate {
        let (train, data) = (&run_config.train, &run_config.data);
        let trained: usize = self.trained.iter().map(|(_, count)| count).sum();
        let [all, trained] = [self.parameters, trained].map(|count| 4.0 * count as f64);
        let (number, copies) = match train.precision {
            Precision::F32 => (4.0, 0.0),
            Precision::Bf16 => (2.0, all / 2.0),
        };
        let images = train.batch_size.div_ceil(ranks.max(1));
        let sentences = if data.items == ItemPer::Image { images * data.expressions.max(1) } else { images };
        let mut activations = 0.0;
        let mut passing = 0.0f64;
        for stack in &self.stacks {
            if stack.cached && train.feature_cache.is_some() {
                continue;
            }
            let rows = if stack.rows == Rows::Images { images } else { sentences };
            let [kept, passed] = [stack.kept, stack.passed].map(|count| rows as f64 * number * count as f64);
            let reached = self.trained.iter().any(|(name, _)| stack.reached_by.iter().any(|prefix| name.starts_with(prefix)));
            if !reached {
                // Without a graph one piece exists at a time.
                passing = passing.max(kept + passed);
            } else if stack.recomputed && train.recompute == Recompute::Blocks {
                activations += stack.pieces as f64 * passed;
                passing = passing.max(kept);
            } else {
                activations += stack.pieces as f64 * kept;
            }
        }
        Estimate {
            weights: all + copies,
            gradients: trained * if run_config.optim.accumulate > 1 { 2.0 } else { 1.0 },
            optimiser: 2.0 * trained,
            average: if train.ema.enabled { trained } else { 0.0 },
            activations: activations + passing,
        }
    }
}

/// What a step of the config needs, against what the device has, with the keys that lower it: a sentence to print before the first
/// step. Nothing for a method that does not say what it keeps.
#[must_use]
pub fn forecast<S: Segmenter>(segmenter: &S, net: &S::Net, run_config: &RunConfig, ranks: usize) -> Option<String> {
    let stacks = segmenter.stacks();
    if stacks.is_empty() {
        return None;
    }
    let trained = trained(net, &segmenter.names()).into_iter().map(|p| (p.name, p.elements)).collect();
    let network = Network { parameters: net.num_params(), trained, stacks };
    let on_cpu = run_config.run.device.split(':').next() == Some("cpu");
    Some(sentence(&network, segmenter.frozen_prefix().is_some(), run_config, ranks, on_cpu.then(available).flatten()))
}

fn sentence(network: &Network, can_keep: bool, run_config: &RunConfig, ranks: usize, there: Option<f64>) -> String {
    let estimate = network.estimate(run_config, ranks);
    let need = estimate.total();
    let mut out = String::new();
    if there.is_some_and(|there| need > there) {
        out += "warning: ";
    }
    let Estimate { weights, gradients, optimiser, average, activations } = estimate;
    let _ = write!(out, "a step needs about {}, estimated from shapes: weights {}", size(need), size(weights));
    let parts = [("gradients", gradients), ("optimiser", optimiser), ("average", average), ("activations", activations)];
    for (name, bytes) in parts.iter().filter(|(_, bytes)| *bytes > 0.0) {
        let _ = write!(out, ", {name} {}", size(*bytes));
    }
    let _ = match there {
        Some(there) => write!(out, "; {} are free", size(there)),
        None => write!(out, "; how much {} has is not known", run_config.run.device),
    };
    let keys = lower(network, can_keep, run_config, ranks, need);
    let _ = write!(out, "; less with {}", keys.join(", "));
    out
}

/// The keys that lower what a step needs, each with what it would need then.
fn lower(network: &Network, can_keep: bool, run_config: &RunConfig, ranks: usize, need: f64) -> Vec<String> {
    let mut keys = Vec::new();
    let mut tell = |words: String, change: &dyn Fn(&mut RunConfig)| {
        let mut other = run_config.clone();
        change(&mut other);
        let bytes = network.estimate(&other, ranks).total();
        if bytes < need {
            keys.push(format!("{words} ({})", size(bytes)));
        }
    };
    if run_config.train.recompute != Recompute::Blocks {
        tell("train.recompute = \"blocks\"".into(), &|c| c.train.recompute = Recompute::Blocks);
    }
    let (batch, accumulate) = (run_config.train.batch_size / 2, 2 * run_config.optim.accumulate.max(1));
    if run_config.train.batch_size > 1 {
        tell(format!("train.batch_size = {batch} and optim.accumulate = {accumulate}"), &|c| {
            (c.train.batch_size, c.optim.accumulate) = (batch, accumulate);
        });
    }
    if can_keep && run_config.train.feature_cache.is_none() {
        tell("train.feature_cache = \"FOLDER\"".into(), &|c| c.train.feature_cache = Some("FOLDER".into()));
    }
    if run_config.train.ema.enabled {
        tell("train.ema.enabled = false".into(), &|c| c.train.ema.enabled = false);
    }
    keys.push("a smaller data.image_size".into());
    keys
}

/// Bytes for people.
fn size(bytes: f64) -> String {
    if bytes < 1e8 { format!("{:.0} MB", (bytes / 1e6).ceil()) } else { format!("{:.1} GB", bytes / 1e9) }
}

/// Main memory in bytes that this process may still take: what Linux calls available, within its control group's limit; none where
/// the system does not tell.
fn available() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = meminfo(&text)?;
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<f64>().ok();
    let left = read("memory.max").zip(read("memory.current")).map(|(max, current)| (max - current).max(0.0));
    Some(left.map_or(free, |left| left.min(free)))
}

fn meminfo(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(1024.0 * line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let encoder = Stack { reached_by: vec!["encoder."], recomputed: true, ..blocks(12, 1024, 768, 3072, Rows::Images) };
        let frozen = Stack { reached_by: vec!["image."], cached: true, ..blocks(2, 100, 64, 256, Rows::Images) };
        let decoder = Stack { reached_by: vec!["decoder."], ..blocks(1, 10, 10, 0, Rows::Sentences) };
        Network {
            parameters: 90_000_000,
            trained: vec![("encoder.x".into(), 50_000_000), ("decoder.y".into(), 10_000_000)],
            stacks: vec![encoder, frozen, decoder],
        }
    }

    fn config(text: &str) -> RunConfig {
        RunConfig::from_toml_str(text).unwrap()
    }

    /// By hand: 12 blocks of 1024 tokens, each 8 x 768 + 2 x 3072 numbers.
    #[test]
    fn a_step_is_the_sum_of_its_parts() {
        let plain = config("[train]\nbatch_size = 2\nema = { enabled = false }\n[data]\nimage_size = 512");
        let estimate = network().estimate(&plain, 1);
        assert_eq!((estimate.weights, estimate.gradients, estimate.optimiser), (3.6e8, 2.4e8, 4.8e8));
        let of_encoder = 12.0 * 1024.0 * (8.0 * 768.0 + 2.0 * 3072.0);
        let (of_decoder, passing) = (80.0 * 10.0, 100.0 * (8.0 * 64.0 + 512.0 + 64.0));
        assert_eq!(estimate.activations, 2.0 * 4.0 * (of_encoder + of_decoder + passing));
        let with = |set: &str| network().estimate(&plain.with_overrides(&[set]).unwrap(), 1);
        assert_eq!(with("train.batch_size=4").activations, 2.0 * estimate.activations);
        assert_eq!(network().estimate(&plain, 2).activations, estimate.activations / 2.0);
        assert_eq!(with("optim.accumulate=3").gradients, 2.0 * estimate.gradients);
        let blocks = with("train.recompute=blocks").activations;
        assert_eq!(blocks, 2.0 * 4.0 * (12.0 * 1024.0 * 768.0 + of_decoder + of_encoder / 12.0));
        assert_eq!(with("train.feature_cache=kept").activations, 2.0 * 4.0 * (of_encoder + of_decoder));
        assert_eq!(with("train.precision=bf16").activations, estimate.activations / 2.0);
        assert_eq!(with("train.ema.enabled=true").average, 2.4e8);
        // Sentences of an image are rows of the decoder alone.
        let several = with("data.items=image").activations - estimate.activations;
        assert_eq!(several, 2.0 * 4.0 * 2.0 * of_decoder);
    }

    #[test]
    fn the_keys_that_lower_it_are_named() {
        let plain = config("[train]\nbatch_size = 2\nema = { enabled = false }\n[data]\nimage_size = 512");
        let said = sentence(&network(), true, &plain, 1, Some(1e9));
        for words in [
            "warning: a step needs about 2.",
            "1.0 GB are free",
            "train.recompute = \"blocks\" (1.",
            "train.batch_size = 1 and optim.accumulate = 2 (",
            "train.feature_cache = \"FOLDER\" (",
            "data.image_size",
        ] {
            assert!(said.contains(words), "`{words}` is missing in: {said}");
        }
        let enough = sentence(&network(), false, &plain.with_overrides(&["train.recompute=blocks"]).unwrap(), 1, None);
        assert!(!enough.contains("warning") && enough.contains("how much cpu has is not known"), "{enough}");
        assert!(!enough.contains("train.recompute") && !enough.contains("feature_cache"), "{enough}");
    }

    #[test]
    fn the_system_says_what_is_free() {
        let text = "MemTotal:       16384 kB\nMemFree:          100 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(meminfo(text), Some(8192.0 * 1024.0));
        assert_eq!(meminfo("MemTotal: 1 kB"), None);
    }
}
