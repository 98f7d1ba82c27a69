use std::path::Path;

use pil_ops::Image;

use crate::DataError;

fn bad(path: &Path, reason: impl ToString) -> DataError {
    DataError::Image {
        path: path.into(),
        reason: reason.to_string(),
    }
}

/// Reads an image as 8-bit RGB. EXIF rotation is not applied (PIL does not either).
///
/// # Shapes
/// `[height, width, 3]`, row after row.
///
/// # Errors
/// If the file cannot be read or decoded.
pub fn decode(path: &Path) -> Result<Image, DataError> {
    let reader = image::ImageReader::open(path).map_err(|e| DataError::io(path, "read", e))?;
    // COCO names PNG files .jpg here and there, so the content decides.
    let reader = reader
        .with_guessed_format()
        .map_err(|e| DataError::io(path, "read", e))?;
    let rgb = reader.decode().map_err(|e| bad(path, e))?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Image::new(width, height, 3, rgb.into_raw()).map_err(|e| bad(path, e))
}

/// Width and height of an image from its header.
///
/// # Errors
/// If the file cannot be read or has no valid header.
pub fn size(path: &Path) -> Result<(u32, u32), DataError> {
    let reader = image::ImageReader::open(path).map_err(|e| DataError::io(path, "read", e))?;
    let reader = reader
        .with_guessed_format()
        .map_err(|e| DataError::io(path, "read", e))?;
    reader.into_dimensions().map_err(|e| bad(path, e))
}
