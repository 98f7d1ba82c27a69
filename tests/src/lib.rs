//! What the tests of this package share: a toy plan over a small generated set.

use std::path::Path;
use std::sync::Arc;

use refcoco_data::{Dataset, SynthConfig, generate};
use trainer::data::open_split;
use trainer::models::Dit;
use trainer::plan::RunPlan;
use trainer::tokenizer::RunTokenizer;

/// A model of a few thousand parameters on 32 x 32 pixels.
const TOY: &str = r#"
[data]
image_size = 32
prefetch = 1
[data.augment]
flip = 0.5
[text]
max_tokens = 12
[model.dit]
text_dim = 16
dropout = 0.1
[model.dit.sam]
decoder_depth = 1
decoder_heads = 2
decoder_mlp_dim = 16
[model.dit.sam.image_encoder]
image_size = 32
patch_size = 8
embed_dim = 16
depth = 2
heads = 2
mlp_ratio = 2.0
out_channels = 16
window_size = 2
global_blocks = [1]
[model.dit.bert]
hidden = 16
layers = 1
heads = 2
ffn = 32
max_positions = 16
output_layer = 1
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
pictures = 2
"#;

/// The toy plan in a folder, with its data generated there.
///
/// # Panics
/// When the set cannot be generated; these are tests.
pub fn toy(folder: &Path, name: &str, overrides: &[&str]) -> RunPlan {
    let root = folder.join("data");
    if !root.exists() {
        let config = SynthConfig { images: 40, size: 64, seed: 3, ..SynthConfig::default() };
        generate(&config, &root).expect("a generated set");
    }
    let mut set: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    set.push(format!("data.root={}", root.display()));
    set.push(format!("run.dir={}", folder.join("runs").display()));
    set.push(format!("run.name={name}"));
    RunPlan::resolve(TOY, None, &set).expect("the toy plan")
}

/// The plan's training split and method.
///
/// # Panics
/// When they cannot be opened; these are tests.
pub fn parts(plan: &RunPlan) -> (Arc<Dataset>, Dit) {
    let data = open_split(plan, &plan.data.train_split).expect("the training split");
    let tokenizer = RunTokenizer::open(plan, &data, None).expect("a vocabulary");
    (Arc::new(data), Dit::new(plan, tokenizer).expect("a DIT"))
}
