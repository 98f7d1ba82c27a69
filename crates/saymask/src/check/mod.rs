//! `saymask check`: golden files against our models.

mod bound;
mod clip_taps;
mod command;
mod dit;
mod efficient_sam;
mod evf;
mod evf_sam2;
mod golden;
mod risam;
mod sam;
mod sam2;
mod swin;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use run_config::Precision;

pub use bound::{COARSE, ROUNDED, Stated, stated};
pub use command::{CheckArgs, check};
pub use golden::{BOUND, Golden, Outcome};

/// Kinds that hold whole models, which compute in other precisions, too.
const MODELS: [&str; 3] = ["sam", "dit", "risam"];

/// What became of one file.
#[derive(Debug)]
pub enum Verdict {
    /// It was run.
    Checked(Vec<Outcome>),
    /// It is not a golden, or of a kind that is not known.
    Skipped(String),
}

/// Golden files under the given paths: files as they are, folders searched for `*.safetensors`.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("{}: cannot list it", path.display()))?;
            let mut inside: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
            inside.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
            inside.sort();
            if inside.is_empty() {
                bail!("{}: no .safetensors file in this folder", path.display());
            }
            files.extend(inside);
        } else if path.exists() {
            files.push(path.clone());
        } else {
            bail!("{}: no such file or folder", path.display());
        }
    }
    Ok(files)
}

/// Runs one golden file.
pub fn run(path: &Path, device: &Device, precision: Precision, tolerance: f32) -> Result<Verdict> {
    let mut golden = Golden::open(path, device, precision, tolerance)?;
    let Some(kind) = golden.kind().map(str::to_owned) else {
        return Ok(Verdict::Skipped("its metadata names no kind, so it is not a golden file".into()));
    };
    if precision != Precision::F32 && !MODELS.contains(&kind.as_str()) {
        return Ok(Verdict::Skipped(format!("kind `{kind}` is checked in f32 only")));
    }
    let run = match kind.as_str() {
        "sam" => sam::run,
        "sam2" => sam2::run,
        "dit" => dit::run,
        "text-encoders" => text::run,
        "risam" => risam::run,
        "evf" => evf::run,
        "evf-sam2" => evf_sam2::run,
        "swin" => swin::run,
        "clip-taps" => clip_taps::run,
        "efficient-sam" => efficient_sam::run,
        other => return Ok(Verdict::Skipped(format!("kind `{other}` is not known yet"))),
    };
    run(&mut golden).with_context(|| format!("{}", path.display()))?;
    Ok(Verdict::Checked(golden.finish()))
}
