//! EVF-SAM's tables.

use models::methods::EvfMethod;
use run_config::RunConfig;

use super::{Toy, decodes, key_bias, rows_hold};

/// What a row trains, as the paper says; the image model's encoder never, and nothing of SAM-2.
struct Row {
    file: &'static str,
    /// What the first layer of the trained encoder is called; none where the encoder is frozen.
    encoder: Option<&'static [&'static str]>,
    prompt: bool,
    decoder: bool,
    /// Parts of the encoder that see nothing of the input.
    blind: &'static [&'static str],
}

const fn row(file: &'static str, encoder: &'static [&'static str], blind: &'static [&'static str]) -> Row {
    Row { file, encoder: Some(encoder), prompt: true, decoder: true, blind }
}

/// BEiT-3's experts for image and text in a layer.
const BOTH: &[&str] = &["layers.0.self_attn.q_proj.A.weight", "layers.0.self_attn.q_proj.B.weight"];
const TEXT: &[&str] = &["layers.0.self_attn.q_proj.B.weight"];
const CLIP: &[&str] = &["text_model.encoder.layers.0.self_attn.q_proj.weight"];
const CLIPS: &[&str] =
    &["text_model.encoder.layers.0.self_attn.q_proj.weight", "vision_model.encoder.layers.0.self_attn.q_proj.weight"];
const VILT: &[&str] = &["layer.0.attention.attention.query.weight"];
const NONE: &[&str] = &["vision_embed.mask_token"];
const NO_IMAGE: &[&str] = &[".A.", "vision_embed."];
const NO_PATCHES: &[&str] = &["patch_embeddings", "cls_token"];

const ROWS: &[Row] = &[
    row("evf/table1/beit3-l-text", TEXT, NO_IMAGE),
    row("evf/table1/beit3-l-text-image", BOTH, NONE),
    row("evf/table1/clip-l-text", CLIP, &[]),
    row("evf/table1/clip-l-text-image", CLIPS, &[]),
    row("evf/table2/multi-task", BOTH, NONE),
    row("evf/table2/refcoco-series", BOTH, NONE),
    row("evf/table3/beit3-early", BOTH, NONE),
    row("evf/table3/beit3-early-half", BOTH, NONE),
    row("evf/table3/beit3-late", BOTH, NONE),
    row("evf/table3/beit3-text", TEXT, NO_IMAGE),
    row("evf/table3/clip-l-late", CLIPS, &[]),
    row("evf/table3/clip-l-text", CLIP, &[]),
    row("evf/table3/openclip-h-late", CLIPS, &[]),
    row("evf/table3/openclip-h-text", CLIP, &[]),
    row("evf/table3/openclip-l-late", CLIPS, &[]),
    row("evf/table3/openclip-l-text", CLIP, &[]),
    row("evf/table3/vilt-early", VILT, &[]),
    row("evf/table3/vilt-late", VILT, &[]),
    row("evf/table3/vilt-text", VILT, NO_PATCHES),
    Row { encoder: None, prompt: false, ..row("evf/table4/decoder", BOTH, NONE) },
    Row { prompt: false, decoder: false, ..row("evf/table4/encoder", BOTH, NONE) },
    Row { prompt: false, ..row("evf/table4/encoder-decoder", BOTH, NONE) },
    row("evf/table4/all", BOTH, NONE),
    row("evf/table5/avg-pool", BOTH, NONE),
    row("evf/table5/concat", BOTH, NONE),
    row("evf/table5/image-cls", BOTH, NONE),
    row("evf/table5/text-cls", BOTH, NONE),
    row("evf/table6/beit3-base", BOTH, NONE),
    row("evf/table6/beit3-large", BOTH, NONE),
    row("evf/table6/clip-l", CLIP, &[]),
    Row { prompt: false, ..row("evf/table6/efficient-sam-s", BOTH, NONE) },
    Row { prompt: false, decoder: false, ..row("evf/table6/sam2-l", BOTH, NONE) },
    row("evf/table6/vilt", VILT, &[]),
    row("evf/table7/ade20k", BOTH, NONE),
    row("evf/table7/both", BOTH, NONE),
    row("evf/table7/mapillary", BOTH, NONE),
    row("evf/table7/neither", BOTH, NONE),
];

/// What a row is trained on beside the four sets of the RefCOCO series: set, prompt and rate. The series has 16 in all.
fn mixture(file: &str) -> &'static [(&'static str, &'static str, u32)] {
    match file {
        "evf/table2/multi-task" => &[
            ("objects365", "{}", 4),
            ("ade20k", "[semantic] {}", 4),
            ("partimagenet", "[semantic] {}", 2),
            ("humanparsing", "[semantic] {}", 2),
            ("pascal_part", "[semantic] {}", 1),
        ],
        "evf/table7/ade20k" => &[("ade20k", "{}", 4)],
        "evf/table7/both" => &[("ade20k", "{}", 2), ("mapillary", "{}", 2)],
        "evf/table7/mapillary" => &[("mapillary", "{}", 4)],
        _ => &[],
    }
}

/// Fails unless a row's sets are the RefCOCO series, each as likely, and its mixture; how the toy set is told to be the same.
fn mixed(file: &str, whole: &RunConfig) -> Result<Vec<String>, String> {
    let (data, more) = (&whole.data, mixture(file));
    let series = if more.is_empty() { 1 } else { 4 };
    let stated: Vec<_> = [("refcoco+", "{}", series), ("refcocog", "{}", series), ("refclef", "{}", series)]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let said: Vec<_> = data.also.iter().map(|s| (s.dataset.as_str(), s.prompt.as_str(), s.rate)).collect();
    let semantic = more.iter().any(|(_, prompt, _)| prompt.starts_with("[semantic]"));
    let tokens: &[&str] = if semantic { &["[semantic]"] } else { &[] };
    if (said != stated) || (data.rate, data.prompt.as_str()) != (series, "{}") || whole.text.added_tokens != tokens {
        return Err(format!("sets, prompts and rates are {said:?} beside {}, tokens {:?}", data.rate, whole.text.added_tokens));
    }
    // RefCLEF is not generated.
    let sets = data.also.iter().filter(|s| s.dataset != "refclef" && !more.is_empty());
    let tables: Vec<String> = sets
        .map(|s| {
            // Braces are the table's name in these overrides.
            let (set, by, prompt) = (&s.dataset, &s.split_by, s.prompt.replace("{}", "\\u007b\\u007d"));
            format!("{{dataset=\"{set}\",split_by=\"{by}\",prompt=\"{prompt}\",rate={}}}", s.rate)
        })
        .collect();
    Ok(vec![format!("data.also=[{}]", tables.join(",")), format!("data.rate={}", data.rate)])
}

const SMALL: &[&str] = &[
    "train.batch_size=3",
    "{}.beit3.dim=16",
    "{}.beit3.layers=2",
    "{}.beit3.heads=2",
    "{}.beit3.ffn=32",
    "{}.beit3.image_size=16",
    "{}.beit3.patch_size=8",
    "{}.clip_text.width=16",
    "{}.clip_text.layers=1",
    "{}.clip_text.heads=2",
    "{}.clip_text.ffn=32",
    "{}.clip_text.projection_dim=8",
    "{}.clip_vision.image_size=16",
    "{}.clip_vision.patch_size=8",
    "{}.clip_vision.width=16",
    "{}.clip_vision.layers=1",
    "{}.clip_vision.heads=2",
    "{}.clip_vision.ffn=32",
    "{}.clip_vision.projection_dim=8",
    "{}.vilt.hidden=16",
    "{}.vilt.layers=1",
    "{}.vilt.heads=2",
    "{}.vilt.ffn=32",
    "{}.vilt.image_size=16",
    "{}.vilt.patch_size=8",
    "{}.efficient_sam.image_size=32",
    "{}.efficient_sam.patch_size=8",
    "{}.efficient_sam.table_grid=3",
    "{}.efficient_sam.embed_dim=16",
    "{}.efficient_sam.depth=2",
    "{}.efficient_sam.heads=2",
    "{}.efficient_sam.out_channels=16",
    "{}.efficient_sam.decoder_heads=2",
    "{}.efficient_sam.decoder_mlp_dim=16",
    "{}.sam2.image_encoder.image_size=32",
    "{}.sam2.image_encoder.embed_dim=8",
    "{}.sam2.image_encoder.stages=[1, 1, 1, 1]",
    "{}.sam2.image_encoder.global_blocks=[2]",
    "{}.sam2.image_encoder.windows=[4, 2, 2, 1]",
    "{}.sam2.channels=16",
    "{}.sam2.decoder_heads=2",
    "{}.sam2.decoder_mlp_dim=16",
    "{}.sam2.memory_channels=8",
    "{}.sam2.memory_mlp_dim=16",
];

impl Row {
    fn moves(&self, name: &str) -> Option<bool> {
        if key_bias(name) {
            return None;
        }
        if let Some(part) = name.strip_prefix("visual_model.") {
            return Some(if part.starts_with("mask_decoder.") {
                self.decoder && decodes(part)
            } else {
                self.prompt && part == "prompt_encoder.no_mask_embed.weight"
            });
        }
        let Some(part) = name.strip_prefix("mm_extractor.") else { return Some(true) };
        let Some(first) = self.encoder else { return Some(false) };
        if self.blind.iter().any(|blind| part.contains(blind)) {
            return Some(false);
        }
        // Beyond the first layer, what one vector of the last one depends on is the encoder's affair.
        first.iter().any(|first| part.ends_with(first)).then_some(true)
    }
}

fn check(row: &Row, toy: &Toy) -> Result<(), String> {
    let whole = toy.whole(row.file)?;
    let config = (whole.train.steps, whole.train.batch_size * whole.optim.accumulate, whole.optim.lr);
    if config != (Some(15_000), 128, 1e-4) {
        return Err(format!("steps, batch and rate are {config:?}"));
    }
    let sets = mixed(row.file, &whole)?;
    let mut small: Vec<&str> = SMALL.iter().copied().chain(sets.iter().map(String::as_str)).collect();
    if row.file.ends_with("early-half") {
        let layers: fusion_evf::EvfConfig = whole.method_section().map_err(|e| e.to_string())?;
        if layers.beit3.fused_layers != Some((1..=12).collect()) {
            return Err(format!("fused layers {:?}", layers.beit3.fused_layers));
        }
        small.extend(["{}.beit3.layers=3", "{}.beit3.fused_layers=[1, 2]"]);
    }
    let stepped = toy.step(row.file, &small, EvfMethod::new)?;
    let mut wrong = stepped.wrong(|name| row.moves(name));
    if whole.method_section::<fusion_evf::EvfConfig>().is_ok_and(|config| config.visual == fusion_evf::VisualKind::Sam2) {
        // Checkpoints of the first generation have inputs and answers of their own, and are trained alike.
        small.extend(["{}.generation=first", "run.name=first-generation"]);
        let first = toy.step(row.file, &small, EvfMethod::new)?;
        wrong.extend(first.wrong(|name| row.moves(name)));
        let differs = stepped.after.names().any(|name| stepped.after.read(name).ok() != first.after.read(name).ok());
        if !differs {
            wrong.push("both generations train to the same weights".into());
        }
    }
    for first in row.encoder.into_iter().flatten().filter(|first| !stepped.names().any(|name| name.ends_with(*first))) {
        wrong.push(format!("no parameter ends with {first}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[test]
fn every_row_trains_what_its_table_says() {
    rows_hold("evf", ROWS.iter().map(|row| row.file), |toy, i| check(&ROWS[i], toy));
}

/// What the towers of the CLIP rows end with, and how their images are normalised.
#[test]
fn clip_rows_are_the_published_towers() {
    let toy = Toy { folder: tempfile::tempdir().unwrap() };
    let device = burn::tensor::Device::flex();
    for (row, projected, parameters, mean) in [
        ("evf/table3/clip-l-text", false, 123_060_480, 0.481),
        ("evf/table1/clip-l-text", false, 123_060_480, 0.481),
        ("evf/table6/clip-l", false, 123_060_480, 0.481),
        ("evf/table3/openclip-l-text", false, 123_060_480, 0.5),
        ("evf/table3/clip-l-late", true, 123_650_304, 0.481),
        ("evf/table3/openclip-l-late", true, 123_650_304, 0.5),
        ("evf/table3/openclip-h-late", true, 354_032_640, 0.481),
    ] {
        let whole = toy.whole(row).unwrap();
        assert_eq!(whole.train.precision, run_config::Precision::Bf16, "{row}");
        let config: fusion_evf::EvfConfig = whole.method_section().unwrap();
        assert_eq!(config.clip_text.project_pooled, projected, "{row}");
        assert_eq!(config.clip_text.validate(), Ok(()));
        let all = nn_ops::weights::parameters(&config.clip_text.init(&device), &text_encoders::clip::ClipText::names());
        assert_eq!(all.iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>(), parameters, "{row}");
        assert!((config.clip_vision.mean[0] - mean).abs() < 1e-3, "{row}: {:?}", config.clip_vision.mean);
    }
}
