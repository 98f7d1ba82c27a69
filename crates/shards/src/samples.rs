//! Samples of a tar, one after the other: an image and its sentences under one name.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::Value;
use tar::Archive;

use crate::ShardError;
use crate::output::Fault;

/// Most bytes of one file in a tar.
const MOST_BYTES: u64 = 256 << 20;

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
            let member = match entry.and_then(Member::read) {
                Ok(Some(member)) => member,
                Ok(None) => continue,
                Err(error) => {
                    let key = open.as_ref().map_or("", |parts| &parts.key).to_owned();
                    let what = format!("the tar is damaged behind this sample ({error}); what follows is lost");
                    // The sample at hand may lack files that the damage took.
                    each(Err(Fault { key, what }));
                    return Ok(());
                }
            };
            if open.as_ref().is_some_and(|parts| parts.key != member.key)
                && let Some(whole) = open.take()
                && !each(whole.finish())
            {
                return Ok(());
            }
            open.get_or_insert_with(|| Parts::new(&member.key)).add(member);
        }
        if let Some(last) = open {
            each(last.finish());
        }
        Ok(())
    }
}

/// A file of a tar.
struct Member {
    key: String,
    ending: String,
    bytes: Result<Vec<u8>, String>,
}

impl Member {
    /// A regular file, whole; none for folders and the like.
    fn read(mut entry: tar::Entry<'_, BufReader<File>>) -> std::io::Result<Option<Self>> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let base = name.rfind('/').map_or(0, |at| at + 1);
        let Some(dot) = name[base..].find('.') else { return Ok(None) };
        if !entry.header().entry_type().is_file() || dot == 0 {
            return Ok(None);
        }
        let (key, ending) = (name[..base + dot].to_owned(), name[base + dot + 1..].to_ascii_lowercase());
        let size = entry.size();
        if size > MOST_BYTES {
            return Ok(Some(Self { key, ending, bytes: Err(format!("a file of {size} bytes, more than {MOST_BYTES}")) }));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        entry.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            let what = format!("`{name}` ends after {} of {size} bytes", bytes.len());
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what));
        }
        Ok(Some(Self { key, ending, bytes: Ok(bytes) }))
    }
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

    fn add(&mut self, member: Member) {
        let bytes = match member.bytes {
            Ok(bytes) => bytes,
            Err(what) => return self.fault = Some(what),
        };
        match member.ending.as_str() {
            ending if IMAGES.contains(&ending) => {
                if self.image.replace(bytes).is_some() {
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
        // In the bytes of the second image; in its header.
        for cut in [512 + 2048 + 1024 + 512 + 700, 512 + 2048 + 1024 + 100] {
            let got = read(&whole[..cut]);
            assert!(got[0].as_ref().is_ok_and(|sample| sample.key == "1") || got[0].is_err(), "{got:?}");
            assert!(got.last().unwrap().as_ref().unwrap_err().what.contains("damaged"), "{got:?}");
        }
        let mut garbled = whole.clone();
        garbled[512 + 2048 + 1024..][..100].fill(0xff);
        assert!(read(&garbled).last().unwrap().as_ref().unwrap_err().what.contains("damaged"));
        assert!(read(b"no tar at all, but long enough to be looked at ".repeat(20).as_slice())[0].is_err());
        assert!(Samples::read(Path::new("nowhere.tar"), |_| true).unwrap_err().to_string().starts_with("nowhere.tar"));
    }
}
