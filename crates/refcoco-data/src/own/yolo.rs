//! YOLO's segmentation labels: a text file per image with a class and a polygon per line, and the names of classes in `data.yaml`
//! or `classes.txt`.
//!
//! Everything of a class in an image is meant by its name. Lines of five numbers are boxes. Splits are folders (`images/train` with
//! `labels/train`, or `train/images` with `train/labels`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::folder::{IMAGES, Place, files, relative, split_word};
use super::names;
use super::sample::{Sample, Shape};
use super::{Found, Root};
use crate::DataError;

pub(crate) fn read(root: &Root, out: &mut Found) -> Result<(), DataError> {
    let (source, names) = names::read(&root.path)?;
    for image in files(&root.path, &IMAGES)? {
        let below = relative(&root.path, &image);
        let Some(label) = label_file(&root.path, &below) else { continue };
        if !super::folder::is_file(&label)? {
            // YOLO's own way to say that there is nothing in an image; it says no sentence either.
            out.unsaid += 1;
            continue;
        }
        let split = below.split('/').rev().skip(1).find_map(split_word);
        match of_image(&image, &label, split, &names, &source) {
            Ok(samples) if samples.is_empty() => out.unsaid += 1,
            Ok(samples) => out.samples.extend(samples),
            Err(error) => out.errors.push(error),
        }
    }
    Ok(())
}

/// `images/train/a.jpg` has `labels/train/a.txt`: the last part `images` is replaced.
fn label_file(root: &Path, below: &str) -> Option<PathBuf> {
    let mut parts: Vec<&str> = below.split('/').collect();
    let at = parts.iter().rposition(|part| *part == "images")?;
    parts[at] = "labels";
    Some(root.join(parts.join("/")).with_extension("txt"))
}

fn of_image(
    image: &Path,
    label: &Path,
    split: Option<&str>,
    names: &BTreeMap<usize, String>,
    source: &Path,
) -> Result<Vec<Sample>, DataError> {
    let bytes = std::fs::read(label).map_err(|e| DataError::io(label, "read", e))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| DataError::field(label, "(the file)", "lines of numbers", "bytes that are no text"))?;
    let mut by_class: BTreeMap<usize, Vec<(Place, Shape)>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::new(label, format!("line {}", number + 1));
        let (class, shape) = one(line, &place, names, source)?;
        by_class.entry(class).or_default().push((place, shape));
    }
    let sample = |(class, shapes): (usize, Vec<(Place, Shape)>)| Sample {
        place: Place::new(label, format!("class {class}")),
        image: image.to_owned(),
        image_id: None,
        size: None,
        split: split.map(str::to_owned),
        sentences: vec![names[&class].clone()],
        category: names[&class].clone(),
        shapes,
    };
    Ok(by_class.into_iter().map(sample).collect())
}

fn one(line: &str, place: &Place, names: &BTreeMap<usize, String>, source: &Path) -> Result<(usize, Shape), DataError> {
    let mut words = line.split_whitespace();
    let class = words.next().unwrap_or_default();
    let known = class.parse::<f64>().ok().filter(|c| c.fract() == 0.0 && *c >= 0.0).map(|c| c as usize);
    let Some(class) = known.filter(|c| names.contains_key(c)) else {
        let list: Vec<String> = names.iter().map(|(number, name)| format!("{number} {name}")).collect();
        let expected = format!("a class of {}: {}", source.display(), list.join(", "));
        return Err(place.wrong(&expected, format!("class {class}")));
    };
    let numbers: Vec<f64> = words
        .map(|w| {
            w.parse::<f64>()
                .ok()
                .filter(|v| (-0.01..=1.01).contains(v))
                .ok_or_else(|| place.wrong("shares of the image's width and height, from 0 to 1", w))
        })
        .collect::<Result<_, _>>()?;
    let shape = match numbers.as_slice() {
        [x, y, w, h] => {
            let (x0, y0, x1, y1) = (x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0);
            Shape::Shares(vec![vec![x0, y0, x0, y1, x1, y1, x1, y0]])
        }
        all if all.len() >= 6 && all.len() % 2 == 0 => Shape::Shares(vec![all.to_vec()]),
        all => {
            let expected = "behind the class, four numbers of a box, or x and y of at least three points";
            return Err(place.wrong(expected, format!("{} numbers", all.len())));
        }
    };
    Ok((class, shape))
}
