//! `saymask predict`.

mod formats;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use figures::{Mask, captioned, colour};
use models::AnyModel;
use serde_json::json;

use crate::device;
use crate::error::chain;
use crate::images::{images, open_image};
use crate::outputs::Outputs;
use crate::session::{ANSWERING, HalfWeights, Source, warn_unread};
use crate::shards::{self, ShardArgs};

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// An image, or a folder of images; with --shards, the first sentence.
    #[arg(required_unless_present = "shards")]
    image: Option<PathBuf>,
    /// What to look for; several sentences give several masks.
    #[arg(required_unless_present = "shards")]
    sentences: Vec<String>,
    /// Folder for the figures and the JSON.
    #[arg(long, value_name = "FOLDER", default_value = "predictions")]
    out: PathBuf,
    /// Write masks for other programs instead of figures: a line of JSON per image as it is done, so that a call that was stopped
    /// goes on where it was, and at the end the format's own files.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// With --format coco: polygons, no point of which is further than this from the mask's outline, instead of exact run lengths;
    /// with yolo, which has nothing but polygons, their tolerance (1 if absent).
    #[arg(long, value_name = "PIXELS", requires = "format", value_parser = tolerance)]
    polygons: Option<f64>,
    #[command(flatten)]
    shards: ShardArgs,
    #[command(flatten)]
    half: HalfWeights,
    #[command(flatten)]
    source: Source,
}

/// For whom masks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// COCO's instances with the sentence of each, which `eval --from` reads, too.
    Coco,
    /// YOLO's segmentation labels: polygons, a class per sentence.
    Yolo,
    /// A PNG per image and sentence.
    Png,
    /// Label Studio's tasks with predictions to correct.
    LabelStudio,
    /// FiftyOne's samples.
    Fiftyone,
}

impl Format {
    /// The word on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::Yolo => "yolo",
            Self::Png => "png",
            Self::LabelStudio => "label-studio",
            Self::Fiftyone => "fiftyone",
        }
    }
}

fn tolerance(word: &str) -> Result<f64, String> {
    let right = word.parse::<f64>().ok().filter(|v| (0.0..=100.0).contains(v));
    right.ok_or_else(|| "a number of pixels from 0 to 100; 0 is exact".to_owned())
}

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<()> {
    let image = match (&args.shards.shards, &args.image) {
        (Some(pattern), first) => {
            let words = words(first.as_deref(), &args.sentences);
            return shards::run(&args.shards, pattern, &words, &args.out, &args.source, args.half);
        }
        (None, Some(image)) => image,
        (None, None) => bail!("names no image"),
    };
    let images = images(image)?;
    if args.sentences.iter().any(|s| s.trim().is_empty()) {
        bail!("a sentence is empty; say what to look for, such as \"the red circle\"");
    }
    if args.polygons.is_some() && !matches!(args.format, Some(Format::Coco | Format::Yolo)) {
        bail!("--polygons: only --format coco and --format yolo have polygons");
    }
    let found = args.source.find_kept("predict", ANSWERING, args.half)?;
    if let Some(format) = args.format {
        return stream::run(args, format, &images, &found);
    }
    let model = found.model(&device::open(args.source.device())?)?;
    for sentence in &args.sentences {
        warn_unread(&model, sentence)?;
    }
    let mut outputs = Outputs::open(&args.out, &images)?;
    let suffix = |number: usize| if args.sentences.len() == 1 { String::new() } else { format!("-{}", number + 1) };
    let overlays = (0..args.sentences.len()).map(|number| format!("{}.png", suffix(number)));
    let endings: Vec<String> = overlays.chain([".json".to_owned()]).collect();
    let stems = outputs.stems(&images, &endings);
    let mut failed = 0;
    for (path, stem) in images.iter().zip(&stems) {
        let names: Vec<String> = endings.iter().map(|ending| format!("{stem}{ending}")).collect();
        if let Err(error) = one(&model, path, &args.sentences, &names, &mut outputs) {
            // What cannot be written here cannot be written for the next image either.
            if images.len() == 1 || outputs.refused() {
                return Err(error);
            }
            // One bad image in a folder must not lose the others.
            crate::note!("error: {}", chain(&error));
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} images failed", images.len());
    }
    Ok(())
}

/// All sentences of a command line that names no image.
fn words(first: Option<&Path>, others: &[String]) -> Vec<String> {
    first.map(|first| first.to_string_lossy().into_owned()).into_iter().chain(others.iter().cloned()).collect()
}

/// Predicts one image; `names` are those of a figure per sentence, then that of the JSON.
fn one(model: &AnyModel, path: &Path, sentences: &[String], names: &[String], outputs: &mut Outputs) -> Result<()> {
    let image = open_image(path)?;
    let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let found = model.predict(&image, &words)?;
    let took = begun.elapsed();
    let pixels = image.to_rgb8();
    let mut entries = Vec::with_capacity(found.len());
    for (number, (sentence, prediction)) in sentences.iter().zip(&found).enumerate() {
        let bytes = prediction.mask.to_row_major();
        let mask = Mask::new(pixels.width(), pixels.height(), &bytes)?;
        let colour = colour::MASKS[number % colour::MASKS.len()];
        let caption = format!("{sentence}  {:.2}", prediction.score);
        let file = outputs.figure(&names[number], &captioned(&pixels, &[(mask, colour)], &caption)?)?;
        let [x, y, w, h] = prediction.bbox;
        crate::say!(
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
            "tokens_not_read": model.truncation(sentence)?.map(|t| t.dropped),
            "overlay": file,
        }));
    }
    let report = json!({ "image": path, "width": image.width(), "height": image.height(), "predictions": entries });
    outputs.json(names.last().map_or("image.json", String::as_str), &report)?;
    crate::note!("{}: {} sentences in {:.0} ms", path.display(), found.len(), took.as_secs_f64() * 1e3);
    Ok(())
}
