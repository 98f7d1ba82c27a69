//! RISAM's tables and its figure of thresholds.

use std::collections::BTreeSet;

use trainer::models::Risam;

use super::{Toy, decodes, key_bias, rows_hold};

/// Rows of one kind: a name's beginning, and its endings for the data sets.
struct Kind {
    stem: &'static str,
    sets: &'static [&'static str],
    /// What the row trains, by the first part of a parameter's name.
    parts: &'static [&'static str],
    /// Whether the text encoder is trained.
    text: bool,
}

const fn kind(stem: &'static str, sets: &'static [&'static str], parts: &'static [&'static str]) -> Kind {
    Kind { stem, sets, parts, text: false }
}

const THREE: &[&str] = &["-refcoco", "-refcoco-plus", "-gref-umd"];
const FOUR: &[&str] = &["-refcoco", "-refcoco-plus", "-gref-umd", "-gref-google"];
const ONE: &[&str] = &[""];
const TAUS: &[&str] = &["-05", "-10", "-15", "-20", "-25", "-30", "-35", "-40", "-45", "-50"];

const WHOLE: &[&str] = &["decoder", "fe", "ma", "mask_mlp", "query", "up1", "up1_norm", "up2", "up2_norm"];
const CONV: &[&str] = &["decoder", "fe", "ma_conv", "mask_mlp", "query", "up1", "up1_norm", "up2", "up2_norm"];
const TE: &[&str] = &["decoder", "fe", "ma_te", "mask_mlp", "query", "up1", "up1_norm", "up2", "up2_norm"];
const SAM: &[&str] = &["fe", "ma", "mask_decoder"];
const BASELINE: &[&str] = &["mask_decoder", "text_proj"];

const KINDS: &[Kind] = &[
    kind("risam/figure8-tau", TAUS, WHOLE),
    kind("risam/table1", FOUR, WHOLE),
    kind("risam/table2-conv", THREE, CONV),
    kind("risam/table2-sam-decoder", THREE, SAM),
    kind("risam/table2-without-fe", THREE, WHOLE),
    kind("risam/table3-bcm", THREE, WHOLE),
    kind("risam/table3-sdf", THREE, WHOLE),
    kind("risam/table3-te", THREE, TE),
    kind("risam/table3-without-mask", THREE, WHOLE),
    kind("risam/table4-1-block", ONE, WHOLE),
    kind("risam/table4-2-blocks", ONE, WHOLE),
    kind("risam/table4-3-blocks", ONE, WHOLE),
    kind("risam/table5-toi", THREE, WHOLE),
    kind("risam/table5-without-elg", THREE, WHOLE),
    kind("risam/table6-fe", ONE, WHOLE),
    kind("risam/table6-vit-det", ONE, WHOLE),
    kind("risam/table6-without-fe", ONE, WHOLE),
    kind("risam/table8", THREE, WHOLE),
    Kind { text: true, ..kind("risam/table9", FOUR, WHOLE) },
    kind("risam/table10-grefcoco", ONE, WHOLE),
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
];

impl Kind {
    fn moves(&self, name: &str) -> Option<bool> {
        if key_bias(name) || name.contains(".running_") {
            return None;
        }
        if let Some(part) = name.strip_prefix("text_encoder.") {
            // Words are taken before the projection.
            return Some(self.text && !part.starts_with("text_projection"));
        }
        let fixed = name.starts_with("image_encoder.") || name.starts_with("prompt_encoder.");
        // Without words in the decoder the last block's are read by nobody.
        let unread = self.stem.ends_with("without-elg") && name.starts_with("ma.1.norm_l.");
        Some(!fixed && !unread && (!name.starts_with("mask_decoder.") || decodes(name)))
    }

    fn check(&self, file: &str, toy: &Toy) -> Result<(), String> {
        let whole = toy.whole(file)?;
        let recipe = (whole.train.epochs, whole.train.batch_size, whole.optim.lr, whole.schedule.decay_epochs.clone());
        if recipe != (Some(50), 32, 1e-4, vec![30, 42]) {
            return Err(format!("epochs, batch, rate and decay are {recipe:?}"));
        }
        let words = if file.ends_with("refcoco") && !file.ends_with("grefcoco")
            || self.sets == ONE && !file.contains("table10")
            || self.sets == TAUS
        {
            17
        } else {
            25
        };
        if whole.text.max_tokens != words {
            return Err(format!("{} words, not {words}", whole.text.max_tokens));
        }
        let stepped = toy.step(file, SMALL, Risam::new)?;
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
        KINDS.iter().flat_map(|kind| kind.sets.iter().map(move |set| (kind, format!("{}{set}", kind.stem)))).collect();
    rows_hold("risam", rows.iter().map(|(_, file)| file.as_str()), |toy, i| rows[i].0.check(&rows[i].1, toy));
}
