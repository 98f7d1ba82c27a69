//! Reading a COCO annotation file for the boxes that one object's name leads to: categories that occur once in their image.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::DataError;
use crate::classes::{Layout, places, scan, typed};
use crate::instances::{self, ImageRecord, flag};
use crate::json::whole;
use crate::value::At;

/// A box of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxPrompt {
    /// The annotation's id.
    pub id: i64,
    /// The category's id.
    pub category: i64,
    /// Left, top, right, bottom in pixels, inside of the image.
    pub corners: [f64; 4],
}

/// An image with the boxes to be turned into masks.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxImage {
    /// The image's id.
    pub id: i64,
    /// Its file name as the annotations have it.
    pub file_name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// One at least.
    pub boxes: Vec<BoxPrompt>,
}

/// Boxes of a COCO annotation file, such as Objects365's, of categories that occur once in their image.
#[derive(Debug, Clone)]
pub struct BoxFile {
    path: PathBuf,
    images: Vec<BoxImage>,
    categories: Vec<(i64, String)>,
    repeated: usize,
    crowds: usize,
    outside: Vec<String>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(deserialize_with = "whole")]
    id: i64,
    #[serde(deserialize_with = "whole")]
    image_id: i64,
    #[serde(deserialize_with = "whole")]
    category_id: i64,
    bbox: [f64; 4],
    #[serde(default, deserialize_with = "flag")]
    iscrowd: bool,
}

#[derive(Deserialize)]
struct Category {
    #[serde(deserialize_with = "whole")]
    id: i64,
    name: String,
}

fn inspect_row(row: &At<'_>) -> Result<(), DataError> {
    for key in ["id", "image_id", "category_id"] {
        row.key(key)?.integer()?;
    }
    let sides = row.key("bbox")?;
    if sides.items()?.len() != 4 {
        return Err(sides.wrong("[x, y, width, height]"));
    }
    sides.items()?.iter().try_for_each(|side| side.number().map(|_| ()))
}

/// A box whose image and category are found.
struct Placed {
    image: usize,
    class: usize,
    id: i64,
    sides: [f64; 4],
    crowd: bool,
}

/// What of a box lies inside of an image, as corners; none if that is not a pixel.
fn inside([x, y, w, h]: [f64; 4], width: u32, height: u32) -> Option<[f64; 4]> {
    let cut = |low: f64, size: f64, limit: u32| (low.max(0.0), (low + size).min(f64::from(limit)));
    let ((left, right), (top, bottom)) = (cut(x, w, width), cut(y, h, height));
    (w > 0.0 && h > 0.0 && right - left >= 1.0 && bottom - top >= 1.0).then_some([left, top, right, bottom])
}

const TABLES: [&str; 3] = ["images", "annotations", "categories"];

impl BoxFile {
    /// Reads a file; of its records only places, names and boxes are kept.
    ///
    /// A category that an image has several of is left out there, as its name cannot tell which one is meant; so are boxes around
    /// crowds, and boxes of which no pixel lies inside of their image.
    ///
    /// # Errors
    /// A file that cannot be read or is not COCO's, the first record that is wrong, ids that dangle or occur twice, and a file without
    /// a box that can be used.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let (mut records, mut rows, mut categories) = (Vec::<ImageRecord>::new(), Vec::<Row>::new(), Vec::<Category>::new());
        let found = scan::records(path, TABLES, |table, record| {
            match table {
                0 => records.push(typed(path, TABLES[0], &record, instances::inspect_image)?),
                2 => categories.push(typed(path, TABLES[2], &record, instances::inspect_category)?),
                _ => rows.push(typed(path, TABLES[1], &record, inspect_row)?),
            }
            Ok(())
        })?;
        if let Some((missing, _)) = TABLES.iter().zip(found).find(|(_, found)| !found) {
            return Err(DataError::field(path, *missing, "a list", "nothing (the key is missing)"));
        }
        let placed = place(path, &records, rows, &categories)?;
        let mut out = Self {
            path: path.into(),
            images: records.into_iter().map(BoxImage::of).collect(),
            categories: categories.into_iter().map(|c| (c.id, c.name)).collect(),
            repeated: 0,
            crowds: 0,
            outside: Vec::new(),
        };
        placed.chunk_by(|a, b| (a.image, a.class) == (b.image, b.class)).for_each(|same| out.take(same));
        out.images.retain(|image| !image.boxes.is_empty());
        if out.images.is_empty() {
            let expected = "boxes of categories that occur once in their image, inside of it";
            return Err(DataError::field(path, TABLES[1], expected, out.left_out()));
        }
        Ok(out)
    }

    /// Takes the boxes of one category in one image.
    fn take(&mut self, same: &[Placed]) {
        let [one] = same else {
            self.repeated += same.len();
            return;
        };
        let Some(image) = self.images.get_mut(one.image) else { return };
        let category = self.categories.get(one.class).map(|c| c.0).unwrap_or_default();
        match inside(one.sides, image.width, image.height) {
            _ if one.crowd => self.crowds += 1,
            Some(corners) => image.boxes.push(BoxPrompt { id: one.id, category, corners }),
            None => self
                .outside
                .push(format!("annotations[id={}].bbox {:?} in {} x {} pixels", one.id, one.sides, image.width, image.height)),
        }
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Images with a box at least, in the order of the file; an image's boxes in the order of the categories.
    #[must_use]
    pub fn images(&self) -> &[BoxImage] {
        &self.images
    }

    /// Ids and names, in the order of the file.
    #[must_use]
    pub fn categories(&self) -> &[(i64, String)] {
        &self.categories
    }

    /// Boxes of all images.
    #[must_use]
    pub fn boxes(&self) -> usize {
        self.images.iter().map(|image| image.boxes.len()).sum()
    }

    /// Boxes of which no pixel lies inside of their image, each with its annotation.
    #[must_use]
    pub fn outside(&self) -> &[String] {
        &self.outside
    }

    /// How many boxes were left out and why, in words.
    #[must_use]
    pub fn left_out(&self) -> String {
        let Self { repeated, crowds, outside, .. } = self;
        format!(
            "{repeated} boxes of categories that occur again in their image, {crowds} around crowds, {} outside of their image",
            outside.len()
        )
    }

    /// Where an image lies: in `images`, with or without the folders of its name, or beside the annotations.
    ///
    /// # Errors
    /// An image that is in none of these places.
    pub fn image_path(&self, images: &Path, image: &BoxImage) -> Result<PathBuf, DataError> {
        Layout::image_path(self.path.parent().unwrap_or(Path::new("")), images, &image.file_name)
    }

    /// A number that other boxes, images or categories do not share: FNV-1a over all that is kept.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |bytes: &[u8]| bytes.iter().for_each(|b| hash = (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        for (id, name) in &self.categories {
            add(&id.to_le_bytes());
            add(name.as_bytes());
        }
        for image in &self.images {
            add(&image.id.to_le_bytes());
            add(image.file_name.as_bytes());
            for b in &image.boxes {
                add(&b.id.to_le_bytes());
                add(&b.category.to_le_bytes());
                b.corners.iter().for_each(|v| add(&v.to_le_bytes()));
            }
        }
        hash
    }
}

impl BoxImage {
    fn of(record: ImageRecord) -> Self {
        let ImageRecord { id, file_name, height, width } = record;
        Self { id, file_name, width, height, boxes: Vec::new() }
    }
}

/// Boxes with their places among images and categories, in that order.
fn place(path: &Path, records: &[ImageRecord], rows: Vec<Row>, categories: &[Category]) -> Result<Vec<Placed>, DataError> {
    let mut first = None;
    let mut note = |error: DataError| {
        first.get_or_insert(error);
    };
    let image = places(path, TABLES[0], records.iter().map(|i| i.id), &mut note);
    let class = places(path, TABLES[2], categories.iter().map(|c| c.id), &mut note);
    places(path, TABLES[1], rows.iter().map(|r| r.id), &mut note);
    let mut placed = Vec::with_capacity(rows.len());
    for (index, row) in rows.into_iter().enumerate() {
        let dangling = |field: &str, id: i64, table| DataError::Dangling {
            path: path.into(),
            field: format!("annotations[{index}].{field}"),
            id: id.to_string(),
            table,
        };
        match (image.get(&row.image_id), class.get(&row.category_id)) {
            (Some(&image), Some(&class)) => {
                placed.push(Placed { image, class, id: row.id, sides: row.bbox, crowd: row.iscrowd });
            }
            (None, _) => note(dangling("image_id", row.image_id, TABLES[0])),
            (_, None) => note(dangling("category_id", row.category_id, TABLES[2])),
        }
    }
    placed.sort_by_key(|p| (p.image, p.class));
    first.map_or(Ok(placed), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BoxFile, String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("boxes.json");
        std::fs::write(&path, text).unwrap();
        BoxFile::read(&path).map_err(|e| e.to_string())
    }

    const HEAD: &str = r#""images":[{"id":7,"file_name":"a/b.jpg","height":40,"width":60},{"id":8,"file_name":"c.jpg","height":10,"width":10}],
        "categories":[{"id":3,"name":"cup"},{"id":5,"name":"dog"}]"#;

    fn with(rows: &str) -> Result<BoxFile, String> {
        read(&format!("{{{HEAD},\"annotations\":[{rows}]}}"))
    }

    #[test]
    fn what_occurs_once_is_taken_and_the_rest_is_counted() {
        let row = |id: i64, image: i64, category: i64, bbox: &str| {
            format!(r#"{{"id":{id},"image_id":{image},"category_id":{category},"bbox":{bbox},"iscrowd":0}}"#)
        };
        let rows = [
            row(1, 7, 5, "[50,30,40,40]"),
            row(2, 7, 3, "[-3,2.5,10,5]"),
            row(3, 8, 3, "[1,1,2,2]"),
            row(4, 8, 3, "[4,4,2,2]"),
            row(9, 8, 5, "[1,1,5,5]").replace("\"iscrowd\":0", "\"iscrowd\":1"),
        ];
        let found = with(&rows.join(",")).unwrap();
        let [image] = found.images() else { panic!("{found:?}") };
        assert_eq!((image.id, image.width, image.height), (7, 60, 40));
        let cup = BoxPrompt { id: 2, category: 3, corners: [0.0, 2.5, 7.0, 7.5] };
        let dog = BoxPrompt { id: 1, category: 5, corners: [50.0, 30.0, 60.0, 40.0] };
        assert_eq!(image.boxes, [cup, dog]);
        assert!(
            found.left_out().starts_with("2 boxes of categories that occur again in their image, 1 around crowds, 0 outside")
        );
        assert_eq!(found.boxes(), 2);
        let moved = with(&rows.join(",").replace("2.5", "2.25")).unwrap();
        assert_ne!(found.fingerprint(), moved.fingerprint());
        // A second crowd box makes the name ambiguous, too.
        let again = row(10, 7, 5, "[0,0,5,5]").replace("\"iscrowd\":0", "\"iscrowd\":true");
        assert_eq!(with(&[rows.join(","), again].join(",")).unwrap().boxes(), 1);
    }

    #[test]
    fn boxes_outside_are_named() {
        let far = r#"{"id":4,"image_id":8,"category_id":5,"bbox":[10,2,5,5]}"#;
        let flat = r#"{"id":5,"image_id":7,"category_id":5,"bbox":[10,2,5,-1]}"#;
        let fine = r#"{"id":6,"image_id":7,"category_id":3,"bbox":[10,2,5,5]}"#;
        let found = with(&[far, flat, fine].join(",")).unwrap();
        assert_eq!((found.boxes(), found.outside().len()), (1, 2));
        assert!(
            found.outside()[1].contains("annotations[id=4].bbox [10.0, 2.0, 5.0, 5.0] in 10 x 10 pixels"),
            "{:?}",
            found.outside()
        );
        let none = with(&[far, flat].join(",")).unwrap_err();
        assert!(none.contains("2 outside of their image"), "{none}");
    }

    #[test]
    fn faults_are_named() {
        let refuses = |rows: &str, words: &str| {
            let error = with(rows).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        refuses(
            r#"{"id":1,"image_id":9,"category_id":5,"bbox":[1,1,5,5]}"#,
            "annotations[0].image_id`: 9 is not an id in `images`",
        );
        refuses(r#"{"id":1,"image_id":7,"category_id":1,"bbox":[1,1,5,5]}"#, "category_id`: 1 is not");
        refuses(
            r#"{"id":1,"image_id":7,"category_id":5,"bbox":[1,1,5]}"#,
            "annotations[0].bbox`: expected [x, y, width, height]",
        );
        refuses(r#"{"id":1,"image_id":7,"category_id":5}"#, "annotations[0].bbox`: expected a value");
        refuses(
            r#"{"id":1,"image_id":7,"category_id":5,"bbox":[1,1,5,5]},{"id":1,"image_id":7,"category_id":3,"bbox":[1,1,5,5]}"#,
            "`annotations[0].id` and `annotations[1].id` have the same id, 1",
        );
        assert!(read("{\"images\":[]").unwrap_err().contains("cut short"));
        assert!(read("{\"images\":[],\"categories\":[]}").unwrap_err().contains("`annotations`: expected a list"));
        let missing = BoxFile::read(Path::new("nowhere/boxes.json")).unwrap_err().to_string();
        assert!(missing.contains("nowhere/boxes.json: cannot read"), "{missing}");
    }
}
