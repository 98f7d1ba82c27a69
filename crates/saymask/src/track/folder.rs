//! The folder that `track` writes into, and what it needs to go on with an interrupted film.
//!
//! ```text
//! OUT/film.json              which film, sentences and weights; written first
//! OUT/state.safetensors      what the next frames depend on, and the number of frames done
//! OUT/masks/NAME.png         0 and 255; NAME-2.png and so on of further sentences
//! OUT/frames/00000.json      masks of a frame as COCO's runs
//! OUT/overlays/00000.png     the frame with its masks
//! OUT/track.json             all of frames/ in one file, written at the end
//! OUT/film.gif               the overlays
//! OUT/strip.png              a few of them side by side
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use figures::png;
use image::imageops::{FilterType, resize};
use image::{GrayImage, RgbImage};
use models::run_dir::write_whole;
use nn_ops::weights::StateDict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Which film the folder belongs to.
const FILM: &str = "film.json";
/// What the next frames depend on.
const STATE: &str = "state.safetensors";
/// Key of the number of frames done in the state's metadata.
const DONE: &str = "frames";
/// Folders of masks, entries and overlays.
const PARTS: [&str; 3] = ["masks", "frames", "overlays"];
/// Longest side of an overlay, in pixels.
const OVERLAY: u32 = 640;

/// What masks depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Film {
    /// The film as it was asked for.
    pub frames: String,
    /// The sentences.
    pub sentences: Vec<String>,
    /// What was pointed at, as JSON; empty where nothing was.
    #[serde(default)]
    pub prompts: String,
    /// What the weights are, in words.
    pub weights: String,
    /// Changes to the config.
    pub changes: Vec<String>,
}

/// A folder of one film.
pub(super) struct TrackFolder {
    path: PathBuf,
}

impl TrackFolder {
    /// A new or empty folder, or one of the same film. With `restart`, one of any film, whose state is removed.
    pub(super) fn open(path: &Path, film: &Film, restart: bool) -> Result<Self> {
        let folder = Self { path: path.to_owned() };
        let created =
            |path: &Path| std::fs::create_dir_all(path).with_context(|| format!("{}: cannot create it", path.display()));
        created(path)?;
        let known = match std::fs::read_to_string(folder.path(FILM)) {
            Ok(text) => Some(serde_json::from_str::<Film>(&text).with_context(|| folder.path(FILM).display().to_string())?),
            Err(_) if std::fs::read_dir(path)?.next().is_some() => {
                bail!("{}: holds files that are no masks of a film; choose another --out", path.display())
            }
            Err(_) => None,
        };
        match known {
            Some(other) if other != *film && !restart => {
                let what = [
                    ("film", other.frames != film.frames),
                    ("sentences", other.sentences != film.sentences),
                    ("prompts", other.prompts != film.prompts),
                    ("weights", other.weights != film.weights || other.changes != film.changes),
                ];
                let what: Vec<&str> = what.into_iter().filter_map(|(what, differs)| differs.then_some(what)).collect();
                bail!("{}: holds masks of other {}; choose another --out, or --restart", path.display(), what.join(" and "));
            }
            Some(_) if restart => {
                // What an older film left must not be taken for this one's.
                for part in PARTS {
                    let _ = std::fs::remove_dir_all(folder.path(part));
                }
                let _ = std::fs::remove_file(folder.path(STATE));
            }
            _ => {}
        }
        for part in PARTS {
            created(&folder.path(part))?;
        }
        folder.json(FILM, film)?;
        Ok(folder)
    }

    /// A file's path.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The number of frames done and what the next ones depend on; none where nothing was done.
    pub(super) fn state(&self) -> Result<Option<(usize, StateDict)>> {
        let path = self.path(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let state = StateDict::open(&path)?;
        let done = state.metadata().get(DONE).and_then(|text| text.parse().ok());
        let done =
            done.with_context(|| format!("{}: does not say how many frames are done; --restart begins anew", path.display()))?;
        Ok(Some((done, state)))
    }

    /// Keeps what the next frames depend on.
    pub(super) fn keep(&self, done: usize, state: &StateDict) -> Result<()> {
        Ok(state.save(self.path(STATE), &[(DONE, &done.to_string())])?)
    }

    /// Writes a mask of 0 and 1.
    pub(super) fn mask(&self, name: &str, mask: &[u8], (width, height): (u32, u32)) -> Result<()> {
        let grey = mask.iter().map(|v| v * 255).collect();
        let grey = GrayImage::from_raw(width, height, grey).context("a mask of another size than its frame")?;
        let mut bytes = std::io::Cursor::new(Vec::new());
        grey.write_to(&mut bytes, image::ImageFormat::Png)?;
        self.write(&format!("masks/{name}"), &bytes.into_inner())
    }

    /// Writes a frame with its masks, at most [`OVERLAY`] pixels a side.
    pub(super) fn overlay(&self, number: usize, drawn: &RgbImage) -> Result<()> {
        let (width, height) = drawn.dimensions();
        let long = width.max(height);
        let side = |side: u32| (u64::from(side) * u64::from(OVERLAY) / u64::from(long)).max(1) as u32;
        let bytes =
            if long > OVERLAY { png(&resize(drawn, side(width), side(height), FilterType::Triangle))? } else { png(drawn)? };
        self.write(&format!("overlays/{number:05}.png"), &bytes)
    }

    /// Writes what is said about a frame.
    pub(super) fn entry(&self, number: usize, entry: &Value) -> Result<()> {
        self.json(&format!("frames/{number:05}.json"), entry)
    }

    /// What is said about the masks of a frame that was done.
    pub(super) fn masks_of(&self, number: usize) -> Result<Vec<Value>> {
        let entry = self.read(number)?;
        Ok(entry["masks"].as_array().cloned().unwrap_or_default())
    }

    fn read(&self, number: usize) -> Result<Value> {
        let path = self.path(&format!("frames/{number:05}.json"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}; --restart begins anew", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Puts what is said about the frames into one file.
    pub(super) fn report(&self, film: &Film, done: usize) -> Result<PathBuf> {
        let frames: Vec<Value> = (0..done).map(|number| self.read(number)).collect::<Result<_>>()?;
        let prompts: Value = if film.prompts.is_empty() { json!([]) } else { serde_json::from_str(&film.prompts)? };
        let report = json!({
            "film": film.frames,
            "sentences": film.sentences,
            "prompts": prompts,
            "weights": film.weights,
            "frames": frames,
        });
        self.json("track.json", &report)?;
        Ok(self.path("track.json"))
    }

    /// The overlays of the first frames.
    pub(super) fn overlays(&self, done: usize) -> Result<Vec<PathBuf>> {
        Ok((0..done).map(|number| self.path(&format!("overlays/{number:05}.png"))).collect())
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, (serde_json::to_string_pretty(value)? + "\n").as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        write_whole(&path, bytes).with_context(|| path.display().to_string())
    }
}
