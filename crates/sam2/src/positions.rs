//! Positions of the memory attention: sines added to keys, and rotations of queries and keys.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Base of all wavelengths.
const BASE: f64 = 10_000.0;

/// Sine positions of an H x W map: half of the channels for the row, half for the column (SAM 2, appendix D.1).
///
/// # Shapes
/// output: [1, `channels`, `height`, `width`]
pub fn sine(channels: usize, [height, width]: [usize; 2], device: &Device, kind: DType) -> Tensor<4> {
    let half = channels / 2;
    let axis = |length: usize| -> Vec<f64> {
        let place = |i: usize| (i + 1) as f64 / (length as f64 + 1e-6) * std::f64::consts::TAU;
        (0..length).flat_map(|i| (0..half).map(move |k| wave(place(i), k, half))).collect()
    };
    let (rows, columns) = (axis(height), axis(width));
    let mut values = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        for y in 0..height {
            for x in 0..width {
                let value = if channel < half { rows[y * half + channel] } else { columns[x * half + channel - half] };
                values.push(value as f32);
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [1, channels, height, width]), (device, kind))
}

/// Channel `k` of `half` at `place`: sines and cosines in turn, two channels a wavelength.
fn wave(place: f64, k: usize, half: usize) -> f64 {
    let angle = place / BASE.powf(2.0 * (k / 2) as f64 / half as f64);
    if k.is_multiple_of(2) { angle.sin() } else { angle.cos() }
}

/// Sine positions on a line, all sines first.
///
/// # Shapes
/// \[N\] -> [N, `channels`]
pub(crate) fn sine_line(places: &[f64], channels: usize, device: &Device, kind: DType) -> Tensor<2> {
    let half = channels / 2;
    let values: Vec<f32> = places
        .iter()
        .flat_map(|place| {
            let angle = move |k: usize| place / BASE.powf(2.0 * (k / 2) as f64 / half as f64);
            let sines = (0..half).map(move |k| angle(k).sin());
            sines.chain((0..half).map(move |k| angle(k).cos())).map(|v| v as f32)
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [places.len(), 2 * half]), (device, kind))
}

/// Rotations of queries and keys by their place in a grid: the first half of the channel pairs by the column, the second by
/// the row (Heo et al., "Rotary Position Embedding for Vision Transformer", axial form).
#[derive(Debug, Clone)]
pub struct AxialRotation {
    /// Cosines, twice for each pair, [1, h w, C].
    cos: Tensor<3>,
    /// Sines, that of a pair's first channel negative, [1, h w, C].
    sin: Tensor<3>,
}

impl AxialRotation {
    /// For a grid of (height, width) tokens of `channels`, a multiple of 4.
    pub fn new(channels: usize, [height, width]: [usize; 2], device: &Device, kind: DType) -> Self {
        let quarter = channels / 4;
        let speeds: Vec<f64> = (0..quarter).map(|k| BASE.powf(-4.0 * k as f64 / channels as f64)).collect();
        // Sine and cosine of each place on an axis, at each speed.
        let turns: Vec<(f32, f32)> = (0..height.max(width))
            .flat_map(|place| speeds.iter().map(move |speed| (place as f64 * speed).sin_cos()))
            .map(|(sin, cos)| (sin as f32, cos as f32))
            .collect();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for token in 0..height * width {
            for place in [token % width, token / width] {
                for (s, c) in &turns[place * quarter..][..quarter] {
                    cos.extend([*c, *c]);
                    sin.extend([-*s, *s]);
                }
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [1, height * width, 4 * quarter]), (device, kind));
        Self { cos: table(cos), sin: table(sin) }
    }

    /// Rotates each pair of adjacent channels. More tokens than the grid has are grid after grid; the last `unrotated` stay.
    ///
    /// # Shapes
    /// [B, k * h w + `unrotated`, C] -> the same
    pub fn forward(&self, x: Tensor<3>, unrotated: usize) -> Tensor<3> {
        let [batch, length, channels] = x.dims();
        let [_, tokens, _] = self.cos.dims();
        let grids = length.saturating_sub(unrotated) / tokens.max(1);
        let rotated = grids * tokens;
        let grid = x.clone().narrow(1, 0, rotated).reshape([batch * grids, tokens, channels]);
        let pairs = grid.clone().reshape([batch * grids * tokens, channels / 2, 2]);
        let swapped = Tensor::cat(vec![pairs.clone().narrow(2, 1, 1), pairs.narrow(2, 0, 1)], 2);
        let swapped = swapped.reshape([batch * grids, tokens, channels]);
        let turned = (grid * self.cos.clone() + swapped * self.sin.clone()).reshape([batch, rotated, channels]);
        if rotated == length {
            return turned;
        }
        Tensor::cat(vec![turned, x.narrow(1, rotated, length - rotated)], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rotation keeps a pair's length, leaves the first token alone, and turns the slowest channel of the first axis by the
    /// column number.
    #[test]
    fn rotations() {
        let device = Device::flex();
        let rotation = AxialRotation::new(8, [2, 3], &device, DType::F32);
        let ones = Tensor::<3>::ones([1, 14, 8], &device);
        let got = rotation.forward(ones, 2).into_data().try_to_vec::<f32>().unwrap();
        let row = |token: usize| &got[token * 8..][..8];
        assert_eq!(row(0), [1.0; 8]);
        assert_eq!((row(12), row(13)), (&[1.0; 8][..], &[1.0; 8][..]), "pointers are not rotated");
        assert_eq!(row(4), row(10), "each grid is rotated alike");
        // Token 4 is row 1, column 1: all pairs of angle 1 or 0.01 (10000^(-4/8)).
        let turned = |a: f32| [a.cos() - a.sin(), a.cos() + a.sin()];
        let want: Vec<f32> = [1.0, 0.01, 1.0, 0.01].into_iter().flat_map(turned).collect();
        assert!(row(4).iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-6), "{:?} against {want:?}", row(4));
        // Token 2 is row 0, column 2: the second half stays.
        assert_eq!(&row(2)[4..], [1.0; 4]);
        assert!((row(2)[0] - turned(2.0)[0]).abs() < 1e-6);
    }

    #[test]
    fn sines() {
        let map = sine(8, [2, 3], &Device::flex(), DType::F32).into_data().try_to_vec::<f32>().unwrap();
        let at = |channel: usize, y: usize, x: usize| f64::from(map[channel * 6 + y * 3 + x]);
        let place = |i: f64, n: f64| i / (n + 1e-6) * std::f64::consts::TAU;
        assert!((at(0, 0, 2) - place(1.0, 2.0).sin()).abs() < 1e-6);
        assert!((at(1, 1, 0) - place(2.0, 2.0).cos()).abs() < 1e-6);
        assert!((at(2, 1, 0) - (place(2.0, 2.0) / 100.0).sin()).abs() < 1e-6);
        assert!((at(5, 0, 1) - place(2.0, 3.0).cos()).abs() < 1e-6);
        let line = sine_line(&[0.5], 8, &Device::flex(), DType::F32).into_data().try_to_vec::<f32>().unwrap();
        assert!((f64::from(line[2]) - (0.5f64 / 100.0).sin()).abs() < 1e-7);
        assert!((f64::from(line[5]) - 0.5f64.cos()).abs() < 1e-7);
    }
}
