//! Noise and blur, from which surfaces are made.

/// -1 to 1 at a grid point.
pub(super) fn hash(x: f64, y: f64, key: u64) -> f64 {
    let mut z =
        (x as i64 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (y as i64 as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ key;
    // The finish of MurmurHash3: every bit of the place reaches every bit of the value.
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Smooth value noise, -1 to 1.
pub(super) fn noise(x: f64, y: f64, key: u64) -> f64 {
    let (x0, y0) = (x.floor(), y.floor());
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    let (fx, fy) = (smooth(x - x0), smooth(y - y0));
    let row = |yy: f64| hash(x0, yy, key) * (1.0 - fx) + hash(x0 + 1.0, yy, key) * fx;
    row(y0) * (1.0 - fy) + row(y0 + 1.0) * fy
}

/// Sum of four octaves of value noise, about -1 to 1.
pub(super) fn fractal(x: f64, y: f64, key: u64) -> f64 {
    let octave = |i: u64| noise(x * f64::from(1 << i), y * f64::from(1 << i), key ^ i) / f64::from(1 << i);
    (0..4).map(octave).sum::<f64>() / 1.4
}

/// Blurs a window of values with two passes of a box in each direction; `radius` in pixels, outside counts as the border.
pub(super) fn blur(values: &mut [f32], width: usize, radius: f64) {
    let mut line = Line::new(radius);
    for _ in 0..2 {
        for row in values.chunks_exact_mut(width) {
            line.fill(row.iter().copied());
            line.boxes(row.iter_mut());
        }
        for x in 0..width {
            line.fill(values.iter().skip(x).step_by(width).copied());
            line.boxes(values.iter_mut().skip(x).step_by(width));
        }
    }
}

/// A row or a column with its ends repeated.
struct Line {
    values: Vec<f32>,
    whole: usize,
    part: f32,
}

impl Line {
    fn new(radius: f64) -> Self {
        Self { values: Vec::new(), whole: radius as usize, part: radius.fract() as f32 }
    }

    fn fill(&mut self, line: impl Iterator<Item = f32>) {
        let around = self.whole + 1;
        self.values.clear();
        self.values.resize(around, 0.0);
        self.values.extend(line);
        let (first, last) =
            (self.values.get(around).copied().unwrap_or_default(), self.values.last().copied().unwrap_or_default());
        self.values.iter_mut().take(around).for_each(|v| *v = first);
        self.values.resize(self.values.len() + around, last);
    }

    /// Means over boxes of twice the radius and a pixel, whose last pixels count in part.
    fn boxes<'a>(&self, out: impl Iterator<Item = &'a mut f32>) {
        let span = 2 * self.whole + 3;
        let scale = 1.0 / ((span - 2) as f32 + 2.0 * self.part);
        let mut sum: f32 = self.values.iter().skip(1).take(span - 2).sum();
        for (value, window) in out.zip(self.values.windows(span)) {
            *value = (sum + self.part * (window[0] + window[span - 1])) * scale;
            sum += window[span - 1] - window[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_smooth_and_fair() {
        let at = |i: i32| noise(f64::from(i) * 0.01 - 3.0, 7.3, 42);
        let values: Vec<f64> = (0..20_000).map(at).collect();
        assert!(values.windows(2).all(|w| (w[0] - w[1]).abs() < 0.04) && values.iter().all(|v| v.abs() <= 1.0));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.1 && values.iter().any(|v| *v > 0.6) && values.iter().any(|v| *v < -0.6), "{mean}");
    }

    #[test]
    fn blur_spreads_and_keeps_the_sum() {
        let mut values = vec![0f32; 21 * 15];
        values[7 * 21 + 10] = 1.0;
        blur(&mut values, 21, 1.5);
        assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        // Two boxes of (1/2, 1, 1, 1, 1/2) / 4: their middle is the sum of squares, in both directions.
        let middle = (0.25 * 2.0 + 3.0) / 16.0;
        assert!((values[7 * 21 + 10] - middle * middle).abs() < 1e-5, "{}", values[7 * 21 + 10]);
        assert!(
            (values[7 * 21 + 9] - values[7 * 21 + 11]).abs() < 1e-6 && values[7 * 21 + 14] > 0.0 && values[7 * 21 + 15] == 0.0
        );
        let mut flat = vec![0.7f32; 20];
        blur(&mut flat, 5, 0.3);
        assert!(flat.iter().all(|v| (v - 0.7).abs() < 1e-5));
    }
}
