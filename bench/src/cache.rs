//! `cargo xtask bench cache`: training steps with and without kept features of the frozen image encoder.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use burn::tensor::Device;
use clap::Args;
use run_config::{Method, RunConfig};
use serde::Serialize;
use trainer::data::{open_tokenizer, open_train};
use trainer::event::Event;
use trainer::methods;

use saymask::origin::Origin;

use super::{WriteArgs, fill, save};
use crate::root;
use saymask::train::{demonstration, prepare_data};

/// Images that are generated at most: enough for a step to see new ones.
const MOST_IMAGES: usize = 400;

/// Options of `bench cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Steps timed at the demonstration's sizes, after as many that are not; a quarter with the large encoder.
    #[arg(long, value_name = "N", default_value_t = 60)]
    steps: u64,
    /// Also at published sizes: BEiT-3 base and SAM ViT-H at 1024, one image a step. Needs 16 GB.
    #[arg(long)]
    published: bool,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
struct Figures {
    origin: Origin,
    rows: Vec<Timed>,
}

/// Steps a second of one setting.
#[derive(Serialize)]
struct Timed {
    what: String,
    computed: f64,
    kept: f64,
}

/// What the demonstration changes to keep features: a frozen encoder and images as they are.
const FROZEN: [&str; 4] = ["model.evf.train_image_encoder=false", "data.augment.flip=0", "train.shards=1", "optim.groups=[]"];

/// The demonstration whose encoder is frozen, of SAM ViT-B's size.
const FROZEN_DEMO: &str = "crates/saymask/demos/evf-frozen.toml";

/// Sizes of BEiT-3 base and SAM ViT-H.
const PUBLISHED: [&str; 23] = [
    "data.image_size=1024",
    "data.synth.images=16",
    "train.batch_size=1",
    "train.steps=16",
    "schedule.warmup_steps=0",
    "model.evf.beit3.dim=768",
    "model.evf.beit3.layers=12",
    "model.evf.beit3.heads=12",
    "model.evf.beit3.ffn=3072",
    "model.evf.beit3.image_size=224",
    "model.evf.beit3.patch_size=16",
    "model.evf.sam.decoder_depth=2",
    "model.evf.sam.decoder_heads=8",
    "model.evf.sam.decoder_mlp_dim=2048",
    "model.evf.sam.image_encoder.image_size=1024",
    "model.evf.sam.image_encoder.patch_size=16",
    "model.evf.sam.image_encoder.embed_dim=1280",
    "model.evf.sam.image_encoder.depth=32",
    "model.evf.sam.image_encoder.heads=16",
    "model.evf.sam.image_encoder.mlp_ratio=4.0",
    "model.evf.sam.image_encoder.global_blocks=[7, 15, 23, 31]",
    "model.evf.sam.image_encoder.out_channels=256",
    "model.evf.sam.image_encoder.window_size=14",
];

/// Runs the command.
pub fn run(args: &CacheArgs) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("saymask-bench-{}", std::process::id()));
    let demo = demonstration(Method::Evf);
    let small = RunConfig::resolve(demo, None, &FROZEN)?;
    let frozen = RunConfig::load(&root()?.join(FROZEN_DEMO), &[] as &[&str])?;
    let mut rows = vec![
        measure("demonstration: 64 pixels, encoder of 0.1 M parameters", &folder.join("demo"), &small, args.steps)?,
        measure(
            "demonstration with a frozen encoder: 128 pixels, 86 M parameters",
            &folder.join("frozen"),
            &frozen,
            args.steps.div_ceil(4),
        )?,
    ];
    if args.published {
        let set: Vec<&str> = FROZEN.iter().chain(&PUBLISHED).copied().collect();
        let run_config = RunConfig::resolve(demo, None, &set)?;
        rows.push(measure("BEiT-3 base, SAM ViT-H at 1024", &folder.join("published"), &run_config, 2)?);
    }
    std::fs::remove_dir_all(&folder)?;
    let figures = Figures { origin: Origin::here(&command(args)), rows };
    let mut block =
        String::from("| EVF-SAM | steps/s, features computed | steps/s, features kept | times |\n|---|---|---|---|\n");
    for row in &figures.rows {
        block += &format!("| {} | {:.3} | {:.3} | {:.1} |\n", row.what, row.computed, row.kept, row.kept / row.computed);
    }
    block += &format!("\nFresh weights: {}.", figures.origin.line());
    saymask::say!("{block}");
    if args.write.write {
        save(&root()?.join("docs/figures/cache.json"), serde_json::to_string_pretty(&figures)?.as_bytes())?;
        fill("cache", &block)?;
    }
    Ok(())
}

fn command(args: &CacheArgs) -> String {
    let flags = [(args.published, " --published"), (args.write.write, " --write")];
    let chosen: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
    format!("cargo xtask bench cache --steps {}{chosen}", args.steps)
}

/// Times `steps` steps, after as many to warm up, both ways.
fn measure(what: &str, folder: &Path, run_config: &RunConfig, steps: u64) -> Result<Timed> {
    let mut rates = [0.0; 2];
    for (rate, kept) in rates.iter_mut().zip([false, true]) {
        let mut set = vec![format!("data.root={}", folder.join("data").display())];
        set.push(format!("run.dir={}", folder.join(if kept { "kept" } else { "computed" }).display()));
        set.push(format!("train.stop_after={}", 2 * steps));
        let images = run_config.data.synth.as_ref().map_or(MOST_IMAGES, |synth| synth.images.min(MOST_IMAGES));
        set.push(format!("data.synth.images={images}"));
        if kept {
            set.push(format!("train.feature_cache={}", folder.join("features").display()));
        }
        *rate = steps_a_second(&run_config.with_overrides(&set)?, steps)?;
    }
    Ok(Timed { what: what.to_owned(), computed: rates[0], kept: rates[1] })
}

fn steps_a_second(run_config: &RunConfig, warm: u64) -> Result<f64> {
    prepare_data(run_config)?;
    let data = Arc::new(open_train(run_config)?);
    let tokenizer = open_tokenizer(run_config, &data, None)?;
    let (mut begun, mut ended) = (None, None);
    let mut on_event = |event: Event<'_>| match event {
        Event::Step { step, .. } if step == warm => begun = Some(std::time::Instant::now()),
        Event::Step { step, .. } if step == 2 * warm => ended = Some(std::time::Instant::now()),
        Event::Note(text) => saymask::note!("{text}"),
        _ => {}
    };
    methods::train(run_config, tokenizer, data, &cpu()?, false, &mut on_event)?;
    match (begun, ended) {
        (Some(begun), Some(ended)) => Ok(warm as f64 / (ended - begun).as_secs_f64()),
        _ => bail!("--steps {warm}: the run ended before they were done"),
    }
}

fn cpu() -> Result<Device> {
    saymask::device::open("cpu")
}
