//! What the tests of this package share: toy configs over a small generated set.

pub mod parsers;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use models::run_dir::Checkpoint;
use models::tokenizer::RunTokenizer;
use models::{Found, FoundWeights};
use refcoco_data::{Dataset, SynthConfig, generate};
use run_config::{Method, RunConfig};
use test_support::toy_toml;
use trainer::data::{open_tokenizer, open_train};
use trainer::segmenter::Segmenter;
use trainer::state::Training;
use trainer::step::StepContext;

/// The toy config of a method in a folder, with its data generated there.
///
/// # Panics
/// When the set cannot be generated; these are tests.
pub fn toy(method: Method, folder: &Path, name: &str, overrides: &[&str]) -> RunConfig {
    let root = folder.join("data");
    if !root.exists() {
        let config = SynthConfig { images: 40, size: 64, seed: 3, ..SynthConfig::default() };
        generate(&config, &root).expect("a generated set");
    }
    let mut set: Vec<String> = vec![format!("data.root={}", root.display())];
    if method != Method::Dit {
        set.push("data.fit=top-left".into());
    }
    if method == Method::Evf {
        set.push("data.items=image".into());
    }
    set.extend(overrides.iter().map(|o| (*o).to_owned()));
    set.push(format!("run.dir={}", folder.join("runs").display()));
    set.push(format!("run.name={name}"));
    RunConfig::resolve(&toy_toml(method.name()), None, &set).expect("the toy config")
}

/// The config's training split and tokenizer.
///
/// # Panics
/// When they cannot be opened; these are tests.
pub fn parts(run_config: &RunConfig) -> (Arc<Dataset>, RunTokenizer) {
    let data = open_train(run_config).expect("the training split");
    let tokenizer = open_tokenizer(run_config, &data, None).expect("a vocabulary");
    (Arc::new(data), tokenizer)
}

/// Fresh weights of a config's method on the CPU, and the device with gradients on which they live.
///
/// # Panics
/// When they cannot be made; these are tests.
pub fn begin<S: Segmenter>(segmenter: &S, run_config: &RunConfig) -> (Training<S::Net>, Device) {
    let context = StepContext::new(segmenter, run_config, &Device::flex()).expect("a context of steps");
    (context.begin().expect("fresh weights"), context.graph().clone())
}

/// A config's model as `find` would find it, with the weights of a checkpoint or fresh ones.
///
/// # Panics
/// When its data cannot be opened; these are tests.
pub fn found(run_config: &RunConfig, checkpoint: Option<Checkpoint>) -> Found {
    let weights = checkpoint.map_or(FoundWeights::Initial, FoundWeights::Checkpoint);
    Found { run_config: run_config.clone(), tokenizer: parts(run_config).1, weights, dir: None, label: "toy".into() }
}
