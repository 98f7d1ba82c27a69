//! `saymask attend`: who looks where, as one figure.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use figures::{HeatMap, HeatPage};
use models::Attention;

use crate::device;
use crate::images::open_image;
use crate::outputs::Outputs;
use crate::session::{ANSWERING, Source, warn_unread};

/// Options of `attend`.
#[derive(Debug, Args)]
pub struct AttendArgs {
    /// An image.
    image: PathBuf,
    /// What to look for.
    sentence: String,
    /// Only this word; repeatable. All words if absent.
    #[arg(long = "word", value_name = "WORD")]
    words: Vec<String>,
    /// The figure to write.
    #[arg(long, value_name = "FILE", default_value = "attention.png")]
    out: PathBuf,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub fn run(args: &AttendArgs) -> Result<()> {
    let image = open_image(&args.image)?;
    let found = args.source.find("attend", ANSWERING)?;
    let model = found.model(&device::open(args.source.device())?)?;
    warn_unread(&model, &args.sentence)?;
    let Attention { maps, notes } = model.attention(&image, &args.sentence)?;
    let maps = chosen(maps, &args.words)?;
    let page = HeatPage::new(format!("\"{}\"", args.sentence), format!("attention to the image, {}", found.label));
    let page = HeatPage { notes, ..page };
    let figure = page.draw(&image.to_rgb8(), &maps)?;
    let name = args.out.file_name().with_context(|| format!("--out {}: is no file", args.out.display()))?;
    let folder = args.out.parent().unwrap_or(Path::new("."));
    let file = Outputs::open(folder, std::slice::from_ref(&args.image))?.figure(&name.to_string_lossy(), &figure)?;
    crate::say!("{}", file.display());
    Ok(())
}

/// The maps of the words asked for.
fn chosen(maps: Vec<HeatMap>, words: &[String]) -> Result<Vec<HeatMap>> {
    let same = |map: &HeatMap, word: &str| map.column.eq_ignore_ascii_case(word);
    if let Some(lost) = words.iter().find(|word| !maps.iter().any(|map| same(map, word))) {
        let mut known: Vec<&str> = Vec::new();
        for map in &maps {
            if !known.contains(&map.column.as_str()) {
                known.push(&map.column);
            }
        }
        bail!("--word {lost}: not in the sentence as the model reads it; its words are {}", known.join(", "));
    }
    Ok(maps.into_iter().filter(|map| words.is_empty() || words.iter().any(|word| same(map, word))).collect())
}
