//! `predict --format`: a line of JSON per image as it is done, continued where an earlier call stopped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use coco_mask::Rle;
use models::run_dir::write_whole;
use models::{AnyModel, Found};
use serde::{Deserialize, Serialize};

use super::{Format, PredictArgs, formats};
use crate::device;
use crate::error::chain;
use crate::images::open_image;
use crate::session::warn_unread;

/// The file of lines.
pub(super) const LINES: &str = "predictions.jsonl";
/// What the lines are of.
const ASKED: &str = ".saymask-predictions.json";

/// What an image was asked with. Lines of another call with another question must not be mixed with these.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Asked {
    weights: String,
    settings: String,
    sentences: Vec<String>,
}

/// What was found in an image. `eval --from` reads these lines, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// The image's file name.
    pub(super) image: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) sentences: Vec<String>,
    pub(super) masks: Vec<RunLengths>,
    /// Mean probability inside of each mask.
    pub(super) scores: Vec<f32>,
}

/// COCO's compressed run lengths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunLengths {
    /// Height and width.
    pub(super) size: [u32; 2],
    pub(super) counts: String,
}

impl RunLengths {
    pub(super) fn mask(&self) -> Result<Rle> {
        Ok(Rle::from_compressed(self.size[0], self.size[1], &self.counts)?)
    }
}

/// Asks all images that have no line yet, then writes the format's files from all lines.
pub(super) fn run(args: &PredictArgs, format: Format, images: &[PathBuf], found: &Found) -> Result<()> {
    let names = names(images)?;
    let asked = Asked { weights: found.label.clone(), settings: found.run_config.hash()?, sentences: args.sentences.clone() };
    let mut lines = Lines::open(&args.out, &asked)?;
    formats::check_free(&args.out, format)?;
    let rest: Vec<(&String, &PathBuf)> = names.iter().zip(images).filter(|(name, _)| !lines.done.contains_key(*name)).collect();
    let before = names.len() - rest.len();
    if before > 0 {
        crate::note!("{}: {before} of {} images are done already", lines.path.display(), names.len());
    }
    let mut failed = 0;
    if !rest.is_empty() {
        let model = found.model(&device::open(args.source.device())?)?;
        for sentence in &args.sentences {
            warn_unread(&model, sentence)?;
        }
        for (number, (name, path)) in rest.iter().enumerate() {
            match ask(&model, name, path, &args.sentences) {
                Ok(line) => lines.push(line)?,
                Err(error) => {
                    crate::note!("error: {}", chain(&error));
                    failed += 1;
                }
            }
            crate::note!("{} of {}: {}", before + number + 1, names.len(), path.display());
        }
    }
    // In the order of the images, whatever call did which.
    let all: Vec<(&Line, &PathBuf)> =
        names.iter().zip(images).filter_map(|(name, path)| Some((lines.done.get(name)?, path))).collect();
    let made = formats::write(&args.out, format, args.polygons, &args.sentences, &all)?;
    crate::say!("{}: {} images", lines.path.display(), all.len());
    made.iter().for_each(|line| crate::say!("{line}"));
    if failed > 0 {
        bail!("{failed} of {} images failed; the same command tries them again", names.len());
    }
    Ok(())
}

/// File names, which are what lines know images by.
fn names(images: &[PathBuf]) -> Result<Vec<String>> {
    let name = |path: &PathBuf| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let names: Vec<String> = images.iter().map(name).collect();
    let mut by_stem: BTreeMap<String, &String> = BTreeMap::new();
    for name in &names {
        let stem = Path::new(name).file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        if let Some(other) = by_stem.insert(stem, name) {
            bail!("{other} and {name}: results are named by the part before the ending; give the images other names");
        }
    }
    Ok(names)
}

fn ask(model: &AnyModel, name: &str, path: &Path, sentences: &[String]) -> Result<Line> {
    let image = open_image(path)?;
    let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let found = model.predict(&image, &words)?;
    let masks = found.iter().map(|f| RunLengths { size: [f.mask.height(), f.mask.width()], counts: f.mask.to_compressed() });
    Ok(Line {
        image: name.to_owned(),
        width: image.width() as u32,
        height: image.height() as u32,
        sentences: sentences.to_vec(),
        masks: masks.collect(),
        scores: found.iter().map(|f| f.score).collect(),
    })
}

/// The open file of lines, and those that are there.
struct Lines {
    path: PathBuf,
    file: File,
    done: BTreeMap<String, Line>,
}

impl Lines {
    /// Opens the lines of a folder. A torn last line is cut off; lines of another question are refused.
    fn open(folder: &Path, asked: &Asked) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
        let (path, of) = (folder.join(LINES), folder.join(ASKED));
        let mut done = BTreeMap::new();
        if path.exists() {
            let known: Option<Asked> = std::fs::read_to_string(&of).ok().and_then(|text| serde_json::from_str(&text).ok());
            match known {
                None => bail!("{}: is there already and was not written by `predict`; choose another --out", path.display()),
                Some(known) if known != *asked => bail!(
                    "{}: holds answers to {:?} by {}; choose another --out, or remove it",
                    path.display(),
                    known.sentences,
                    known.weights
                ),
                Some(_) => {}
            }
            let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot read it", path.display()))?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            for (number, line) in bytes[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
                let line: Line = serde_json::from_slice(line)
                    .with_context(|| format!("{} line {}: is not as `predict` wrote it", path.display(), number + 1))?;
                done.insert(line.image.clone(), line);
            }
            let file =
                OpenOptions::new().write(true).open(&path).with_context(|| format!("{}: cannot open it", path.display()))?;
            file.set_len(whole as u64)?;
        } else {
            write_whole(&of, serde_json::to_string_pretty(asked)?.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("{}: cannot open it", path.display()))?;
        Ok(Self { path, file, done })
    }

    fn push(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        // One write per line: a kill between lines leaves whole lines.
        self.file.write_all(text.as_bytes()).with_context(|| format!("{}: cannot write it", self.path.display()))?;
        self.done.insert(line.image.clone(), line);
        Ok(())
    }
}
