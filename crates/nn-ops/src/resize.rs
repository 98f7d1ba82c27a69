//! Bilinear and bicubic resizes with PyTorch's numbers, as two matrix products.
//!
//! The weights of each axis are built on the host in f64, so a resize is exact, differentiable and the same on every
//! device. Burn's own `interpolate` aligns corners by default, and on GPUs it has no backward and finds nearest neighbours by
//! products in f32, which are off by one now and then.

use burn::tensor::{Tensor, TensorData};

/// The kernel of a resize, without antialiasing (PyTorch's `F.interpolate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// `floor(i n / m)`.
    Nearest,
    /// Two taps.
    Bilinear,
    /// Four taps, Keys' kernel with a = -0.75.
    Bicubic,
}

/// How a map is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// The kernel.
    pub kernel: Kernel,
    /// Whether the outermost samples of input and output coincide (PyTorch's `align_corners`).
    pub align_corners: bool,
}

impl Resize {
    /// Bilinear with half-pixel centres: SAM's mask upsampling.
    pub const BILINEAR: Self = Self { kernel: Kernel::Bilinear, align_corners: false };
    /// Bilinear with aligned corners: DIT's final upsampling.
    pub const BILINEAR_ALIGNED: Self = Self { kernel: Kernel::Bilinear, align_corners: true };
    /// Bicubic with half-pixel centres: position tables, BEiT-3's image branch.
    pub const BICUBIC: Self = Self { kernel: Kernel::Bicubic, align_corners: false };
    /// Nearest neighbour.
    pub const NEAREST: Self = Self { kernel: Kernel::Nearest, align_corners: false };

    /// The weights of one axis, row-major [to, from].
    pub fn matrix(self, from: usize, to: usize) -> Vec<f32> {
        let mut rows = vec![0.0f64; to * from];
        if from == 0 {
            return Vec::new();
        }
        let last = from as i64 - 1;
        for (i, row) in rows.chunks_exact_mut(from).enumerate() {
            let mut add = |tap: i64, weight: f64| row[tap.clamp(0, last) as usize] += weight;
            let source = if self.align_corners {
                if to > 1 { i as f64 * last as f64 / (to - 1) as f64 } else { 0.0 }
            } else {
                (i as f64 + 0.5) * from as f64 / to as f64 - 0.5
            };
            match self.kernel {
                Kernel::Nearest => add((i * from / to) as i64, 1.0),
                Kernel::Bilinear => {
                    let source = source.max(0.0);
                    let first = source.floor();
                    add(first as i64, 1.0 - (source - first));
                    add(first as i64 + 1, source - first);
                }
                Kernel::Bicubic => {
                    let first = source.floor();
                    for tap in -1..=2_i64 {
                        add(first as i64 + tap, keys(source - first - tap as f64));
                    }
                }
            }
        }
        rows.into_iter().map(|w| w as f32).collect()
    }

    /// Resizes the two last axes.
    ///
    /// # Shapes
    /// [B, C, H, W] -> [B, C, to\[0\], to\[1\]]
    pub fn forward(self, x: Tensor<4>, to: [usize; 2]) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let x = if width == to[1] {
            x
        } else {
            let across = self.tensor(width, to[1], &x).transpose();
            x.reshape([batch * channels * height, width]).matmul(across).reshape([batch, channels, height, to[1]])
        };
        if height == to[0] {
            return x;
        }
        let down = self.tensor(height, to[0], &x).unsqueeze::<3>();
        down.matmul(x.reshape([batch * channels, height, to[1]])).reshape([batch, channels, to[0], to[1]])
    }

    /// [`Resize::forward`] on the host, for loaders: no device, no dense weights.
    ///
    /// # Shapes
    /// `planes`: [N, from\[0\], from\[1\]], row-major; output: [N, to\[0\], to\[1\]]. A rest of less than a plane is dropped.
    pub fn forward_host(self, planes: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
        let [down, across] = [0, 1].map(|axis| self.taps(from[axis], to[axis]));
        let mut out = Vec::with_capacity(planes.len() / (from[0] * from[1]).max(1) * to[0] * to[1]);
        for plane in planes.chunks_exact((from[0] * from[1]).max(1)) {
            let wide: Vec<f32> = plane
                .chunks_exact(from[1])
                .flat_map(|row| across.iter().map(|taps| taps.iter().map(|(at, w)| row[*at] * w).sum::<f32>()))
                .collect();
            for taps in &down {
                let column = |x: usize| taps.iter().map(|(at, w)| wide[at * to[1] + x] * w).sum::<f32>();
                out.extend((0..to[1]).map(column));
            }
        }
        out
    }

    /// The weights of one axis that are not 0, per output: (input, weight).
    fn taps(self, from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
        let rows = self.matrix(from, to);
        let row = |row: &[f32]| row.iter().copied().enumerate().filter(|(_, w)| *w != 0.0).collect();
        rows.chunks_exact(from.max(1)).map(row).collect()
    }

    /// Resizes the first axis of a table.
    ///
    /// # Shapes
    /// [N, C] -> [to, C]
    pub fn rows(self, table: Tensor<2>, to: usize) -> Tensor<2> {
        let from = table.dims()[0];
        if from == to {
            return table;
        }
        self.tensor(from, to, &table).matmul(table)
    }

    /// [`Resize::matrix`], [to, from], on the device and in the precision of `like`. It carries no gradient of its own.
    fn tensor<const D: usize>(self, from: usize, to: usize, like: &Tensor<D>) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.matrix(from, to), [to, from]), (&like.device(), like.dtype()))
    }
}

/// Keys' cubic convolution kernel with a = -0.75.
fn keys(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn row(matrix: &[f32], from: usize, i: usize) -> Vec<(usize, f32)> {
        matrix[i * from..(i + 1) * from].iter().copied().enumerate().filter(|(_, w)| *w != 0.0).collect()
    }

    fn close(got: &[(usize, f32)], want: &[(usize, f32)]) {
        assert_eq!(got.len(), want.len(), "{got:?} against {want:?}");
        for (g, w) in got.iter().zip(want) {
            assert!(g.0 == w.0 && (g.1 - w.1).abs() < 1e-5, "{got:?} against {want:?}");
        }
    }

    /// Values of PyTorch's `interpolate`.
    #[test]
    fn relative_position_tables_127_and_27_to_63() {
        let m = Resize::BILINEAR.matrix(127, 63);
        close(&row(&m, 127, 0), &[(0, 0.492063), (1, 0.507937)]);
        close(&row(&m, 127, 31), &[(63, 1.0)]);
        close(&row(&m, 127, 62), &[(125, 0.507937), (126, 0.492063)]);
        let m = Resize::BILINEAR.matrix(27, 63);
        close(&row(&m, 27, 0), &[(0, 1.0)]);
        close(&row(&m, 27, 1), &[(0, 0.857143), (1, 0.142857)]);
        close(&row(&m, 27, 31), &[(13, 1.0)]);
        close(&row(&m, 27, 62), &[(26, 1.0)]);
    }

    /// In whole numbers: in f32, 41 * (2 / 82) falls below 1.
    #[test]
    fn nearest_neighbours_are_exact() {
        for (from, to) in [(2, 82), (480, 1024), (1024, 352), (7, 3)] {
            let m = Resize { kernel: Kernel::Nearest, align_corners: false }.matrix(from, to);
            for i in 0..to {
                assert_eq!(row(&m, from, i), [(i * from / to, 1.0)], "{from} to {to}, place {i}");
            }
        }
    }

    #[test]
    fn bicubic_64_to_32() {
        let m = Resize::BICUBIC.matrix(64, 32);
        close(&row(&m, 64, 5), &[(9, -0.09375), (10, 0.59375), (11, 0.59375), (12, -0.09375)]);
    }

    #[test]
    fn aligned_corners_keep_the_ends() {
        let m = Resize::BILINEAR_ALIGNED.matrix(3, 12);
        close(&row(&m, 3, 0), &[(0, 1.0)]);
        close(&row(&m, 3, 11), &[(2, 1.0)]);
    }

    #[test]
    fn the_host_gives_the_devices_numbers() {
        let values = crate::formula::tensor("resize", "x", &[3, 37, 50], 0.0, 1.0);
        for resize in [Resize::BICUBIC, Resize::BILINEAR, Resize::BILINEAR_ALIGNED, Resize::NEAREST] {
            let x = Tensor::from_data(TensorData::new(values.clone(), [1, 3, 37, 50]), &Device::flex());
            let want = resize.forward(x, [24, 61]).into_data().try_to_vec::<f32>().unwrap();
            let got = resize.forward_host(&values, [37, 50], [24, 61]);
            assert_eq!(got.len(), want.len());
            assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-5), "{resize:?}");
        }
    }

    /// A resize is linear and its rows sum to 1, so a constant map stays constant and the gradient sums to the output's size.
    #[test]
    fn gradient_flows() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::ones([1, 2, 5, 7], &device).require_grad();
        let y = Resize::BICUBIC.forward(x.clone(), [9, 3]);
        let values = y.clone().into_data().try_to_vec::<f32>().unwrap();
        assert!(values.iter().all(|v| (v - 1.0).abs() < 1e-5));
        let grads = y.sum().backward();
        let total = x.grad(&grads).unwrap().sum().into_scalar::<f32>();
        assert!((total - 54.0).abs() < 1e-3, "{total}");
    }
}
