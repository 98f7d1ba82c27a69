//! Samples of a tar, one after the other: an image and its sentences under one name.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;
use tar::Archive;

use crate::ShardError;
use crate::output::Fault;

/// Most bytes of one file in a tar.
const MOST_BYTES: u64 = 256 << 20;

/// Bytes of a tar's block.
const BLOCK: usize = 512;

/// Endings of images.
const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Keys of a JSON file that hold one sentence or a list of them, in the order in which they are looked for.
const SENTENCES: [&str; 6] = ["sentences", "sentence", "captions", "caption", "texts", "text"];

/// An image and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name in the tar, folders included, up to the first dot.
    pub key: String,
    /// The image file's bytes, not decoded.
    pub image: Vec<u8>,
    /// The lines of its text file, or the sentences of its JSON file; none where it has neither.
    pub sentences: Vec<String>,
}

/// Reads tars.
#[derive(Debug, Clone, Copy)]
pub struct Samples;

impl Samples {
    /// Hands every sample of a tar to `each`, in order, and what cannot be one as a [`Fault`]; stops where `each` says false. A tar that
    /// is damaged further in gives the samples before the damage and a fault that says where it is.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn read(path: &Path, mut each: impl FnMut(Result<Sample, Fault>) -> bool) -> Result<(), ShardError> {
        let file = File::open(path).map_err(ShardError::io(path, "open"))?;
        let mut archive = Archive::new(BufReader::with_capacity(1 << 20, file));
        let entries = archive.entries().map_err(ShardError::io(path, "read"))?;
        let mut open: Option<Parts> = None;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    damaged(open.as_ref().map_or("", |parts| &parts.key), &error, each);
                    return Ok(());
                }
            };
            let Some(name) = Name::of(&entry) else { continue };
            if open.as_ref().is_some_and(|parts| parts.key != name.key)
                && let Some(whole) = open.take()
                && !each(whole.finish())
            {
                return Ok(());
            }
            match contents(entry) {
                Ok(bytes) => open.get_or_insert_with(|| Parts::new(&name.key)).add(&name.ending, bytes),
                Err(error) => {
                    damaged(&name.key, &error, each);
                    return Ok(());
                }
            }
        }
        let last = open.as_ref().map_or_else(String::new, |parts| parts.key.clone());
        let goes_on = open.is_none_or(|last| each(last.finish()));
        if goes_on && !has_end(path).map_err(ShardError::io(path, "read"))? {
            let what = "the tar ends behind this sample without the mark of its end: it was probably cut off".into();
            each(Err(Fault { key: last, what }));
        }
        Ok(())
    }
}

/// Names the sample at which a tar is damaged; that sample may lack files that the damage took, so it is none.
fn damaged(key: &str, error: &std::io::Error, mut each: impl FnMut(Result<Sample, Fault>) -> bool) {
    let place = if key.is_empty() { "from its beginning on" } else { "at this sample" };
    let what = format!("the tar is damaged {place} ({error}); what follows is lost");
    each(Err(Fault { key: key.to_owned(), what }));
}

/// Whether a tar ends with a block of zeros, as all of them do that were written to their end; without, one that was cut off between
/// two files looks whole.
fn has_end(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < BLOCK as u64 {
        return Ok(false);
    }
    let mut block = [0; BLOCK];
    file.seek(SeekFrom::End(-(BLOCK as i64)))?;
    file.read_exact(&mut block)?;
    Ok(block.iter().all(|&byte| byte == 0))
}

/// What a file's name in a tar says.
struct Name {
    key: String,
    ending: String,
}

impl Name {
    /// Of a regular file with an ending; none for folders and the like.
    fn of(entry: &tar::Entry<'_, BufReader<File>>) -> Option<Self> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let base = name.rfind('/').map_or(0, |at| at + 1);
        let (stem, ending) = name.get(base..)?.split_once('.')?;
        let is_file = entry.header().entry_type().is_file() && !stem.is_empty();
        is_file.then(|| Self { key: name[..base + stem.len()].to_owned(), ending: ending.to_ascii_lowercase() })
    }
}

/// A file's bytes, or why they are not read; an error where the tar ends within them.
fn contents(mut entry: tar::Entry<'_, BufReader<File>>) -> std::io::Result<Result<Vec<u8>, String>> {
    let size = entry.size();
    if size > MOST_BYTES {
        return Ok(Err(format!("has a file of {size} bytes, more than {MOST_BYTES}")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        let what = format!("a file ends after {} of {size} bytes", bytes.len());
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what));
    }
    Ok(Ok(bytes))
}

/// A sample whose files are still coming.
struct Parts {
    key: String,
    image: Option<Vec<u8>>,
    sentences: Vec<String>,
    fault: Option<String>,
}

impl Parts {
    fn new(key: &str) -> Self {
        Self { key: key.to_owned(), image: None, sentences: Vec::new(), fault: None }
    }

    fn add(&mut self, ending: &str, bytes: Result<Vec<u8>, String>) {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(what) => return self.fault = Some(what),
        };
        match ending {
            ending if IMAGES.contains(&ending) => {
                let before = self.image.replace(bytes);
                if before.is_some() {
                    self.fault = Some("has two images".into());
                }
            }
            "txt" => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.sentences.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
            }
            "json" => match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => self.sentences.extend(sentences(&value)),
                Err(error) => self.fault = Some(format!("its .json is none: {error}")),
            },
            _ => {}
        }
    }

    fn finish(self) -> Result<Sample, Fault> {
        let key = self.key;
        match (self.fault, self.image) {
            (Some(what), _) => Err(Fault { key, what }),
            (None, None) => Err(Fault { key, what: format!("has no image (.{})", IMAGES.join(", .")) }),
            (None, Some(image)) => Ok(Sample { key, image, sentences: self.sentences }),
        }
    }
}

fn sentences(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()).into_iter().collect(),
        Value::Array(list) => list.iter().flat_map(sentences).collect(),
        Value::Object(map) => SENTENCES.iter().find_map(|key| map.get(*key)).map_or_else(Vec::new, sentences),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<Result<Sample, Fault>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.tar");
        std::fs::write(&path, bytes).unwrap();
        let mut out = Vec::new();
        Samples::read(&path, |sample| {
            out.push(sample);
            true
        })
        .unwrap();
        out
    }

    #[test]
    fn files_of_one_name_are_a_sample() {
        let got = read(&tar(&[
            ("a/1.jpg", b"one"),
            ("a/1.txt", b"the red circle\n\n the star \n"),
            ("a/2.json", br#"{"caption": "grass", "id": 3}"#),
            ("a/2.PNG", b"two"),
            ("a/3.seg.png", b"a map, not an image"),
            ("a/3.webp", b"three"),
            ("a/4.txt", b"nothing to look at"),
            ("a/5.json", b"{"),
            ("a/5.jpg", b"five"),
            ("README", b"no sample"),
            ("a/6.json", br#"["one", {"sentence": "two"}]"#),
            ("a/6.jpg", b"six"),
        ]));
        let sample = |key: &str, image: &[u8], sentences: &[&str]| {
            Ok(Sample { key: key.into(), image: image.into(), sentences: sentences.iter().map(|s| (*s).to_owned()).collect() })
        };
        assert_eq!(got[0], sample("a/1", b"one", &["the red circle", "the star"]));
        assert_eq!(got[1], sample("a/2", b"two", &["grass"]));
        assert_eq!(got[2], sample("a/3", b"three", &[]));
        let fault = |i: usize| got[i].clone().unwrap_err();
        assert!(fault(3).key == "a/4" && fault(3).what.starts_with("has no image"));
        assert!(fault(4).key == "a/5" && fault(4).what.contains(".json"));
        assert_eq!(got[5], sample("a/6", b"six", &["one", "two"]));
        assert_eq!(got.len(), 6);
    }

    #[test]
    fn damage_ends_a_tar_and_keeps_what_came_before() {
        let whole = tar(&[("1.jpg", &[1; 2000]), ("1.txt", b"a"), ("2.jpg", &[2; 2000]), ("2.txt", b"b"), ("3.jpg", &[3; 2000])]);
        assert_eq!(read(&whole).len(), 3);
        // A header and 2000 bytes in whole blocks; a header and one byte.
        let (image, text) = (512 + 2048, 512 + 512);
        // In the bytes of the second image; in its header; in the header of its sentences; between two files.
        for (cut, samples, key, what) in [
            (image + text + 512 + 700, 1, "2", "damaged at this sample"),
            (image + text + 100, 0, "1", "damaged at this sample"),
            (2 * image + text + 100, 1, "2", "damaged at this sample"),
            (image + text, 1, "1", "without the mark of its end"),
        ] {
            let got = read(&whole[..cut]);
            assert_eq!(got.iter().filter(|sample| sample.is_ok()).count(), samples, "{cut}: {got:?}");
            let fault = got.last().unwrap().as_ref().unwrap_err();
            assert!(fault.key == key && fault.what.contains(what), "{cut}: {got:?}");
        }
        assert!(read(b"")[0].as_ref().unwrap_err().what.contains("without the mark"));
        let mut garbled = whole.clone();
        garbled[512 + 2048 + 1024..][..100].fill(0xff);
        assert!(read(&garbled).last().unwrap().as_ref().unwrap_err().what.contains("damaged"));
        let nonsense = read(b"no tar at all, but long enough to be looked at ".repeat(20).as_slice());
        assert!(nonsense[0].as_ref().unwrap_err().what.contains("damaged from its beginning on"));
        assert!(Samples::read(Path::new("nowhere.tar"), |_| true).unwrap_err().to_string().starts_with("nowhere.tar"));
    }
}
