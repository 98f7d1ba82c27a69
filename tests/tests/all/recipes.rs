//! Every row of the papers' tables as a file: it reads, builds at toy size, takes two steps, and moves what the paper says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use nn_ops::weights::{Checkpoint, export};
use refcoco_data::{Dataset, SynthConfig, generate};
use trainer::data::open_split;
use trainer::models::Dit;
use trainer::plan::{Init, Method, RunPlan, Tokenizer};
use trainer::segmenter::Segmenter;
use trainer::tokenizer::RunTokenizer;
use trainer::train::{Event, begin, train};

use crate::training::ONE_AT_A_TIME;

/// What a row of a table is: the paper's statement, not the file's.
struct Row {
    /// Recipe below `configs`, without extension.
    file: &'static str,
    /// Whether image and text encoder are trained.
    image: bool,
    text: bool,
    /// What the method adds, by the names of the released checkpoints.
    new: &'static [&'static str],
    /// Two-way layers of the mask decoder.
    decoder: usize,
    epochs: u64,
    batch: usize,
}

const fn row(file: &'static str, image: bool, text: bool, new: &'static [&'static str], decoder: usize, epochs: u64) -> Row {
    Row { file, image, text, new, decoder, epochs, batch: 64 }
}

const P: &[&str] = &["probs"];
const PT: &[&str] = &["probs", "tokens"];
const T: &[&str] = &["tokens"];
const CROSS: &[&str] = &["cross", "ln", "probs"];
const FFN: &[&str] = &["cross", "ln"];
const WIDE: &[&str] = &["prob_text", "probs"];

/// DIT's tables 1 to 9 (those that are about DIT), with the epochs of the released files.
const ROWS: &[Row] = &[
    row("dit/table1-default", true, true, &[], 2, 25),
    row("dit/table1-default-frozen", false, true, &[], 2, 25),
    row("dit/table1-add-2", true, true, &[], 4, 25),
    row("dit/table1-add-2-frozen", false, true, &[], 4, 25),
    row("dit/table1-add-4", true, true, &[], 6, 25),
    row("dit/table1-add-4-frozen", false, true, &[], 6, 25),
    row("dit/table1-e2e", true, true, P, 2, 40),
    row("dit/table1-e2e-frozen", false, true, P, 2, 40),
    row("dit/table1-layer-wise", true, true, P, 2, 40),
    row("dit/table1-layer-wise-frozen", false, true, P, 2, 40),
    row("dit/table2-e2e", true, true, P, 2, 40),
    row("dit/table2-e2e-static", true, true, PT, 2, 40),
    row("dit/table2-layer-wise", true, true, P, 2, 40),
    row("dit/table2-layer-wise-static", true, true, T, 2, 40),
    row("dit/table3-e2e-both-frozen", false, false, P, 2, 40),
    row("dit/table3-layer-wise-both-frozen", false, false, P, 2, 25),
    row("dit/table3-e2e-image-frozen", false, true, P, 2, 40),
    row("dit/table3-layer-wise-image-frozen", false, true, P, 2, 40),
    row("dit/table3-e2e", true, true, P, 2, 40),
    row("dit/table3-layer-wise", true, true, P, 2, 40),
    row("dit/table4-linear", true, true, P, 2, 40),
    row("dit/table4-cross-attention", true, true, CROSS, 2, 25),
    row("dit/table4-cross-attention-opp", true, true, CROSS, 2, 25),
    row("dit/table4-cross-attention-ffn", true, true, FFN, 2, 25),
    row("dit/table5-bert", false, true, P, 2, 40),
    row("dit/table5-clip", false, true, P, 2, 40),
    row("dit/table6-sam-points", false, false, &[], 2, 40),
    row("dit/table6-sam-box", false, false, &[], 2, 40),
    row("dit/table6-default-text", true, true, &[], 2, 25),
    row("dit/table6-mix-text", true, true, P, 2, 40),
    row("dit/table6-mix-points", true, true, P, 2, 40),
    row("dit/table6-mix-box", true, true, P, 2, 40),
    row("dit/table6-layer-wise-text", true, true, P, 2, 40),
    row("dit/table7-layer-wise-vit-h", true, true, WIDE, 2, 25),
    Row { batch: 32, ..row("dit/table8-both-frozen", false, false, P, 2, 25) },
    Row { batch: 32, ..row("dit/table8-image-frozen", false, true, P, 2, 40) },
    Row { batch: 32, ..row("dit/table8-tuned", true, true, P, 2, 40) },
    row("dit/table9-layer-wise", false, true, P, 2, 40),
    row("dit/table9-cascade", false, true, P, 2, 40),
];

impl Row {
    fn clip(&self) -> bool {
        self.file.ends_with("clip")
    }

    /// The rows that train nothing.
    fn untrained(&self) -> bool {
        self.file.contains("-sam-")
    }

    /// Whether the parameter must move; none where its gradient is nothing but rounding: a constant added to all keys
    /// changes no softmax.
    fn moves(&self, name: &str) -> Option<bool> {
        if name.ends_with("k_proj.bias") || name.ends_with("key.bias") || name.ends_with("linear_k.bias") {
            return None;
        }
        let within = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
        Some(if let Some(part) = name.strip_prefix("visual_encoder.") {
            let own = ["patch_embed.", "pos_embed", "blocks.", "neck."].iter().any(|own| part.starts_with(own));
            if own { self.image } else { true }
        } else if within(&["lang_encoder."]) {
            // Text stops at BERT's first layer, and CLIP's token features are taken before its projection.
            let beyond = ["bert.pooler", "bert.encoder.layer.1", "clip.text_projection"];
            self.text && !beyond.iter().any(|part| name["lang_encoder.".len()..].starts_with(part))
        } else if within(&["prompt_encoder."]) {
            let clicks = ["point_embeddings.1", "point_embeddings.2", "point_embeddings.3", "not_a_point_embed"];
            let part = &name["prompt_encoder.".len()..];
            let clicked = self.file.contains("-mix-") && clicks.iter().any(|click| part.starts_with(click));
            part.starts_with("no_mask_embed") || clicked
        } else {
            // One mask is put out, so the other masks' networks and the predicted IoU have no part in the loss.
            let unused = ["mask_decoder.iou_prediction_head.", "mask_decoder.output_hypernetworks_mlps."];
            within(&["text_proj.", "mask_decoder.output_hypernetworks_mlps.0."]) || within(&["mask_decoder."]) && !within(&unused)
        })
    }
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// The recipe at a size that a test can afford. Sizes change, and lengths; what is a row's own stays.
fn shrunk(path: &Path, folder: &Path) -> RunPlan {
    let set = [
        "data.image_size=32",
        "data.prefetch=0",
        "data.augment.long_sides=[32, 24]",
        "data.val_splits=[\"val\"]",
        "text.max_tokens=12",
        // A vocabulary of the toy set's own serves any encoder.
        "text.tokenizer=wordpiece",
        "text.vocabulary=train-from-data",
        "optim.lr=1e-2",
        "schedule.kind=constant",
        "schedule.warmup_steps=0",
        "train.batch_size=6",
        "train.steps=2",
        "eval.limit=2",
        "eval.pictures=0",
        "model.dit.text_dim=16",
        "model.dit.sam.decoder_heads=2",
        "model.dit.sam.decoder_mlp_dim=16",
        "model.dit.sam.image_encoder.image_size=32",
        "model.dit.sam.image_encoder.patch_size=8",
        "model.dit.sam.image_encoder.embed_dim=16",
        "model.dit.sam.image_encoder.depth=2",
        "model.dit.sam.image_encoder.heads=2",
        "model.dit.sam.image_encoder.mlp_ratio=2.0",
        "model.dit.sam.image_encoder.out_channels=16",
        "model.dit.sam.image_encoder.window_size=3",
        "model.dit.sam.image_encoder.global_blocks=[1]",
        "model.dit.bert.hidden=16",
        "model.dit.bert.layers=2",
        "model.dit.bert.heads=2",
        "model.dit.bert.ffn=32",
        "model.dit.clip.width=16",
        "model.dit.clip.layers=2",
        "model.dit.clip.heads=2",
        "model.dit.clip.ffn=32",
        "model.dit.clip.projection_dim=8",
    ];
    let mut set: Vec<String> = set.map(str::to_owned).to_vec();
    set.push(format!("data.root={}", folder.join("data").display()));
    set.push(format!("run.dir={}", folder.join("runs").display()));
    if !RunPlan::from_path(path).unwrap().train.multi_scale.is_empty() {
        set.push("train.multi_scale=[16, 24, 32]".into());
    }
    let mut plan = RunPlan::load(path, &set).unwrap();
    // No weight file is at hand.
    plan.model.init = Init::default();
    plan
}

/// Names of the parameters before and after two steps.
fn step<S: Segmenter>(segmenter: &S, plan: &RunPlan, data: Arc<Dataset>) -> Result<(Checkpoint, Checkpoint), String> {
    let device = Device::flex();
    let graph = device.clone().autodiff();
    let names = segmenter.names();
    let net = |training: trainer::state::Training<S::Net>| export(&training.net, &names, "net");
    let before = net(begin(segmenter, plan, &graph).unwrap());
    let summary = train(segmenter, plan, data, &device, false, &mut |_: Event<'_>| {}).map_err(|e| e.to_string())?;
    let saved = trainer::run_dir::Checkpoint::open(&summary.dir.checkpoint_path(2)).unwrap();
    let after = net(begin(segmenter, plan, &graph).unwrap().restore(&saved).unwrap());
    Ok((before, after))
}

fn check(row: &Row, folder: &Path) -> Result<(), String> {
    let path = configs().join(row.file).with_extension("toml");
    let whole = RunPlan::from_path(&path).map_err(|e| e.to_string())?;
    let lengths = (whole.train.epochs, whole.train.batch_size);
    if lengths != (Some(row.epochs), row.batch) {
        return Err(format!("epochs and batch are {lengths:?}"));
    }
    let kind = if row.clip() { Tokenizer::Clip } else { Tokenizer::Wordpiece };
    if whole.text.tokenizer != kind {
        return Err(format!("the tokenizer is {:?}", whole.text.tokenizer));
    }
    if whole.train.multi_scale.len() != if row.new.contains(&"cross") { 10 } else { 0 } {
        return Err(format!("multi_scale is {:?}", whole.train.multi_scale));
    }
    let plan = shrunk(&path, folder);
    let data = Arc::new(open_split(&plan, "train").unwrap());
    let words = RunTokenizer::open(&plan, &data, None).unwrap();
    let stepped = match plan.model.method {
        Method::Dit => step(&Dit::new(&plan, words).map_err(|e| e.to_string())?, &plan, data),
        other => panic!("no toy of {other:?} yet"),
    };
    if row.untrained() {
        let said = stepped.err().unwrap_or_default();
        return if said.contains("model.freeze") { Ok(()) } else { Err(format!("was trained: {said:?}")) };
    }
    let (before, after) = stepped?;
    let mut wrong = Vec::new();
    let mut new = BTreeSet::new();
    let mut layers = BTreeSet::new();
    for name in before.names() {
        let moved = before.read(name).unwrap() != after.read(name).unwrap();
        if row.moves(name).is_some_and(|moves| moves != moved) {
            wrong.push(format!("{name} {}", if moved { "moved" } else { "did not move" }));
        }
        let part = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.split('.').next()).map(str::to_owned);
        new.extend(part("visual_encoder.").filter(|p| !["patch_embed", "pos_embed", "blocks", "neck"].contains(&p.as_str())));
        layers.extend(part("mask_decoder.transformer.layers."));
    }
    let clip = before.names().any(|name| name.starts_with("lang_encoder.clip."));
    if new.iter().map(String::as_str).collect::<Vec<_>>() != row.new || layers.len() != row.decoder || clip != row.clip() {
        wrong.push(format!("adds {new:?}, {} decoder layers, CLIP {clip}", layers.len()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[test]
fn every_row_trains_what_its_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = SynthConfig { images: 24, size: 48, seed: 3, ..SynthConfig::default() };
    generate(&config, &folder.path().join("data")).unwrap();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wrong: Vec<String> =
        ROWS.iter().filter_map(|row| Some(format!("{}: {}", row.file, check(row, folder.path()).err()?))).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}

#[test]
fn every_recipe_is_a_known_row() {
    let mut found = BTreeSet::new();
    for method in ["dit", "evf", "risam"] {
        let Ok(entries) = std::fs::read_dir(configs().join(method)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            if stem.starts_with("table") {
                found.insert(format!("{method}/{stem}"));
            }
            let plan = RunPlan::from_path(&path).unwrap();
            assert_eq!(plan.run.name, format!("{method}-{stem}"), "{}", path.display());
        }
    }
    let stated: BTreeSet<String> = ROWS.iter().map(|row| row.file.to_owned()).collect();
    assert_eq!(found, stated);
}
