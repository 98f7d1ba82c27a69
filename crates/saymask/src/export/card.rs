//! What makes weights a repository of a hub: the preprocessor's settings, the whole config, and a model card with `model-index`.

use std::fmt::Write;

use anyhow::{Context, Result};
use metrics::Report;
use models::methods::AnyMethod;
use models::run_dir::RunDir;
use models::{Found, with_method};
use serde_json::{Value, json};
use trainer::segmenter::Segmenter;

use crate::origin::{Origin, RunFigures};

/// The whole config of the model, beside exported weights: what `models::AnyModel::from_bytes` takes.
const CONFIG: &str = "saymask.toml";

/// The preprocessor's settings, the config and the card, by name.
pub(super) fn files(found: &Found, tensors: usize, half: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let preprocessor = serde_json::to_string_pretty(&preprocessor(found)?)? + "\n";
    let card = card(found, tensors, half)?;
    let config = found.run_config.to_toml()?;
    Ok([("preprocessor_config.json", preprocessor), (CONFIG, config), ("README.md", card)]
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .into())
}

fn preprocessor(found: &Found) -> Result<Value> {
    let method = AnyMethod::new(&found.run_config, found.tokenizer.clone())?;
    let by = with_method!(&method, method => Segmenter::inputs(method).normalisation);
    let side = found.run_config.data.image_size;
    // As Hugging Face has it: of values from 0 to 1.
    let share = |values: [f32; 3]| values.map(|v| (f64::from(v) / 255.0 * 1e6).round() / 1e6);
    Ok(json!({
        "image_processor_type": "SaymaskImageProcessor",
        "do_resize": true,
        "size": { "height": side, "width": side },
        "fit": found.run_config.data.fit,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": share(by.mean),
        "image_std": share(by.std),
    }))
}

/// The figures that were kept with the run.
fn reports(dir: &RunDir) -> Result<Vec<Report>> {
    let Ok(entries) = std::fs::read_dir(dir.eval()) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("{}: cannot list it", dir.eval().display()))?.path());
    }
    paths.sort();
    // Other files of `eval` hold no report, or one of exchanged sentences.
    let own = |path: &std::path::PathBuf| {
        let report: Report = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
        (path.file_stem()?.to_str()? == report.stem()).then_some(report)
    };
    Ok(paths.iter().filter_map(own).collect())
}

/// A text as YAML has it: JSON's are YAML's.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn card(found: &Found, tensors: usize, half: bool) -> Result<String> {
    let config = &found.run_config;
    let name = found.dir.as_ref().map_or_else(
        || config.run.name.clone(),
        |dir| {
            dir.root().canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())).unwrap_or_default()
        },
    );
    let reports = found.dir.as_ref().map(reports).transpose()?.unwrap_or_default();
    let method = config.model.method.name();
    let mut out = format!(
        "---\nlibrary_name: saymask\npipeline_tag: image-segmentation\ntags:\n- referring-expression-segmentation\n- segment-anything\n- {method}\n"
    );
    out += &index(&name, &reports);
    let _ = write!(
        out,
        "---\n\n# {name}\n\nA text-prompted Segment Anything model ({method}, images of {} pixels), exported by Saymask from {}: {tensors} \
         tensors in {} precision.\n\n```\nsaymask predict photo.jpg \"what to look for\" --weights FOLDER\n```\n\n",
        config.data.image_size,
        found.label,
        if half { "half" } else { "single" },
    );
    out += &figures(found, &reports)?;
    if config.data.synth.is_some() {
        out += LIMITS;
    }
    let _ = write!(
        out,
        "## Training\n\nTrained on {} ({}), split {}. The whole config:\n\n```toml\n{}```\n",
        config.data.dataset,
        config.data.split_by,
        config.data.train_split,
        config.to_toml()?
    );
    Ok(out)
}

/// What must be said of a model of generated images.
const LIMITS: &str = "## Limits\n\nTrained and judged on generated drawings of shapes only. It knows the words of their generator, and nothing about \
                      photographs: on anything but such drawings its masks mean nothing.\n\n";

/// `model-index`, which hubs show as a table of results; nothing where nothing was judged.
fn index(name: &str, reports: &[Report]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let mut out = format!("model-index:\n- name: {}\n  results:\n", quoted(name));
    for report in reports {
        let set = format!("{} ({})", report.dataset, report.split_by);
        let _ = write!(
            out,
            "  - task:\n      type: image-segmentation\n      name: Referring expression segmentation\n    dataset:\n      name: {}\n      \
             type: {}\n      split: {}\n    metrics:\n",
            quoted(&set),
            quoted(&report.dataset),
            quoted(&report.split),
        );
        for (kind, label, value) in [("mean_iou", "mIoU", report.miou), ("overall_iou", "oIoU", report.oiou)] {
            let _ = write!(out, "    - type: {kind}\n      name: {label}\n      value: {:.2}\n", 100.0 * value);
        }
    }
    out
}

fn figures(found: &Found, reports: &[Report]) -> Result<String> {
    if reports.is_empty() {
        return Ok("These weights were not judged yet.\n\n".into());
    }
    let mut out = String::from("## Figures\n\n| split | sentences | mIoU | oIoU |\n|---|---:|---:|---:|\n");
    for report in reports {
        let (split, samples) = (report.whole_split(), report.samples);
        let _ = writeln!(out, "| {split} | {samples} | {:.2} | {:.2} |", 100.0 * report.miou, 100.0 * report.oiou);
    }
    let first = &reports[0];
    if !first.kinds.is_empty() {
        let _ = write!(out, "\n| kind of sentence, {} | sentences | mIoU |\n|---|---:|---:|\n", first.whole_split());
        for (kind, report) in &first.kinds {
            let _ = writeln!(out, "| {kind} | {} | {:.2} |", report.samples, 100.0 * report.miou);
        }
    }
    let _ = write!(out, "\nPer cent, judged as `{}` above {}.", first.profile, first.threshold);
    let kept = found.dir.as_ref().map(|dir| dir.root().join("figures.json"));
    if let Some(text) = kept.and_then(|path| std::fs::read_to_string(path).ok()) {
        let origin: Origin = serde_json::from_str::<RunFigures>(&text)?.origin;
        let _ = write!(out, " By {}.", origin.line());
    }
    Ok(out + "\n\n")
}
