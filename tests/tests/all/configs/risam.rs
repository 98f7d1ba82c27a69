//! RISAM's tables and its figure of thresholds.

use std::collections::BTreeSet;

use fusion_risam::{Decoder, Enhancement, Interaction, RisamConfig};
use models::methods::RisamMethod;
use pil_ops::Fit;
use run_config::{Optimizer, Profile, RunConfig, ScheduleKind};
use trainer::evaluate::profile;

use super::{Toy, decodes, key_bias, rows_hold};

/// Rows of one kind: a name's beginning, and its endings for the data sets.
struct Kind {
    stem: &'static str,
    sets: &'static [&'static str],
    /// What the row trains, by the first part of a parameter's name.
    parts: &'static [&'static str],
    /// Whether the text encoder is trained.
    text: bool,
    /// Whether it is trained; others are judged only.
    trained: bool,
}

const fn kind(stem: &'static str, sets: &'static [&'static str], parts: &'static [&'static str]) -> Kind {
    Kind { stem, sets, parts, text: false, trained: true }
}

const THREE: &[&str] = &["refcoco", "refcoco-plus", "gref-umd"];
const FOUR: &[&str] = &["refcoco", "refcoco-plus", "gref-umd", "gref-google"];
const FIVE: &[&str] = &["refcoco", "refcoco-plus", "gref-umd", "gref-google", "phrasecut"];
const ONE: &[&str] = &[""];
const TAUS: &[&str] = &["05", "10", "15", "20", "25", "30", "35", "40", "45", "50"];

const WHOLE: &[&str] = &["decoder", "fe", "ma", "mask_mlp", "query", "up1", "up1_norm", "up2", "up2_norm"];
const CONV: &[&str] = &["decoder", "fe", "ma_conv", "mask_mlp", "query", "up1", "up1_norm", "up2", "up2_norm"];
const TE: &[&str] = &["decoder", "fe", "ma_te", "mask_mlp", "query", "up1", "up1_norm", "up2", "up2_norm"];
const SAM: &[&str] = &["fe", "ma", "mask_decoder"];
const VLT: &[&str] = &["fe", "ma", "vlt"];
const BASELINE: &[&str] = &["mask_decoder", "text_proj"];

const KINDS: &[Kind] = &[
    kind("risam/figure8/tau", TAUS, WHOLE),
    kind("risam/table1", FOUR, WHOLE),
    kind("risam/table2/conv", THREE, CONV),
    kind("risam/table2/sam-decoder", THREE, SAM),
    kind("risam/table2/without-fe", THREE, WHOLE),
    kind("risam/table3/bcm", THREE, WHOLE),
    kind("risam/table3/sdf", THREE, WHOLE),
    kind("risam/table3/te", THREE, TE),
    kind("risam/table3/without-mask", THREE, WHOLE),
    kind("risam/table4/1-block", ONE, WHOLE),
    kind("risam/table4/2-blocks", ONE, WHOLE),
    kind("risam/table4/3-blocks", ONE, WHOLE),
    kind("risam/table5/toi", THREE, WHOLE),
    kind("risam/table5/without-elg", THREE, VLT),
    kind("risam/table5/without-words", THREE, WHOLE),
    kind("risam/table6/fe", ONE, WHOLE),
    kind("risam/table6/vit-det", ONE, WHOLE),
    kind("risam/table6/without-fe", ONE, WHOLE),
    kind("risam/table7/sam", ONE, WHOLE),
    kind("risam/table7/swin-b", ONE, WHOLE),
    kind("risam/table7/vit-b", ONE, WHOLE),
    Kind { trained: false, ..kind("risam/table8", THREE, WHOLE) },
    Kind { text: true, ..kind("risam/table9", FIVE, WHOLE) },
    kind("risam/table10/grefcoco", ONE, WHOLE),
    kind("risam/table11", FOUR, BASELINE),
];

const SMALL: &[&str] = &[
    "train.batch_size=4",
    "{}.taps=[0, 1, 2]",
    "{}.width=16",
    "{}.heads=2",
    "{}.up_channels=[8, 4]",
    "{}.clip.width=16",
    "{}.clip.layers=1",
    "{}.clip.heads=2",
    "{}.clip.ffn=32",
    "{}.clip.projection_dim=16",
    "{}.clip_vision.image_size=24",
    "{}.clip_vision.patch_size=8",
    "{}.clip_vision.width=16",
    "{}.clip_vision.layers=3",
    "{}.clip_vision.heads=2",
    "{}.clip_vision.ffn=32",
    "{}.swin.embed_dim=8",
    "{}.swin.depths=[1, 2, 1]",
    "{}.swin.heads=[1, 1, 2]",
    "{}.swin.window=3",
    "{}.swin.mlp_ratio=2.0",
    "{}.swin.output_norms=[1, 2]",
];

impl Kind {
    /// The row's file of a set: in the table's folder by itself, or behind the row's own name.
    fn file(&self, set: &str) -> String {
        match (set, self.stem.matches('/').count()) {
            ("", _) => self.stem.to_owned(),
            (set, 1) => format!("{}/{set}", self.stem),
            (set, _) => format!("{}-{set}", self.stem),
        }
    }

    fn moves(&self, name: &str) -> Option<bool> {
        if key_bias(name) || name.contains(".running_") {
            return None;
        }
        if let Some(part) = name.strip_prefix("text_encoder.") {
            // Words are taken before the projection.
            return Some(self.text && !part.starts_with("text_projection"));
        }
        let fixed = name.starts_with("image_encoder.") || name.starts_with("prompt_encoder.");
        // In front of a batch norm a constant does nothing.
        if ["up1.bias", "up2.bias"].contains(&name) {
            return None;
        }
        // Without words in the decoder the last block's are read by nobody, and the query is the only key, whose share is 1
        // whatever asks for it; weight decay alone moves such queries, and not their biases, which start at 0.
        let asks = name.ends_with(".cross.q.bias") || name.ends_with(".self_c.q.bias");
        let without = self.stem.ends_with("without-words") || self.stem.ends_with("without-elg");
        let unread = without && (asks || name.starts_with("ma.1.norm_l."));
        Some(!fixed && !unread && (!name.starts_with("mask_decoder.") || decodes(name)))
    }

    /// Whether the file says the paper's config on the row's set, and the paper's model but for what the row is about.
    fn says(&self, file: &str, run_config: &RunConfig) -> Result<(), String> {
        let set = match file {
            f if self.stem == "risam/table8" || f.ends_with("phrasecut") => ("phrasecut", "vg"),
            f if f.ends_with("refcoco-plus") => ("refcoco+", "unc"),
            f if f.ends_with("gref-umd") => ("refcocog", "umd"),
            f if f.ends_with("gref-google") => ("refcocog", "google"),
            f if f.ends_with("grefcoco") => ("grefcoco", "unc"),
            _ => ("refcoco", "unc"),
        };
        let words = if set.0 == "refcoco" || file.ends_with("table8/refcoco") || file.ends_with("phrasecut") { 17 } else { 25 };
        let (data, optim, schedule) = (&run_config.data, &run_config.optim, &run_config.schedule);
        if ((data.dataset.as_str(), data.split_by.as_str()), run_config.text.max_tokens) != (set, words) {
            return Err(format!("{} of {} with {} words", data.dataset, data.split_by, run_config.text.max_tokens));
        }
        let adamw = (optim.name, optim.lr, optim.betas, optim.eps, optim.weight_decay, optim.grad_clip);
        if adamw != (Optimizer::Adamw, 1e-4, [0.9, 0.999], 1e-8, 0.01, 0.0) {
            return Err(format!("the optimiser is {adamw:?}"));
        }
        let length = (
            run_config.train.epochs,
            run_config.train.batch_size * optim.accumulate,
            data.image_size,
            run_config.train.ema.enabled,
        );
        let (side, fit) = match self.stem {
            "risam/table7/swin-b" => (480, Fit::Stretched),
            "risam/table7/vit-b" => (480, Fit::StretchedBicubic),
            _ => (1024, Fit::TopLeft),
        };
        if length != (Some(50), 32, side, false) || data.augment.flip != 0.0 || data.fit != fit {
            return Err(format!("epochs, batch, side and average are {length:?}, flips {}", data.augment.flip));
        }
        let decay = (schedule.kind, schedule.decay_epochs.as_slice(), schedule.decay_rate);
        if decay != (ScheduleKind::Step, [30, 42].as_slice(), 0.1) {
            return Err(format!("the schedule is {decay:?}"));
        }
        let threshold = profile(run_config).map_err(|e| e.to_string())?.logit_threshold();
        let rules = if set.0 == "grefcoco" { Profile::Gres } else { Profile::Risam };
        if run_config.eval.profile != rules || (threshold + 0.619_039_2).abs() > 1e-6 {
            return Err(format!("judged by {:?} above a logit of {threshold}", run_config.eval.profile));
        }
        let mut want = RisamConfig::vit_h();
        // The canvas comes from `data`.
        let on = |preset: RisamConfig| RisamConfig { input_size: 1024, ..preset };
        match self.stem.trim_start_matches("risam/") {
            "figure8/tau" => want.tau = file[file.len() - 2..].parse::<f64>().map_err(|e| e.to_string())? / 100.0,
            "table2/conv" => want.interaction = Interaction::Conv,
            "table2/sam-decoder" => want.decoder = Decoder::Sam,
            "table2/without-fe" | "table6/without-fe" => want.enhancement = Enhancement::None,
            "table3/bcm" => want.interaction = Interaction::Serial,
            "table3/sdf" => want.interaction = Interaction::VisionGuided,
            "table3/te" => want.interaction = Interaction::Transformer,
            "table3/without-mask" => want.relevance_mask = false,
            "table4/1-block" => want.interaction_blocks = 1,
            "table4/3-blocks" => want.interaction_blocks = 3,
            "table5/toi" => want.token_to_image = true,
            "table5/without-elg" => (want.language_in_decoder, want.vlt_head) = (false, true),
            "table5/without-words" => want.language_in_decoder = false,
            "table6/vit-det" => want.enhancement = Enhancement::VitDet,
            "table7/swin-b" => want = on(RisamConfig::swin_b()),
            "table7/vit-b" => want = on(RisamConfig::clip_b16()),
            "table9" => want.text_frozen = false,
            "table11" => want.baseline = true,
            _ => {}
        }
        let config: RisamConfig = run_config.method_section().map_err(|e| e.to_string())?;
        if config == want { Ok(()) } else { Err(format!("the model is {config:?}")) }
    }

    fn check(&self, file: &str, toy: &Toy) -> Result<(), String> {
        let whole = toy.whole(file)?;
        self.says(file, &whole)?;
        let stepped = toy.step(file, SMALL, RisamMethod::new);
        if !self.trained {
            let error = stepped.err().unwrap_or_default();
            return if error.contains("model.freeze") { Ok(()) } else { Err(format!("was trained: {error:?}")) };
        }
        let stepped = stepped?;
        let mut wrong = stepped.wrong(|name| self.moves(name));
        let own = |name: &str| !["image_encoder", "text_encoder", "prompt_encoder"].iter().any(|p| name.starts_with(p));
        let parts: BTreeSet<&str> = stepped.names().filter(|n| own(n)).filter_map(|n| n.split('.').next()).collect();
        if parts != self.parts.iter().copied().collect() {
            wrong.push(format!("has {parts:?}"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

#[test]
fn every_row_trains_what_its_table_says() {
    let rows: Vec<(&Kind, String)> =
        KINDS.iter().flat_map(|kind| kind.sets.iter().map(move |set| (kind, kind.file(set)))).collect();
    rows_hold("risam", rows.iter().map(|(_, file)| file.as_str()), |toy, i| rows[i].0.check(&rows[i].1, toy));
}
