//! The best, middle and worst answers of a run as pictures, and several runs' answers to the same sentences.

use anyhow::Result;
use coco_mask::Rle;
use figures::{Mask, colour, overlay};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};

use super::html::{Html, escaped, grade, picture};
use super::items::{Items, Row};
use super::read::{Judged, Run};

/// Pictures of each sort.
const EACH: usize = 4;
/// Longest side of a picture, in pixels.
const SIDE: u32 = 360;
/// JPEG quality of pictures.
const QUALITY: u8 = 82;
/// Expressions that several runs are shown on.
const COMPARED: usize = 8;

/// Best, middle and worst of every split.
pub(super) fn section(html: &mut Html, run: &Run) -> Result<()> {
    for split in &run.splits {
        let Ok(items) = &split.items else { continue };
        html.heading(&format!("Pictures, {}", split.report.whole_split()));
        html.raw(
            "<p class=\"quiet small key\"><i style=\"background:#2ec268\"></i>what is meant<i style=\"background:#2f81f7\"></i>what was \
             answered</p>",
        );
        let mut order: Vec<usize> = (0..items.rows.len()).collect();
        order.sort_by(|a, b| items.rows[*a].iou.total_cmp(&items.rows[*b].iou).then(a.cmp(b)));
        let count = EACH.min(order.len());
        let middle = (order.len() - count) / 2;
        let sorts =
            [("Worst", &order[..count]), ("Middle", &order[middle..middle + count]), ("Best", &order[order.len() - count..])];
        for (name, chosen) in sorts {
            html.raw(&format!("<h3>{name}</h3><div class=\"cards wide\">"));
            for at in chosen {
                card(html, items, &items.rows[*at], split)?;
            }
            html.raw("</div>");
        }
    }
    Ok(())
}

fn card(html: &mut Html, items: &Items, row: &Row, split: &Judged) -> Result<()> {
    let photo = match items.dataset.images[row.image].decode() {
        Ok(photo) => photo.to_rgb8(),
        // A picture that is gone since: the others are still worth showing.
        Err(error) => {
            html.raw(&format!("<div class=\"card\"><p class=\"quiet small\">{}</p></div>", escaped(&error.to_string())));
            return Ok(());
        }
    };
    let mut pair = figure(&photo, &row.truth, colour::TRUTH, "meant")?;
    let before = split.before.as_ref().and_then(|(_, items)| items.as_ref()?.rows.iter().find(|r| r.key == row.key));
    if let Some(before) = before {
        pair += &figure(&photo, &before.mask, colour::PREDICTION, &format!("before, IoU {:.1}", 100.0 * before.iou))?;
    }
    pair += &figure(&photo, &row.mask, colour::PREDICTION, &format!("answered, score {:.2}", row.score))?;
    html.raw(&format!(
        "<div class=\"card\"><div class=\"pair\">{pair}</div><p>{} <span class=\"{}\">IoU {:.1}</span></p></div>",
        escaped(&row.sentence),
        grade(row.iou),
        100.0 * row.iou
    ));
    Ok(())
}

/// A mask over its image as a figure with a line below.
fn figure(photo: &RgbImage, mask: &Rle, colour: figures::Rgb, caption: &str) -> Result<String> {
    let bytes = mask.to_row_major();
    let (photo, bytes) = shown(photo, &bytes);
    let drawn = overlay(&photo, &Mask::new(photo.width(), photo.height(), &bytes)?, colour)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&drawn)?;
    Ok(format!("<figure>{}<figcaption>{}</figcaption></figure>", picture(&jpeg, "jpeg", caption), escaped(caption)))
}

/// Image and mask at the size at which they are shown; small ones grow by whole pixels.
fn shown(photo: &RgbImage, mask: &[u8]) -> (RgbImage, Vec<u8>) {
    let (width, height) = photo.dimensions();
    let long = width.max(height).max(1);
    let (to_width, to_height, filter) = if long >= SIDE {
        let side = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(long)).max(1) as u32;
        (side(width), side(height), FilterType::Triangle)
    } else {
        let times = (SIDE / long).max(1);
        (width * times, height * times, FilterType::Nearest)
    };
    let at = |x: u32, y: u32| {
        let (x, y) =
            (u64::from(x) * u64::from(width) / u64::from(to_width), u64::from(y) * u64::from(height) / u64::from(to_height));
        mask.get((y * u64::from(width) + x) as usize).copied().unwrap_or(0)
    };
    let drawn = (0..to_height).flat_map(|y| (0..to_width).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
    (resize(photo, to_width, to_height, filter), drawn)
}

/// The sentences of the first run's first split on which the runs differ most.
pub(super) fn side_by_side(html: &mut Html, runs: &[Run]) -> Result<()> {
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    let Some((split, items)) = first.splits.first().and_then(|s| Some((s, s.items.as_ref().ok()?))) else { return Ok(()) };
    let name = split.report.whole_split();
    let of = |run: &'_ Run, key: (i64, i64)| -> Option<(usize, usize)> {
        let at = run.splits.iter().position(|s| s.report.whole_split() == name)?;
        let row = run.splits[at].items.as_ref().ok()?.rows.iter().position(|r| r.key == key)?;
        Some((at, row))
    };
    let row = |run: &'_ Run, (split, row): (usize, usize)| -> Option<(f64, Rle)> {
        let row = &run.splits[split].items.as_ref().ok()?.rows[row];
        Some((row.iou, row.mask.clone()))
    };
    let mut spread: Vec<(f64, usize)> = Vec::new();
    for (at, own) in items.rows.iter().enumerate() {
        let all = others.iter().filter_map(|run| Some(row(run, of(run, own.key)?)?.0));
        let furthest = all.map(|iou| (iou - own.iou).abs()).fold(0.0, f64::max);
        spread.push((furthest, at));
    }
    spread.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    html.heading(&format!("Where they differ most, {name}"));
    html.raw("<div class=\"cards wide\">");
    for (_, at) in spread.into_iter().take(COMPARED).filter(|(furthest, _)| *furthest > 0.0) {
        let own = &items.rows[at];
        let Ok(photo) = items.dataset.images[own.image].decode() else { continue };
        let photo = photo.to_rgb8();
        let mut pair = figure(&photo, &own.truth, colour::TRUTH, "meant")?;
        for run in runs {
            let Some((iou, mask)) = of(run, own.key).and_then(|at| row(run, at)) else { continue };
            pair += &figure(&photo, &mask, colour::PREDICTION, &format!("{}, IoU {:.1}", run.name, 100.0 * iou))?;
        }
        html.raw(&format!("<div class=\"card\"><div class=\"pair\">{pair}</div><p>{}</p></div>", escaped(&own.sentence)));
    }
    html.raw("</div>");
    Ok(())
}
