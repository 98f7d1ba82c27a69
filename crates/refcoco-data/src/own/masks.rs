//! Folders `images` and `masks`, with sentences in a CSV file or in the names of files.
//!
//! A CSV file in the folder has the columns `image`, `sentence`, `mask` and, if wanted, `split`; several rows of one image and
//! sentence are several targets, and an empty `mask` says that nothing is meant. Without one, names say it all: `masks/a.png` is
//! meant by the name of `images/a.jpg` ("red-mug-3" is "red mug"), `masks/a__the red mug.png` and `masks/a/the red mug.png` by what
//! stands behind.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::folder::{IMAGES, Place, files, find, relative, split_name, split_word, stem};
use super::jsonl::png_ending;
use super::sample::{Sample, Shape};
use super::{Found, Root};
use crate::{DataError, json};

/// What parts an image's name from a sentence.
const BETWEEN: &str = "__";

pub(crate) fn read(root: &Root, out: &mut Found) -> Result<(), DataError> {
    let tables = root.tables()?;
    match tables.as_slice() {
        [] => by_name(root, out),
        tables => tables.iter().try_for_each(|table| by_table(root, table, out)),
    }
}

fn by_table(root: &Root, path: &Path, out: &mut Found) -> Result<(), DataError> {
    let bytes = json::read(path)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(bytes.as_slice());
    let bad = |e: &csv::Error| DataError::field(path, "(the table)", "comma-separated values in UTF-8", e.to_string());
    let head = reader.headers().map_err(|e| bad(&e))?.clone();
    let column = |name: &str| head.iter().position(|h| h.eq_ignore_ascii_case(name));
    let (Some(image), Some(sentence)) = (column("image"), column("sentence")) else {
        let found = head.iter().collect::<Vec<_>>().join(", ");
        return Err(DataError::field(path, "line 1", "the columns image, sentence, mask and, if wanted, split", found));
    };
    let (mask, split) = (column("mask"), column("split"));
    let of_file = split_word(&stem(path));
    let mut groups: HashMap<(PathBuf, String), usize> = HashMap::new();
    for (number, row) in reader.records().enumerate() {
        let row = row.map_err(|e| bad(&e))?;
        let line = row.position().map_or(number as u64 + 2, csv::Position::line);
        let cell = |at: Option<usize>| at.and_then(|at| row.get(at)).unwrap_or_default();
        let place = |name: &str| Place::new(path, format!("line {line}, column {name}"));
        let record = (|| {
            let image = find(&place("image"), cell(Some(image)), "image", &root.image_folders())?;
            let shape = match (mask, cell(mask)) {
                // Without a column the mask has the image's name.
                (None, _) => Some(root.path.join("masks").join(format!("{}.png", stem(&image)))),
                (Some(_), "") => None,
                (Some(_), name) => Some(find(&place("mask"), name, "mask", &[root.path.clone(), root.path.join("masks")])?),
            };
            if let Some(path) = &shape {
                png_ending(&place("mask"), path)?;
            }
            let split = match cell(split) {
                "" => of_file.map(str::to_owned),
                split => Some(split_name(split)),
            };
            let said = cell(Some(sentence)).split_whitespace().collect::<Vec<_>>().join(" ");
            let shapes = shape.into_iter().map(|path| (place("mask"), Shape::File(path))).collect();
            let place = Place::new(path, format!("line {line}"));
            Ok(Sample { place, image, image_id: None, size: None, split, sentences: vec![said], category: String::new(), shapes })
        })();
        match record {
            Err(error) => out.errors.push(error),
            Ok(sample) => {
                let key = (sample.image.clone(), sample.sentences.join(" "));
                match groups.get(&key) {
                    Some(&at) => out.samples[at].shapes.extend(sample.shapes),
                    None => {
                        groups.insert(key, out.samples.len());
                        out.samples.push(sample);
                    }
                }
            }
        }
    }
    Ok(())
}

fn by_name(root: &Root, out: &mut Found) -> Result<(), DataError> {
    let (folder, of_masks) = (root.path.join("images"), root.path.join("masks"));
    let mut by_stem: BTreeMap<String, PathBuf> = BTreeMap::new();
    for image in files(&folder, &IMAGES)? {
        if let Some(other) = by_stem.insert(stem(&image), image.clone()) {
            let expected = "images of different names, for a mask's name says which one it belongs to";
            let found = format!("{} and {}", relative(&root.path, &other), relative(&root.path, &image));
            out.errors.push(DataError::field(&folder, stem(&image), expected, found));
        }
    }
    let mut said: BTreeMap<(String, String), Vec<PathBuf>> = BTreeMap::new();
    for mask in files(&of_masks, &["png"])? {
        let below = relative(&of_masks, &mask);
        let own = stem(&mask);
        let parent = below.rsplit_once('/').map(|(folder, _)| folder.rsplit('/').next().unwrap_or(folder).to_owned());
        let (image, sentence) = match (own.split_once(BETWEEN), parent) {
            (Some((image, sentence)), _) => (image.to_owned(), sentence.to_owned()),
            (None, _) if by_stem.contains_key(&own) => (own.clone(), own),
            (None, Some(parent)) if by_stem.contains_key(&parent) => (parent, own),
            (None, _) => (own.clone(), own),
        };
        if !by_stem.contains_key(&image) {
            let hint = format!("{} is the mask of no image; expected images/{image}.jpg or .png", relative(&root.path, &mask));
            out.errors.push(DataError::Missing { path: folder.join(format!("{image}.jpg")), what: "image", hint });
            continue;
        }
        said.entry((image, words(&sentence))).or_default().push(mask);
    }
    for ((image, sentence), masks) in said {
        let Some(path) = by_stem.get(&image) else { continue };
        let split =
            path.parent().filter(|p| **p != folder).and_then(|p| p.file_name()).and_then(|n| split_word(&n.to_string_lossy()));
        let place = Place::new(&masks[0], "(the file's name)");
        let shapes = masks.iter().map(|mask| (Place::new(mask, "(the mask)"), Shape::File(mask.clone()))).collect();
        out.samples.push(Sample {
            place,
            image: path.clone(),
            image_id: None,
            size: None,
            split: split.map(str::to_owned),
            sentences: vec![sentence],
            category: String::new(),
            shapes,
        });
    }
    Ok(())
}

/// A name as a sentence: strokes are spaces, and a number at the end only counts files.
fn words(name: &str) -> String {
    let mut words: Vec<&str> =
        name.split(|c: char| c == '-' || c == '_' || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
    if words.len() > 1 && words.last().is_some_and(|w| w.chars().all(|c| c.is_ascii_digit())) {
        words.pop();
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sentences() {
        assert_eq!(words("red-mug-3"), "red mug");
        assert_eq!(words("the_left  one"), "the left one");
        assert_eq!(words("7"), "7");
    }
}
