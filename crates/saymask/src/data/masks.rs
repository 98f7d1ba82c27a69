//! `saymask data masks`: boxes of an annotation file become masks by SAM, EfficientSAM or SAM-2, as EVF-SAM's authors made theirs.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use pil_ops::Image;
use refcoco_data::{BoxFile, BoxImage, MachineMask, MaskLines};
use sam_vit::PromptSet;

use crate::error::chain;
use crate::segment::{ModelArgs, Segmenter};

/// Options of `data masks`.
#[derive(Debug, Args)]
pub struct MasksArgs {
    /// COCO annotations with boxes, such as Objects365's; of each image the categories that occur once in it are used.
    #[arg(long, value_name = "FILE")]
    boxes: PathBuf,
    /// Folder of the images; `train` beside the annotations if absent, or their own folder.
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Annotation file to write; it must not exist yet. For the set `objects365` it is `o365_res_instances.json`. A line per finished
    /// image is kept beside it, so the same command goes on where it was stopped.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &MasksArgs) -> Result<()> {
    let boxes = BoxFile::read(&args.boxes)?;
    crate::note!(
        "{}: {} boxes in {} images; left out: {}",
        args.boxes.display(),
        boxes.boxes(),
        boxes.images().len(),
        boxes.left_out()
    );
    if let Some(first) = boxes.outside().first() {
        crate::note!("warning: {} boxes lie outside of their image; the first is {first}", boxes.outside().len());
    }
    let folder = images(args);
    if !folder.is_dir() {
        bail!("{}: no such folder; --images names the one that holds the images", folder.display());
    }
    let mut lines = MaskLines::open(&args.out, &boxes, &label(args)?)?;
    if !lines.is_empty() {
        crate::note!("{} of {} images are done already", lines.len(), boxes.images().len());
    }
    let rest: Vec<&BoxImage> = boxes.images().iter().filter(|image| !lines.has(image)).collect();
    if !rest.is_empty() {
        let failed = ask_all(args, &boxes, &folder, &rest, &mut lines)?;
        if failed > 0 {
            bail!("{failed} of {} images failed; the same command tries them again", boxes.images().len());
        }
    }
    let written = lines.finish(&boxes)?;
    crate::say!("{}: {} masks in {} images", written.path.display(), written.masks, written.images);
    if written.empty > 0 {
        crate::note!("in {} boxes the model found nothing", written.empty);
    }
    Ok(())
}

/// The folder of the images.
fn images(args: &MasksArgs) -> PathBuf {
    let beside = match args.boxes.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let train = beside.join("train");
    args.images.clone().unwrap_or(if train.is_dir() { train } else { beside })
}

/// Whose masks they are: the weight file's name and size, and how it is read.
fn label(args: &MasksArgs) -> Result<String> {
    let size = std::fs::metadata(&args.model.weights)
        .with_context(|| format!("{}: cannot read it", args.model.weights.display()))?
        .len();
    let name = args.model.weights.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} of {size} bytes{}", if args.model.half_weights { ", in half precision" } else { "" }))
}

/// Asks for the masks of all images that have none yet; how many could not be asked.
fn ask_all(
    args: &MasksArgs,
    boxes: &BoxFile,
    folder: &std::path::Path,
    rest: &[&BoxImage],
    lines: &mut MaskLines,
) -> Result<usize> {
    let model = args.model.open()?;
    let (begun, all) = (Instant::now(), boxes.images().len());
    let (before, mut failed) = (lines.len(), 0);
    for (number, image) in rest.iter().enumerate() {
        let masks = boxes.image_path(folder, image).map_err(anyhow::Error::from).and_then(|path| ask(&model, &path, image));
        match masks {
            Ok(masks) => lines.push(image, &masks)?,
            Err(error) => {
                crate::note!("error: {}", chain(&error));
                failed += 1;
            }
        }
        let each = begun.elapsed().as_secs_f64() / (number + 1) as f64;
        crate::note!("{} of {all}: {} ({each:.2} s per image)", before + number + 1, image.file_name);
    }
    Ok(failed)
}

/// A mask per box. Annotations were drawn on the pixels as they are stored, so no image is turned.
fn ask(model: &Segmenter, path: &std::path::Path, record: &BoxImage) -> Result<Vec<MachineMask>> {
    let image = Image::open(path).with_context(|| path.display().to_string())?;
    if (image.width(), image.height()) != (record.width as usize, record.height as usize) {
        let (width, height) = (image.width(), image.height());
        bail!("{}: {width} x {height} pixels, but its record says {} x {}", path.display(), record.width, record.height);
    }
    let prompts: Vec<PromptSet> =
        record.boxes.iter().map(|b| PromptSet { bbox: Some(b.corners), ..PromptSet::default() }).collect();
    let best = model.best(&image, &prompts, false)?;
    Ok(best.into_iter().map(|found| MachineMask { mask: found.mask, score: found.iou }).collect())
}
