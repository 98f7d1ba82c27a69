//! Points, boxes and masks on any frame of a film, from the command line or a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Args;
use coco_mask::Rle;
use pil_ops::Image;
use sam_vit::PromptSet;
use sam2::VideoPrompt;
use serde::{Deserialize, Serialize};

use crate::segment::{Corners, Point};

/// What is pointed at instead of being said, or beside it.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Point on the object in pixels of a frame (counted from 0, which may be left out); `,0` behind it says that it lies beside the object.
    /// Repeatable. With a sentence it corrects what the sentence found.
    #[arg(long = "point", value_name = "[FRAME:]X,Y[,LABEL]", allow_hyphen_values = true)]
    points: Vec<OnFrame<Point>>,
    /// Box around the object in pixels.
    #[arg(long = "box", value_name = "[FRAME:]X0,Y0,X1,Y1", allow_hyphen_values = true)]
    boxes: Vec<OnFrame<Corners>>,
    /// The object's mask: an image of the frame's size, light on the object.
    #[arg(long = "mask", value_name = "[FRAME:]FILE")]
    masks: Vec<OnFrame<PathBuf>>,
    /// The same for several objects: a JSON list of {"object": 1, "frame": 0, "points": [[x, y, label]], "box": [x0, y0, x1, y1]} or with
    /// "mask": "FILE". Objects are counted from 1; those of the sentences come first.
    #[arg(long = "prompts", value_name = "FILE", conflicts_with_all = ["points", "boxes", "masks"])]
    file: Option<PathBuf>,
}

/// Something on a frame: `12:VALUE`, or `VALUE` on the first one.
#[derive(Debug, Clone)]
struct OnFrame<T>(usize, T);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for OnFrame<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (frame, value) = match text.split_once(':') {
            Some((frame, value)) if !frame.is_empty() && frame.bytes().all(|b| b.is_ascii_digit()) => {
                (frame.parse().map_err(|_| format!("{frame} is no number of a frame"))?, value)
            }
            _ => (0, text),
        };
        Ok(Self(frame, value.parse().map_err(|e: T::Err| e.to_string())?))
    }
}

/// What is pointed at on one frame for one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    /// The object, from 1.
    object: u32,
    /// The frame, from 0.
    frame: usize,
    /// x, y and label (1 on the object, 0 beside it).
    #[serde(default)]
    points: Vec<[f64; 3]>,
    #[serde(default, rename = "box")]
    bbox: Option<[f64; 4]>,
    #[serde(default)]
    mask: Option<PathBuf>,
}

/// All prompts of a film.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Prompts {
    all: Vec<Prompt>,
}

impl Prompts {
    /// Those of a command line, beside so many sentences.
    pub(super) fn read(args: &PromptArgs, sentences: usize) -> Result<Self> {
        let all = match &args.file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read it", path.display()))?;
                let text = text.trim_start_matches('\u{feff}');
                serde_json::from_str(text).with_context(|| format!("{}: must be a JSON list of prompts", path.display()))?
            }
            None => one_object(args)?,
        };
        let prompts = Self { all };
        prompts.check(sentences)?;
        if sentences > 1 && args.file.is_none() && !prompts.all.is_empty() {
            bail!("{sentences} sentences and a --point, --box or --mask: say in a --prompts FILE which object it belongs to");
        }
        Ok(prompts)
    }

    fn check(&self, sentences: usize) -> Result<()> {
        let mut seen = BTreeSet::new();
        for prompt in &self.all {
            let Prompt { object, frame, points, bbox, mask } = prompt;
            let place = format!("the prompt of object {object} on frame {frame}");
            if *object == 0 {
                bail!("{place}: objects are counted from 1");
            }
            if !seen.insert((*object, *frame)) {
                bail!("{place} is given twice; put its points and box into one");
            }
            if points.is_empty() && bbox.is_none() && mask.is_none() {
                bail!("{place} is empty; give points, a box or a mask");
            }
            if mask.is_some() && (bbox.is_some() || !points.is_empty()) {
                bail!("{place}: a mask says all; leave out its points and box");
            }
            if points.iter().flatten().chain(bbox.iter().flatten()).any(|value| !value.is_finite()) {
                bail!("{place} holds a number that is not finite");
            }
            if let Some([_, _, label]) = points.iter().find(|[_, _, label]| *label != 0.0 && *label != 1.0) {
                bail!("{place}: the label {label} must be 1 (on the object) or 0 (beside it)");
            }
            if let Some([x0, y0, x1, y1]) = bbox
                && (x0 >= x1 || y0 >= y1)
            {
                bail!("{place}: a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1; is it x, y, width, height?");
            }
        }
        let objects = self.objects(sentences);
        match (1..=objects.len() as u32).find(|object| !objects.contains_key(object)) {
            Some(missing) => bail!("object {missing} has no prompt, but a later one has; count objects from {}", sentences + 1),
            None => Ok(()),
        }
    }

    /// Every object's first frame; those of sentences begin at 0.
    pub(super) fn objects(&self, sentences: usize) -> BTreeMap<u32, usize> {
        let mut first: BTreeMap<u32, usize> = (1..=sentences as u32).map(|object| (object, 0)).collect();
        for prompt in &self.all {
            let known = first.entry(prompt.object).or_insert(prompt.frame);
            *known = (*known).min(prompt.frame);
        }
        first
    }

    /// The last frame that has a prompt.
    pub(super) fn last_frame(&self) -> Option<usize> {
        self.all.iter().map(|prompt| prompt.frame).max()
    }

    /// Those on a frame, with their objects.
    pub(super) fn on(&self, frame: usize, image: &Image) -> Result<Vec<(u32, VideoPrompt)>> {
        let here = self.all.iter().filter(|prompt| prompt.frame == frame);
        here.map(|prompt| Ok((prompt.object, prompt.on(image)?))).collect()
    }

    /// In one line, to tell films apart.
    pub(super) fn line(&self) -> Result<String> {
        Ok(if self.all.is_empty() { String::new() } else { serde_json::to_string(&self.all)? })
    }
}

impl Prompt {
    /// As SAM-2 takes it; what lies beside the frame is a mistake.
    fn on(&self, image: &Image) -> Result<VideoPrompt> {
        let (width, height) = (image.width() as f64, image.height() as f64);
        let outside =
            |what: String| bail!("{what} of object {} lies outside the frame of {width} x {height} pixels", self.object);
        if let Some(path) = &self.mask {
            return Ok(VideoPrompt::Mask(mask_file(path, image)?));
        }
        let mut set = PromptSet { bbox: self.bbox, ..PromptSet::default() };
        for [x, y, label] in &self.points {
            if !(0.0..width).contains(x) || !(0.0..height).contains(y) {
                return outside(format!("the point {x},{y}"));
            }
            set = set.with_point([*x, *y], *label as i32);
        }
        if let Some([x0, y0, x1, y1]) = self.bbox
            && (x0 < 0.0 || y0 < 0.0 || x1 > width || y1 > height)
        {
            return outside(format!("the box {x0},{y0},{x1},{y1}"));
        }
        Ok(VideoPrompt::Set(set))
    }
}

/// A mask from an image: what is lighter than half.
fn mask_file(path: &Path, frame: &Image) -> Result<Rle> {
    let mask = super::at(path, image::open(path))?.to_luma8();
    let (width, height) = mask.dimensions();
    if (width as usize, height as usize) != (frame.width(), frame.height()) {
        let (right, high) = (frame.width(), frame.height());
        bail!("{}: is {width} x {height}, the frame {right} x {high} pixels (width x height)", path.display());
    }
    let bytes: Vec<u8> = mask.into_raw().into_iter().map(|v| u8::from(v > 127)).collect();
    Ok(Rle::from_row_major(height, width, &bytes)?)
}

/// What the flags say of one object.
fn one_object(args: &PromptArgs) -> Result<Vec<Prompt>> {
    let mut all: BTreeMap<usize, Prompt> = BTreeMap::new();
    for OnFrame(frame, Point([x, y], label)) in &args.points {
        entry(&mut all, *frame).points.push([*x, *y, f64::from(*label)]);
    }
    for OnFrame(frame, Corners(corners)) in &args.boxes {
        if entry(&mut all, *frame).bbox.replace(*corners).is_some() {
            bail!("two boxes on frame {frame}: several objects need a --prompts FILE");
        }
    }
    for OnFrame(frame, path) in &args.masks {
        if entry(&mut all, *frame).mask.replace(path.clone()).is_some() {
            bail!("two masks on frame {frame}: several objects need a --prompts FILE");
        }
    }
    Ok(all.into_values().collect())
}

fn entry(all: &mut BTreeMap<usize, Prompt>, frame: usize) -> &mut Prompt {
    all.entry(frame).or_insert(Prompt { object: 1, frame, points: Vec::new(), bbox: None, mask: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(text: &str, sentences: usize) -> Result<Prompts, String> {
        let all: Vec<Prompt> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let prompts = Prompts { all };
        prompts.check(sentences).map_err(|e| e.to_string())?;
        Ok(prompts)
    }

    #[test]
    fn values_may_name_their_frame() {
        let OnFrame(frame, Point(at, label)) = "12:30,4,0".parse::<OnFrame<Point>>().unwrap();
        assert_eq!((frame, at, label), (12, [30.0, 4.0], 0));
        assert_eq!("3,4".parse::<OnFrame<Point>>().unwrap().0, 0);
        assert_eq!("C:/mask.png".parse::<OnFrame<PathBuf>>().unwrap().1, PathBuf::from("C:/mask.png"));
        assert!("5:1,2,3,4".parse::<OnFrame<Point>>().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let refused = |text: &str, sentences: usize, says: &str| {
            let said = prompts(text, sentences).unwrap_err();
            assert!(said.contains(says), "{said}");
        };
        refused(r#"[{"object": 0, "frame": 0, "points": [[1, 2, 1]]}]"#, 0, "counted from 1");
        refused(r#"[{"object": 1, "frame": 0}]"#, 0, "is empty");
        refused(r#"[{"object": 1, "frame": 0, "points": [[1, 2, 3]]}]"#, 0, "must be 1");
        refused(r#"[{"object": 1, "frame": 0, "box": [9, 0, 3, 4]}]"#, 0, "width, height?");
        refused(r#"[{"object": 1, "frame": 0, "mask": "a.png", "box": [0, 0, 3, 4]}]"#, 0, "a mask says all");
        refused(r#"[{"object": 3, "frame": 0, "box": [0, 0, 3, 4]}]"#, 1, "object 2 has no prompt");
        refused(
            r#"[{"object": 1, "frame": 2, "box": [0, 0, 3, 4]}, {"object": 1, "frame": 2, "points": [[1, 1, 1]]}]"#,
            0,
            "twice",
        );
        refused(r#"[{"object": 1, "frame": 0, "points": [[1, 2]]}]"#, 0, "length");
        refused(r#"[{"object": 1, "frame": 0, "dots": [[1, 2, 1]]}]"#, 0, "dots");
        let several = r#"[{"object": 2, "frame": 7, "points": [[1, 2, 1]]}, {"object": 2, "frame": 4, "points": [[1, 2, 0]]}]"#;
        assert_eq!(prompts(several, 1).unwrap().objects(1), BTreeMap::from([(1, 0), (2, 4)]));
    }
}
