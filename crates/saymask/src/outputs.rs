//! Results of a command in a folder: never over an input, over each other, or over a file that Saymask did not write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use figures::png;
use image::RgbImage;
use models::manifest::sha256;
use models::run_dir::write_whole;
use serde::{Deserialize, Serialize};

/// The record of what Saymask wrote into a folder.
const RECORD: &str = ".saymask-outputs.json";

/// SHA-256 of every file that was written, by name: the last two versions, for a run may be killed between record and file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    files: BTreeMap<String, Vec<String>>,
}

/// A folder that results go into.
#[derive(Debug)]
pub struct Outputs {
    folder: PathBuf,
    /// Inputs of the command, as the system names them.
    inputs: BTreeSet<PathBuf>,
    claimed: BTreeSet<String>,
    record: Record,
    refused: bool,
}

impl Outputs {
    /// Whether the system has refused to write something.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Opens a folder, which is made if it is not there, for a command that reads `inputs`.
    pub fn open(folder: &Path, inputs: &[PathBuf]) -> Result<Self> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
        let path = folder.join(RECORD);
        let record = match std::fs::read_to_string(&path) {
            // A record that cannot be read protects everything.
            Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
            Err(_) => Record::default(),
        };
        let inputs = inputs.iter().filter_map(|p| p.canonicalize().ok()).collect();
        Ok(Self { folder: folder.to_owned(), inputs, claimed: BTreeSet::new(), record, refused: false })
    }

    /// A name for the results of each input: its name without the ending, or, where `endings` behind that would meet an input or
    /// results of another input, its whole name.
    pub fn stems(&self, inputs: &[PathBuf], endings: &[String]) -> Vec<String> {
        let part = |path: &PathBuf, whole: bool| {
            let part = if whole { path.file_name() } else { path.file_stem() };
            part.map_or_else(|| "image".to_owned(), |s| s.to_string_lossy().into_owned())
        };
        let plain: Vec<String> = inputs.iter().map(|path| part(path, false)).collect();
        let names = |stem: &String| endings.iter().map(move |ending| format!("{stem}{ending}")).collect::<Vec<_>>();
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for name in plain.iter().flat_map(names) {
            *times.entry(name).or_default() += 1;
        }
        let meets = |stem: &String| names(stem).iter().any(|name| times[name] > 1 || self.is_input(&self.folder.join(name)));
        plain.iter().zip(inputs).map(|(stem, path)| if meets(stem) { part(path, true) } else { stem.clone() }).collect()
    }

    fn is_input(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|path| self.inputs.contains(&path))
    }

    /// Writes a figure.
    pub fn figure(&mut self, name: &str, figure: &RgbImage) -> Result<PathBuf> {
        let bytes = png(figure).with_context(|| name.to_owned())?;
        self.write(name, &bytes)
    }

    /// Writes indented JSON.
    pub fn json(&mut self, name: &str, value: &impl Serialize) -> Result<PathBuf> {
        let text = serde_json::to_string_pretty(value)? + "\n";
        self.write(name, text.as_bytes())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if self.is_input(&path) {
            bail!("{}: is an input, and results never replace one; choose another --out", path.display());
        }
        if !self.claimed.insert(name.to_owned()) {
            bail!("{}: two results of this call would have this name; give the images other names", path.display());
        }
        if let Ok(there) = std::fs::read(&path)
            && !self.record.files.get(name).is_some_and(|known| known.contains(&sha256(&there)))
        {
            bail!("{}: is there already, and is not as Saymask wrote it; move it, or choose another --out", path.display());
        }
        let versions = self.record.files.entry(name.to_owned()).or_default();
        versions.push(sha256(bytes));
        let surplus = versions.len().saturating_sub(2);
        versions.drain(..surplus);
        let record = serde_json::to_string(&self.record)?;
        let written = write_whole(&self.folder.join(RECORD), record.as_bytes()).and_then(|()| write_whole(&path, bytes));
        self.refused |= written.is_err();
        written?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<PathBuf>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn inputs_and_strangers_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["photo.png", "notes.json"] {
            std::fs::write(at(name), name).unwrap();
        }
        let mut outputs = Outputs::open(folder.path(), &[at("photo.png")]).unwrap();
        assert!(said(outputs.json("photo.png", &1)).contains("is an input"));
        assert!(said(outputs.json("notes.json", &1)).contains("is there already"));
        outputs.json("found.json", &1).unwrap();
        assert!(said(outputs.json("found.json", &2)).contains("two results"));
        // A second run may replace what the first one wrote, as long as nobody changed it.
        let again = || Outputs::open(folder.path(), &[]).unwrap();
        again().json("found.json", &3).unwrap();
        again().json("found.json", &4).unwrap();
        std::fs::write(at("found.json"), "mine now").unwrap();
        assert!(said(again().json("found.json", &5)).contains("is there already"));
        assert_eq!(std::fs::read_to_string(at("photo.png")).unwrap(), "photo.png");
    }

    #[test]
    fn a_run_killed_between_record_and_file_may_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        Outputs::open(folder.path(), &[]).unwrap().json("a.json", &1).unwrap();
        let old = std::fs::read(folder.path().join("a.json")).unwrap();
        Outputs::open(folder.path(), &[]).unwrap().json("a.json", &2).unwrap();
        std::fs::write(folder.path().join("a.json"), old).unwrap();
        Outputs::open(folder.path(), &[]).unwrap().json("a.json", &3).unwrap();
    }

    #[test]
    fn inputs_of_one_stem_keep_their_endings() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let inputs = [at("a.jpg"), at("a.png"), at("b.jpg"), at("c.png")];
        for path in &inputs {
            std::fs::write(path, "x").unwrap();
        }
        let endings = [".png".to_owned(), ".json".to_owned()];
        let elsewhere = Outputs::open(&at("out"), &inputs).unwrap();
        assert_eq!(elsewhere.stems(&inputs, &endings), ["a.jpg", "a.png", "b", "c"]);
        // In their own folder c.png would replace an input.
        let beside = Outputs::open(folder.path(), &inputs).unwrap();
        assert_eq!(beside.stems(&inputs, &endings), ["a.jpg", "a.png", "b", "c.png"]);
    }
}
