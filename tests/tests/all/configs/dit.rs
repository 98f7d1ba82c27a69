//! DIT's tables.

use std::collections::BTreeSet;

use models::methods::DitMethod;
use run_config::{RunConfig, Tokenizer};

use super::{Toy, rows_hold};

/// What a row of a table is: the paper's statement, not the file's.
struct Row {
    /// Config below `configs`, without extension.
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
    row("dit/table1/default", true, true, &[], 2, 25),
    row("dit/table1/default-frozen", false, true, &[], 2, 25),
    row("dit/table1/add-2", true, true, &[], 4, 25),
    row("dit/table1/add-2-frozen", false, true, &[], 4, 25),
    row("dit/table1/add-4", true, true, &[], 6, 25),
    row("dit/table1/add-4-frozen", false, true, &[], 6, 25),
    row("dit/table1/e2e", true, true, P, 2, 40),
    row("dit/table1/e2e-frozen", false, true, P, 2, 40),
    row("dit/table1/layer-wise", true, true, P, 2, 40),
    row("dit/table1/layer-wise-frozen", false, true, P, 2, 40),
    row("dit/table2/e2e", true, true, P, 2, 40),
    row("dit/table2/e2e-static", true, true, PT, 2, 40),
    row("dit/table2/layer-wise", true, true, P, 2, 40),
    row("dit/table2/layer-wise-static", true, true, T, 2, 40),
    row("dit/table3/e2e-both-frozen", false, false, P, 2, 40),
    row("dit/table3/layer-wise-both-frozen", false, false, P, 2, 25),
    row("dit/table3/e2e-image-frozen", false, true, P, 2, 40),
    row("dit/table3/layer-wise-image-frozen", false, true, P, 2, 40),
    row("dit/table3/e2e", true, true, P, 2, 40),
    row("dit/table3/layer-wise", true, true, P, 2, 40),
    row("dit/table4/linear", true, true, P, 2, 40),
    row("dit/table4/cross-attention", true, true, CROSS, 2, 25),
    row("dit/table4/cross-attention-opp", true, true, CROSS, 2, 25),
    row("dit/table4/cross-attention-ffn", true, true, FFN, 2, 25),
    row("dit/table5/bert", false, true, P, 2, 40),
    row("dit/table5/clip", false, true, P, 2, 40),
    row("dit/table6/sam-points", false, false, &[], 2, 40),
    row("dit/table6/sam-box", false, false, &[], 2, 40),
    row("dit/table6/sam-points-official", false, false, &[], 2, 40),
    row("dit/table6/sam-box-official", false, false, &[], 2, 40),
    row("dit/table6/default-text", true, true, &[], 2, 25),
    row("dit/table6/mix-text", true, true, P, 2, 40),
    row("dit/table6/mix-points", true, true, P, 2, 40),
    row("dit/table6/mix-box", true, true, P, 2, 40),
    row("dit/table6/layer-wise-text", true, true, P, 2, 40),
    row("dit/table7/layer-wise-vit-h", true, true, WIDE, 2, 25),
    row("dit/table7/layer-wise-vit-h-refcoco-plus", true, true, WIDE, 2, 25),
    row("dit/table7/layer-wise-vit-h-refcocog-umd", true, true, WIDE, 2, 25),
    Row { batch: 32, ..row("dit/table8/both-frozen", false, false, P, 2, 25) },
    Row { batch: 32, ..row("dit/table8/image-frozen", false, true, P, 2, 40) },
    Row { batch: 32, ..row("dit/table8/tuned", true, true, P, 2, 40) },
    row("dit/table9/layer-wise", false, true, P, 2, 40),
    row("dit/table9/cascade", false, true, P, 2, 40),
    // The recipe as printed.
    row("dit/paper/default", true, true, &[], 2, 40),
    row("dit/paper/default-frozen", false, true, &[], 2, 40),
    row("dit/paper/add-2", true, true, &[], 4, 40),
    row("dit/paper/add-2-frozen", false, true, &[], 4, 40),
    row("dit/paper/add-4", true, true, &[], 6, 40),
    row("dit/paper/add-4-frozen", false, true, &[], 6, 40),
    row("dit/paper/e2e", true, true, P, 2, 40),
    row("dit/paper/e2e-frozen", false, true, P, 2, 40),
    row("dit/paper/layer-wise", true, true, P, 2, 40),
    row("dit/paper/layer-wise-frozen", false, true, P, 2, 40),
];

impl Row {
    fn clip(&self) -> bool {
        self.file.ends_with("clip")
    }

    /// The rows that train nothing.
    fn untrained(&self) -> bool {
        self.file.contains("/sam-")
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
            let clicked = self.file.contains("/mix-") && clicks.iter().any(|click| part.starts_with(click));
            part.starts_with("no_mask_embed") || clicked
        } else {
            // One mask is put out, so the other masks' networks and the predicted IoU have no part in the loss.
            let unused = ["mask_decoder.iou_prediction_head.", "mask_decoder.output_hypernetworks_mlps."];
            within(&["text_proj.", "mask_decoder.output_hypernetworks_mlps.0."]) || within(&["mask_decoder."]) && !within(&unused)
        })
    }
}

/// Sizes that a test can afford.
const SMALL: &[&str] = &[
    "train.batch_size=6",
    "data.augment.long_sides=[32, 24]",
    "model.dit.text_dim=16",
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

fn check(row: &Row, toy: &Toy) -> Result<(), String> {
    let whole = toy.whole(row.file)?;
    let lengths = (whole.train.epochs, whole.train.batch_size * whole.optim.accumulate);
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
    let mut set: Vec<&str> = SMALL.to_vec();
    if !whole.train.multi_scale.is_empty() {
        set.push("train.multi_scale=[16, 24, 32]");
    }
    let stepped = toy.step(row.file, &set, DitMethod::new);
    if row.untrained() {
        let said = stepped.err().unwrap_or_default();
        return if said.contains("model.freeze") { Ok(()) } else { Err(format!("was trained: {said:?}")) };
    }
    let stepped = stepped?;
    let mut wrong = stepped.wrong(|name| row.moves(name));
    let mut new = BTreeSet::new();
    let mut layers = BTreeSet::new();
    for name in stepped.names() {
        let part = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.split('.').next()).map(str::to_owned);
        new.extend(part("visual_encoder.").filter(|p| !["patch_embed", "pos_embed", "blocks", "neck"].contains(&p.as_str())));
        layers.extend(part("mask_decoder.transformer.layers."));
    }
    let clip = stepped.names().any(|name| name.starts_with("lang_encoder.clip."));
    if new.iter().map(String::as_str).collect::<Vec<_>>() != row.new || layers.len() != row.decoder || clip != row.clip() {
        wrong.push(format!("adds {new:?}, {} decoder layers, CLIP {clip}", layers.len()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[test]
fn every_row_trains_what_its_table_says() {
    rows_hold("dit", ROWS.iter().map(|row| row.file), |toy, i| check(&ROWS[i], toy));
}

/// Section 4.2, word for word; the released files do something else.
#[test]
fn the_papers_folder_has_the_printed_recipe() {
    for row in ROWS.iter().filter(|row| row.file.starts_with("dit/paper/")) {
        let config = RunConfig::from_path(&super::configs().join(row.file).with_extension("toml")).unwrap();
        let (schedule, augment) = (&config.schedule, &config.data.augment);
        assert_eq!((schedule.decay_epochs.as_slice(), schedule.decay_rate), (&[30, 35][..], 0.2), "{}", row.file);
        assert!(augment.blur > 0.0 && config.optim.lr == 1e-4, "{}", row.file);
    }
}

/// Sizes of BERT do not move the layer that DIT's released weights read.
#[test]
fn berts_layer_is_the_released_one_unless_named() {
    let layer = |text: &str| {
        let config = RunConfig::from_toml_str(text).unwrap();
        config.method_section::<fusion_dit::DitConfig>().unwrap().bert.output_layer
    };
    assert_eq!(layer(""), Some(1));
    assert_eq!(layer("[model.dit.bert]\ndropout = 0.0"), Some(1));
    assert_eq!(layer("[model.dit.bert]\noutput_layer = 12"), Some(12));
}

/// The two protocols of the rows that judge SAM itself, as both headers state them.
#[test]
fn sam_is_judged_by_two_protocols() {
    use fusion_dit::{DitConfig, PromptMask};
    use refcoco_data::Fit;
    for kind in ["box", "points"] {
        let read = |row: String| RunConfig::from_path(&super::configs().join(format!("dit/table6/{row}.toml"))).unwrap();
        let says = |config: &RunConfig| {
            let mask = config.method_section::<DitConfig>().unwrap().prompt_mask;
            (config.data.image_size, config.data.fit, mask, config.eval.threshold, config.eval.profile.name(), config.eval.prompt)
        };
        let (ours, official) = (read(format!("sam-{kind}")), read(format!("sam-{kind}-official")));
        let prompt = ours.eval.prompt;
        assert_eq!(says(&ours), (512, Fit::Centre, PromptMask::First, Some(0.35), "dit", prompt));
        assert_eq!(says(&official), (1024, Fit::TopLeft, PromptMask::BestOfThree, Some(0.5), "saymask", prompt));
    }
}
