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
    /// What the region at this place attends to, in pixels from the upper left: words (RISAM) or other regions (DIT).
    #[arg(long, value_name = "X,Y", value_parser = place, conflicts_with = "words")]
    region: Option<[f32; 2]>,
    /// The figure to write.
    #[arg(long, value_name = "FILE", default_value = "attention.png")]
    out: PathBuf,
    #[command(flatten)]
    source: Source,
}

/// Two numbers of pixels.
fn place(word: &str) -> Result<[f32; 2], String> {
    let numbers: Option<Vec<f32>> =
        word.split(',').map(|part| part.trim().parse().ok().filter(|v: &f32| v.is_finite())).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| "X,Y in pixels from the upper left, such as 120,80".to_owned())
}

/// Runs the command.
pub fn run(args: &AttendArgs) -> Result<()> {
    let image = open_image(&args.image)?;
    let found = args.source.find("attend", ANSWERING)?;
    let model = found.model(&device::open(args.source.device())?)?;
    warn_unread(&model, &args.sentence)?;
    let Attention { maps, notes } = match args.region {
        Some(place) => model.attention_of_region(&image, &args.sentence, place)?,
        None => model.attention(&image, &args.sentence)?,
    };
    notes.iter().for_each(|note| crate::say!("{note}"));
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
