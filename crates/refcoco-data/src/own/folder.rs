//! Paths that a data set's own files name, kept inside its folder, and listing folders without running in circles.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::DataError;

/// Deepest nesting of folders that is followed.
const DEEPEST: usize = 16;

/// Where a record stands, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) path: PathBuf,
    /// The field: `annotations[3].sentence`, `line 3, column sentence`.
    pub(crate) field: String,
}

impl Place {
    pub(crate) fn new(path: &Path, field: impl Into<String>) -> Self {
        Self { path: path.into(), field: field.into() }
    }

    pub(crate) fn wrong(&self, expected: &str, found: impl Into<String>) -> DataError {
        DataError::field(&self.path, &self.field, expected, found)
    }

    /// A field below this one.
    pub(crate) fn below(&self, key: &str) -> Self {
        Self { path: self.path.clone(), field: format!("{}.{key}", self.field) }
    }
}

/// A relative path as it is written, refused where it leads out of the folder that it is relative to.
pub(crate) fn inside(place: &Place, written: &str) -> Result<PathBuf, DataError> {
    // Files made on Windows have the other stroke.
    let plain = written.trim().replace('\\', "/");
    let outside = || place.wrong("a path inside of the data set's folder, relative to it", format!("\"{written}\""));
    let mut depth = 0_usize;
    let mut out = PathBuf::new();
    for part in Path::new(&plain).components() {
        match part {
            Component::Normal(name) => {
                depth += 1;
                out.push(name);
            }
            Component::ParentDir => {
                depth = depth.checked_sub(1).ok_or_else(outside)?;
                out.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    // `C:/photos/a.jpg` is a relative path elsewhere than on Windows.
    let drive = plain.get(1..3).is_some_and(|s| s == ":/");
    if out.as_os_str().is_empty() || drive { Err(outside()) } else { Ok(out) }
}

/// Whether this is a file. A link that leads in a circle and a folder that may not be entered are errors, not "no".
pub(crate) fn is_file(path: &Path) -> Result<bool, DataError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(DataError::io(path, "open", e)),
    }
}

/// The file that a record names, in the first of `folders` that has it.
pub(crate) fn find(place: &Place, written: &str, what: &'static str, folders: &[PathBuf]) -> Result<PathBuf, DataError> {
    let relative = inside(place, written)?;
    for folder in folders {
        let path = folder.join(&relative);
        if is_file(&path)? {
            return Ok(path);
        }
    }
    let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    let hint = format!("{} names it in `{}`; looked in {}", place.path.display(), place.field, looked.join(", "));
    Err(DataError::Missing { path: relative, what, hint })
}

/// All files below a folder whose names end in one of `endings`, sorted; none where there is no such folder.
pub(crate) fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let mut out = Vec::new();
    if folder.is_dir() {
        walk(folder, endings, &mut BTreeSet::new(), &mut out)?;
    }
    out.sort();
    Ok(out)
}

/// `above` are the folders that we are in, as the system names them.
fn walk(folder: &Path, endings: &[&str], above: &mut BTreeSet<PathBuf>, out: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let real = folder.canonicalize().map_err(|e| DataError::io(folder, "open", e))?;
    if !above.insert(real.clone()) || above.len() > DEEPEST {
        let reason = format!("a link that leads back to a folder that holds it, or more than {DEEPEST} folders in each other");
        return Err(DataError::io(folder, "list", std::io::Error::other(reason)));
    }
    for entry in std::fs::read_dir(folder).map_err(|e| DataError::io(folder, "list", e))? {
        let path = entry.map_err(|e| DataError::io(folder, "list", e))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        let wanted = has_ending(&path, endings);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => walk(&path, endings, above, out)?,
            Ok(_) if wanted => out.push(path),
            Ok(_) => {}
            // A link to nowhere that is no image either disturbs nobody.
            Err(e) if wanted || e.kind() != std::io::ErrorKind::NotFound => return Err(DataError::io(&path, "open", e)),
            Err(_) => {}
        }
    }
    above.remove(&real);
    Ok(())
}

/// Whether a name ends in one of these, in any case.
pub(crate) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|e| endings.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// Endings of images that are read.
pub(crate) const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// A path below the folder with `/` between its parts, as files name it.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<String> = below.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    parts.join("/")
}

/// The name without folder and ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned())
}

/// The split that a folder's or a file's name says, if it has one of the usual words in it.
pub(crate) fn split_word(name: &str) -> Option<&'static str> {
    let word = |part: &str| match part {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("val"),
        "test" | "testing" => Some("test"),
        _ => None,
    };
    // `instances_train2017`: years are cut off.
    let lower = name.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).map(|part| part.trim_end_matches(|c: char| c.is_ascii_digit())).find_map(word)
}

/// A split's name as this program has it: `valid` and `validation` are `val`, others stay.
pub(crate) fn split_name(written: &str) -> String {
    let written = written.trim();
    let usual = written.chars().all(char::is_alphabetic).then(|| split_word(written)).flatten();
    usual.map_or_else(|| written.to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let place = Place::new(Path::new("data.jsonl"), "line 1.image");
        let ok = |written: &str| inside(&place, written).unwrap().display().to_string();
        assert_eq!(ok("images/a.jpg"), "images/a.jpg");
        assert_eq!(ok("./images/../b.jpg"), "b.jpg");
        assert_eq!(ok("images\\c.jpg"), "images/c.jpg");
        for outside in ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "..\\a.jpg", "C:\\a.jpg", "", ".", "a/.."] {
            let error = inside(&place, outside).unwrap_err().to_string();
            assert!(error.contains("data.jsonl") && error.contains("line 1.image") && error.contains("inside"), "{error}");
        }
    }

    #[test]
    fn splits_are_found_in_names() {
        for (name, split) in [
            ("instances_train2017", Some("train")),
            ("val", Some("val")),
            ("valid", Some("val")),
            ("my-test-set", Some("test")),
            ("trainer", None),
            ("result", None),
        ] {
            assert_eq!(split_word(name), split, "{name}");
        }
        assert_eq!(["validation", "testA", " train "].map(split_name), ["val", "testA", "train"]);
    }
}
