//! Images that a person points at: one file or the files of a folder, upright as they are seen.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pil_ops::{Image, images_in};

/// Opens a photograph, turned as its EXIF orientation says: "left" is what a person sees on the left.
pub fn open_image(path: &Path) -> Result<Image> {
    Image::open_upright(path).with_context(|| path.display().to_string())
}

/// The image itself, or the images of a folder in order of their names. What a folder holds besides is said on stderr.
pub fn images(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        if !path.exists() {
            bail!("{}: no such image or folder", path.display());
        }
        return Ok(vec![path.to_owned()]);
    }
    let (found, others) = images_in(path).with_context(|| format!("{}: cannot list it", path.display()))?;
    if found.is_empty() {
        bail!("{}: no .jpg, .png or .webp in this folder", path.display());
    }
    for other in others {
        crate::note!("skipped {}: not .jpg, .png or .webp", other.display());
    }
    Ok(found)
}
