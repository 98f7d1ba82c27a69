//! SAM's prompt encoder: points, boxes, masks and free tokens.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use nn_ops::activation::gelu;
use nn_ops::conv::patch_conv;
use nn_ops::norm::LayerNorm2d;

use crate::config::SamConfig;

/// Random Fourier features of positions; in single precision also where the rest is not, as are coordinates.
#[derive(Module, Debug)]
pub struct PositionEmbedding {
    /// Frequencies, [2, C / 2]; fixed.
    pub positional_encoding_gaussian_matrix: Param<Tensor<2>>,
}

impl PositionEmbedding {
    /// `[sin v | cos v]` with `v = 2 pi ((2 u - 1) G)`, u in [0, 1], x first.
    ///
    /// # Shapes
    /// [N, 2] -> [N, C]
    pub fn forward(&self, u: Tensor<2>) -> Tensor<2> {
        let v = (u * 2.0 - 1.0).matmul(self.positional_encoding_gaussian_matrix.val()) * std::f64::consts::TAU;
        Tensor::cat(vec![v.clone().sin(), v.cos()], 1)
    }

    /// Encodings of cell centres, from those of rows and columns by the sine and cosine of a sum.
    ///
    /// # Shapes
    /// output: [1, C, height, width]
    pub fn dense(&self, height: usize, width: usize) -> Tensor<4> {
        let gaussian = self.positional_encoding_gaussian_matrix.val();
        let half = gaussian.dims()[1];
        let axis = |length: usize, row: usize| {
            let centres: Vec<f32> = (0..length).map(|i| 2.0 * (i as f32 + 0.5) / length as f32 - 1.0).collect();
            let centres = Tensor::<1>::from_data(TensorData::new(centres, [length]), (&gaussian.device(), gaussian.dtype()));
            let v = centres.reshape([length, 1]) * gaussian.clone().narrow(0, row, 1) * std::f64::consts::TAU;
            (v.clone().sin(), v.cos())
        };
        let ((sin_x, cos_x), (sin_y, cos_y)) = (axis(width, 0), axis(height, 1));
        // sin(x + y) and cos(x + y) side by side: [sin x | cos x] [cos y | cos y] + [cos x | -sin x] [sin y | sin y].
        let across = |a: Tensor<2>, b: Tensor<2>| Tensor::cat(vec![a, b], 1).reshape([1, width, 2 * half]);
        let down = |t: Tensor<2>| Tensor::cat(vec![t.clone(), t], 1).reshape([height, 1, 2 * half]);
        let sum = across(sin_x.clone(), cos_x.clone()) * down(cos_y) + across(cos_x, -sin_x) * down(sin_y);
        sum.unsqueeze::<4>().permute([0, 3, 1, 2])
    }
}

/// Downscales a mask prompt by 4 and lifts it to prompt width.
#[derive(Module, Debug)]
pub struct MaskDownscaling {
    /// 2 x 2, stride 2.
    pub conv1: Conv2d,
    /// Norm.
    pub norm1: LayerNorm2d,
    /// 2 x 2, stride 2.
    pub conv2: Conv2d,
    /// Norm.
    pub norm2: LayerNorm2d,
    /// 1 x 1.
    pub conv3: Conv2d,
}

impl MaskDownscaling {
    /// # Shapes
    /// [N, 1, 4h, 4w] -> [N, C, h, w]
    pub fn forward(&self, mask: Tensor<4>) -> Tensor<4> {
        let first = |y: Tensor<4>| y.permute([0, 3, 1, 2]);
        let x = gelu(self.norm1.forward(first(patch_conv(&self.conv1, mask))));
        let x = gelu(self.norm2.forward(first(patch_conv(&self.conv2, x))));
        first(patch_conv(&self.conv3, x))
    }
}

/// Prompts of one decoder call, all of the same number N.
#[derive(Debug, Clone, Default)]
pub struct Prompts {
    /// Points in pixels of the network's input, [N, P, 2] as (x, y), with labels [N, P]: 1 foreground, 0 background,
    /// -1 padding; 2 and 3 are a box's top left and bottom right corner, as in the released ONNX export.
    pub points: Option<(Tensor<3>, Tensor<2, Int>)>,
    /// Boxes in pixels of the network's input, [N, 4] as (x0, y0, x1, y1).
    pub boxes: Option<Tensor<2>>,
    /// Logits of an earlier mask, [N, 1, 4h, 4w].
    pub masks: Option<Tensor<4>>,
    /// Free tokens (text), [N, T, C], put behind points and boxes.
    pub tokens: Option<Tensor<3>>,
}

/// The prompt encoder.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    /// Positions.
    pub pe_layer: PositionEmbedding,
    /// Background point, foreground point, box top left, box bottom right; each [1, C].
    pub point_embeddings: Vec<Embedding>,
    /// Padding point, [1, C].
    pub not_a_point_embed: Embedding,
    /// Mask prompts.
    pub mask_downscaling: MaskDownscaling,
    /// What stands for "no mask prompt", [1, C].
    pub no_mask_embed: Embedding,
}

impl PromptEncoder {
    /// A prompt encoder with fresh weights.
    pub fn new(config: &SamConfig, device: &Device) -> Self {
        let (width, inner) = (config.prompt_dim(), config.mask_in_channels);
        let token = || EmbeddingConfig::new(1, width).init(device);
        let conv = |from: usize, to: usize, k: usize| Conv2dConfig::new([from, to], [k, k]).with_stride([k, k]).init(device);
        let normal = Initializer::Normal { mean: 0.0, std: 1.0 };
        Self {
            pe_layer: PositionEmbedding {
                positional_encoding_gaussian_matrix: normal.init([2, width / 2], device).set_require_grad(false),
            },
            point_embeddings: (0..4).map(|_| token()).collect(),
            not_a_point_embed: token(),
            mask_downscaling: MaskDownscaling {
                conv1: conv(1, inner / 4, 2),
                norm1: LayerNorm2d::new(inner / 4, 1e-6, device),
                conv2: conv(inner / 4, inner, 2),
                norm2: LayerNorm2d::new(inner, 1e-6, device),
                conv3: conv(inner, width, 1),
            },
            no_mask_embed: token(),
        }
    }

    /// Sparse tokens and the dense map of `prompts`, for an input of `input` = (height, width) pixels.
    ///
    /// # Shapes
    /// sparse: [N, T, C] (T may be 0); dense: [N, C, h, w], or [1, C, 1, 1], the same everywhere, without mask prompts
    pub fn forward(&self, prompts: Prompts, input: (usize, usize)) -> (Tensor<3>, Tensor<4>) {
        let width = self.no_mask_embed.weight.dims()[1];
        let count = prompts.points.as_ref().map(|(p, _)| p.dims()[0]);
        let count = count.or(prompts.boxes.as_ref().map(|b| b.dims()[0]));
        let count = count.or(prompts.masks.as_ref().map(|m| m.dims()[0]));
        let count = count.or(prompts.tokens.as_ref().map(|t| t.dims()[0])).unwrap_or(1);
        let mut sparse = Vec::new();
        if let Some((points, labels)) = prompts.points {
            sparse.push(self.embed_points(points, labels, prompts.boxes.is_none(), input));
        }
        if let Some(boxes) = prompts.boxes {
            sparse.push(self.embed_boxes(boxes, input));
        }
        sparse.extend(prompts.tokens);
        let device = self.no_mask_embed.weight.device();
        let sparse = match sparse.len() {
            0 => Tensor::zeros([count, 0, width], (&device, self.kind())),
            _ => Tensor::cat(sparse, 1),
        };
        let dense = match prompts.masks {
            Some(masks) => self.mask_downscaling.forward(masks),
            None => self.no_mask_embed.weight.val().reshape([1, width, 1, 1]),
        };
        (sparse, dense)
    }

    /// Coordinates are moved to pixel centres; a padding point is appended when no box follows.
    fn embed_points(&self, points: Tensor<3>, labels: Tensor<2, Int>, pad: bool, input: (usize, usize)) -> Tensor<3> {
        let [count, mut length, _] = points.dims();
        let device = points.device();
        let (mut points, mut labels) = (points + 0.5, labels);
        if pad {
            points = Tensor::cat(vec![points, Tensor::zeros([count, 1, 2], &device)], 1);
            labels = Tensor::cat(vec![labels, Tensor::full([count, 1], -1, &device)], 1);
            length += 1;
        }
        let encoded = self.encode(points.reshape([count * length, 2]), input).reshape([count, length, self.width()]);
        let is = |label: i32| labels.clone().equal_elem(label).float().cast(self.kind()).reshape([count, length, 1]);
        let row = |e: &Embedding| e.weight.val().reshape([1, 1, self.width()]);
        let padding = is(-1);
        let embedded = encoded * (-padding.clone() + 1.0) + row(&self.not_a_point_embed) * padding;
        self.point_embeddings.iter().zip(0..).fold(embedded, |sum, (kind, label)| sum + row(kind) * is(label))
    }

    /// A box is its two corners.
    fn embed_boxes(&self, boxes: Tensor<2>, input: (usize, usize)) -> Tensor<3> {
        let count = boxes.dims()[0];
        let corners = self.encode(boxes.reshape([count * 2, 2]) + 0.5, input).reshape([count, 2, self.width()]);
        let kinds = Tensor::cat(vec![self.point_embeddings[2].weight.val(), self.point_embeddings[3].weight.val()], 0);
        corners + kinds.unsqueeze::<3>()
    }

    fn encode(&self, pixels: Tensor<2>, input: (usize, usize)) -> Tensor<2> {
        let size = Tensor::<1>::from_floats([input.1 as f32, input.0 as f32], &pixels.device());
        self.pe_layer.forward(pixels / size.unsqueeze::<2>()).cast(self.kind())
    }

    /// The precision of tokens.
    fn kind(&self) -> DType {
        self.no_mask_embed.weight.val().dtype()
    }

    fn width(&self) -> usize {
        self.no_mask_embed.weight.dims()[1]
    }
}
