//! `cargo xtask export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::session::Source;

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// File to write, ending in .safetensors.
    out: PathBuf,
    #[command(flatten)]
    source: Source,
}

/// Writes the evaluated weights under their official names, and the vocabulary beside them.
pub fn run(args: &ExportArgs) -> Result<()> {
    let session = args.source.open()?;
    let weights = session.model.weights();
    let method = session.plan.model.method.name();
    weights.save(&args.out, &[("format", "pt"), ("method", method), ("source", &session.label)])?;
    println!("{}: {} tensors", args.out.display(), weights.len());
    for (name, bytes) in session.model.files() {
        let path = args.out.with_file_name(name);
        std::fs::write(&path, bytes)?;
        println!("{}", path.display());
    }
    Ok(())
}
