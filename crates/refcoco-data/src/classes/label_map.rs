//! Label maps: PNG files whose pixels are indices of classes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::DataError;

/// Largest map, as large as a mask may be.
const MAX_PIXELS: u64 = coco_mask::MAX_PIXELS;

/// The label maps of a split.
#[derive(Debug)]
pub(crate) struct MapFolder {
    pub(crate) folder: PathBuf,
    /// The value of the first class.
    pub(crate) first: u8,
    /// Values that mean no class.
    pub(crate) none: &'static [u8],
    /// Number of classes.
    pub(crate) classes: u16,
}

/// A decoded map: a byte per pixel, row after row.
pub(crate) struct LabelMap {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) values: Vec<u8>,
}

pub(crate) fn unusable(path: &Path, reason: impl ToString) -> DataError {
    DataError::LabelMap { path: path.into(), reason: reason.to_string() }
}

/// What is written where colours were expected to be indices.
const NOT_INDICES: &str = "a label map holds indices of classes, one byte per pixel (a palette or 8-bit greyscale PNG): this one was \
                           saved with the palette's colours instead";

/// Size of a map, (width, height), from the first bytes of its file; refuses what holds no indices.
pub(crate) fn header(path: &Path) -> Result<(u32, u32), DataError> {
    let mut bytes = [0u8; 26];
    let mut file = File::open(path).map_err(|e| DataError::io(path, "read", e))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(unusable(path, "the file is no PNG: it is too short"));
        }
        Err(e) => return Err(DataError::io(path, "read", e)),
    }
    if bytes[..8] != *b"\x89PNG\r\n\x1a\n" || bytes[12..16] != *b"IHDR" {
        return Err(unusable(path, "the file is no PNG; other formats do not keep indices of classes"));
    }
    let side = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (width, height, depth, colour) = (side(16), side(20), bytes[24], bytes[25]);
    match (colour, depth) {
        (3, 1 | 2 | 4 | 8) | (0, 8) => {}
        (0, _) => {
            let reason = format!("its grey has {depth} bits; a label map is a palette PNG or one with 8 bits of grey");
            return Err(unusable(path, reason));
        }
        (2 | 6, _) => {
            return Err(unusable(path, format!("its pixels are {}; {NOT_INDICES}", if colour == 2 { "RGB" } else { "RGBA" })));
        }
        _ => return Err(unusable(path, format!("its pixels are grey with alpha; {NOT_INDICES}"))),
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(unusable(path, format!("it is {width} x {height}; a mask has 1 to {MAX_PIXELS} pixels")));
    }
    Ok((width, height))
}

/// Decodes a map. Palette entries are not looked up: the stored index is the label, as Pillow's mode P has it.
fn decode(path: &Path) -> Result<LabelMap, DataError> {
    let (width, height) = header(path)?;
    let file = BufReader::new(File::open(path).map_err(|e| DataError::io(path, "read", e))?);
    // The size is limited above already.
    let limits = png::Limits { bytes: usize::MAX };
    let mut decoder = png::Decoder::new_with_limits(file, limits);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let wrong = |e: png::DecodingError| match e {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            unusable(path, "the file is cut short")
        }
        e => unusable(path, e),
    };
    let mut reader = decoder.read_info().map_err(wrong)?;
    let size = reader.output_buffer_size().ok_or_else(|| unusable(path, "its size overflows"))?;
    let mut packed = vec![0; size];
    let frame = reader.next_frame(&mut packed).map_err(wrong)?;
    let bits = frame.bit_depth as usize;
    let values = if bits == 8 { packed } else { unpacked(&packed, width as usize, frame.line_size, bits) };
    Ok(LabelMap { width, height, values })
}

/// Indices of 1, 2 or 4 bits, the first pixel in the highest bits and each row from a new byte on, as bytes.
pub(crate) fn unpacked(packed: &[u8], width: usize, line: usize, bits: usize) -> Vec<u8> {
    let (per_byte, mask) = (8 / bits, ((1u16 << bits) - 1) as u8);
    let row = |row: &[u8]| -> Vec<u8> {
        (0..width).map(|x| (row[x / per_byte] >> (8 - bits - (x % per_byte) * bits)) & mask).collect()
    };
    packed.chunks_exact(line.max(1)).flat_map(row).collect()
}

impl MapFolder {
    /// The file that belongs to an image.
    pub(crate) fn path(&self, image: &str) -> PathBuf {
        let stem = Path::new(image).file_stem().unwrap_or(OsStr::new(image));
        let mut name = stem.to_owned();
        name.push(".png");
        self.folder.join(name)
    }

    /// Reads the map of an image; every value in it is one of a class or means none.
    pub(crate) fn read(&self, image: &str) -> Result<LabelMap, DataError> {
        let path = self.path(image);
        let map = decode(&path)?;
        let found = present(&map);
        let bad = (0..=u8::MAX).find(|&v| found[usize::from(v)] && self.class(v).is_none() && !self.none.contains(&v));
        let Some(bad) = bad else { return Ok(map) };
        let at = map.values.iter().position(|&v| v == bad).unwrap_or(0);
        let (x, y) = (at % map.width as usize, at / map.width as usize);
        let last = u16::from(self.first) + self.classes - 1;
        let none = match self.none {
            [] => String::new(),
            none => format!(", and {} for none", none.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")),
        };
        let reason =
            format!("pixel ({x}, {y}) holds {bad}; the set's {} classes are {} to {last}{none}", self.classes, self.first);
        Err(unusable(&path, reason))
    }

    fn class(&self, value: u8) -> Option<u16> {
        let class = u16::from(value.checked_sub(self.first)?);
        (class < self.classes && !self.none.contains(&value)).then_some(class)
    }

    /// Classes of a map, in order.
    pub(crate) fn classes(&self, map: &LabelMap) -> Vec<u16> {
        let found = present(map);
        (0..=u8::MAX).filter(|&v| found[usize::from(v)]).filter_map(|v| self.class(v)).collect()
    }

    /// Where a map holds a class: 0 and 1.
    pub(crate) fn pixels(&self, map: &LabelMap, class: u16) -> Vec<u8> {
        let value = u16::from(self.first) + class;
        map.values.iter().map(|&v| u8::from(u16::from(v) == value)).collect()
    }
}

/// Which of the 256 values occur.
fn present(map: &LabelMap) -> [bool; 256] {
    let mut found = [false; 256];
    map.values.iter().for_each(|&v| found[usize::from(v)] = true);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_indices_are_unpacked_row_by_row() {
        assert_eq!(unpacked(&[0b1010_0000, 0b0110_0000], 3, 1, 1), [1, 0, 1, 0, 1, 1]);
        assert_eq!(unpacked(&[0b0001_1011, 0b1100_0000], 5, 2, 2), [0, 1, 2, 3, 3]);
        assert_eq!(unpacked(&[0x1f, 0x70], 3, 2, 4), [1, 15, 7]);
    }

    #[test]
    fn values_are_classes_or_none() {
        let ade = MapFolder { folder: PathBuf::new(), first: 1, none: &[0, 255], classes: 150 };
        assert_eq!([0, 1, 150, 151, 255].map(|v| ade.class(v)), [None, Some(0), Some(149), None, None]);
        let all = MapFolder { folder: PathBuf::new(), first: 0, none: &[], classes: 18 };
        assert_eq!([0, 17, 18].map(|v| all.class(v)), [Some(0), Some(17), None]);
        assert_eq!(ade.path("a/ADE_val_1.jpg"), Path::new("ADE_val_1.png"));
    }
}
