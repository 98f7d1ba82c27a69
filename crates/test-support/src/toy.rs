//! Configs of the three methods, a few thousand parameters each.

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

/// The toy config of a method by its name: "dit", "evf" or "risam".
pub fn toy_toml(method: &str) -> String {
    let own = match method {
        "dit" => DIT,
        "evf" => EVF,
        "risam" => RISAM,
        other => panic!("no toy config of {other}"),
    };
    format!("{TOY}{own}{}", SAM.replace("{}", &format!("model.{method}")))
}
