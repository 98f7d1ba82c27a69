//! A film's frames one after the other: numbered files, animated images, or what ffmpeg decodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use pil_ops::Image;

use super::at;
use super::pipe::Pipe;
use crate::images::open_image;

/// A frame with what its files are called after.
pub(super) struct NumberedFrame {
    /// The file's name without its ending, or the frame's number.
    pub name: String,
    /// Its pixels.
    pub image: Image,
}

/// The frames of a film that are still to come.
pub(super) enum Frames {
    /// Numbered files, in the order of their numbers.
    Files(std::vec::IntoIter<PathBuf>),
    /// An animated image.
    Animated { path: PathBuf, frames: image::Frames<'static>, next: usize },
    /// A film that ffmpeg decodes.
    Piped { pipe: Pipe, next: usize },
}

impl Frames {
    /// Opens a folder or a file. The files of a folder are looked through at once: their numbers and sizes.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Files(numbered(path)?.into_iter()));
        }
        if !path.exists() {
            bail!("{}: no such folder or film", path.display());
        }
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let reader = || Ok::<_, anyhow::Error>(BufReader::new(at(path, File::open(path))?));
        let animated = |frames| Ok(Self::Animated { path: path.to_owned(), frames, next: 0 });
        match ending.as_str() {
            "gif" => animated(at(path, GifDecoder::new(reader()?))?.into_frames()),
            "webp" => {
                let decoder = at(path, WebPDecoder::new(reader()?))?;
                if decoder.has_animation() { animated(decoder.into_frames()) } else { Ok(Self::one(path)) }
            }
            "png" => {
                let decoder = at(path, PngDecoder::new(reader()?))?;
                if at(path, decoder.is_apng())? { animated(at(path, decoder.apng())?.into_frames()) } else { Ok(Self::one(path)) }
            }
            "jpg" | "jpeg" => Ok(Self::one(path)),
            _ => Ok(Self::Piped { pipe: Pipe::open(path)?, next: 0 }),
        }
    }

    /// A film of one image.
    fn one(path: &Path) -> Self {
        Self::Files(vec![path.to_owned()].into_iter())
    }

    /// The files that are to come, where they may be read in any order.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Files(files) => files.as_slice().to_vec(),
            Self::Animated { .. } | Self::Piped { .. } => Vec::new(),
        }
    }

    /// How many are to come, where that is known.
    pub(super) fn known(&self) -> Option<usize> {
        match self {
            Self::Files(files) => Some(files.len()),
            Self::Animated { .. } | Self::Piped { .. } => None,
        }
    }

    /// Leaves out the first frames, which are done.
    pub(super) fn leave_out(&mut self, count: usize) -> Result<()> {
        if let Self::Files(files) = self {
            if count > files.len() {
                bail!("{count} frames were done before, but there are {} now; --restart begins anew", files.len());
            }
            if count > 0 {
                files.nth(count - 1);
            }
            return Ok(());
        }
        for _ in 0..count {
            self.next()
                .transpose()?
                .with_context(|| format!("{count} frames were done before, but the film has fewer now; --restart begins anew"))?;
        }
        Ok(())
    }
}

impl Iterator for Frames {
    type Item = Result<NumberedFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Files(files) => {
                let path = files.next()?;
                Some(numbered_frame(&path))
            }
            Self::Animated { path, frames, next } => {
                let frame = frames.next()?;
                let name = number(next);
                Some(at(path, frame).and_then(|frame| {
                    let pixels = image::DynamicImage::from(frame.into_buffer()).to_rgb8();
                    let (width, height) = pixels.dimensions();
                    Ok(NumberedFrame { name, image: Image::new(width as usize, height as usize, 3, pixels.into_raw())? })
                }))
            }
            Self::Piped { pipe, next } => {
                let image = pipe.frame().transpose()?;
                let name = number(next);
                Some(image.map(|image| NumberedFrame { name, image }))
            }
        }
    }
}

/// The frame of a file.
pub(super) fn numbered_frame(path: &Path) -> Result<NumberedFrame> {
    let name = path.file_stem().map_or_else(|| "frame".to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok(NumberedFrame { name, image: open_image(path)? })
}

fn number(next: &mut usize) -> String {
    *next += 1;
    format!("{:05}", *next - 1)
}

/// The numbered images of a folder in the order of their numbers, all of one size. A number that is missing is said on stderr;
/// the frames are followed in their order.
fn numbered(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for entry in at(folder, std::fs::read_dir(folder))? {
        let path = at(folder, entry)?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if !["jpg", "jpeg", "png"].contains(&ending.as_str()) {
            continue;
        }
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let Ok(number) = stem.parse::<u64>() else {
            bail!("{}: frames are called by their numbers, such as 00012.jpg; take this file out of the folder", path.display());
        };
        if let Some(other) = files.insert(number, path.clone()) {
            bail!("{} and {} have one number; take one of them out", other.display(), path.display());
        }
    }
    let (Some(first), Some(last)) = (files.keys().next(), files.keys().next_back()) else {
        bail!("{}: no numbered .jpg or .png in this folder", folder.display());
    };
    let missing = last - first + 1 - files.len() as u64;
    if missing > 0 {
        let gap = files.keys().zip(files.keys().skip(1)).find(|(a, b)| **b > **a + 1);
        let gap = gap.map(|(a, b)| format!(", the first behind {a}, where {b} follows")).unwrap_or_default();
        crate::note!("{}: {missing} numbers are missing{gap}; the frames are followed in their order", folder.display());
    }
    let size = |path: &Path| image::image_dimensions(path).map_err(|e| anyhow!("{}: {e}", path.display()));
    let mut known: Option<(PathBuf, (u32, u32))> = None;
    for path in files.values() {
        let found = size(path)?;
        match &known {
            None => known = Some((path.clone(), found)),
            Some((other, right)) if found != *right => bail!(
                "{} is {} x {}, {} {} x {} (width x height): all frames of a film must have one size",
                path.display(),
                found.0,
                found.1,
                other.display(),
                right.0,
                right.1
            ),
            Some(_) => {}
        }
    }
    Ok(files.into_values().collect())
}
