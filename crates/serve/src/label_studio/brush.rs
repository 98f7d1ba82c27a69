//! Label Studio's mask format: run lengths of an RGBA image, packed into bits.
//!
//! 32 bits say how many values there are, 5 bits the width of a value less one, four times 4 bits the widths of lengths less one.
//! Then blocks follow: a bit that says whether one value is repeated, two bits for which of the four widths the length has, the
//! length less one, and the value, or as many values as the length says.

use coco_mask::Rle;

/// Widths of lengths in bits.
const WIDTHS: [u32; 4] = [3, 4, 8, 16];
/// Width of a value.
const VALUE: u32 = 8;
/// Channels of a pixel, which all have the same value.
const CHANNELS: u64 = 4;

/// A mask as Label Studio's brush has it.
pub fn encode(mask: &Rle) -> Vec<u8> {
    let mut bits = Bits::default();
    let pixels = mask.height() * mask.width();
    bits.push(u64::from(pixels) * CHANNELS, 32);
    bits.push(u64::from(VALUE - 1), 5);
    for width in WIDTHS {
        bits.push(u64::from(width - 1), 4);
    }
    for (value, length) in row_runs(mask) {
        bits.push_run(value, length * CHANNELS);
    }
    bits.bytes
}

/// Runs of equal pixels, row after row.
fn row_runs(mask: &Rle) -> Vec<(u8, u64)> {
    let mut runs: Vec<(u8, u64)> = Vec::new();
    for pixel in mask.to_row_major() {
        let value = pixel * 255;
        match runs.last_mut() {
            Some((last, length)) if *last == value => *length += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are used.
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u64, width: u32) {
        for at in (0..width).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let bit = (value >> at & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    fn push_run(&mut self, value: u8, mut length: u64) {
        while length > 0 {
            let part = length.min(1 << 16);
            let index = WIDTHS.iter().position(|width| part <= 1 << width).unwrap_or(WIDTHS.len() - 1);
            self.push(1, 1);
            self.push(index as u64, 2);
            self.push(part - 1, WIDTHS[index]);
            self.push(u64::from(value), VALUE);
            length -= part;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Values of a packed list, read as the format is described above.
    pub(crate) fn decode(bytes: &[u8]) -> Vec<u8> {
        let mut at = 0usize;
        let mut take = |width: u32| {
            let value = (0..width as usize).fold(0u64, |value, i| {
                let bit = bytes[(at + i) / 8] >> (7 - (at + i) % 8) & 1;
                value << 1 | u64::from(bit)
            });
            at += width as usize;
            value
        };
        let count = take(32) as usize;
        let width = take(5) as u32 + 1;
        let widths: Vec<u32> = (0..4).map(|_| take(4) as u32 + 1).collect();
        let mut out = Vec::new();
        while out.len() < count {
            let repeated = take(1) == 1;
            let index = take(2) as usize;
            let length = take(widths[index]) as usize + 1;
            if repeated {
                let value = take(width) as u8;
                out.extend(std::iter::repeat_n(value, length));
            } else {
                out.extend((0..length).map(|_| take(width) as u8));
            }
        }
        out
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let mut state = 3u32;
        for (width, height, from) in [(1u32, 1u32, 128), (7, 5, 128), (300, 200, 250), (640, 480, 256)] {
            let bytes: Vec<u8> = (0..width * height)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    u8::from(state >> 24 >= from)
                })
                .collect();
            let mask = Rle::from_row_major(height, width, &bytes).unwrap();
            let want: Vec<u8> = bytes.iter().flat_map(|b| [b * 255; 4]).collect();
            assert!(decode(&encode(&mask)) == want, "{width} x {height}");
        }
    }

    /// Two pixels, the second inside: 8 values; a run of 4 zeros and one of 4 times 255.
    #[test]
    fn bits_lie_where_the_format_has_them() {
        let mask = Rle::from_row_major(1, 2, &[0, 1]).unwrap();
        // 8 | 00111 | 0010 0011 0111 1111 | 1 00 011 00000000 | 1 00 011 11111111
        let bits =
            "00000000000000000000000000001000".to_owned() + "00111" + "0010001101111111" + "10001100000000" + "10001111111111";
        let padded = format!("{bits:0<88}");
        let want: Vec<u8> = (0..11).map(|i| u8::from_str_radix(&padded[8 * i..8 * i + 8], 2).unwrap()).collect();
        assert_eq!(encode(&mask), want);
    }
}
