//! Bilinear resize of a map of numbers, as PyTorch and OpenCV do it.

use crate::image::ImageError;

/// Bilinear resize of a row-major map: half-pixel centres, clamped borders, no antialiasing (OpenCV's `INTER_LINEAR`,
/// PyTorch's `align_corners=False`).
///
/// # Shapes
/// `[from.0, from.1]` (height, width) to `[to.0, to.1]`.
///
/// # Errors
/// If a side is 0 or the length is not `from.0 * from.1`.
pub fn resize_bilinear(map: &[f32], from: (usize, usize), to: (usize, usize)) -> Result<Vec<f32>, ImageError> {
    let (h, w) = from;
    if h == 0 || w == 0 || to.0 == 0 || to.1 == 0 || h.checked_mul(w) != Some(map.len()) {
        return Err(ImageError::Map { found: map.len(), height: h, width: w });
    }
    if from == to {
        return Ok(map.to_vec());
    }
    let (rows, columns) = (taps(h, to.0), taps(w, to.1));
    let mut out = Vec::with_capacity(to.0 * to.1);
    for &(y0, y1, fy) in &rows {
        let (top, bottom) = (&map[y0 * w..(y0 + 1) * w], &map[y1 * w..(y1 + 1) * w]);
        for &(x0, x1, fx) in &columns {
            let a = top[x0] * (1.0 - fx) + top[x1] * fx;
            let b = bottom[x0] * (1.0 - fx) + bottom[x1] * fx;
            out.push(a * (1.0 - fy) + b * fy);
        }
    }
    Ok(out)
}

fn taps(n: usize, m: usize) -> Vec<(usize, usize, f32)> {
    let scale = n as f64 / m as f64;
    (0..m)
        .map(|i| {
            let s = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (s as usize).min(n - 1);
            (low, (low + 1).min(n - 1), (s - low as f64) as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_doubles_and_refuses() {
        assert_eq!(resize_bilinear(&[0.0, 1.0], (1, 2), (1, 4)).unwrap(), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(resize_bilinear(&[0.0, 1.0, 2.0, 3.0], (2, 2), (1, 1)).unwrap(), [1.5]);
        assert!(resize_bilinear(&[0.0; 3], (2, 2), (1, 1)).is_err());
        assert!(resize_bilinear(&[], (0, 2), (1, 1)).is_err());
        assert!(resize_bilinear(&[0.0; 4], (2, 2), (0, 1)).is_err());
    }
}
