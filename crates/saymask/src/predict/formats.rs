//! The files of `predict --format`: COCO's, YOLO's, PNG masks, Label Studio's and FiftyOne's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use coco_mask::{Rle, iou};
use models::run_dir::write_whole;
use refcoco_data::{brush_rle, mask_png};
use serde_json::{Value, json};

use super::Format;
use super::stream::Line;

/// Tolerance of YOLO's polygons where none is said, in pixels.
const TOLERANCE: f64 = 1.0;
/// Written into files that hold data of ours, so that they may be replaced.
const MARK: &str = "Saymask";

/// The format's main file or folder.
fn place(format: Format) -> &'static str {
    match format {
        Format::Coco => "coco.json",
        Format::Yolo => "labels",
        Format::Png => "masks",
        Format::LabelStudio => "label-studio.json",
        Format::Fiftyone => "samples.json",
    }
}

/// Refuses to write where something of somebody else lies. What lies beside [`super::stream::LINES`] is ours.
pub(super) fn check_free(out: &Path, format: Format) -> Result<()> {
    let (path, record) = (out.join(place(format)), out.join(format!(".saymask-{}", format.name())));
    if path.exists() && !record.exists() {
        bail!("{}: is there already, and is not as Saymask wrote it; choose another --out", path.display());
    }
    write_whole(&record, MARK.as_bytes())?;
    Ok(())
}

/// Writes the files; a line for people about each.
pub(super) fn write(
    out: &Path,
    format: Format,
    polygons: Option<f64>,
    sentences: &[String],
    all: &[(&Line, &PathBuf)],
) -> Result<Vec<String>> {
    let at = out.join(place(format));
    match format {
        Format::Coco => {
            let (value, worst) = coco(polygons, sentences, all)?;
            save(&at, &value)?;
            Ok(vec![format!("{}: {} masks", at.display(), all.len() * sentences.len()) + &error(polygons, worst)])
        }
        Format::Yolo => yolo(out, polygons.unwrap_or(TOLERANCE), sentences, all),
        Format::Png => png(&at, all),
        Format::LabelStudio => {
            let tasks = all.iter().enumerate().map(|(i, (line, _))| task(i, line)).collect::<Result<Vec<_>>>()?;
            save(&at, &tasks)?;
            Ok(vec![format!("{}: {} tasks, to import where the images are served as local files", at.display(), tasks.len())])
        }
        Format::Fiftyone => fiftyone(out, all),
    }
}

fn save(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    Ok(write_whole(path, (serde_json::to_string(value)? + "\n").as_bytes())?)
}

/// What simplified polygons cost, in words.
fn error(tolerance: Option<f64>, worst: f64) -> String {
    let Some(tolerance) = tolerance else { return ", exact run lengths".into() };
    format!(", polygons within {tolerance} pixels of the outline; the least like its mask has an IoU of {worst:.4} with it")
}

/// Polygons, and how well they draw the mask again.
fn polygons_of(mask: &Rle, tolerance: f64) -> Result<(Vec<Vec<f64>>, f64)> {
    let polygons = mask.to_polygons(tolerance);
    if polygons.is_empty() {
        return Ok((polygons, 1.0));
    }
    let drawn = Rle::from_polygons(mask.height(), mask.width(), &polygons)?;
    let like = iou(&drawn, mask, false)?;
    Ok((polygons, like))
}

/// COCO's number of an image: the one at the end of its name, where all have one of their own, else its place.
fn image_ids(all: &[(&Line, &PathBuf)]) -> Vec<i64> {
    let number = |line: &Line| {
        let stem = Path::new(&line.image).file_stem()?.to_str()?;
        let digits: String = stem.chars().rev().take_while(char::is_ascii_digit).collect();
        digits.chars().rev().collect::<String>().parse::<i64>().ok()
    };
    let named: Vec<i64> = all.iter().filter_map(|(line, _)| number(line)).collect();
    let different: BTreeSet<i64> = named.iter().copied().collect();
    if different.len() == all.len() { named } else { (1..=all.len() as i64).collect() }
}

fn coco(tolerance: Option<f64>, sentences: &[String], all: &[(&Line, &PathBuf)]) -> Result<(Value, f64)> {
    let (mut images, mut annotations, mut worst) = (Vec::new(), Vec::new(), 1.0_f64);
    for ((line, _), image) in all.iter().zip(image_ids(all)) {
        images.push(json!({ "id": image, "file_name": line.image, "width": line.width, "height": line.height }));
        for (k, (sentence, runs)) in line.sentences.iter().zip(&line.masks).enumerate() {
            let mask = runs.mask()?;
            let mut segmentation = json!(runs);
            if let Some(tolerance) = tolerance {
                let (polygons, like) = polygons_of(&mask, tolerance)?;
                worst = worst.min(like);
                segmentation = json!(polygons);
            }
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": image, "category_id": k + 1, "iscrowd": 0,
                "segmentation": segmentation, "bbox": mask.bbox(), "area": mask.area(), "score": line.scores.get(k),
                "sentence": sentence,
            }));
        }
    }
    let categories: Vec<Value> = sentences.iter().enumerate().map(|(k, name)| json!({ "id": k + 1, "name": name })).collect();
    let info = json!({ "description": "predicted by Saymask", "polygon_tolerance": tolerance });
    Ok((json!({ "info": info, "images": images, "annotations": annotations, "categories": categories }), worst))
}

fn stem(line: &Line) -> String {
    Path::new(&line.image).file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned())
}

fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("{}: cannot create it", path.display()))
}

/// A text file per image with a line per part of a mask: class, then x and y as shares of the sides.
fn yolo(out: &Path, tolerance: f64, sentences: &[String], all: &[(&Line, &PathBuf)]) -> Result<Vec<String>> {
    let labels = out.join("labels");
    folder(&labels)?;
    let mut worst = 1.0_f64;
    for (line, _) in all {
        let mut text = String::new();
        for (class, runs) in line.masks.iter().enumerate() {
            let (polygons, like) = polygons_of(&runs.mask()?, tolerance)?;
            worst = worst.min(like);
            for polygon in polygons {
                let share =
                    |(i, v): (usize, &f64)| format!(" {:.6}", v / f64::from(if i % 2 == 0 { line.width } else { line.height }));
                text += &format!("{class}{}\n", polygon.iter().enumerate().map(share).collect::<String>());
            }
        }
        write_whole(&labels.join(format!("{}.txt", stem(line))), text.as_bytes())?;
    }
    let yaml = out.join("data.yaml");
    // JSON's texts are YAML's.
    let names: String = sentences.iter().enumerate().map(|(k, name)| format!("  {k}: {}\n", json!(name))).collect();
    write_whole(
        &yaml,
        format!("# Written by Saymask. Put the images into the folder `images` beside `labels`.\nnames:\n{names}").as_bytes(),
    )?;
    Ok(vec![format!("{}: {} files", labels.display(), all.len()) + &error(Some(tolerance), worst), yaml.display().to_string()])
}

/// A sentence as a part of a file name.
fn file_part(sentence: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || " -',".contains(c) { c } else { ' ' };
    let text: String = sentence.chars().map(plain).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(80).collect()
}

fn png(out: &Path, all: &[(&Line, &PathBuf)]) -> Result<Vec<String>> {
    folder(out)?;
    let mut count = 0;
    for (line, _) in all {
        let mut taken = BTreeSet::new();
        for (k, (sentence, runs)) in line.sentences.iter().zip(&line.masks).enumerate() {
            let said = file_part(sentence);
            // Sentences that differ in strokes alone.
            let said = if taken.insert(said.clone()) { said } else { format!("{said} {}", k + 1) };
            write_whole(&out.join(format!("{}__{said}.png", stem(line))), &mask_png(&runs.mask()?)?)?;
            count += 1;
        }
    }
    Ok(vec![format!("{}: {count} masks, 255 inside", out.display())])
}

fn task(number: usize, line: &Line) -> Result<Value> {
    let mut results = Vec::new();
    for (k, (sentence, runs)) in line.sentences.iter().zip(&line.masks).enumerate() {
        let mask = runs.mask()?;
        if mask.is_empty() {
            continue;
        }
        results.push(json!({
            "id": format!("saymask-{k}"), "type": "brushlabels", "from_name": "label", "to_name": "image", "origin": "prediction",
            "original_width": line.width, "original_height": line.height, "image_rotation": 0, "score": line.scores.get(k),
            "value": { "format": "rle", "rle": brush_rle(&mask), "brushlabels": [sentence] },
        }));
    }
    let mean = line.scores.iter().sum::<f32>() / line.scores.len().max(1) as f32;
    Ok(json!({
        "id": number + 1,
        "data": { "image": format!("/data/local-files/?d={}", line.image) },
        "predictions": [{ "model_version": MARK, "score": mean, "result": results }],
    }))
}

/// Samples as FiftyOne's `to_dict` has them; masks of boxes in files.
fn fiftyone(out: &Path, all: &[(&Line, &PathBuf)]) -> Result<Vec<String>> {
    let masks = out.join("instances");
    folder(&masks)?;
    let mut samples = Vec::new();
    for (line, path) in all {
        let mut detections = Vec::new();
        for (k, (sentence, runs)) in line.sentences.iter().zip(&line.masks).enumerate() {
            let mask = runs.mask()?;
            let [x, y, w, h] = mask.bbox();
            if mask.is_empty() {
                continue;
            }
            let pixels = mask.to_row_major();
            let rows = (y as usize..(y + h) as usize).flat_map(|row| {
                let first = row * line.width as usize + x as usize;
                pixels[first..first + w as usize].iter().copied()
            });
            let cut = Rle::from_row_major(h as u32, w as u32, &rows.collect::<Vec<u8>>())?;
            let file = masks.join(format!("{}-{k}.png", stem(line)));
            write_whole(&file, &mask_png(&cut)?)?;
            let (width, height) = (f64::from(line.width), f64::from(line.height));
            detections.push(json!({
                "_cls": "Detection", "label": sentence, "confidence": line.scores.get(k),
                "bounding_box": [x / width, y / height, w / width, h / height],
                "mask_path": std::path::absolute(&file).unwrap_or(file),
            }));
        }
        let filepath = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        samples.push(json!({ "filepath": filepath, "saymask": { "_cls": "Detections", "detections": detections } }));
    }
    let path = out.join(place(Format::Fiftyone));
    save(&path, &json!({ "samples": samples }))?;
    Ok(vec![format!("{}: {} samples", path.display(), samples.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_become_file_names() {
        assert_eq!(file_part("the cat's \"left\" ear / 2?"), "the cat's left ear 2");
        assert!(file_part(&"x".repeat(300)).len() == 80);
    }
}
