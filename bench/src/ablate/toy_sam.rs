//! A small Segment Anything, trained with points and boxes on the generated scenes: what a row that freezes its image encoder starts from.
//! The papers start from published weights, of which there are none this small.

use std::path::{Path, PathBuf};

use anyhow::Result;
use models::Source;
use run_config::{Method, RunConfig};
use saymask::device;
use saymask::train::demonstration;

use super::{common, trained};

/// SAM as its authors ship it, prompted as they do.
const PROMPTED: [&str; 5] = [
    "run.name=toy-sam",
    "model.dit.variant=default_sam",
    "train.prompts=[\"points\", \"box\"]",
    "eval.prompt=box",
    "model.dit.sam.decoder_depth=2",
];

/// DIT's names of SAM's parts, and SAM's own.
const PARTS: [(&str, &str); 3] =
    [("visual_encoder.", "image_encoder."), ("prompt_encoder.", "prompt_encoder."), ("mask_decoder.", "mask_decoder.")];

/// Its weights under SAM's own names; trained first where they are not there.
pub(super) fn weights(dir: &Path, steps: u64) -> Result<PathBuf> {
    let path = dir.join("toy-sam.safetensors");
    let mut set: Vec<String> = PROMPTED.iter().map(|key| (*key).to_owned()).collect();
    set.extend(common(dir, 1, steps, steps));
    let run_config = RunConfig::resolve(demonstration(Method::Dit), None, &set)?;
    let report = trained(&run_config, dir)?;
    if !path.exists() {
        let found = Source::Run(dir.join(&run_config.run.name)).find::<&str>(&[])?;
        let renamed = |name: &str| PARTS.iter().find_map(|(ours, sam)| Some(format!("{sam}{}", name.strip_prefix(ours)?)));
        found.state_dict(&device::open("cpu")?)?.rename(renamed)?.save(&path, &[("format", "pt")])?;
    }
    let miou = report.reports.first().map_or(0.0, |report| 100.0 * report.miou);
    saymask::note!("toy SAM: {miou:.1} mIoU with boxes");
    Ok(path)
}
