//! `saymask export`: weights as safetensors, alone or as a folder to publish.

mod card;

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
    #[arg(required_unless_present = "hub")]
    out: Option<PathBuf>,
    /// Folder to make instead, as it is published: weights, config, tokenizer, preprocessor, and a model card with the run's own
    /// figures. `--weights FOLDER` reads it, and `hf:OWNER/REPO` once it is uploaded.
    #[arg(long, value_name = "FOLDER", conflicts_with = "out")]
    hub: Option<PathBuf>,
    /// In half precision, as EVF-SAM is published.
    #[arg(long)]
    half: bool,
    /// Only if the scripts of the method's authors can read what is written: EVF-SAM as they published it. Refused otherwise.
    #[arg(long)]
    published: bool,
    #[command(flatten)]
    source: Source,
}

/// Writes the evaluated weights under their official names, and the vocabulary beside them.
pub fn run(args: &ExportArgs) -> Result<()> {
    let out = match (&args.hub, &args.out) {
        (Some(folder), _) => {
            if folder.exists() {
                bail!("--hub {}: is there already; name a folder that does not exist", folder.display());
            }
            folder.join("model.safetensors")
        }
        (None, out) => out.clone().context("name a file to write, or a folder with --hub")?,
    };
    if out.extension().is_none_or(|ending| ending != "safetensors") {
        bail!("{}: weights are written as safetensors; choose a name that ends in .safetensors", out.display());
    }
    let found = args.source.find("export", &["model.", "text."])?;
    if args.published {
        found.check_published().context("--published: the authors' scripts cannot read this model")?;
    }
    let weights = found.state_dict(&device::open(args.source.device())?)?;
    let method = found.run_config.model.method.name();
    let says = [("format", "pt"), ("method", method), ("source", found.label.as_str())];
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    if args.half {
        weights.save_half(&out, &says)?
    } else {
        weights.save(&out, &says)?
    }
    crate::say!("{}: {} tensors", out.display(), weights.len());
    let extra = if args.hub.is_some() { card::files(&found, weights.len(), args.half)? } else { Vec::new() };
    for (name, bytes) in found.files()?.into_iter().chain(extra) {
        let path = out.with_file_name(name);
        write_whole(&path, &bytes)?;
        crate::say!("{}", path.display());
    }
    Ok(())
}
