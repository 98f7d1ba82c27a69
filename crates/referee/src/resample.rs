//! Resizes of masks and maps as Pillow and OpenCV do them.

use coco_mask::{MaskError, Rle};
use pil_ops::{ImageError, resize_bilinear};

/// A filter for maps of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapFilter {
    /// OpenCV's `INTER_LINEAR`, PyTorch's `bilinear` without aligned corners.
    Bilinear,
    /// OpenCV's `INTER_CUBIC`: the cubic of -0.75, borders repeated.
    Bicubic,
}

/// A map brought to another size.
///
/// # Shapes
/// `[from.0, from.1]` (height, width, row-major) to `[to.0, to.1]`.
///
/// # Errors
/// A side of 0, or a length that is not `from.0 * from.1`.
pub fn resize_map(map: &[f32], from: (usize, usize), to: (usize, usize), filter: MapFilter) -> Result<Vec<f32>, ImageError> {
    match filter {
        MapFilter::Bilinear => resize_bilinear(map, from, to),
        MapFilter::Bicubic => bicubic(map, from, to),
    }
}

fn bicubic(map: &[f32], from: (usize, usize), to: (usize, usize)) -> Result<Vec<f32>, ImageError> {
    // The same checks, by the same words.
    resize_bilinear(map, from, (1, 1).min(to))?;
    if from == to {
        return Ok(map.to_vec());
    }
    let (rows, columns) = (cubic_taps(from.0, to.0), cubic_taps(from.1, to.1));
    let mut out = Vec::with_capacity(to.0 * to.1);
    for (ys, wy) in &rows {
        for (xs, wx) in &columns {
            let row = |y: usize| -> f32 { (0..4).map(|k| map[y * from.1 + xs[k]] * wx[k]).sum() };
            out.push((0..4).map(|k| row(ys[k]) * wy[k]).sum());
        }
    }
    Ok(out)
}

/// Four source positions and their weights for each output position.
fn cubic_taps(n: usize, m: usize) -> Vec<([usize; 4], [f32; 4])> {
    const A: f64 = -0.75;
    let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let scale = n as f64 / m as f64;
    (0..m)
        .map(|i| {
            let s = (i as f64 + 0.5) * scale - 0.5;
            let low = s.floor();
            let f = s - low;
            let at = |k: f64| (low + k).clamp(0.0, (n - 1) as f64) as usize;
            let weights = [far(f + 1.0), near(f), near(1.0 - f), far(2.0 - f)].map(|w| w as f32);
            ([at(-1.0), at(0.0), at(1.0), at(2.0)], weights)
        })
        .collect()
}

/// A mask brought to another size by taking nearest pixels, as Pillow's `NEAREST` does.
///
/// # Errors
/// A size out of range.
pub fn resize_nearest(mask: &Rle, height: u32, width: u32) -> Result<Rle, MaskError> {
    if (mask.height(), mask.width()) == (height, width) {
        return Ok(mask.clone());
    }
    // The size is checked before anything of it is allocated.
    Rle::empty(height, width)?;
    let (rows, columns) = (nearest(mask.height(), height), nearest(mask.width(), width));
    let bytes = mask.to_column_major();
    let h = mask.height() as usize;
    let out: Vec<u8> = columns.iter().flat_map(|x| rows.iter().map(|y| bytes[*x * h + *y])).collect();
    Rle::from_column_major(height, width, &out)
}

/// Pillow adds the step up, output by output; a product would round to another pixel here and there.
fn nearest(n: u32, m: u32) -> Vec<usize> {
    let step = f64::from(n) / f64::from(m);
    let mut at = step * 0.5;
    (0..m)
        .map(|_| {
            let index = (at as usize).min(n as usize - 1);
            at += step;
            index
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubic_keeps_constants_and_overshoots_edges() {
        let flat = resize_map(&[0.5; 12], (3, 4), (7, 9), MapFilter::Bicubic).unwrap();
        assert!(flat.iter().all(|v| (v - 0.5).abs() < 1e-6));
        let edge = resize_map(&[0.0, 0.0, 1.0, 1.0], (1, 4), (1, 8), MapFilter::Bicubic).unwrap();
        assert!(edge[5] > 1.0 && edge[2] < 0.0, "{edge:?}");
        assert!(resize_map(&[0.0; 3], (2, 2), (1, 1), MapFilter::Bicubic).is_err());
        assert!(resize_map(&[0.0; 4], (2, 2), (0, 1), MapFilter::Bicubic).is_err());
    }

    #[test]
    fn nearest_pixels() {
        let mask = Rle::from_row_major(2, 2, &[1, 0, 0, 1]).unwrap();
        let big = resize_nearest(&mask, 4, 4).unwrap();
        assert_eq!(big.to_row_major(), [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(resize_nearest(&big, 2, 2).unwrap(), mask);
        assert!(resize_nearest(&mask, 0, 4).is_err());
    }
}
