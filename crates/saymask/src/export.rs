//! `saymask export`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use models::run_dir::write_whole;

use crate::device;
use crate::session::Source;

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// File to write, ending in .safetensors. FOLDER/model.safetensors makes a folder that `--weights FOLDER` and `from_pretrained` read.
    out: PathBuf,
    /// In half precision, as EVF-SAM is published.
    #[arg(long)]
    half: bool,
    #[command(flatten)]
    source: Source,
}

/// Writes the evaluated weights under their official names, and the vocabulary beside them.
pub fn run(args: &ExportArgs) -> Result<()> {
    if args.out.extension().is_none_or(|ending| ending != "safetensors") {
        bail!("{}: weights are written as safetensors; choose a name that ends in .safetensors", args.out.display());
    }
    let found = args.source.find("export", &["model.", "text."])?;
    let weights = found.state_dict(&device::open(args.source.device())?)?;
    let method = found.run_config.model.method.name();
    let says = [("format", "pt"), ("method", method), ("source", found.label.as_str())];
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    if args.half {
        weights.save_half(&args.out, &says)?
    } else {
        weights.save(&args.out, &says)?
    }
    crate::say!("{}: {} tensors", args.out.display(), weights.len());
    for (name, bytes) in found.files()? {
        let path = args.out.with_file_name(name);
        write_whole(&path, &bytes)?;
        crate::say!("{}", path.display());
    }
    Ok(())
}
