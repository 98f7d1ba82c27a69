use crate::{MaskError, Rle};

impl Rle {
    /// A mask from COCO's compressed text (`"counts": "..."`).
    ///
    /// # Errors
    /// On a byte outside 48..=111, a string that ends inside a run, a run that is negative or above 32 bits, or runs
    /// that do not add up to `height * width`.
    pub fn from_compressed(height: u32, width: u32, text: impl AsRef<[u8]>) -> Result<Self, MaskError> {
        Self::from_counts(height, width, decode(text.as_ref())?)
    }

    /// COCO's compressed text: base-32 digits with a continuation bit, runs from the fourth on as differences.
    #[must_use]
    pub fn to_compressed(&self) -> String {
        encode(self.counts())
    }
}

fn encode(counts: &[u32]) -> String {
    let mut out = String::with_capacity(counts.len() * 2);
    for (i, &count) in counts.iter().enumerate() {
        let mut x = i64::from(count);
        // The reference differs from index 3 on, not 2: the first background run never takes part.
        if i > 2 {
            x -= i64::from(counts[i - 2]);
        }
        loop {
            let mut digit = (x & 31) as u8;
            x >>= 5;
            let more = if digit & 16 != 0 { x != -1 } else { x != 0 };
            if more {
                digit |= 32;
            }
            out.push(char::from(digit + 48));
            if !more {
                break;
            }
        }
    }
    out
}

fn decode(text: &[u8]) -> Result<Vec<u32>, MaskError> {
    let mut counts: Vec<u32> = Vec::with_capacity(text.len());
    // The last run and the one before it.
    let (mut last, mut before) = (0u32, 0u32);
    let mut at = 0;
    while at < text.len() {
        let index = counts.len();
        let (mut x, mut shift) = (0i64, 0u32);
        loop {
            let Some(&byte) = text.get(at) else { return Err(MaskError::Truncated) };
            let digit = byte.wrapping_sub(48);
            if digit > 63 {
                return Err(MaskError::Character { at, byte });
            }
            // Seven digits hold any difference of two 32-bit runs; ten would overflow the accumulator.
            if shift > 35 {
                return Err(MaskError::Run { index });
            }
            at += 1;
            x |= i64::from(digit & 31) << shift;
            shift += 5;
            if digit & 32 == 0 {
                if digit & 16 != 0 {
                    x |= -1i64 << shift;
                }
                break;
            }
        }
        if index > 2 {
            x += i64::from(before);
        }
        let run = u32::try_from(x).map_err(|_| MaskError::Run { index })?;
        counts.push(run);
        (before, last) = (last, run);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_strings() {
        for (counts, text) in [
            (vec![0, 307_200], "0PP\\9"),
            (vec![6, 1, 40, 4, 5, 4, 5, 4, 21], "61X13mN000`0"),
            (vec![100_000, 1, 1, 1, 2, 3, 100_000], "PeQ311012ndQ3"),
            (vec![u32::MAX, 0, 0, u32::MAX, 5, 0], ""),
        ] {
            let got = encode(&counts);
            if !text.is_empty() {
                assert_eq!(got, text);
            }
            assert_eq!(decode(got.as_bytes()).unwrap(), counts);
        }
    }

    #[test]
    fn any_runs_come_back() {
        let mut state = 1_u32;
        for round in 0..3000_u32 {
            let mut run = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Runs of one digit up to those of seven.
                state >> (state % 32)
            };
            let counts: Vec<u32> = (0..round % 12).map(|_| run()).collect();
            assert_eq!(decode(encode(&counts).as_bytes()).unwrap(), counts);
        }
    }

    #[test]
    fn hostile_strings() {
        assert_eq!(Rle::from_compressed(2, 2, "4\n"), Err(MaskError::Character { at: 1, byte: 10 }));
        assert_eq!(Rle::from_compressed(2, 2, "é"), Err(MaskError::Character { at: 0, byte: 0xc3 }));
        assert_eq!(Rle::from_compressed(2, 2, "o"), Err(MaskError::Truncated));
        assert_eq!(Rle::from_compressed(2, 2, "oooooooooooooooo0"), Err(MaskError::Run { index: 0 }));
        assert_eq!(Rle::from_compressed(2, 2, "O"), Err(MaskError::Run { index: 0 }), "minus one");
        assert_eq!(Rle::from_compressed(2, 2, "5"), Err(MaskError::RunSum { sum: 5, pixels: 4 }));
        assert_eq!(Rle::from_compressed(2, 2, ""), Err(MaskError::RunSum { sum: 0, pixels: 4 }));
    }
}
