//! Masks by machine, written image by image beside the annotation file that they become: a stopped call goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use coco_mask::Rle;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::read::{BoxFile, BoxImage};
use crate::DataError;

/// A box's mask.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineMask {
    /// As large as the image.
    pub mask: Rle,
    /// What the model thinks of it.
    pub score: f32,
}

/// What was written at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasksWritten {
    /// The annotation file.
    pub path: PathBuf,
    /// Images with a mask.
    pub images: usize,
    /// Masks.
    pub masks: usize,
    /// Boxes in which the model found nothing.
    pub empty: usize,
}

/// The first line: what the others are of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    boxes: String,
    fingerprint: String,
    model: String,
}

/// One image's line.
#[derive(Serialize, Deserialize)]
struct Line {
    image: i64,
    masks: Vec<Runs>,
}

#[derive(Serialize, Deserialize)]
struct Runs {
    counts: String,
    score: f32,
}

/// The masks of a [`BoxFile`] while they are made: a line of JSON per image in `OUT.lines`, and `OUT` when all are there.
#[derive(Debug)]
pub struct MaskLines {
    out: PathBuf,
    path: PathBuf,
    /// None before the first line is written.
    file: Option<File>,
    head: Head,
    done: Places,
    end: u64,
}

/// Where the line of an image lies: offset and length, by the image's id.
type Places = HashMap<i64, (u64, usize)>;

fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl MaskLines {
    /// Opens the lines beside `out`, or begins them. `model` says whose masks they are. A torn last line is cut off.
    ///
    /// # Errors
    /// An `out` that exists, lines of other boxes or of another model, a line that was not written so, and files that cannot be
    /// written.
    pub fn open(out: &Path, boxes: &BoxFile, model: &str) -> Result<Self, DataError> {
        if out.exists() {
            return Err(exists(out, "it is there already; choose another file, or remove it"));
        }
        let path = beside(out, ".lines");
        let head = Head {
            boxes: boxes.path().display().to_string(),
            fingerprint: format!("{:016x}", boxes.fingerprint()),
            model: model.to_owned(),
        };
        let io = |e| DataError::io(&beside(out, ".lines"), "open", e);
        let lines = Self { out: out.into(), path, file: None, head, done: Places::new(), end: 0 };
        let (path, head) = (&lines.path, &lines.head);
        if std::fs::metadata(path).map_or(true, |m| m.len() == 0) {
            return Ok(lines);
        }
        let (found, done, end) = known(path, boxes)?;
        match found {
            Some(found) if (&found.fingerprint, &found.model) == (&head.fingerprint, &head.model) => {}
            Some(Head { boxes, model, .. }) => {
                return Err(exists(path, &format!("it holds masks of {boxes} by {model}; choose another file, or remove it")));
            }
            None => return Err(exists(path, "it is there already and holds no masks; choose another file, or remove it")),
        }
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(end)).map_err(io)?;
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(io)?;
        Ok(Self { file: Some(file), done, end, ..lines })
    }

    /// The file, begun with its head if it is not there.
    fn append(&mut self, line: &str) -> Result<(), DataError> {
        let io = |e| DataError::io(&self.path, "write", e);
        if self.file.is_none() {
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path).map_err(io)?;
            let text = serde_json::to_string(&self.head).map_err(|e| io(e.into()))? + "\n";
            file.write_all(text.as_bytes()).map_err(io)?;
            (self.file, self.end) = (Some(file), text.len() as u64);
        }
        // One write per line: a kill between lines leaves whole lines.
        self.file.iter_mut().try_for_each(|file| file.write_all(line.as_bytes())).map_err(io)?;
        self.end += line.len() as u64;
        Ok(())
    }

    /// Whether an image's line is there.
    #[must_use]
    pub fn has(&self, image: &BoxImage) -> bool {
        self.done.contains_key(&image.id)
    }

    /// How many images' lines are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether no image is done yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Keeps the masks of an image, in the order of its boxes.
    ///
    /// # Errors
    /// Another number of masks than of boxes, a mask of another size than the image, and a file that cannot be written.
    pub fn push(&mut self, image: &BoxImage, masks: &[MachineMask]) -> Result<(), DataError> {
        let wrong = |found: String| {
            DataError::field(&self.path, format!("image {}", image.id), "a mask per box, as large as the image", found)
        };
        if masks.len() != image.boxes.len() {
            return Err(wrong(format!("{} masks for {} boxes", masks.len(), image.boxes.len())));
        }
        if let Some(m) = masks.iter().find(|m| (m.mask.width(), m.mask.height()) != (image.width, image.height)) {
            return Err(wrong(format!("{} x {} pixels for {} x {}", m.mask.width(), m.mask.height(), image.width, image.height)));
        }
        let runs = masks.iter().map(|m| Runs { counts: m.mask.to_compressed(), score: m.score });
        let line = Line { image: image.id, masks: runs.collect() };
        let mut text = serde_json::to_string(&line).map_err(|e| DataError::io(&self.path, "write", e.into()))?;
        text.push('\n');
        self.append(&text)?;
        self.done.insert(image.id, (self.end - text.len() as u64, text.len()));
        Ok(())
    }

    /// Writes the annotation file, as Objects365's reader takes it, from the lines of all images, and removes the lines. The file is
    /// written under another name and renamed, so it is either whole or absent.
    ///
    /// # Errors
    /// An image without a line, and files that cannot be read or written.
    pub fn finish(mut self, boxes: &BoxFile) -> Result<MasksWritten, DataError> {
        let partial = beside(&self.out, ".partial");
        let io = |e| DataError::io(&partial, "write", e);
        let mut writer = BufWriter::new(File::create(&partial).map_err(io)?);
        let mut written = MasksWritten { path: self.out.clone(), images: 0, masks: 0, empty: 0 };
        writer.write_all(b"{\"images\":[").map_err(io)?;
        for (i, image) in boxes.images().iter().enumerate() {
            let record = json!({"id": image.id, "file_name": image.file_name, "height": image.height, "width": image.width});
            write!(writer, "{}{record}", if i == 0 { "" } else { ",\n" }).map_err(io)?;
        }
        writer.write_all(b"],\n\"annotations\":[").map_err(io)?;
        for image in boxes.images() {
            let before = written.masks;
            for record in self.records(image)? {
                match record {
                    Some(record) => {
                        write!(writer, "{}{record}", if written.masks == 0 { "" } else { ",\n" }).map_err(io)?;
                        written.masks += 1;
                    }
                    None => written.empty += 1,
                }
            }
            written.images += usize::from(written.masks > before);
        }
        let categories: Vec<_> = boxes.categories().iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
        write!(writer, "],\n\"categories\":{}}}\n", json!(categories)).map_err(io)?;
        let file = writer.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync_all().map_err(io)?;
        drop(file);
        std::fs::rename(&partial, &self.out).map_err(|e| DataError::io(&self.out, "create", e))?;
        std::fs::remove_file(&self.path).map_err(|e| DataError::io(&self.path, "remove", e))?;
        Ok(written)
    }

    /// An image's annotations; none for a box in which nothing was found.
    fn records(&mut self, image: &BoxImage) -> Result<Vec<Option<serde_json::Value>>, DataError> {
        let path = &self.path;
        let (Some(&(at, length)), Some(file)) = (self.done.get(&image.id), &mut self.file) else {
            return Err(DataError::field(path, format!("image {}", image.id), "a line", "nothing"));
        };
        let mut bytes = vec![0; length];
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|e| DataError::io(path, "read", e))?;
        let broken = |reason: String| DataError::Mask { path: path.clone(), field: format!("image {}", image.id), reason };
        let line: Line = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        let record = |(b, runs): (&super::BoxPrompt, &Runs)| {
            let mask = Rle::from_compressed(image.height, image.width, &runs.counts).map_err(|e| broken(e.to_string()))?;
            let segmentation = json!([{"size": [image.height, image.width], "counts": runs.counts}]);
            Ok((!mask.is_empty()).then(|| {
                json!({"id": b.id, "image_id": image.id, "category_id": b.category, "bbox": mask.bbox(), "area": mask.area(),
                    "iscrowd": 0, "score": runs.score, "segmentation": segmentation})
            }))
        };
        image.boxes.iter().zip(&line.masks).map(record).collect()
    }
}

fn exists(path: &Path, reason: &str) -> DataError {
    DataError::io(path, "write", std::io::Error::new(std::io::ErrorKind::AlreadyExists, reason))
}

/// The head and the lines that are there, and where the last whole one ends.
fn known(path: &Path, boxes: &BoxFile) -> Result<(Option<Head>, Places, u64), DataError> {
    let counts: HashMap<i64, usize> = boxes.images().iter().map(|i| (i.id, i.boxes.len())).collect();
    let io = |e| DataError::io(path, "read", e);
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
    let (mut head, mut done, mut at, mut number) = (None, HashMap::new(), 0u64, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let length = reader.read_until(b'\n', &mut bytes).map_err(io)?;
        if bytes.last() != Some(&b'\n') {
            return Ok((head, done, at));
        }
        number += 1;
        if number == 1 {
            head = serde_json::from_slice(&bytes).ok();
            if head.is_none() {
                return Ok((None, done, at));
            }
        } else {
            let line: Option<Line> = serde_json::from_slice(&bytes).ok();
            // Of other boxes the numbers need not fit; the head says so.
            let Some(line) = line else {
                return Err(DataError::field(path, format!("line {number}"), "the masks of an image", "something else"));
            };
            if counts.get(&line.image) == Some(&line.masks.len()) {
                done.insert(line.image, (at, length));
            }
        }
        at += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three images of 6 x 4 pixels with two boxes each.
    fn boxes(folder: &Path) -> BoxFile {
        let images: Vec<_> =
            (1..=3).map(|i| json!({"id": i, "file_name": format!("{i}.jpg"), "height": 4, "width": 6})).collect();
        let row = |i: i64, c: i64| json!({"id": i * 10 + c, "image_id": i, "category_id": c, "bbox": [1, 1, 3, 2]});
        let rows: Vec<_> = (1..=3).flat_map(|i| [row(i, 1), row(i, 2)]).collect();
        let categories = json!([{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}]);
        let path = folder.join("boxes.json");
        std::fs::write(&path, json!({"images": images, "annotations": rows, "categories": categories}).to_string()).unwrap();
        BoxFile::read(&path).unwrap()
    }

    fn mask(seed: usize) -> MachineMask {
        let pixels: Vec<u8> = (0..24).map(|i| u8::from((i * 7 + seed).is_multiple_of(5))).collect();
        MachineMask { mask: Rle::from_row_major(4, 6, &pixels).unwrap(), score: seed as f32 / 10.0 }
    }

    fn masks(image: &BoxImage) -> [MachineMask; 2] {
        [mask(image.id as usize), mask(image.id as usize + 1)]
    }

    /// Everything in one call.
    fn whole(folder: &Path, boxes: &BoxFile) -> Vec<u8> {
        let out = folder.join("whole.json");
        let mut lines = MaskLines::open(&out, boxes, "toy").unwrap();
        boxes.images().iter().for_each(|image| lines.push(image, &masks(image)).unwrap());
        let written = lines.finish(boxes).unwrap();
        assert_eq!(written, MasksWritten { path: out.clone(), images: 3, masks: 6, empty: 0 });
        std::fs::read(out).unwrap()
    }

    #[test]
    fn a_call_goes_on_wherever_it_was_stopped() {
        let temp = tempfile::tempdir().unwrap();
        let boxes = boxes(temp.path());
        let wanted = whole(temp.path(), &boxes);
        let (out, path) = (temp.path().join("o.json"), temp.path().join("o.json.lines"));
        let mut lines = MaskLines::open(&out, &boxes, "toy").unwrap();
        // Another order than the file's.
        for image in boxes.images().iter().rev() {
            lines.push(image, &masks(image)).unwrap();
        }
        drop(lines);
        let all = std::fs::read(&path).unwrap();
        for cut in (0..all.len()).step_by(5).chain([all.len() - 1, all.len()]) {
            std::fs::write(&path, &all[..cut]).unwrap();
            let opened = MaskLines::open(&out, &boxes, "toy");
            if cut > 0 && !all[..cut].contains(&b'\n') {
                // Killed within the first line: nothing is lost, and it is said what is there.
                assert!(opened.unwrap_err().to_string().contains("holds no masks"));
                continue;
            }
            let mut lines = opened.unwrap();
            let done = all[..cut].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
            assert_eq!(lines.len(), done, "{cut}");
            for image in boxes.images() {
                if !lines.has(image) {
                    lines.push(image, &masks(image)).unwrap();
                }
            }
            lines.finish(&boxes).unwrap();
            assert!(std::fs::read(&out).unwrap() == wanted && !path.exists(), "{cut}");
            std::fs::remove_file(&out).unwrap();
        }
    }

    #[test]
    fn other_calls_are_not_mixed() {
        let temp = tempfile::tempdir().unwrap();
        let boxes = boxes(temp.path());
        let out = temp.path().join("o.json");
        let mut lines = MaskLines::open(&out, &boxes, "toy").unwrap();
        assert!(!temp.path().join("o.json.lines").exists(), "nothing is written before the first mask");
        let image = &boxes.images()[0];
        assert!(lines.push(image, &[mask(1)]).unwrap_err().to_string().contains("1 masks for 2 boxes"));
        let small = MachineMask { mask: Rle::empty(4, 5).unwrap(), score: 0.0 };
        assert!(lines.push(image, &[mask(1), small]).unwrap_err().to_string().contains("5 x 4 pixels for 6 x 4"));
        lines.push(image, &masks(image)).unwrap();
        assert!(lines.finish(&boxes).unwrap_err().to_string().contains("image 2"));
        let says = |boxes: &BoxFile, model: &str, words: &str| {
            let error = MaskLines::open(&out, boxes, model).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(&boxes, "another", "by toy; choose another file");
        let text = std::fs::read_to_string(boxes.path()).unwrap().replace("cup", "mug");
        std::fs::write(temp.path().join("other.json"), text).unwrap();
        says(&BoxFile::read(&temp.path().join("other.json")).unwrap(), "toy", "it holds masks of");
        std::fs::write(temp.path().join("o.json.lines"), "hello\n").unwrap();
        says(&boxes, "toy", "holds no masks");
        std::fs::write(&out, "{}").unwrap();
        says(&boxes, "toy", "is there already");
    }

    #[test]
    fn objects365_is_read_from_it() {
        let temp = tempfile::tempdir().unwrap();
        let boxes = boxes(temp.path());
        let root = temp.path().join("Object365/raw/Objects365_v1/2019-08-02");
        std::fs::create_dir_all(root.join("train")).unwrap();
        let mut lines = MaskLines::open(&root.join("o365_res_instances.json"), &boxes, "toy").unwrap();
        for image in boxes.images() {
            image::RgbImage::new(6, 4).save(root.join("train").join(&image.file_name)).unwrap();
            let empty = MachineMask { mask: Rle::empty(4, 6).unwrap(), score: 0.0 };
            let second = if image.id == 2 { empty } else { mask(image.id as usize + 1) };
            lines.push(image, &[mask(image.id as usize), second]).unwrap();
        }
        assert_eq!(lines.finish(&boxes).unwrap().empty, 1);
        let set = crate::Dataset::open(&crate::DatasetSpec::new(temp.path(), "objects365"), "train").unwrap();
        let items = crate::sequential(&set, None).unwrap();
        let found: Vec<(i64, String)> = items.iter().map(|i| (set.image(i).id, set.text(i).into_owned())).collect();
        let wanted = [(1, "cup"), (1, "dog"), (2, "cup"), (3, "cup"), (3, "dog")];
        assert_eq!(found, wanted.map(|(id, name)| (id, name.to_owned())));
        for (mask, item) in set.masks(&items).unwrap().iter().zip(&items) {
            let id = set.image(item).id as usize + usize::from(set.text(item) == "dog");
            assert_eq!(*mask, self::mask(id).mask);
        }
    }
}
