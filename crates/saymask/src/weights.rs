//! `saymask weights`: every published file that a config asks for, where its authors publish it, and whether it is here.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Options of `weights`.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    /// Folder in which configs look for weights.
    #[arg(long, value_name = "FOLDER", default_value = "weights")]
    folder: PathBuf,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// A file as configs name it, below the folder of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WeightFile {
    /// Path below the folder.
    pub path: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Where its authors publish it.
    pub source: &'static str,
    /// Configs that read it.
    pub configs: &'static str,
    /// Licence of the weights.
    pub licence: &'static str,
}

const SAM: &str = "github.com/facebookresearch/segment-anything, Model Checkpoints";
const BEIT3: &str = "github.com/microsoft/unilm, beit3";
const APACHE: &str = "Apache-2.0";
const MIT: &str = "MIT";

const fn file(
    path: &'static str,
    what: &'static str,
    source: &'static str,
    configs: &'static str,
    licence: &'static str,
) -> WeightFile {
    WeightFile { path, what, source, configs, licence }
}

/// Every file below `weights/` that a config names.
pub const FILES: &[WeightFile] = &[
    file("sam_vit_b_01ec64.pth", "SAM ViT-B", SAM, "configs/dit", APACHE),
    file("sam_vit_h_4b8939.pth", "SAM ViT-H", SAM, "configs/evf, configs/risam, configs/dit/table7", APACHE),
    file("bert-base-uncased/model.safetensors", "BERT base", "hf:google-bert/bert-base-uncased", "configs/dit", APACHE),
    file("bert-base-uncased/vocab.txt", "its vocabulary", "hf:google-bert/bert-base-uncased", "configs/dit", APACHE),
    file("beit3_large_patch16_224.pth", "BEiT-3 large", BEIT3, "configs/evf", MIT),
    file("beit3_base_patch16_224.pth", "BEiT-3 base", BEIT3, "configs/evf/table6", MIT),
    file("beit3.spm", "its SentencePiece model", BEIT3, "configs/evf", MIT),
    file("clip-vit-base-patch16/model.safetensors", "CLIP ViT-B/16", "hf:openai/clip-vit-base-patch16", "configs/risam", MIT),
    file("clip-vit-base-patch16/merges.txt", "its merges", "hf:openai/clip-vit-base-patch16", "configs/risam", MIT),
    file(
        "clip-vit-large-patch14/model.safetensors",
        "CLIP ViT-L/14",
        "hf:openai/clip-vit-large-patch14",
        "configs/dit/table5, configs/evf/table3",
        MIT,
    ),
    file(
        "clip-vit-large-patch14/merges.txt",
        "its merges",
        "hf:openai/clip-vit-large-patch14",
        "configs/dit/table5, configs/evf/table3",
        MIT,
    ),
    file(
        "openclip-vit-large-patch14/model.safetensors",
        "OpenCLIP ViT-L/14, LAION-2B",
        "hf:laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "configs/evf/table3",
        MIT,
    ),
    file(
        "openclip-vit-huge-patch14/model.safetensors",
        "OpenCLIP ViT-H/14, LAION-2B",
        "hf:laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "configs/evf/table3",
        MIT,
    ),
    file("vilt-b32-mlm/model.safetensors", "ViLT-B/32", "hf:dandelin/vilt-b32-mlm", "configs/evf/table3", APACHE),
    file("vilt-b32-mlm/vocab.txt", "its vocabulary", "hf:dandelin/vilt-b32-mlm", "configs/evf/table3", APACHE),
    file("efficient_sam_vits.pt", "EfficientSAM-S", "github.com/yformer/EfficientSAM, weights", "configs/evf/table6", APACHE),
    file(
        "sam2_hiera_large.pt",
        "SAM-2 Hiera-L",
        "github.com/facebookresearch/sam2, SAM 2 checkpoints",
        "configs/evf/table6",
        APACHE,
    ),
    file(
        "swin_base_patch4_window12_384_22k.pth",
        "Swin-B, ImageNet-22k",
        "github.com/microsoft/Swin-Transformer, main results on ImageNet with pretrained models",
        "configs/risam/table7",
        MIT,
    ),
];

/// The file that a path asks for, if it is one of the list.
#[must_use]
pub fn known(path: &Path) -> Option<&'static WeightFile> {
    FILES.iter().find(|file| path.ends_with(file.path))
}

/// Runs the command.
pub fn run(args: &WeightsArgs) -> Result<()> {
    if args.json {
        let here = FILES.iter().map(|file| serde_json::json!({ "file": file, "here": args.folder.join(file.path).is_file() }));
        crate::say!("{}", serde_json::to_string_pretty(&here.collect::<Vec<_>>())?);
        return Ok(());
    }
    let mut missing = 0;
    for file in FILES {
        let path = args.folder.join(file.path);
        let here = path.metadata().ok().filter(std::fs::Metadata::is_file);
        missing += usize::from(here.is_none());
        let state = here.map_or("missing".to_owned(), |m| format!("{:.0} MB", m.len() as f64 / 1e6));
        crate::say!("{:<60} {:>9}  {} ({})", path.display(), state, file.what, file.licence);
        crate::say!("{:<60} {:>9}  {}; for {}", "", "", file.source, file.configs);
    }
    crate::say!();
    crate::say!("{missing} of {} files are missing. docs/weights.md says how to put them there.", FILES.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                configs(&path, visit);
            } else if path.extension().is_some_and(|e| e == "toml") {
                visit(&path, &std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// Files that a config names and the list does not know would send people nowhere.
    #[test]
    fn every_file_that_a_config_names_is_known_and_documented() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = std::fs::read_to_string(root.join("docs/weights.md")).unwrap();
        let mut named = std::collections::BTreeSet::new();
        configs(&root.join("configs"), &mut |path, text| {
            for part in text.split('"').filter(|part| part.starts_with("weights/")) {
                assert!(known(Path::new(part)).is_some(), "{}: {part} is not in the list", path.display());
                named.insert(part.trim_start_matches("weights/").to_owned());
            }
        });
        for file in FILES {
            assert!(named.contains(file.path), "no config names {}", file.path);
            assert!(
                page.contains(&format!("`{}`", file.path)) && page.contains(file.source),
                "docs/weights.md lacks {}",
                file.path
            );
        }
    }
}
