//! Masks in PNG files: what is not 0 is inside.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use coco_mask::{MAX_PIXELS, Rle};

use crate::DataError;
use crate::classes::unpacked;

fn unusable(path: &Path, reason: impl ToString) -> DataError {
    DataError::MaskFile { path: path.into(), reason: reason.to_string() }
}

fn wrong(path: &Path, error: png::DecodingError) -> DataError {
    match error {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            unusable(path, "the file is cut short")
        }
        png::DecodingError::IoError(e) => DataError::io(path, "read", e),
        png::DecodingError::Format(_) => {
            unusable(path, "the file is no whole PNG; other formats do not keep the values of pixels")
        }
        e => unusable(path, e),
    }
}

fn open(path: &Path) -> Result<png::Reader<BufReader<File>>, DataError> {
    let file = BufReader::new(File::open(path).map_err(|e| DataError::io(path, "read", e))?);
    // The size is limited below.
    let mut decoder = png::Decoder::new_with_limits(file, png::Limits { bytes: usize::MAX });
    decoder.set_transformations(png::Transformations::IDENTITY);
    let reader = decoder.read_info().map_err(|e| wrong(path, e))?;
    let (width, height) = reader.info().size();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(unusable(path, format!("it is {width} x {height}; a mask has at most {MAX_PIXELS} pixels")));
    }
    Ok(reader)
}

/// Columns and rows, from the header.
pub(crate) fn size(path: &Path) -> Result<(u32, u32), DataError> {
    Ok(open(path)?.info().size())
}

/// Decodes a mask. Grey levels and palette entries other than 0 are inside, colours other than black, and of what has alpha only
/// what is not transparent.
pub(crate) fn read(path: &Path) -> Result<Rle, DataError> {
    let mut reader = open(path)?;
    let length = reader.output_buffer_size().ok_or_else(|| unusable(path, "its size overflows"))?;
    let mut bytes = vec![0; length];
    let frame = reader.next_frame(&mut bytes).map_err(|e| wrong(path, e))?;
    let (width, channels) = (frame.width as usize, frame.color_type.samples());
    let samples: Vec<u8> = match frame.bit_depth {
        png::BitDepth::Eight => bytes,
        png::BitDepth::Sixteen => bytes.chunks_exact(2).map(|pair| pair[0] | pair[1]).collect(),
        depth => unpacked(&bytes, width, frame.line_size, depth as usize),
    };
    let inside = |pixel: &[u8]| match pixel {
        [value] => *value != 0,
        [value, alpha] => *value != 0 && *alpha != 0,
        [r, g, b] => (r | g | b) != 0,
        [r, g, b, alpha] => (r | g | b) != 0 && *alpha != 0,
        _ => false,
    };
    let pixels: Vec<u8> = samples.chunks_exact(channels.max(1)).map(|pixel| u8::from(inside(pixel))).collect();
    Rle::from_row_major(frame.height, frame.width, &pixels).map_err(|e| unusable(path, e))
}

/// The bytes of an 8-bit grey PNG, 255 inside.
///
/// # Errors
/// When the encoder refuses.
pub fn mask_png(mask: &Rle) -> Result<Vec<u8>, DataError> {
    let bytes: Vec<u8> = mask.to_row_major().into_iter().map(|v| v * 255).collect();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, mask.width(), mask.height());
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let refused = |e: png::EncodingError| unusable(Path::new("(a new mask)"), e);
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(&bytes).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(colour: png::ColorType, depth: png::BitDepth, data: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut encoder = png::Encoder::new(file.reopen().unwrap(), 2, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette(vec![0, 0, 0, 0, 0, 0, 9, 9, 9]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        file
    }

    #[test]
    fn what_is_not_zero_is_inside_in_every_kind_of_png() {
        use png::{BitDepth::*, ColorType::*};
        for (colour, depth, data) in [
            (Grayscale, Eight, vec![0, 255, 1, 0]),
            (Grayscale, One, vec![0b0100_0000, 0b1000_0000]),
            (Grayscale, Sixteen, vec![0, 0, 0, 1, 1, 0, 0, 0]),
            (Indexed, Two, vec![0b0001_0000, 0b1000_0000]),
            (GrayscaleAlpha, Eight, vec![9, 0, 9, 255, 9, 1, 0, 255]),
            (Rgb, Eight, vec![0, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0]),
            (Rgba, Eight, vec![9, 9, 9, 0, 9, 0, 0, 255, 0, 0, 1, 1, 0, 0, 0, 255]),
        ] {
            let file = png(colour, depth, &data);
            assert_eq!(size(file.path()).unwrap(), (2, 2));
            assert_eq!(read(file.path()).unwrap().to_row_major(), [0, 1, 1, 0], "{colour:?} {depth:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mask = Rle::from_row_major(2, 3, &[1, 0, 1, 0, 0, 1]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = mask_png(&mask).unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(read(file.path()).unwrap(), mask);
        // Cut anywhere, it is refused and named.
        for end in 0..bytes.len() - 12 {
            std::fs::write(file.path(), &bytes[..end]).unwrap();
            let error = read(file.path()).unwrap_err().to_string();
            assert!(error.contains(&file.path().display().to_string()), "{error}");
        }
        std::fs::write(file.path(), b"\xFF\xD8\xFF\xE0 a photograph").unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains("no whole PNG"));
    }
}
