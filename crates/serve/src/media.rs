//! `Media`: images of a folder that requests may name; names are looked up in a listing, and nothing else reaches the disk.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;

use crate::refusal::Refusal;

/// Most files of a listing.
const FILES: usize = 1_000_000;
/// Deepest folder.
const DEPTH: usize = 16;
/// A listing is made again for an unknown name, but not more often.
const AGAIN: Duration = Duration::from_secs(1);

/// A listing of a folder and what lies below it.
#[derive(Debug)]
pub(crate) struct Media {
    folder: PathBuf,
    state: Mutex<Listing>,
}

#[derive(Debug)]
struct Listing {
    files: Vec<PathBuf>,
    made: Instant,
}

impl Media {
    /// Lists a folder.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Self> {
        let files = list(folder)?;
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(Listing { files, made: Instant::now() }) })
    }

    /// The bytes of the file that an address names by its last parts: of several files with that name the one whose folders agree
    /// with the address furthest.
    ///
    /// # Errors
    /// A name that no file or several have, or a file beyond `most` bytes.
    pub(crate) fn read(&self, address: &str, most: usize) -> Result<Bytes, Refusal> {
        let parts = parts(address);
        let path = self.find(&parts)?;
        let failed = |error: std::io::Error| Refusal::failed(format!("an image of the media folder cannot be read: {error}"));
        let size = path.metadata().map_err(failed)?.len();
        if size > most as u64 {
            return Err(Refusal::too_large(format!("the image has {size} bytes; at most {most} are read")));
        }
        Ok(std::fs::read(path).map_err(failed)?.into())
    }

    fn find(&self, parts: &[String]) -> Result<PathBuf, Refusal> {
        let mut listing = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = best(&listing.files, parts);
        if found.is_empty()
            && listing.made.elapsed() > AGAIN
            && let Ok(files) = list(&self.folder)
        {
            *listing = Listing { files, made: Instant::now() };
        }
        match best(&listing.files, parts).as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Refusal::not_found("the image of a task is not in the folder of --media")),
            several => Err(Refusal::invalid(format!("{} files of --media have the name of a task's image", several.len()))),
        }
    }
}

/// Files whose path ends as the address does, those that agree in most parts.
fn best<'a>(files: &'a [PathBuf], parts: &[String]) -> Vec<&'a PathBuf> {
    let agreement = |path: &Path| {
        let own = path.components().rev().map(|c| c.as_os_str().to_string_lossy());
        own.zip(parts.iter().rev()).take_while(|(own, part)| own.as_ref() == part.as_str()).count()
    };
    let most = files.iter().map(|path| agreement(path)).max().unwrap_or(0);
    if most == 0 { Vec::new() } else { files.iter().filter(|path| agreement(path) == most).collect() }
}

/// The parts of an address's path. Label Studio serves local files as `/data/local-files/?d=PATH`.
fn parts(address: &str) -> Vec<String> {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let local = query.split('&').find_map(|pair| pair.strip_prefix("d="));
    decoded(local.unwrap_or(path)).split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Percent-decoded text.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Files below a folder; links to folders are not followed.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() && files.len() < FILES {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_never_walked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["upload/1/a b.png", "upload/2/c.png", "upload/3/c.png"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        std::fs::write(folder.path().parent().unwrap().join("saymask-secret"), "secret").unwrap();
        let media = Media::open(folder.path()).unwrap();
        let read = |address: &str| media.read(address, 100);
        assert_eq!(read("/data/upload/1/a%20b.png").unwrap(), "upload/1/a b.png");
        assert_eq!(read("http://label.studio/data/upload/3/c.png").unwrap(), "upload/3/c.png");
        assert_eq!(read("/data/local-files/?d=upload/2/c.png").unwrap(), "upload/2/c.png");
        assert!(read("c.png").unwrap_err().message.contains("2 files"));
        for bad in ["../saymask-secret", "/etc/passwd", "..%2fsaymask-secret", "", "%", "%ff", "upload/1"] {
            assert_eq!(read(bad).unwrap_err().status.as_u16(), 404, "{bad}");
        }
        assert!(media.read("a b.png", 3).unwrap_err().message.contains("at most 3"));
        std::fs::remove_file(folder.path().parent().unwrap().join("saymask-secret")).unwrap();
    }
}
