//! Where things lie on disk.

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::classes::Layout;
use crate::own::OwnFormat;

/// The sets this crate knows.
pub const SETS: [&str; 12] = [
    "refcoco",
    "refcoco+",
    "refcocog",
    "grefcoco",
    "refclef",
    PHRASECUT,
    "ade20k",
    "mapillary",
    "humanparsing",
    "partimagenet",
    "pascal_part",
    "objects365",
];

/// PhraseCut, which lies in a folder of another name and in files of its own.
pub(crate) const PHRASECUT: &str = "phrasecut";

/// The name of a set's folder below the root, the usual one where there are several.
pub(crate) fn folder_name(set: &str) -> &str {
    match Layout::find(set) {
        Some(layout) => layout.folders[0],
        None if set == PHRASECUT => "VGPhraseCut_v0",
        None => set,
    }
}

/// Folders below the root in which images are looked for, in this order.
pub const IMAGE_FOLDERS: [&str; 3] = ["images/train2014", "images/mscoco/images/train2014", "images/saiapr_tc-12"];

/// Images of RefCLEF that are known to be damaged; their referents are left out, as every published loader does.
pub(crate) const BROKEN_REFCLEF: [&str; 3] = ["19579.jpg", "17975.jpg", "19575.jpg"];

/// The folder of a set.
pub(crate) fn folder(root: &Path, name: &str) -> Result<PathBuf, DataError> {
    if !SETS.contains(&name) {
        return Err(DataError::Name {
            what: "data set",
            found: name.into(),
            valid: format!("{}, {}", SETS.join(", "), OwnFormat::names()),
        });
    }
    let below = folder_name(name);
    if let Some(layout) = Layout::find(name) {
        let hint = || format!("expected {} below the root", layout.folders.join(" or "));
        let missing = || DataError::Missing { path: root.join(below), what: "folder", hint: hint() };
        return layout.folder(root).ok_or_else(missing);
    }
    let folder = root.join(below);
    if !folder.is_dir() {
        let files =
            if name == PHRASECUT { ["refer_test.json", "image_data_split.json"] } else { ["refs(..).p", "instances.json"] };
        let hint = format!("expected `{below}/{}` and `{below}/{}` below the root", files[0], files[1]);
        return Err(DataError::Missing { path: folder, what: "folder", hint });
    }
    Ok(folder)
}

/// Refs files of a folder as (split author, path), sorted.
pub(crate) fn refs_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let entries = std::fs::read_dir(folder).map_err(|e| DataError::io(folder, "read", e))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| DataError::io(folder, "read", e))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let inner = name.strip_prefix("grefs(").or_else(|| name.strip_prefix("refs("));
        let by = inner.and_then(|n| n.strip_suffix(").p").or_else(|| n.strip_suffix(").json")));
        if let Some(by) = by {
            found.push((by.to_owned(), path));
        }
    }
    found.sort();
    // A pickle and a JSON file of the same name hold the same; the pickle is the one upstream tries first.
    found.sort_by_key(|(by, path)| (by.clone(), path.extension().is_some_and(|e| e == "json")));
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(found)
}

/// The refs file of a set.
pub(crate) fn refs_file(folder: &Path, by: &str) -> Result<PathBuf, DataError> {
    let files = refs_files(folder)?;
    if let Some((_, path)) = files.iter().find(|(b, _)| b == by) {
        return Ok(path.clone());
    }
    let there: Vec<&str> = files.iter().map(|(b, _)| b.as_str()).collect();
    let hint = if there.is_empty() {
        "the folder holds no refs file at all".to_owned()
    } else {
        format!("split_by can be {}", there.join(", "))
    };
    Err(DataError::Missing { path: folder.join(format!("refs({by}).p")), what: "refs file", hint })
}

/// Finds image files.
pub(crate) struct ImageFinder {
    root: PathBuf,
    names: &'static [&'static str],
    folders: Vec<PathBuf>,
}

impl ImageFinder {
    pub(crate) fn new(root: &Path, names: &'static [&'static str]) -> Self {
        let folders = names.iter().map(|f| root.join(f)).filter(|f| f.is_dir()).collect();
        Self { root: root.into(), names, folders }
    }

    pub(crate) fn has_folder(&self) -> bool {
        !self.folders.is_empty()
    }

    pub(crate) fn find(&self, file_name: &str) -> Result<PathBuf, DataError> {
        let found = self.folders.iter().map(|f| f.join(file_name)).find(|p| p.is_file());
        found.ok_or_else(|| DataError::Missing {
            path: self.folders.first().unwrap_or(&self.root).join(file_name),
            what: "image",
            hint: format!("looked in {} below {}", self.names.join(", "), self.root.display()),
        })
    }
}
