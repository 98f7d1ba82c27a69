//! Label Studio's brush masks: a bit-packed run length of RGBA bytes, read and written.
//!
//! The stream has 32 bits for the number of bytes that it unpacks to, 5 bits for the size of a word less 1, four times 4 bits for
//! the sizes of lengths less 1; then blocks of 1 bit (whether it is a run), 2 bits that choose one of the four sizes, the length
//! less 1, and one word for a run or as many words as the length says. A mask is the alpha of its pixels.

use coco_mask::{MAX_PIXELS, Rle};

/// Bits of the four sizes of lengths that are written, the smallest first.
const SIZES: [u32; 4] = [4, 8, 12, 16];
/// Bytes per pixel.
const CHANNELS: usize = 4;

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, the highest first; none where the stream ends before.
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut out = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            out = (out << 1) | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(out)
    }
}

/// Unpacks a stream into a mask of `(width, height)` pixels, the inverse of [`brush_rle`].
///
/// # Errors
/// What is wrong with the stream, in words.
pub fn from_brush_rle(bytes: &[u8], (width, height): (u32, u32)) -> Result<Rle, String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("an image of {width} x {height} has no mask; 1 to {MAX_PIXELS} pixels are read"));
    }
    let short = || "its run lengths end early".to_owned();
    let mut bits = Bits { bytes, at: 0 };
    let length = bits.read(32).ok_or_else(short)? as usize;
    let want = pixels as usize * CHANNELS;
    if length != want {
        return Err(format!("it unpacks to {length} bytes, but {width} x {height} pixels of RGBA (width x height) are {want}"));
    }
    let word = bits.read(5).ok_or_else(short)? + 1;
    let mut sizes = [0; 4];
    for size in &mut sizes {
        *size = bits.read(4).ok_or_else(short)? + 1;
    }
    let mut mask = vec![0u8; pixels as usize];
    // Alpha is the last of a pixel's bytes: those of pixels `from / 4` to `to / 4` lie between the two.
    let mut set = |from: usize, to: usize, value: u32| {
        if value != 0
            && let Some(run) = mask.get_mut(from / CHANNELS..to / CHANNELS)
        {
            run.fill(1);
        }
    };
    let mut at = 0;
    while at < length {
        let run = bits.read(1).ok_or_else(short)? == 1;
        let size = sizes[bits.read(2).ok_or_else(short)? as usize];
        let end = at + 1 + bits.read(size).ok_or_else(short)? as usize;
        if end > length {
            return Err("its run lengths go beyond the image".into());
        }
        if run {
            set(at, end, bits.read(word).ok_or_else(short)?);
        } else {
            for byte in at..end {
                set(byte, byte + 1, bits.read(word).ok_or_else(short)?);
            }
        }
        at = end;
    }
    Rle::from_row_major(height, width, &mask).map_err(|e| e.to_string())
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    free: u32,
}

impl Out {
    fn write(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.free;
            }
        }
    }

    /// A run of equal bytes.
    fn run(&mut self, mut length: usize, value: u8) {
        while length > 0 {
            let most = 1usize << SIZES[3];
            let part = length.min(most);
            let index = SIZES.iter().position(|bits| part <= 1 << bits).unwrap_or(3);
            self.write(1, 1);
            self.write(index as u32, 2);
            self.write(part as u32 - 1, SIZES[index]);
            self.write(u32::from(value), 8);
            length -= part;
        }
    }
}

/// Packs a mask, 255 inside in all four channels.
#[must_use]
pub fn brush_rle(mask: &Rle) -> Vec<u8> {
    let pixels = mask.to_row_major();
    let mut out = Out::default();
    out.write((pixels.len() * CHANNELS) as u32, 32);
    out.write(7, 5);
    SIZES.iter().for_each(|bits| out.write(bits - 1, 4));
    for run in pixels.chunk_by(|a, b| a == b) {
        out.run(run.len() * CHANNELS, run[0] * 255);
    }
    out.bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut rng = Rng::keyed(&[22]);
        for (width, height) in [(1, 1), (7, 5), (300, 200), (1000, 3)] {
            let mut inside = false;
            let pixels: Vec<u8> = (0..width * height)
                .map(|_| {
                    inside ^= rng.chance(0.02);
                    u8::from(inside)
                })
                .collect();
            let mask = Rle::from_row_major(height, width, &pixels).unwrap();
            let packed = brush_rle(&mask);
            assert_eq!(from_brush_rle(&packed, (width, height)).unwrap(), mask);
            for end in 0..packed.len() {
                assert!(from_brush_rle(&packed[..end], (width, height)).is_err() || end + 1 >= packed.len(), "cut at {end}");
            }
            assert!(from_brush_rle(&packed, (width, height + 1)).unwrap_err().contains("RGBA"));
        }
    }

    /// Words one by one, as another encoder may write short stretches.
    #[test]
    fn single_words_are_read() {
        let mut out = Out::default();
        out.write(8, 32);
        out.write(7, 5);
        SIZES.iter().for_each(|bits| out.write(bits - 1, 4));
        out.write(0, 1);
        out.write(0, 2);
        out.write(7, 4);
        for byte in [9, 9, 9, 0, 0, 0, 0, 200] {
            out.write(byte, 8);
        }
        assert_eq!(from_brush_rle(&out.bytes, (2, 1)).unwrap().to_row_major(), [0, 1]);
    }
}
