//! What an evaluation leaves behind: figures, COCO-style results, figures.

use std::path::Path;

use image::RgbImage;
use metrics::Report;
use serde_json::json;

use crate::data::EvalData;
use crate::error::TrainError;
use crate::evaluate::ItemResult;
use figures::{Mask, Page, Row};
use models::run_dir::{RunDir, write_whole};

/// Examples on one page.
const PER_PAGE: usize = 6;

/// Writes `eval/DATASET-SPLITBY-SPLIT.json` (figures) and `eval/DATASET-SPLITBY-SPLIT-results.json` (COCO's result format, one entry
/// per expression, which `eval --from` reads).
///
/// # Errors
/// When the system refuses.
pub fn write_results(dir: &RunDir, data: &EvalData, report: &Report, found: &[ItemResult]) -> Result<(), TrainError> {
    write_json(&dir.eval().join(format!("{}.json", report.stem())), &report)?;
    let results: Vec<_> = found
        .iter()
        .map(|one| {
            let item = &data.items[one.item];
            json!({
                "image_id": data.dataset.image(item).id,
                "ref_id": data.dataset.ref_id(item),
                "sent_id": data.dataset.sent_id(item),
                "sentence": one.sentence,
                "segmentation": { "size": [one.mask.height(), one.mask.width()], "counts": one.mask.to_compressed() },
                "bbox": one.mask.bbox(),
                "score": one.score,
                "iou": one.iou,
            })
        })
        .collect();
    write_json(&dir.eval().join(format!("{}-results.json", report.stem())), &results)
}

/// Writes `eval/DATASET-SPLITBY-SPLIT-shuffled.json`: the figures with sentences exchanged between expressions.
///
/// # Errors
/// When the system refuses.
pub fn write_shuffled(dir: &RunDir, report: &Report) -> Result<(), TrainError> {
    write_json(&dir.eval().join(format!("{}-shuffled.json", report.stem())), report)
}

/// Draws `count` examples, spread evenly over the split, on pages of a few rows each.
///
/// # Errors
/// Images that cannot be read, or when the system refuses.
pub fn write_figures(
    dir: &RunDir,
    data: &EvalData,
    report: &Report,
    found: &[ItemResult],
    count: usize,
) -> Result<(), TrainError> {
    if found.is_empty() || count == 0 {
        return Ok(());
    }
    let count = count.min(found.len());
    let chosen: Vec<&ItemResult> = (0..count).map(|i| &found[i * found.len() / count]).collect();
    for (number, page) in chosen.chunks(PER_PAGE).enumerate() {
        let mut drawn = Vec::with_capacity(page.len());
        let items: Vec<_> = page.iter().map(|one| data.items[one.item]).collect();
        for ((one, item), truth) in page.iter().zip(&items).zip(data.dataset.masks(&items)?) {
            let image = data.dataset.image(item).decode()?.to_rgb8();
            let kind = data.dataset.kind(item).map_or(String::new(), |k| k.name().to_owned());
            drawn.push((image, truth.to_row_major(), one.mask.to_row_major(), kind));
        }
        let mut rows = Vec::with_capacity(page.len());
        for (one, (image, truth, prediction, kind)) in page.iter().zip(&drawn) {
            let (w, h) = image.dimensions();
            rows.push(Row {
                image,
                expression: &one.sentence,
                note: kind,
                truth: Some(Mask::new(w, h, truth)?),
                prediction: Mask::new(w, h, prediction)?,
            });
        }
        let subtitle =
            format!("{}, mIoU {:.3}, oIoU {:.3}, {} expressions", report.whole_split(), report.miou, report.oiou, report.samples);
        let figure = Page::new("Predictions", subtitle).draw(&rows)?;
        let path = dir.figures().join(format!("{}-{}.png", report.stem(), number + 1));
        save_png(&figure, &path)?;
    }
    Ok(())
}

/// Writes a figure.
///
/// # Errors
/// When the system refuses.
pub fn save_png(figure: &RgbImage, path: &Path) -> Result<(), TrainError> {
    let bytes = figures::compact_png(figure).map_err(|e| file(path, e))?;
    Ok(write_whole(path, &bytes)?)
}

/// Writes indented JSON.
///
/// # Errors
/// When the system refuses.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| file(path, e))?;
    text.push('\n');
    Ok(write_whole(path, text.as_bytes())?)
}

fn file(path: &Path, what: impl ToString) -> TrainError {
    TrainError::File { path: path.to_owned(), what: what.to_string() }
}
