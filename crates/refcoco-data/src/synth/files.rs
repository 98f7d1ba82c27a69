//! RefCOCO's files.

use std::path::Path;

use image::ImageEncoder;
use serde::Serialize;
use serde_json::json;

use super::choose::{Said, Target};
use super::scene::{Scene, Shape};
use super::{Sample, image_name};
use crate::{DataError, SentenceKind};

#[derive(Serialize)]
struct SentenceOut {
    tokens: Vec<String>,
    raw: String,
    sent_id: i64,
    sent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<SentenceKind>,
}

#[derive(Serialize)]
struct RefOut<Id> {
    sent_ids: Vec<i64>,
    file_name: String,
    ann_id: Id,
    ref_id: i64,
    image_id: i64,
    split: String,
    sentences: Vec<SentenceOut>,
    category_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_target: Option<bool>,
}

/// A scene's pixels as a JPEG file, or why it cannot be one.
pub(super) fn jpeg(scene: &Scene, pixels: &[u8], quality: u8) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(pixels, scene.width, scene.height, image::ExtendedColorType::Rgb8)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    std::fs::write(path, bytes).map_err(|e| DataError::io(path, "write", e))
}

pub(super) fn image_id(index: usize) -> i64 {
    index as i64 + 1
}

/// At most six objects per image, so ids never meet.
pub(super) fn ann_id(image: usize, object: usize) -> i64 {
    image_id(image) * 10 + object as i64
}

fn category(shape: Shape) -> i64 {
    shape as i64 + 1
}

/// Splits of whole images: the last eighth or so are val, testA and testB.
pub(super) fn split(index: usize, images: usize) -> &'static str {
    let part = |share: f64| ((images as f64 * share).round() as usize).max(1);
    let (val, test) = (part(0.12), part(0.08));
    match images - index {
        n if n <= test => "testB",
        n if n <= 2 * test => "testA",
        n if n <= 2 * test + val => "val",
        _ => "train",
    }
}

pub(super) fn write_sets(root: &Path, samples: &[Sample]) -> Result<Vec<(String, usize, usize)>, DataError> {
    let instances = instances(samples).to_string();
    for set in ["refcoco", "refcoco+", "refcocog", "grefcoco"] {
        let folder = root.join(set);
        std::fs::create_dir_all(&folder).map_err(|e| DataError::io(&folder, "create", e))?;
        write(&folder.join("instances.json"), instances.as_bytes())?;
    }
    let n = samples.len();
    let unc = |i: usize, _: i64| split(i, n).to_owned();
    let umd = |i: usize, _: i64| split(i, n).trim_end_matches(['A', 'B']).to_owned();
    // Google split RefCOCOg by object, so images of train and val overlap, and never released its test split.
    let google = |_: usize, r: i64| if r % 9 == 0 { "val" } else { "train" }.to_owned();

    let mut summary = Vec::new();
    let mut pickle = |set: &str, by: &str, refs: Vec<RefOut<i64>>, counted: bool| {
        let path = root.join(set).join(format!("refs({by}).p"));
        let bytes = serde_pickle::to_vec(&refs, serde_pickle::SerOptions::new().proto_v2())
            .map_err(|e| DataError::Pickle { path: path.clone(), reason: e.to_string() })?;
        write(&path, &bytes)?;
        if counted {
            let sentences = refs.iter().map(|r| r.sentences.len()).sum();
            summary.push((set.to_owned(), refs.len(), sentences));
        }
        Ok(())
    };
    pickle("refcoco", "unc", singles(samples, |p| &p.refcoco, unc, 0, false), true)?;
    pickle("refcoco+", "unc", singles(samples, |p| &p.plus, unc, 0, false), true)?;
    pickle("refcocog", "umd", singles(samples, |p| &p.long, umd, 0, true), true)?;
    // The two RefCOCOg files share sentence ids but not ref ids.
    pickle("refcocog", "google", singles(samples, |p| &p.long, google, 1_000_000_000, true), false)?;

    let general = generalised(samples, unc);
    let path = root.join("grefcoco/grefs(unc).json");
    let text = serde_json::to_vec(&general).map_err(|e| DataError::Json { path: path.clone(), reason: e.to_string() })?;
    write(&path, &text)?;
    let sentences = general.iter().map(|r| r.sentences.len()).sum();
    summary.push(("grefcoco".into(), general.len(), sentences));
    Ok(summary)
}

fn sentences(said: &[Said], next: &mut i64) -> Vec<SentenceOut> {
    said.iter()
        .map(|s| {
            *next += 1;
            SentenceOut {
                tokens: s.text.split(' ').map(str::to_owned).collect(),
                raw: s.raw.clone(),
                sent_id: *next - 1,
                sent: s.text.clone(),
                kind: s.kind,
            }
        })
        .collect()
}

fn singles(
    samples: &[Sample],
    of: fn(&Sample) -> &Vec<Target>,
    split: impl Fn(usize, i64) -> String,
    first_ref: i64,
    by_ann: bool,
) -> Vec<RefOut<i64>> {
    let mut next_sentence = 0;
    let targets = samples.iter().enumerate().flat_map(|(i, p)| of(p).iter().map(move |t| (i, p, t)));
    targets
        .zip(0..)
        .map(|((i, sample, target), r)| {
            let object = target.objects[0];
            let sentences = sentences(&target.said, &mut next_sentence);
            // Not the image's name: upstream puts the object's index (or RefCOCOg its annotation id) behind it.
            let suffix = if by_ann { ann_id(i, object) } else { object as i64 };
            RefOut {
                sent_ids: sentences.iter().map(|s| s.sent_id).collect(),
                file_name: image_name(i).replace(".jpg", &format!("_{suffix}.jpg")),
                ann_id: ann_id(i, object),
                ref_id: first_ref + r,
                image_id: image_id(i),
                split: split(i, r),
                sentences,
                category_id: category(sample.scene.objects[object].shape),
                no_target: None,
            }
        })
        .collect()
}

fn generalised(samples: &[Sample], split: impl Fn(usize, i64) -> String) -> Vec<RefOut<Vec<i64>>> {
    let mut next_sentence = 0;
    let targets = samples.iter().enumerate().flat_map(|(i, p)| p.general.iter().map(move |t| (i, p, t)));
    targets
        .zip(0..)
        .map(|((i, sample, target), r)| {
            let sentences = sentences(&target.said, &mut next_sentence);
            let none = target.objects.is_empty();
            let list = |id: &dyn Fn(usize) -> i64| {
                if none { vec![-1] } else { target.objects.iter().map(|&o| id(o)).collect() }
            };
            RefOut {
                sent_ids: sentences.iter().map(|s| s.sent_id).collect(),
                file_name: image_name(i).replace(".jpg", &format!("_{r}.jpg")),
                ann_id: list(&|o| ann_id(i, o)),
                ref_id: r,
                image_id: image_id(i),
                split: split(i, r),
                sentences,
                category_id: list(&|o| category(sample.scene.objects[o].shape)),
                no_target: Some(none),
            }
        })
        .collect()
}

fn instances(samples: &[Sample]) -> serde_json::Value {
    let images: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(i, p)| json!({"id": image_id(i), "file_name": image_name(i), "height": p.scene.height, "width": p.scene.width}))
        .collect();
    let annotations: Vec<_> = samples
        .iter()
        .enumerate()
        .flat_map(|(i, p)| p.scene.objects.iter().enumerate().map(move |(k, o)| (i, k, o)))
        .map(|(i, k, o)| {
            // A polygon where it says everything; a list of one run-length mask (RefCLEF's form, which REFER's reader
            // accepts, unlike a bare dictionary) where an object is partly hidden or has a hole.
            let segmentation = if o.whole && o.outlines.len() == 1 {
                json!(o.outlines)
            } else {
                json!([{"size": [o.mask.height(), o.mask.width()], "counts": o.mask.to_compressed()}])
            };
            json!({
                "id": ann_id(i, k),
                "image_id": image_id(i),
                "category_id": category(o.shape),
                "bbox": o.mask.bbox(),
                "area": o.mask.area(),
                "iscrowd": 0,
                "segmentation": segmentation,
            })
        })
        .collect();
    let categories: Vec<_> =
        Shape::ALL.iter().map(|&s| json!({"id": category(s), "name": s.name(), "supercategory": "shape"})).collect();
    json!({
        "info": {"description": "Saymask generated set", "version": "1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    })
}
