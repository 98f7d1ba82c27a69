//! `saymask predict`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use figures::{Mask, colour, overlay};
use models::AnyModel;
use serde_json::json;
use trainer::report::{save_png, write_json};

use crate::device;
use crate::images::{images, open_image};
use crate::session::Source;

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// An image, or a folder of images.
    image: PathBuf,
    /// What to look for; several sentences give several masks.
    #[arg(required = true)]
    sentences: Vec<String>,
    /// Folder for the pictures and the JSON.
    #[arg(long, value_name = "FOLDER", default_value = "predictions")]
    out: PathBuf,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<()> {
    let images = images(&args.image)?;
    if args.sentences.iter().any(|s| s.trim().is_empty()) {
        bail!("a sentence is empty; say what to look for, such as \"the red circle\"");
    }
    let model = args.source.find()?.model(&device::open(args.source.device())?)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}: cannot create it", args.out.display()))?;
    let mut failed = 0;
    for path in &images {
        if let Err(error) = one(&model, path, &args.sentences, &args.out) {
            if images.len() == 1 {
                return Err(error);
            }
            // One bad picture in a folder must not lose the others.
            eprintln!("error: {error:#}");
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} images failed", images.len());
    }
    Ok(())
}

fn one(model: &AnyModel, path: &Path, sentences: &[String], out: &Path) -> Result<()> {
    let image = open_image(path)?;
    let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let found = model.predict(&image, &words)?;
    let took = begun.elapsed();
    let picture = image.to_rgb8();
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_else(|| "image".into());
    let mut entries = Vec::with_capacity(found.len());
    for (number, (sentence, prediction)) in sentences.iter().zip(&found).enumerate() {
        let suffix = if found.len() == 1 { String::new() } else { format!("-{}", number + 1) };
        let file = out.join(format!("{stem}{suffix}.png"));
        let bytes = prediction.mask.to_row_major();
        let mask = Mask::new(picture.width(), picture.height(), &bytes)?;
        save_png(&overlay(&picture, &mask, colour::MASKS[number % colour::MASKS.len()])?, &file)?;
        let [x, y, w, h] = prediction.bbox;
        println!(
            "{}  score {:.3}  box {x:.0},{y:.0} {w:.0}x{h:.0}  area {}  \"{sentence}\"",
            file.display(),
            prediction.score,
            prediction.mask.area()
        );
        entries.push(json!({
            "sentence": sentence,
            "segmentation": { "size": [prediction.mask.height(), prediction.mask.width()], "counts": prediction.mask.to_compressed() },
            "bbox": prediction.bbox,
            "score": prediction.score,
            "area": prediction.mask.area(),
            "picture": file,
        }));
    }
    let file = out.join(format!("{stem}.json"));
    write_json(&file, &json!({ "image": path, "width": image.width(), "height": image.height(), "predictions": entries }))?;
    eprintln!("{}: {} sentences in {:.0} ms", path.display(), found.len(), took.as_secs_f64() * 1e3);
    Ok(())
}
