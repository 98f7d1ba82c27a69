//! The prompt encoder: a fixed number of points per query, and positions of the image.

use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{DType, Device, Int, Tensor};
use sam_vit::PositionEmbedding;

use crate::config::EfficientSamConfig;

/// A point that is not there.
pub const INVALID: i32 = -1;
/// A click on the background; nothing but its position is encoded.
pub const BACKGROUND: i32 = 0;
/// A click on the object.
pub const FOREGROUND: i32 = 1;
/// A box's corner at the top left.
pub const TOP_LEFT: i32 = 2;
/// A box's corner at the bottom right.
pub const BOTTOM_RIGHT: i32 = 3;

/// The prompt encoder. It knows no mask prompts and adds nothing to the image embedding.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    /// Positions.
    pub pe_layer: PositionEmbedding,
    /// Added to points labelled [`INVALID`], [1, C].
    pub invalid_points: Embedding,
    /// Added to clicks on the object, [1, C].
    pub point_embeddings: Embedding,
    /// Added to a box's first corner, [1, C].
    pub bbox_top_left_embeddings: Embedding,
    /// Added to a box's second corner, [1, C].
    pub bbox_bottom_right_embeddings: Embedding,
}

impl PromptEncoder {
    /// A prompt encoder with fresh weights.
    pub fn new(config: &EfficientSamConfig, device: &Device) -> Self {
        let width = config.out_channels;
        let token = || EmbeddingConfig::new(1, width).init(device);
        let normal = Initializer::Normal { mean: 0.0, std: 1.0 };
        Self {
            pe_layer: PositionEmbedding {
                positional_encoding_gaussian_matrix: normal.init([2, width / 2], device).set_require_grad(false),
            },
            invalid_points: token(),
            point_embeddings: token(),
            bbox_top_left_embeddings: token(),
            bbox_bottom_right_embeddings: token(),
        }
    }

    /// A token per point. Its position is encoded whatever the label; labels other than those above add nothing.
    ///
    /// # Shapes
    /// `points`: [N, P, 2] as (x, y) in pixels of the network's input; `labels`: [N, P]; `input`: (height, width) in pixels;
    /// output: [N, P, C]
    pub fn forward(&self, points: Tensor<3>, labels: Tensor<2, Int>, input: (usize, usize)) -> Tensor<3> {
        let [count, length, _] = points.dims();
        let (kind, width) = (self.kind(), self.invalid_points.weight.dims()[1]);
        let size = Tensor::<1>::from_floats([input.1 as f32, input.0 as f32], &points.device());
        let places = (points.reshape([count * length, 2]) + 0.5) / size.unsqueeze::<2>();
        let encoded = self.pe_layer.forward(places).cast(kind).reshape([count, length, width]);
        [
            (INVALID, &self.invalid_points),
            (FOREGROUND, &self.point_embeddings),
            (TOP_LEFT, &self.bbox_top_left_embeddings),
            (BOTTOM_RIGHT, &self.bbox_bottom_right_embeddings),
        ]
        .into_iter()
        .fold(encoded, |sum, (label, embedding)| {
            let is = labels.clone().equal_elem(label).float().cast(kind).reshape([count, length, 1]);
            sum + is * embedding.weight.val().reshape([1, 1, width])
        })
    }

    /// The precision of tokens.
    fn kind(&self) -> DType {
        self.invalid_points.weight.val().dtype()
    }
}

/// Points of images of `from` = (height, width) pixels for an input of `to` pixels: scaled along each axis, then each
/// coordinate below 0 becomes -1 by itself, then lists are cut to `number` or padded with points labelled [`INVALID`] at
/// (-1, -1).
///
/// # Shapes
/// `points`: [N, P, 2] as (x, y); `labels`: [N, P]; outputs: [N, number, 2] and [N, number]
pub fn prepare_points(
    points: Tensor<3>,
    labels: Tensor<2, Int>,
    number: usize,
    from: (usize, usize),
    to: (usize, usize),
) -> (Tensor<3>, Tensor<2, Int>) {
    let [count, length, _] = points.dims();
    let device = points.device();
    let sides =
        |(height, width): (usize, usize)| Tensor::<1>::from_floats([width as f32, height as f32], &device).reshape([1, 1, 2]);
    let scaled = points * sides(to) / sides(from);
    let outside = scaled.clone().lower_elem(0.0);
    let scaled = scaled.mask_fill(outside, -1.0);
    if length >= number {
        return (scaled.narrow(1, 0, number), labels.narrow(1, 0, number));
    }
    let missing = number - length;
    let points = Tensor::cat(vec![scaled, Tensor::full([count, missing, 2], -1.0, &device)], 1);
    (points, Tensor::cat(vec![labels, Tensor::full([count, missing], INVALID, &device)], 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn prepared(points: &[[f32; 2]], labels: &[i32]) -> (Vec<f32>, Vec<i32>) {
        let device = Device::flex();
        let values: Vec<f32> = points.iter().flatten().copied().collect();
        let points = Tensor::from_data(TensorData::new(values, [1, labels.len(), 2]), &device);
        let labels = Tensor::from_data(TensorData::new(labels.to_vec(), [1, labels.len()]), &device);
        let (points, labels) = prepare_points(points, labels, 6, (50, 200), (100, 100));
        assert_eq!((points.dims(), labels.dims()), ([1, 6, 2], [1, 6]));
        (points.into_data().iter::<f32>().collect(), labels.into_data().iter::<i32>().collect())
    }

    /// x halves, y doubles; a coordinate outside becomes -1 and leaves the other alone.
    #[test]
    fn points_are_scaled_clamped_and_padded() {
        let (points, labels) = prepared(&[[20.0, 10.0], [-0.5, 30.0], [60.0, -7.0]], &[1, 0, 3]);
        assert_eq!(points, [10.0, 20.0, -1.0, 60.0, 30.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]);
        assert_eq!(labels, [1, 0, 3, -1, -1, -1]);
    }

    #[test]
    fn always_six() {
        for length in 0..9 {
            let points: Vec<[f32; 2]> = (0..length).map(|i| [2.0 * i as f32, 5.0]).collect();
            let (points, labels) = prepared(&points, &vec![1; length]);
            for at in 0..6 {
                let want = if at < length { ([at as f32, 10.0], 1) } else { ([-1.0, -1.0], -1) };
                assert_eq!(([points[2 * at], points[2 * at + 1]], labels[at]), want, "{at} of {length}");
            }
        }
    }

    /// Labels add their own embedding and leave the position; background and unknown labels add nothing.
    #[test]
    fn labels_add_embeddings() {
        let device = Device::flex();
        let encoder = PromptEncoder::new(&EfficientSamConfig::toy(), &device);
        let point = |label: i32, x: f32| {
            let points = Tensor::<3>::from_floats([[[x, 9.0]]], &device);
            let labels = Tensor::<2, Int>::from_ints([[label]], &device);
            encoder.forward(points, labels, (64, 64)).reshape([1, 32])
        };
        for (label, embedding) in [
            (INVALID, &encoder.invalid_points),
            (FOREGROUND, &encoder.point_embeddings),
            (TOP_LEFT, &encoder.bbox_top_left_embeddings),
            (BOTTOM_RIGHT, &encoder.bbox_bottom_right_embeddings),
        ] {
            let added = point(label, 3.0) - point(BACKGROUND, 3.0);
            assert!((added - embedding.weight.val()).abs().max().into_scalar::<f32>() < 1e-6, "label {label}");
            assert!((point(label, 3.0) - point(label, 40.0)).abs().max().into_scalar::<f32>() > 0.1, "label {label}");
        }
        assert_eq!(point(BACKGROUND, 3.0).into_data(), point(7, 3.0).into_data());
        // The place of a pixel is its middle.
        let middle = encoder.pe_layer.forward(Tensor::from_floats([[3.5 / 64.0, 9.5 / 64.0]], &device));
        assert_eq!(point(BACKGROUND, 3.0).into_data(), middle.into_data());
    }
}
