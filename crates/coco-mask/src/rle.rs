use crate::MaskError;
use crate::bytes::{runs, transpose};

/// Most pixels a mask may have (2^28, a 16,384 x 16,384 image).
pub const MAX_PIXELS: u64 = 1 << 28;

/// A binary mask as column-major run lengths.
///
/// The runs always add up to height x width: every constructor checks that, so no method can fail on content.
/// Two equal masks may hold different runs when one of them contains runs of length 0 (pycocotools keeps those too);
/// [`Rle::canonical`] removes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rle {
    height: u32,
    width: u32,
    counts: Vec<u32>,
}

pub(crate) fn pixels(height: u32, width: u32) -> Result<u32, MaskError> {
    let n = u64::from(height) * u64::from(width);
    if n == 0 || n > MAX_PIXELS {
        return Err(MaskError::Size { height, width });
    }
    Ok(n as u32)
}

impl Rle {
    /// A mask from uncompressed runs (COCO's `"counts": [..]`).
    ///
    /// # Errors
    /// If the size is out of range or the runs do not add up to `height * width`.
    pub fn from_counts(height: u32, width: u32, counts: Vec<u32>) -> Result<Self, MaskError> {
        let n = u64::from(pixels(height, width)?);
        let sum = counts.iter().map(|&c| u64::from(c)).sum();
        if sum != n {
            return Err(MaskError::RunSum { sum, pixels: n });
        }
        Ok(Self { height, width, counts })
    }

    /// A mask without foreground.
    ///
    /// # Errors
    /// If the size is out of range.
    pub fn empty(height: u32, width: u32) -> Result<Self, MaskError> {
        let n = pixels(height, width)?;
        Ok(Self { height, width, counts: vec![n] })
    }

    /// A mask from spans of foreground in order, none of which are empty or touch; they lie within the mask.
    pub(crate) fn from_spans(height: u32, width: u32, spans: &[(u32, u32)]) -> Self {
        let mut counts = Vec::with_capacity(2 * spans.len() + 1);
        let mut at = 0;
        for &(start, end) in spans {
            counts.extend([start - at, end - start]);
            at = end;
        }
        let pixels = height * width;
        if at < pixels {
            counts.push(pixels - at);
        }
        Self { height, width, counts }
    }

    /// A mask from `height * width` bytes, row after row; any byte but 0 is foreground.
    ///
    /// # Errors
    /// If the size is out of range or the slice has another length.
    pub fn from_row_major(height: u32, width: u32, bytes: &[u8]) -> Result<Self, MaskError> {
        check_length(height, width, bytes)?;
        let mut columns = vec![0u8; bytes.len()];
        transpose(bytes, height as usize, width as usize, &mut columns);
        Ok(Self { height, width, counts: runs(&columns) })
    }

    /// A mask from `height * width` bytes, column after column; any byte but 0 is foreground.
    ///
    /// # Errors
    /// If the size is out of range or the slice has another length.
    pub fn from_column_major(height: u32, width: u32, bytes: &[u8]) -> Result<Self, MaskError> {
        check_length(height, width, bytes)?;
        Ok(Self { height, width, counts: runs(bytes) })
    }

    /// `height * width` bytes of 0 and 1, row after row.
    #[must_use]
    pub fn to_row_major(&self) -> Vec<u8> {
        let mut out = vec![0u8; self.height as usize * self.width as usize];
        transpose(&self.to_column_major(), self.width as usize, self.height as usize, &mut out);
        out
    }

    /// `height * width` bytes of 0 and 1, column after column.
    #[must_use]
    pub fn to_column_major(&self) -> Vec<u8> {
        let mut out = vec![0u8; self.height as usize * self.width as usize];
        self.set(1, &mut out);
        out
    }

    /// Writes `value` where the mask has foreground; other bytes stay as they are. Column after column, `height * width` bytes.
    ///
    /// # Errors
    /// If the slice has another length.
    pub fn draw_column_major(&self, value: u8, out: &mut [u8]) -> Result<(), MaskError> {
        check_length(self.height, self.width, out)?;
        self.set(value, out);
        Ok(())
    }

    fn set(&self, value: u8, out: &mut [u8]) {
        for (start, end) in self.foreground() {
            out[start as usize..end as usize].fill(value);
        }
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The runs, background first.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The same mask without runs of length 0 (except a first one, where foreground begins at once).
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut counts = Vec::with_capacity(self.counts.len());
        let mut at = 0;
        for (start, end) in self.foreground() {
            if start == at && at > 0 {
                // Two foreground runs around an empty background run are one.
                if let Some(last) = counts.last_mut() {
                    *last += end - start;
                }
            } else {
                counts.push(start - at);
                counts.push(end - start);
            }
            at = end;
        }
        let n = self.height * self.width;
        if at < n || counts.is_empty() {
            counts.push(n - at);
        }
        Self { height: self.height, width: self.width, counts }
    }

    /// Foreground pixels.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&c| u64::from(c)).sum()
    }

    /// Whether there is no foreground.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.area() == 0
    }

    /// Tight box `[x, y, width, height]` in pixels; zeros for a mask without foreground.
    #[must_use]
    pub fn bbox(&self) -> [f64; 4] {
        let h = self.height;
        let (mut x0, mut x1, mut y0, mut y1) = (u32::MAX, 0, u32::MAX, 0);
        for (start, end) in self.foreground() {
            let (first, last) = (start / h, (end - 1) / h);
            x0 = x0.min(first);
            x1 = x1.max(last);
            if first < last {
                // A run across a column border touches the last row of one column and the first row of the next.
                (y0, y1) = (0, h - 1);
            } else {
                y0 = y0.min(start % h);
                y1 = y1.max((end - 1) % h);
            }
        }
        if x0 == u32::MAX {
            return [0.0; 4];
        }
        [x0, y0, x1 - x0 + 1, y1 - y0 + 1].map(f64::from)
    }

    /// Non-empty foreground runs as `start..end` in column-major order.
    pub(crate) fn foreground(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 0u32;
        self.counts.iter().enumerate().filter_map(move |(i, &c)| {
            let start = at;
            at += c;
            (i % 2 == 1 && c > 0).then_some((start, at))
        })
    }
}

fn check_length(height: u32, width: u32, bytes: &[u8]) -> Result<(), MaskError> {
    let expected = u64::from(pixels(height, width)?);
    if bytes.len() as u64 != expected {
        return Err(MaskError::Length { found: bytes.len(), expected });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_trailing_runs() {
        // 2 rows x 3 columns: 0 1 1 / 1 1 0
        let rle = Rle::from_row_major(2, 3, &[0, 1, 1, 1, 1, 0]).unwrap();
        assert_eq!(rle.counts(), [1, 4, 1]);
        assert_eq!(rle.to_row_major(), [0, 1, 1, 1, 1, 0]);
        assert_eq!(rle.to_column_major(), [0, 1, 1, 1, 1, 0]);
        assert_eq!(Rle::from_column_major(2, 3, &rle.to_column_major()).unwrap(), rle);
        let mut drawn = [7; 6];
        rle.draw_column_major(3, &mut drawn).unwrap();
        assert_eq!(drawn, [7, 3, 3, 3, 3, 7]);
        assert!(matches!(rle.draw_column_major(3, &mut [0; 5]), Err(MaskError::Length { found: 5, expected: 6 })));
        assert_eq!(Rle::from_row_major(3, 4, &[0; 12]).unwrap().counts(), [12]);
        assert_eq!(Rle::from_row_major(3, 4, &[7; 12]).unwrap().counts(), [0, 12]);
    }

    #[test]
    fn bad_sizes_and_sums_are_errors() {
        assert!(matches!(Rle::empty(0, 4), Err(MaskError::Size { .. })));
        assert!(matches!(Rle::empty(u32::MAX, u32::MAX), Err(MaskError::Size { .. })));
        assert!(matches!(Rle::from_counts(4, 4, vec![u32::MAX, u32::MAX]), Err(MaskError::RunSum { .. })));
        assert!(matches!(Rle::from_counts(4, 4, vec![15]), Err(MaskError::RunSum { sum: 15, pixels: 16 })));
        assert!(matches!(Rle::from_row_major(4, 4, &[0; 15]), Err(MaskError::Length { .. })));
    }

    #[test]
    fn canonical_joins_runs() {
        let rle = Rle::from_counts(2, 5, vec![0, 2, 0, 3, 4, 0, 1, 0]).unwrap();
        assert_eq!(rle.canonical().counts(), [0, 5, 5]);
        assert_eq!(rle.canonical().to_row_major(), rle.to_row_major());
        assert_eq!(Rle::from_counts(2, 2, vec![4, 0]).unwrap().canonical().counts(), [4]);
    }

    #[test]
    fn boxes() {
        let rle = Rle::from_row_major(3, 3, &[0, 0, 0, 0, 0, 1, 0, 0, 1]).unwrap();
        assert_eq!(rle.bbox(), [2.0, 1.0, 1.0, 2.0]);
        // Foreground that crosses from one column into the next.
        let rle = Rle::from_counts(3, 3, vec![2, 2, 5]).unwrap();
        assert_eq!(rle.bbox(), [0.0, 0.0, 2.0, 3.0]);
        assert_eq!(Rle::empty(3, 3).unwrap().bbox(), [0.0; 4]);
    }
}
