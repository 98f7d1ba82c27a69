//! PhraseCut (`VGPhraseCut_v0`): phrases for regions of Visual Genome's images, with polygons drawn by annotators.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use coco_mask::Rle;
use pil_ops::{MAX_COORDINATE, fill_polygon};
use rayon::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::dataset::{Collection, Dataset, DatasetSpec, ImageInfo, Photo, Referent};
use crate::layout::{ImageFinder, PHRASECUT};
use crate::value::{At, read_list};
use crate::{AnnId, DataError, Sentence};

/// Its files of phrases, `refer_SPLIT.json`. `val` lacks the images of `miniv`; `val_miniv` is the whole.
pub(crate) const SPLITS: [&str; 4] = ["train", "val", "test", "miniv"];
/// Where images lie below the set's folder: its own place, then Visual Genome's two.
pub(crate) const IMAGES: [&str; 3] = ["images", "images/VG_100K", "images/VG_100K_2"];
/// Largest image; Visual Genome's have a million pixels. Masks are drawn at this size, so a record must not ask for more.
const MAX_PIXELS: u64 = 1 << 26;

/// A row of `image_data_split.json`.
#[derive(Deserialize)]
pub(crate) struct ImageRow {
    pub(crate) image_id: i64,
    pub(crate) width: u32,
    pub(crate) height: u32,
    split: String,
    #[serde(default)]
    coco_id: Option<i64>,
}

impl ImageRow {
    /// COCO's photograph where it is one.
    fn photo(&self) -> Photo {
        match self.coco_id {
            Some(id) if id != 0 => Photo::numbered(Collection::Coco, id),
            _ => Photo::numbered(Collection::VisualGenome, self.image_id),
        }
    }
}

/// A phrase and its region, a row of `refer_SPLIT.json`.
#[derive(Deserialize)]
pub(crate) struct Task {
    pub(crate) image_id: i64,
    #[serde(default)]
    ann_ids: Vec<i64>,
    instance_boxes: Vec<[f64; 4]>,
    /// Instances, their polygons, points.
    #[serde(rename = "Polygons")]
    polygons: Vec<Vec<Vec<Point>>>,
    phrase: String,
    #[serde(default)]
    phrase_structure: Option<Structure>,
}

/// Cut to whole pixels, as the set's own tools do before they draw.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "[f64; 2]")]
struct Point(i32, i32);

impl TryFrom<[f64; 2]> for Point {
    type Error = String;

    fn try_from([x, y]: [f64; 2]) -> Result<Self, String> {
        let most = f64::from(MAX_COORDINATE);
        if x.abs() <= most && y.abs() <= most {
            return Ok(Self(x as i32, y as i32));
        }
        Err(format!("point ({x}, {y}) is more than {most} pixels from 0"))
    }
}

#[derive(Deserialize, Default)]
struct Structure {
    #[serde(default)]
    name: String,
    #[serde(default)]
    attributes: Vec<String>,
    #[serde(default)]
    relation_descriptions: Vec<Value>,
    #[serde(default, rename = "type")]
    kind: String,
}

/// Frequencies of names and attributes, highest first (`name_att_rel_count.json`).
#[derive(Deserialize)]
struct Counts {
    cat: Vec<(String, f64)>,
    att: Vec<(String, f64)>,
}

/// The images of a folder and the ranks of its words.
pub(crate) struct ImageTable {
    pub(crate) by_id: HashMap<i64, ImageRow>,
    ranks: Option<[HashMap<String, usize>; 2]>,
}

/// Reads a list of records; what is wrong with one is looked at again to name its field.
fn read<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    inspect: fn(&At<'_>) -> Result<(), DataError>,
) -> Result<Vec<T>, DataError> {
    let mut bytes = crate::json::read(path)?;
    let json = |e: &serde_json::Error| DataError::Json { path: path.into(), reason: e.to_string() };
    let mut out: Vec<T> = Vec::new();
    let mut read = read_list(&bytes, |row| out.push(row));
    // NaN stops serde's parser; as text it is passed over or named.
    if read.as_ref().is_err_and(|e| !e.is_data())
        && let Some(plain) = crate::json::without_nan(&bytes)
    {
        (bytes, out) = (plain, Vec::new());
        read = read_list(&bytes, |row| out.push(row));
    }
    let Err(error) = read else { return Ok(out) };
    if !error.is_data() {
        return Err(json(&error));
    }
    let (mut at, mut bad) = (0, Ok(()));
    let again = read_list(&bytes, |row: Value| {
        if at == out.len() {
            bad = inspect(&At::new(path, format!("{name}[{at}]"), &row));
        }
        at += 1;
    });
    match (bad, again) {
        (Err(error), _) => Err(error),
        (Ok(()), Err(error)) if !error.is_data() => Err(json(&error)),
        (Ok(()), Err(_)) => Err(DataError::field(path, "(top level)", "a list of records", "something else")),
        (Ok(()), Ok(())) => Err(json(&error)),
    }
}

fn pixels(at: &At<'_>) -> Result<(), DataError> {
    let right = at.value.as_u64().is_some_and(|n| (1..=65_535).contains(&n));
    if right { Ok(()) } else { Err(at.wrong("a number of pixels from 1 to 65535")) }
}

fn inspect_image(at: &At<'_>) -> Result<(), DataError> {
    at.key("image_id")?.whole()?;
    pixels(&at.key("width")?)?;
    pixels(&at.key("height")?)?;
    at.key("split")?.text()?;
    at.optional("coco_id")?.map_or(Ok(()), |c| c.whole().map(|_| ()))
}

fn inspect_task(at: &At<'_>) -> Result<(), DataError> {
    at.key("image_id")?.whole()?;
    at.key("phrase")?.text()?;
    if let Some(ids) = at.optional("ann_ids")? {
        ids.items()?.iter().try_for_each(|id| id.whole().map(|_| ()))?;
    }
    for b in at.key("instance_boxes")?.items()? {
        b.items()?.iter().try_for_each(|n| n.number().map(|_| ()))?;
        if b.items()?.len() != 4 {
            return Err(b.wrong("four numbers [x, y, width, height]"));
        }
    }
    for instance in at.key("Polygons")?.items()? {
        for point in instance.items()?.iter().map(At::items).collect::<Result<Vec<_>, _>>()?.concat() {
            let right = <[f64; 2]>::deserialize(point.value).ok().and_then(|p| Point::try_from(p).ok());
            right.ok_or_else(|| point.wrong(&format!("a point [x, y] within {MAX_COORDINATE} pixels of 0")))?;
        }
    }
    if let Some(structure) = at.optional("phrase_structure")? {
        let right = Structure::deserialize(structure.value).is_ok();
        let expected = "a dictionary of name, attributes, relation_descriptions and type";
        return if right { Ok(()) } else { Err(structure.wrong(expected)) };
    }
    Ok(())
}

impl ImageTable {
    pub(crate) fn read(folder: &Path) -> Result<Self, DataError> {
        // The documents call it by the second name, the code by the first.
        let names = ["image_data_split.json", "image_data_split3000.json"];
        let Some(path) = names.iter().map(|n| folder.join(n)).find(|p| p.is_file()) else {
            let hint = format!("{} is accepted, too", names[1]);
            return Err(DataError::Missing { path: folder.join(names[0]), what: "image table", hint });
        };
        let rows: Vec<ImageRow> = read(&path, "images", inspect_image)?;
        for (i, p) in rows.iter().enumerate() {
            let sides = [p.width, p.height].iter().all(|s| (1..=65_535).contains(s));
            if !sides || u64::from(p.width) * u64::from(p.height) > MAX_PIXELS {
                let found = format!("{} x {}", p.width, p.height);
                let expected = "width x height with sides from 1 to 65535 and at most 67108864 pixels";
                return Err(DataError::field(&path, format!("images[{i}]"), expected, found));
            }
        }
        let counts = folder.join("name_att_rel_count.json");
        let ranks = match std::fs::read(&counts) {
            Ok(bytes) => Some(ranks(&counts, &bytes)?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(DataError::io(&counts, "read", e)),
        };
        Ok(Self { by_id: rows.into_iter().map(|p| (p.image_id, p)).collect(), ranks })
    }

    /// Photographs outside `train`.
    pub(crate) fn held_out(&self) -> impl Iterator<Item = Photo> {
        self.by_id.values().filter(|p| p.split != "train").map(ImageRow::photo)
    }

    fn find(&self, path: &Path, i: usize, task: &Task) -> Result<&ImageRow, DataError> {
        self.by_id.get(&task.image_id).ok_or_else(|| DataError::Dangling {
            path: path.into(),
            field: format!("tasks[{i}].image_id"),
            id: task.image_id.to_string(),
            table: "image_data_split.json",
        })
    }

    /// The union of everything drawn for a phrase.
    pub(crate) fn mask(&self, path: &Path, i: usize, task: &Task) -> Result<Rle, DataError> {
        let row = self.find(path, i, task)?;
        let (w, h) = (row.width as usize, row.height as usize);
        let wrong =
            |field: String, e: &dyn std::fmt::Display| DataError::Mask { path: path.into(), field, reason: e.to_string() };
        let field = || format!("tasks[{i}].Polygons");
        let mut image = pil_ops::Image::new(w, h, 1, vec![0; w * h]).map_err(|e| wrong(field(), &e))?;
        for (k, instance) in task.polygons.iter().enumerate() {
            // One point is no polygon to the set's own tools.
            for (j, polygon) in instance.iter().enumerate().filter(|(_, p)| p.len() >= 2) {
                let points: Vec<(i32, i32)> = polygon.iter().map(|p| (p.0, p.1)).collect();
                fill_polygon(&mut image, &points, 1).map_err(|e| wrong(format!("{}[{k}][{j}]", field()), &e))?;
            }
        }
        Rle::from_row_major(row.height, row.width, image.data()).map_err(|e| wrong(field(), &e))
    }

    /// The set's own subsets that need no list of words beside its files: counts of instances, form of the phrase, size,
    /// ranks of name and attributes, and whether COCO has the image.
    fn groups(&self, task: &Task, row: &ImageRow, area: u64) -> Vec<&'static str> {
        let none = Structure::default();
        let s = task.phrase_structure.as_ref().unwrap_or(&none);
        let (attributes, relations) = (s.attributes.len(), s.relation_descriptions.len());
        let (instances, share) = (task.instance_boxes.len(), area as f64 / (f64::from(row.width) * f64::from(row.height)));
        let mut out = vec![
            (instances == 1, "i_single"),
            ((2..5).contains(&instances), "i_multi"),
            (instances >= 5, "i_many"),
            (attributes > 0, "p_att"),
            (attributes > 1, "p_attm"),
            (relations > 0, "p_rel"),
            (relations > 1, "p_relm"),
            (attributes > 0 && relations > 0, "p_att_rel"),
            (s.kind == "name", "p_name"),
            (s.kind == "attribute", "p_att+"),
            (s.kind == "relation", "p_rel+"),
            (s.kind == "verbose", "p_verbose"),
            (share < 0.02, "s_small"),
            ((0.02..=0.2).contains(&share), "s_mid"),
            (share > 0.2, "s_large"),
            (row.coco_id.is_some_and(|id| id != 0), "d_cocotv"),
            (row.coco_id.is_none_or(|id| id == 0), "d_notcocotv"),
        ];
        if let Some([names, words]) = &self.ranks {
            let name = names.get(&s.name).copied().unwrap_or(usize::MAX);
            let word = s.attributes.iter().filter_map(|a| words.get(a)).min().copied().unwrap_or(usize::MAX);
            out.extend([
                (name < 20, "c20"),
                (name < 100, "c100"),
                (name < 500, "c500"),
                ((20..100).contains(&name), "c21-100"),
                ((100..500).contains(&name), "c101-500"),
                (name >= 500, "c500+"),
                (word < 20, "a20"),
                (word < 100, "a100"),
                (word < 200, "a200"),
                ((20..100).contains(&word), "a21-100"),
                ((100..200).contains(&word), "a101-200"),
                (word >= 200, "a200+"),
            ]);
        }
        out.into_iter().filter_map(|(holds, name)| holds.then_some(name)).collect()
    }
}

fn ranks(path: &Path, bytes: &[u8]) -> Result<[HashMap<String, usize>; 2], DataError> {
    let counts: Counts =
        serde_json::from_slice(bytes).map_err(|e| DataError::Json { path: path.into(), reason: e.to_string() })?;
    Ok([counts.cat, counts.att].map(|list| list.into_iter().zip(0..).map(|((word, _), rank)| (word, rank)).collect()))
}

/// The phrases of one file.
pub(crate) fn tasks(path: &Path) -> Result<Vec<Task>, DataError> {
    read(path, "tasks", inspect_task)
}

/// Opens `train`, `val`, `test`, `miniv`, or several joined by `_`.
pub(crate) fn open(spec: &DatasetSpec, folder: &Path, split: &str) -> Result<Dataset, DataError> {
    let parts: Vec<&str> = split.split('_').collect();
    if parts.iter().any(|p| !SPLITS.contains(p)) || parts.iter().collect::<BTreeSet<_>>().len() < parts.len() {
        let valid = format!("{}, or several joined by `_`", SPLITS.join(", "));
        return Err(DataError::Name { what: "split", found: split.into(), valid });
    }
    let table = ImageTable::read(folder)?;
    let finder = ImageFinder::new(folder, &IMAGES);
    let mut out = Dataset::empty(spec, split);
    let mut index: HashMap<i64, usize> = HashMap::new();
    for part in parts {
        let path = folder.join(format!("refer_{part}.json"));
        if !path.is_file() {
            let hint = format!("the phrases of split {part} of {PHRASECUT}");
            return Err(DataError::Missing { path, what: "phrase file", hint });
        }
        let tasks = tasks(&path)?;
        let mut places = Vec::with_capacity(tasks.len());
        for (i, task) in tasks.iter().enumerate() {
            let row = table.find(&path, i, task)?;
            let next = out.images.len();
            let place = *index.entry(task.image_id).or_insert(next);
            if place == next {
                let file_name = format!("{}.jpg", task.image_id);
                let path = finder.find(&file_name)?;
                out.images.push(ImageInfo {
                    id: task.image_id,
                    photo: row.photo(),
                    file_name,
                    path,
                    width: row.width,
                    height: row.height,
                });
            }
            places.push(place);
        }
        let first = out.referents.len();
        let made = tasks.into_par_iter().zip(places).enumerate().map(|(i, (task, place))| {
            let mask = table.mask(&path, i, &task)?;
            Ok(task.referent(&table, mask, first + i, place))
        });
        let mut made = made.collect::<Result<Vec<_>, DataError>>()?;
        let before = made.len();
        made.retain(|r| !r.sentences.is_empty());
        out.skipped += before - made.len();
        out.referents.append(&mut made);
    }
    Ok(out)
}

impl Task {
    pub(crate) fn phrase(&self) -> &str {
        self.phrase.trim()
    }

    fn referent(self, table: &ImageTable, mask: Rle, number: usize, image: usize) -> Referent {
        let groups = table.by_id.get(&self.image_id).map(|p| table.groups(&self, p, mask.area())).unwrap_or_default();
        let (id, text) = (number as i64, self.phrase().to_owned());
        let sentence = Sentence { id, text: text.clone(), raw: self.phrase, kind: None };
        let corners = self.instance_boxes.iter().map(|&[x, y, w, h]| [x, y, x + w, y + h]);
        let hull = corners.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
        let [x0, y0, x1, y1] = hull.unwrap_or_default();
        Referent {
            ref_id: id,
            image,
            ann_ids: self.ann_ids.into_iter().map(AnnId::Number).collect(),
            category: self.phrase_structure.map(|s| s.name).unwrap_or_default(),
            sentences: if text.is_empty() { Vec::new() } else { vec![sentence] },
            bbox: [x0, y0, x1 - x0, y1 - y0],
            mask,
            unread: Vec::new(),
            groups,
        }
    }
}
