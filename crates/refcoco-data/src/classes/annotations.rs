//! COCO annotation files of which only places are kept: masks are read from the file when an image is loaded.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use coco_mask::{Merge, Rle, merge};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::scan::{self, Record};
use crate::DataError;
use crate::instances::{self, ImageRecord, Segmentation};
use crate::json::{self, whole};
use crate::value::At;

/// Masks of an annotation file.
#[derive(Debug)]
pub(crate) struct Annotations {
    path: PathBuf,
    /// The records of an image follow each other, in order of their classes.
    spans: Vec<Span>,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: u64,
    length: u32,
    class: u16,
}

/// An annotation file without its masks.
pub(crate) struct Index {
    pub(crate) annotations: Annotations,
    /// Images with at least one mask, in the order of the file, each with its records: the first one and their number.
    pub(crate) images: Vec<(ImageRecord, (u32, u32))>,
    /// Names of the categories, by index of the class.
    pub(crate) names: Vec<String>,
    /// Records left out: without a mask, or of a category that must occur once and does not.
    pub(crate) skipped: usize,
}

#[derive(Deserialize)]
struct Row {
    #[serde(deserialize_with = "whole")]
    image_id: i64,
    #[serde(deserialize_with = "whole")]
    category_id: i64,
    #[serde(default)]
    segmentation: Covers,
}

#[derive(Deserialize)]
struct Category {
    #[serde(deserialize_with = "whole")]
    id: i64,
    name: String,
}

/// Whether a segmentation can cover a pixel: run lengths, or a polygon of three points. Nothing of it is kept.
#[derive(Default)]
struct Covers(bool);

impl<'de> Deserialize<'de> for Covers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CoversVisitor)
    }
}

struct CoversVisitor;

impl<'de> Visitor<'de> for CoversVisitor {
    type Value = Covers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("polygons [[x, y, ..], ..] or run lengths {size: [h, w], counts}")
    }

    fn visit_unit<E>(self) -> Result<Covers, E> {
        Ok(Covers(false))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Covers, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Covers(true))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Covers, A::Error> {
        let mut covers = false;
        while let Some(Part(part)) = list.next_element()? {
            covers |= part;
        }
        Ok(Covers(covers))
    }
}

/// An element of a list: a polygon, or run lengths.
struct Part(bool);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PartVisitor;
        impl<'de> Visitor<'de> for PartVisitor {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                CoversVisitor.expecting(f)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part, A::Error> {
                CoversVisitor.visit_map(map).map(|covers| Part(covers.0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Part, A::Error> {
                let mut numbers = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    numbers += 1;
                }
                Ok(Part(numbers >= 6))
            }
        }
        from.deserialize_any(PartVisitor)
    }
}

/// A record as a value of its type; what is wrong with it is looked at again to name its field.
pub(crate) fn typed<T: DeserializeOwned>(
    path: &Path,
    table: &str,
    record: &Record<'_>,
    inspect: fn(&At<'_>) -> Result<(), DataError>,
) -> Result<T, DataError> {
    let error = match serde_json::from_slice(record.bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // NaN stops serde's parser; as text it is passed over or named.
    let plain = json::without_nan(record.bytes);
    let bytes = plain.as_deref().unwrap_or(record.bytes);
    if plain.is_some()
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return Ok(value);
    }
    let field = format!("{table}[{}]", record.index);
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => {
            let at = At::new(path, field, &value);
            inspect(&at)?;
            Err(at.wrong(&error.to_string()))
        }
        Err(error) => Err(DataError::Json { path: path.into(), reason: format!("at byte {}, in `{field}`: {error}", record.at) }),
    }
}

fn inspect_row(row: &At<'_>) -> Result<(), DataError> {
    row.key("image_id")?.integer()?;
    row.key("category_id")?.integer()?;
    match row.optional("segmentation")? {
        Some(segmentation) if Covers::deserialize(segmentation.value).is_err() => {
            Err(segmentation.wrong("polygons [[x, y, ..], ..] or run lengths {size: [h, w], counts}"))
        }
        _ => Ok(()),
    }
}

const TABLES: [&str; 3] = ["images", "annotations", "categories"];

/// A row whose ids are not resolved yet: a table may come before those it refers to.
struct Loose {
    index: u32,
    image: i64,
    category: i64,
    covers: bool,
    at: u64,
    length: u32,
}

impl Index {
    /// Reads a file; the first fault is an error.
    pub(crate) fn read(path: &Path, once: bool, name: fn(&str) -> String) -> Result<Self, DataError> {
        let mut first = None;
        let index = Self::read_all(path, once, name, &mut |error| {
            first.get_or_insert(error);
        })?;
        first.map_or(Ok(index), Err)
    }

    /// Reads what can be read, and names everything that cannot. With `once`, a category that an image has several of is left
    /// out there, as no name can tell which one is meant.
    ///
    /// # Errors
    /// A file of which nothing can be used.
    pub(crate) fn read_all(
        path: &Path,
        once: bool,
        name: fn(&str) -> String,
        on_error: &mut dyn FnMut(DataError),
    ) -> Result<Self, DataError> {
        let (mut images, mut rows, mut categories) = (Vec::<ImageRecord>::new(), Vec::<Loose>::new(), Vec::<Category>::new());
        let found = scan::records(path, TABLES, |table, record| {
            let error = match table {
                0 => typed(path, TABLES[0], &record, instances::inspect_image).map(|image| images.push(image)),
                2 => typed(path, TABLES[2], &record, instances::inspect_category).map(|category| categories.push(category)),
                _ => typed::<Row>(path, TABLES[1], &record, inspect_row).map(|row| {
                    rows.push(Loose {
                        index: record.index as u32,
                        image: row.image_id,
                        category: row.category_id,
                        covers: row.segmentation.0,
                        at: record.at,
                        length: record.bytes.len() as u32,
                    });
                }),
            };
            if let Err(error) = error {
                on_error(error);
            }
            Ok(())
        })?;
        if let Some(missing) = TABLES.iter().zip(found).find(|(_, found)| !found) {
            return Err(DataError::field(path, *missing.0, "a list", "nothing (the key is missing)"));
        }
        if categories.is_empty() || categories.len() > usize::from(u16::MAX) {
            return Err(DataError::field(path, "categories", "1 to 65535 categories", categories.len().to_string()));
        }
        let place = places(path, TABLES[0], images.iter().map(|i| i.id), on_error);
        let class = places(path, TABLES[2], categories.iter().map(|c| c.id), on_error);
        let (mut kept, mut skipped) = (Vec::with_capacity(rows.len()), 0);
        for row in rows {
            let dangling = |field: &str, id: i64, table| DataError::Dangling {
                path: path.into(),
                field: format!("annotations[{}].{field}", row.index),
                id: id.to_string(),
                table,
            };
            match (place.get(&row.image), class.get(&row.category)) {
                (Some(&image), Some(&class)) => {
                    let span = Span { at: row.at, length: row.length, class: class as u16 };
                    kept.push((image, span, row.covers));
                }
                (None, _) => on_error(dangling("image_id", row.image, TABLES[0])),
                (_, None) => on_error(dangling("category_id", row.category, TABLES[2])),
            }
        }
        // Stable: the records of a class stay in the order of the file.
        kept.sort_by_key(|(image, span, _)| (*image, span.class));
        let mut spans = Vec::with_capacity(kept.len());
        let mut counts = vec![(0u32, 0u32); images.len()];
        for same in kept.chunk_by(|a, b| (a.0, a.1.class) == (b.0, b.1.class)) {
            let whole = same.iter().filter(|(_, _, covers)| *covers);
            let before = spans.len();
            if !once || same.len() == 1 {
                spans.extend(whole.map(|(_, span, _)| *span));
            }
            let (added, (first, count)) = (spans.len() - before, &mut counts[same[0].0]);
            skipped += same.len() - added;
            if *count == 0 {
                *first = before as u32;
            }
            *count += added as u32;
        }
        spans.shrink_to_fit();
        let images = images.into_iter().zip(counts).filter(|(_, (_, count))| *count > 0).collect();
        let names = categories.iter().map(|c| name(&c.name)).collect();
        Ok(Self { annotations: Annotations { path: path.into(), spans }, images, names, skipped })
    }
}

/// Where each id stands in its table; ids that occur again are errors.
pub(crate) fn places(
    path: &Path,
    table: &str,
    ids: impl ExactSizeIterator<Item = i64>,
    on_error: &mut dyn FnMut(DataError),
) -> HashMap<i64, usize> {
    let mut places = HashMap::with_capacity(ids.len());
    for (at, id) in ids.enumerate() {
        if let Some(before) = places.insert(id, at) {
            let [first, second] = [before, at].map(|at| format!("{table}[{at}].id"));
            on_error(DataError::Duplicate { path: path.into(), first, second, id: id.to_string() });
        }
    }
    places
}

impl Annotations {
    fn of(&self, (first, count): (u32, u32)) -> &[Span] {
        &self.spans[first as usize..][..count as usize]
    }

    /// Classes among some records, in order.
    pub(crate) fn classes(&self, records: (u32, u32)) -> Vec<u16> {
        let mut classes: Vec<u16> = self.of(records).iter().map(|span| span.class).collect();
        classes.dedup();
        classes
    }

    /// The union of a class's masks among some records, as large as their image, (height, width).
    pub(crate) fn mask(&self, records: (u32, u32), class: u16, (height, width): (u32, u32)) -> Result<Rle, DataError> {
        #[derive(Deserialize)]
        struct Masked {
            segmentation: Segmentation,
        }
        let path = &self.path;
        let io = |e: std::io::Error| DataError::io(path, "read", e);
        let mut file = File::open(path).map_err(io)?;
        let (mut masks, mut bytes) = (Vec::new(), Vec::new());
        for span in self.of(records).iter().filter(|span| span.class == class) {
            bytes.resize(span.length as usize, 0);
            file.seek(SeekFrom::Start(span.at)).and_then(|_| file.read_exact(&mut bytes)).map_err(io)?;
            let plain = json::without_nan(&bytes);
            let field = || format!("the record at byte {}: segmentation", span.at);
            let record: Masked = serde_json::from_slice(plain.as_deref().unwrap_or(&bytes)).map_err(|_| {
                let expected = "polygons [[x, y, ..], ..] or run lengths {size: [h, w], counts}";
                DataError::field(path, field(), expected, "something else")
            })?;
            masks.push(instances::segmentation_mask(path, field, &record.segmentation, (height, width))?);
        }
        let field = || format!("{} records of one image", masks.len());
        merge(&masks, Merge::Union).map_err(|e| DataError::Mask { path: path.into(), field: field(), reason: e.to_string() })
    }
}
