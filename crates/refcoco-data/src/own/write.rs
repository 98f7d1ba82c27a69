//! Writers of REFER's files, COCO's and lines of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use image::ImageEncoder;
use serde::Serialize;
use serde_json::{Value, json};

use super::convert::{ConvertTo, Picture, Record, Whole};
use super::sample::run_lengths;
use super::{BY, OwnFormat};
use crate::DataError;

/// Name of the category of what has none; REFER's readers want one.
const NO_CATEGORY: &str = "object";

/// Writes a set into a new folder; the data set and the maker of its splits as a config names them.
pub(super) fn write(whole: &Whole, to: ConvertTo, out: &Path) -> Result<(&'static str, &'static str), DataError> {
    match to {
        ConvertTo::Refer => refer(whole, out),
        ConvertTo::Coco => coco(whole, out),
        ConvertTo::Jsonl => jsonl(whole, out),
    }
}

fn folder(path: PathBuf) -> Result<PathBuf, DataError> {
    std::fs::create_dir_all(&path).map_err(|e| DataError::io(&path, "create", e))?;
    Ok(path)
}

fn file(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    std::fs::write(path, bytes).map_err(|e| DataError::io(path, "write", e))
}

/// Copies the images; their new names. `upright` says how the new set's pixels are meant.
fn images(whole: &Whole, out: &Path, flat: bool, upright: bool) -> Result<Vec<String>, DataError> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::with_capacity(whole.images.len());
    for picture in &whole.images {
        let own = picture.info.file_name.strip_prefix("images/").unwrap_or(&picture.info.file_name);
        let own = if flat { own.replace('/', "_") } else { own.to_owned() };
        let bytes = std::fs::read(&picture.info.path).map_err(|e| DataError::io(&picture.info.path, "read", e))?;
        let turned = picture.upright != upright && pil_ops::is_turned(&bytes).map_err(|e| bad(picture, e))?;
        let (stem, ending) = own.rsplit_once('.').unwrap_or((&own, "jpg"));
        let ending = if turned { "png" } else { ending };
        let numbered = |n: usize| if n == 0 { format!("{stem}.{ending}") } else { format!("{stem}-{n}.{ending}") };
        let name = (0..).map(numbered).find(|name| taken.insert(name.clone())).unwrap_or_else(|| own.clone());
        let path = out.join(&name);
        if let Some(parent) = path.parent() {
            folder(parent.to_owned())?;
        }
        file(&path, &if turned { png(picture)? } else { bytes })?;
        names.push(name);
    }
    Ok(names)
}

fn bad(picture: &Picture, reason: impl ToString) -> DataError {
    DataError::Image { path: picture.info.path.clone(), reason: reason.to_string() }
}

/// The pixels that masks were drawn on.
fn png(picture: &Picture) -> Result<Vec<u8>, DataError> {
    let pixels = picture.info.decode()?.to_rgb8();
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&pixels, pixels.width(), pixels.height(), image::ExtendedColorType::Rgb8)
        .map_err(|e| bad(picture, e))?;
    Ok(bytes)
}

fn text(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, DataError> {
    serde_json::to_vec(value).map_err(|e| DataError::Json { path: path.into(), reason: e.to_string() })
}

fn jsonl(whole: &Whole, out: &Path) -> Result<(&'static str, &'static str), DataError> {
    let names = images(whole, &folder(out.join("images"))?, false, true)?;
    let path = out.join("data.jsonl");
    let mut lines = Vec::new();
    for Record { image, split, sentences, category, targets } in &whole.records {
        let info = &whole.images[*image].info;
        let mut line = json!({
            "image": format!("images/{}", names[*image]),
            "width": info.width,
            "height": info.height,
            "split": split,
            "sentences": sentences.iter().map(|s| &s.0).collect::<Vec<_>>(),
            "targets": targets.iter().map(|mask| json!({ "rle": run_lengths(mask) })).collect::<Vec<_>>(),
        });
        if !category.is_empty() {
            line["category"] = json!(category);
        }
        lines.extend(text(&path, &line)?);
        lines.push(b'\n');
    }
    file(&path, &lines)?;
    Ok((OwnFormat::Jsonl.name(), BY))
}

/// Numbers of categories from 1 on, in the order of their names.
fn categories(whole: &Whole) -> BTreeMap<&str, i64> {
    let names: BTreeSet<&str> = whole.records.iter().map(category).collect();
    names.into_iter().zip(1..).collect()
}

fn category(record: &Record) -> &str {
    if record.category.is_empty() { NO_CATEGORY } else { &record.category }
}

fn category_rows(categories: &BTreeMap<&str, i64>) -> Vec<Value> {
    categories.iter().map(|(name, id)| json!({ "id": id, "name": name })).collect()
}

fn image_rows(whole: &Whole, names: &[String], used: &BTreeSet<usize>) -> Vec<Value> {
    let row = |i: &usize| {
        let info = &whole.images[*i].info;
        json!({ "id": i + 1, "file_name": names[*i], "width": info.width, "height": info.height })
    };
    used.iter().map(row).collect()
}

fn coco(whole: &Whole, out: &Path) -> Result<(&'static str, &'static str), DataError> {
    let names = images(whole, &folder(out.join("images"))?, false, true)?;
    let annotations = folder(out.join("annotations"))?;
    let categories = categories(whole);
    let splits: BTreeSet<&str> = whole.records.iter().map(|r| r.split.as_str()).collect();
    let mut id = 0;
    for split in splits {
        let of_split: Vec<(usize, &Record)> = whole.records.iter().enumerate().filter(|(_, r)| r.split == split).collect();
        let used = of_split.iter().map(|(_, r)| r.image).collect();
        let mut rows = Vec::new();
        for (ref_id, record) in of_split {
            let said: Vec<&String> = record.sentences.iter().map(|s| &s.0).collect();
            let mut row = |segmentation: Value, bbox: [f64; 4], area: u64| {
                id += 1;
                rows.push(json!({
                    "id": id, "image_id": record.image + 1, "category_id": categories[category(record)], "iscrowd": 0,
                    "bbox": bbox, "area": area, "segmentation": segmentation, "sentences": said, "ref_id": ref_id,
                }));
            };
            if record.targets.is_empty() {
                row(json!([]), [0.0; 4], 0);
            }
            record.targets.iter().for_each(|mask| row(run_lengths(mask), mask.bbox(), mask.area()));
        }
        let mut pictures = image_rows(whole, &names, &used);
        // A name without a usual word in it says no split of its own.
        pictures.iter_mut().for_each(|picture| picture["split"] = json!(split));
        let path = annotations.join(format!("instances_{split}.json"));
        let all = json!({ "images": pictures, "annotations": rows, "categories": category_rows(&categories) });
        file(&path, &text(&path, &all)?)?;
    }
    Ok((OwnFormat::Coco.name(), BY))
}

#[derive(Serialize)]
struct SentenceOut<'a> {
    tokens: Vec<&'a str>,
    raw: &'a str,
    sent_id: i64,
    sent: &'a str,
}

#[derive(Serialize)]
struct RefOut<'a, Id> {
    sent_ids: Vec<i64>,
    file_name: &'a str,
    ann_id: Id,
    ref_id: i64,
    image_id: i64,
    split: &'a str,
    sentences: Vec<SentenceOut<'a>>,
    category_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_target: Option<bool>,
}

fn refer(whole: &Whole, out: &Path) -> Result<(&'static str, &'static str), DataError> {
    let single = whole.records.iter().all(|r| r.targets.len() == 1);
    let (set, by) = if single { ("refcoco", "google") } else { ("grefcoco", "unc") };
    let names = images(whole, &folder(out.join("images/train2014"))?, true, false)?;
    let own = folder(out.join(set))?;
    let categories = categories(whole);
    let (mut rows, mut ids): (Vec<Value>, Vec<Vec<i64>>) = (Vec::new(), Vec::new());
    for record in &whole.records {
        let mut of_record = Vec::new();
        for mask in &record.targets {
            let id = rows.len() as i64 + 1;
            of_record.push(id);
            rows.push(json!({
                "id": id, "image_id": record.image + 1, "category_id": categories[category(record)], "iscrowd": 0,
                // A list of one: REFER's own reader takes it, unlike a bare dictionary.
                "bbox": mask.bbox(), "area": mask.area(), "segmentation": [run_lengths(mask)],
            }));
        }
        ids.push(of_record);
    }
    let used = (0..whole.images.len()).collect();
    let instances = own.join("instances.json");
    let all = json!({
        "info": { "description": "converted by Saymask" }, "licenses": [],
        "images": image_rows(whole, &names, &used), "annotations": rows, "categories": category_rows(&categories),
    });
    file(&instances, &text(&instances, &all)?)?;
    let mut next = 0;
    let mut refs = Vec::new();
    for ((record, ids), ref_id) in whole.records.iter().zip(&ids).zip(0..) {
        refs.push(reference(record, ids, ref_id, &names[record.image], &categories, &mut next, single));
    }
    if single {
        let path = own.join(format!("refs({by}).p"));
        let refs: Vec<_> = refs.into_iter().map(RefOut::with_one).collect();
        let bytes = serde_pickle::to_vec(&refs, serde_pickle::SerOptions::new().proto_v2())
            .map_err(|e| DataError::Pickle { path: path.clone(), reason: e.to_string() })?;
        file(&path, &bytes)?;
    } else {
        let path = own.join(format!("grefs({by}).json"));
        file(&path, &text(&path, &refs)?)?;
    }
    Ok((set, by))
}

fn reference<'a>(
    record: &'a Record,
    ids: &[i64],
    ref_id: i64,
    file_name: &'a str,
    categories: &BTreeMap<&str, i64>,
    next: &mut i64,
    single: bool,
) -> RefOut<'a, Vec<i64>> {
    let sentence = |(text, raw): &'a (String, String)| {
        *next += 1;
        SentenceOut { tokens: text.split(' ').collect(), raw, sent_id: *next - 1, sent: text }
    };
    let sentences: Vec<SentenceOut<'a>> = record.sentences.iter().map(sentence).collect();
    RefOut {
        sent_ids: sentences.iter().map(|s| s.sent_id).collect(),
        file_name,
        // [-1] is gRefCOCO's way to say that nothing is meant.
        ann_id: if ids.is_empty() { vec![-1] } else { ids.to_vec() },
        ref_id,
        image_id: record.image as i64 + 1,
        // gRefCOCO's splits are UNC's, which have no plain `test`.
        split: if !single && record.split == "test" { "testA" } else { &record.split },
        sentences,
        category_id: categories[category(record)],
        no_target: (!single).then_some(ids.is_empty()),
    }
}

impl<'a> RefOut<'a, Vec<i64>> {
    /// With one annotation instead of a list.
    fn with_one(self) -> RefOut<'a, i64> {
        let ann_id = self.ann_id.first().copied().unwrap_or(-1);
        let Self { sent_ids, file_name, ref_id, image_id, split, sentences, category_id, no_target, .. } = self;
        RefOut { sent_ids, file_name, ann_id, ref_id, image_id, split, sentences, category_id, no_target }
    }
}
