//! Image files to 8-bit RGB: whole files only, raw or upright by their EXIF orientation.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::Image;

/// Most pixels of an image that is decoded unless the caller says otherwise: 200 megapixels, 600 MB as RGB.
pub const MAX_PIXELS: u64 = 200_000_000;

/// An image file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The system refused.
    #[error("cannot read it: {0}")]
    Read(#[from] std::io::Error),
    /// Not an image, of a format that is not read, or damaged.
    #[error("{0}")]
    Format(#[from] image::ImageError),
    /// The file ends before its image does.
    #[error("the file is truncated: {what}")]
    Truncated {
        /// Where it ends, and what is missing as far as that is known.
        what: String,
    },
    /// More pixels than are allowed.
    #[error("the image is {width} x {height}, {pixels} pixels: at most {limit} are decoded")]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Their product.
        pixels: u64,
        /// The limit.
        limit: u64,
    },
    /// A size beyond what an [`Image`] holds.
    #[error(transparent)]
    Image(#[from] crate::ImageError),
}

/// How a file is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decode {
    /// Turned and mirrored as the EXIF orientation says: how people see the photograph. Published data sets were annotated on
    /// the raw pixels (Pillow does not turn them either), so their readers leave this off.
    pub upright: bool,
    /// Most pixels.
    pub max_pixels: u64,
}

impl Default for Decode {
    fn default() -> Self {
        Self { upright: false, max_pixels: MAX_PIXELS }
    }
}

impl Decode {
    /// As people see it: the EXIF orientation is applied.
    pub const UPRIGHT: Self = Self { upright: true, max_pixels: MAX_PIXELS };

    /// Decodes a file's bytes as RGB; the content, not the name, says which format it is.
    ///
    /// # Shapes
    /// output: [height, width, 3]
    ///
    /// # Errors
    /// Bytes that are no whole image, or one that is too large.
    pub fn bytes(self, bytes: &[u8]) -> Result<Image, DecodeError> {
        let mut decoder = self.opened(bytes)?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        if self.upright {
            image.apply_orientation(orientation);
        }
        Ok(Image::try_from(image)?)
    }

    /// Columns and rows of a file's bytes, as stored; its pixels are not decoded.
    ///
    /// # Errors
    /// As [`Decode::bytes`] as far as the header, the length and the limit tell; pixels may still turn out to be damaged.
    pub fn check(self, bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
        Ok(self.opened(bytes)?.dimensions())
    }

    /// A decoder of a whole file within the limit.
    fn opened(self, bytes: &[u8]) -> Result<impl ImageDecoder + '_, DecodeError> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        match reader.format() {
            Some(ImageFormat::Jpeg) => whole_jpeg(bytes)?,
            Some(ImageFormat::Png) => whole_png(bytes)?,
            _ => {}
        }
        // The limit that people can raise is the one in pixels.
        reader.no_limits();
        let decoder = reader.into_decoder()?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(DecodeError::TooLarge { width, height, pixels, limit: self.max_pixels });
        }
        Ok(decoder)
    }

    /// Decodes a file.
    ///
    /// # Errors
    /// As [`Decode::bytes`], or a file that cannot be read.
    pub fn file(self, path: &Path) -> Result<Image, DecodeError> {
        self.bytes(&std::fs::read(path)?)
    }
}

impl Image {
    /// Opens an image file as RGB, its pixels as they are stored.
    ///
    /// # Errors
    /// As [`Decode::file`].
    pub fn open(path: &Path) -> Result<Self, DecodeError> {
        Decode::default().file(path)
    }

    /// Opens a person's photograph as RGB, upright by its EXIF orientation.
    ///
    /// # Errors
    /// As [`Decode::file`].
    pub fn open_upright(path: &Path) -> Result<Self, DecodeError> {
        Decode::UPRIGHT.file(path)
    }

    /// The image for the `image` crate's functions, such as encoders.
    pub fn to_rgb8(&self) -> image::RgbImage {
        let (width, height) = (self.width() as u32, self.height() as u32);
        if self.channels() == 3
            && let Some(same) = image::RgbImage::from_raw(width, height, self.data().to_vec())
        {
            return same;
        }
        image::RgbImage::from_fn(width, height, |x, y| {
            let at = (y as usize * self.width() + x as usize) * self.channels();
            let pixel = &self.data()[at..at + self.channels()];
            image::Rgb(std::array::from_fn(|c| pixel[c.min(pixel.len() - 1)]))
        })
    }
}

impl TryFrom<DynamicImage> for Image {
    type Error = crate::ImageError;

    /// RGB of 8 bits, whatever it was.
    fn try_from(image: DynamicImage) -> Result<Self, Self::Error> {
        let rgb = image.into_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        Self::new(width, height, 3, rgb.into_raw())
    }
}

/// Columns and rows of an image file from its header, as stored.
///
/// # Errors
/// If the file cannot be read or has no valid header.
pub fn dimensions(path: &Path) -> Result<(u32, u32), DecodeError> {
    Ok(ImageReader::open(path)?.with_guessed_format()?.into_dimensions()?)
}

/// Columns and rows of an image's bytes from their header, as people see it: the EXIF orientation is applied.
///
/// # Errors
/// Bytes without a valid header.
pub fn upright_dimensions(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let on_its_side = matches!(
        decoder.orientation()?,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if on_its_side { (height, width) } else { (width, height) })
}

/// Whether an image's EXIF orientation turns or mirrors it.
///
/// # Errors
/// Bytes without a valid header.
pub fn is_turned(bytes: &[u8]) -> Result<bool, DecodeError> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    Ok(decoder.orientation()? != Orientation::NoTransforms)
}

/// Files of a folder whose names say that they are images that [`Decode`] reads, in order of their names, and the other files.
///
/// # Errors
/// A folder that cannot be listed.
pub fn images_in(folder: &Path) -> std::io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    let known = |path: &PathBuf| path.extension().is_some_and(|e| READ.iter().any(|known| e.eq_ignore_ascii_case(known)));
    Ok(files.into_iter().partition(known))
}

/// Endings of files that are read.
const READ: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Walks the segments of a JPEG to its end marker; without one Pillow refuses the file, too. What is inside of segments, such as
/// a thumbnail with an end of its own, is passed over.
fn whole_jpeg(bytes: &[u8]) -> Result<(), DecodeError> {
    const END: u8 = 0xD9;
    const SCAN: u8 = 0xDA;
    let cut = |within: &str| {
        let what = format!("it ends after {} bytes, {within}, without the end of its image", bytes.len());
        Err(DecodeError::Truncated { what })
    };
    let mut at = 2;
    let mut scanning = false;
    loop {
        // Next marker: 0xFF and a byte that is neither stuffing (0) nor a restart (D0 to D7) nor a fill byte.
        let marker = loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(0xFF), Some(0xFF)) => at += 1,
                (Some(0xFF), Some(0x00 | 0xD0..=0xD7)) => at += 2,
                (Some(0xFF), Some(marker)) => break *marker,
                (Some(_), Some(_)) => at += 1,
                _ if scanning => return cut("inside of its pixels"),
                _ => return cut("before its pixels begin"),
            }
        };
        at += 2;
        if marker == END {
            return Ok(());
        }
        if matches!(marker, 0x01 | 0xD8) {
            continue;
        }
        let Some(length) = bytes.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))) else {
            return cut("inside of its header");
        };
        scanning |= marker == SCAN;
        at += length.max(2);
    }
}

/// Walks the chunks of a PNG to its last.
fn whole_png(bytes: &[u8]) -> Result<(), DecodeError> {
    let cut = |what: String| Err(DecodeError::Truncated { what });
    let mut at = 8;
    loop {
        let (Some(length), Some(kind)) = (bytes.get(at..at + 4), bytes.get(at + 4..at + 8)) else {
            return cut(format!("it ends after {} bytes without its last chunk, IEND", bytes.len()));
        };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let next = at.saturating_add(12).saturating_add(length);
        if next > bytes.len() {
            let name = String::from_utf8_lossy(kind);
            return cut(format!(
                "its chunk {name} needs {} bytes more than the {} that there are",
                next - bytes.len(),
                bytes.len()
            ));
        }
        if kind == b"IEND" {
            return Ok(());
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    /// Four quarters: red, green, blue, white, of 16 x 8 pixels each.
    fn photo() -> image::RgbImage {
        image::RgbImage::from_fn(32, 16, |x, y| {
            image::Rgb(match (x < 16, y < 8) {
                (true, true) => [220, 20, 20],
                (false, true) => [20, 200, 20],
                (true, false) => [20, 20, 220],
                (false, false) => [240, 240, 240],
            })
        })
    }

    fn jpeg(orientation: Option<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        if let Some(value) = orientation {
            // Big-endian TIFF with one entry: tag 0x0112, type SHORT, one value.
            let mut exif = vec![b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, value, 0, 0];
            exif.extend([0; 4]);
            encoder.set_exif_metadata(exif).unwrap();
        }
        encoder.write_image(&photo(), 32, 16, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    /// The colours of the four corners, by the channel that is strongest: 0 red, 1 green, 2 blue, 3 all.
    fn corners(image: &Image) -> [usize; 4] {
        let (w, h) = (image.width(), image.height());
        [(2, 2), (w - 3, 2), (2, h - 3), (w - 3, h - 3)].map(|(x, y)| {
            let p = &image.data()[(y * w + x) * 3..][..3];
            if p.iter().all(|v| *v > 200) { 3 } else { (0..3).max_by_key(|c| p[*c]).unwrap() }
        })
    }

    /// EXIF 2.32, tag 0x0112: where row 0 and column 0 of the stored pixels are seen.
    #[test]
    fn all_eight_orientations() {
        let seen = [
            (1, [0, 1, 2, 3]),
            (2, [1, 0, 3, 2]),
            (3, [3, 2, 1, 0]),
            (4, [2, 3, 0, 1]),
            (5, [0, 2, 1, 3]),
            (6, [2, 0, 3, 1]),
            (7, [3, 1, 2, 0]),
            (8, [1, 3, 0, 2]),
        ];
        for (orientation, want) in seen {
            let bytes = jpeg(Some(orientation));
            let upright = Decode::UPRIGHT.bytes(&bytes).unwrap();
            assert_eq!(corners(&upright), want, "orientation {orientation}");
            let raw = Decode::default().bytes(&bytes).unwrap();
            assert_eq!((corners(&raw), raw.width()), ([0, 1, 2, 3], 32));
            assert_eq!(upright.width(), if orientation < 5 { 32 } else { 16 });
        }
        assert_eq!(corners(&Decode::UPRIGHT.bytes(&jpeg(None)).unwrap()), [0, 1, 2, 3]);
    }

    #[test]
    fn truncated_files_are_refused_wherever_they_end() {
        let mut png = Vec::new();
        photo().write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        for whole in [jpeg(Some(6)), png] {
            assert!(Decode::default().bytes(&whole).is_ok());
            for end in (24..whole.len()).step_by(7).chain([whole.len() - 1]) {
                let error = Decode::default().bytes(&whole[..end]).unwrap_err();
                assert!(matches!(error, DecodeError::Truncated { .. }), "{end} of {}: {error}", whole.len());
            }
            // What follows the end is nobody's business.
            assert!(Decode::default().bytes(&[&whole[..], b"trailing"].concat()).is_ok());
        }
    }

    #[test]
    fn too_many_pixels_are_refused_before_they_are_decoded() {
        let few = Decode { max_pixels: 511, ..Decode::default() };
        for error in [few.bytes(&jpeg(None)).unwrap_err(), few.check(&jpeg(None)).unwrap_err()].map(|e| e.to_string()) {
            assert!(error.contains("32 x 16") && error.contains("511"), "{error}");
        }
        assert_eq!(Decode::UPRIGHT.check(&jpeg(Some(6))).unwrap(), (32, 16), "as stored");
        assert!(Decode::default().bytes(b"GIF89a").is_err());
    }
}
