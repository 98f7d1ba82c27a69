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
use trainer::data::{open_tokenizer, open_train};
use trainer::segmenter::Segmenter;
use trainer::state::Training;
use trainer::step::StepContext;

/// What the toy configs have in common: 32 x 32 pixels, a few steps.
const TOY: &str = r#"
[data]
image_size = 32
prefetch = 1
[data.augment]
flip = 0.5
[text]
max_tokens = 12
[optim]
lr = 1e-3
[schedule]
warmup_steps = 4
[train]
batch_size = 4
steps = 40
log_every = 1
eval_every = 20
save_every = 10
[eval]
limit = 8
figures = 2
"#;

/// A SAM of a few thousand parameters, below the table that `{}` stands for.
const SAM: &str = r#"
[{}.sam]
decoder_depth = 1
decoder_heads = 2
decoder_mlp_dim = 16
[{}.sam.image_encoder]
image_size = 32
patch_size = 8
embed_dim = 16
depth = 3
heads = 2
mlp_ratio = 2.0
out_channels = 16
window_size = 2
global_blocks = [1, 2]
"#;

const DIT: &str = r#"
[model.dit]
text_dim = 16
dropout = 0.1
[model.dit.bert]
hidden = 16
layers = 1
heads = 2
ffn = 32
max_positions = 16
output_layer = 1
"#;

const EVF: &str = r#"
[model]
method = "evf"
[model.evf.beit3]
dim = 16
layers = 2
heads = 2
ffn = 32
image_size = 16
patch_size = 8
max_positions = 16
"#;

const RISAM: &str = r#"
[model]
method = "risam"
[model.risam]
taps = [0, 1, 2]
width = 16
heads = 2
up_channels = [8, 4]
[model.risam.clip]
width = 16
layers = 1
heads = 2
ffn = 32
max_positions = 16
projection_dim = 16
"#;

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
    let own = match method {
        Method::Dit => DIT,
        Method::Evf => EVF,
        Method::Risam => RISAM,
    };
    let sam = SAM.replace("{}", &format!("model.{}", method.name()));
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
    RunConfig::resolve(&format!("{TOY}{own}{sam}"), None, &set).expect("the toy config")
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
