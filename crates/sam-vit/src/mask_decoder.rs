//! SAM's mask decoder: a two-way transformer, upscaling, and one small network a mask.

use burn::module::Module;
use burn::nn::conv::{ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::{Activation, gelu};
use nn_ops::conv::{upscale_layer, upscale_tokens};
use nn_ops::host;
use nn_ops::linear::{Layer, Then, chain};
use nn_ops::norm::LayerNorm2d;

use crate::config::SamConfig;
use crate::two_way::{TwoWayConfig, TwoWayTransformer};

/// Masks that one call can put out beside the single one.
const MULTIMASK: usize = 3;

/// Linear layers with an activation between them, ReLU in SAM.
#[derive(Module, Debug)]
pub struct Perceptron {
    /// Layers, first to last.
    pub layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
}

impl Perceptron {
    /// Layers through the given widths, with ReLU between them.
    pub fn new(widths: &[usize], device: &Device) -> Self {
        let layers = widths.windows(2).map(|w| LinearConfig::new(w[0], w[1]).init(device)).collect();
        Self { layers, activation: Activation::Relu }
    }

    /// The same layers with another activation between them.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// # Shapes
    /// [.., first width] -> [.., last width]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let last = self.layers.len().saturating_sub(1);
        self.layers.iter().enumerate().fold(x, |x, (i, layer)| {
            let x = layer.forward(x);
            if i < last { self.activation.forward(x) } else { x }
        })
    }
}

/// Upscales the image tokens by 4.
///
/// A token's pixels stay side by side to the end, so that only the masks, one channel each, are put into place.
#[derive(Module, Debug)]
pub struct OutputUpscaling {
    /// x2.
    pub conv1: ConvTranspose2d,
    /// Norm.
    pub norm: LayerNorm2d,
    /// x2.
    pub conv2: ConvTranspose2d,
    #[module(skip)]
    norm_over: NormOver,
}

/// What the upscaling's norm takes its statistics over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NormOver {
    /// The channels of each pixel: SAM's `LayerNorm2d`, epsilon 1e-6.
    #[default]
    Pixel,
    /// All pixels and channels of a map: EfficientSAM's group norm of one group, epsilon 1e-5.
    Map,
}

/// What released mask decoders differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskDecoderConfig {
    /// The two-way transformer.
    pub two_way: TwoWayConfig,
    /// Activation of the mask tokens' networks and of the quality head.
    pub activation: Activation,
    /// The upscaling's norm.
    pub norm_over: NormOver,
}

impl From<&SamConfig> for MaskDecoderConfig {
    /// SAM's own.
    fn from(config: &SamConfig) -> Self {
        Self { two_way: config.into(), activation: Activation::Relu, norm_over: NormOver::Pixel }
    }
}

impl OutputUpscaling {
    /// The 16 pixels of a token come side by side: (row, column) of its quarter, then (row, column) in the quarter.
    ///
    /// # Shapes
    /// [N, S, C] -> [N, S * 16, C / 8]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        upscale_tokens(&self.conv2, self.quarters(x), Then::Gelu).reshape([batch, tokens * 16, width / 8])
    }

    /// The first half: 4 pixels a token.
    ///
    /// # Shapes
    /// [N, S, C] -> [N, S * 4, C / 4]
    fn quarters(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let x = upscale_tokens(&self.conv1, x, Then::Nothing).reshape([batch, tokens * 4, width / 4]);
        gelu(match self.norm_over {
            NormOver::Pixel => self.norm.forward_last(x),
            NormOver::Map => self.norm.forward_whole(x),
        })
    }

    /// Masks as products of the upscaled pixels with `weights`.
    ///
    /// # Shapes
    /// `x`: [N, S, C]; `weights`: [N, C / 8, M]; output: [N, S * 16, M]
    fn masks(&self, x: Tensor<3>, weights: Tensor<3>) -> Tensor<3> {
        if !host::applies(&x) {
            return self.forward(x).matmul(weights);
        }
        // On the CPU the upscaled pixels, the largest tensor here, exist a few rows at a time: the four pixels of a quarter
        // meet the weights as one row, by a matrix with the weights four times on its diagonal.
        let [batch, tokens, _] = x.dims();
        let [_, width, number] = weights.dims();
        let quarters = self.quarters(x);
        let diagonal = Tensor::<2>::eye(4, &weights.device()).reshape([4, 1, 4, 1]);
        let masks = (0..batch).map(|n| {
            let weight = diagonal.clone() * weights.clone().narrow(0, n, 1).reshape([1, width, 1, number]);
            let layers = vec![
                upscale_layer(&self.conv2, Then::Gelu),
                Layer { weight: weight.reshape([4 * width, 4 * number]), bias: None, then: Then::Nothing },
            ];
            chain(quarters.clone().narrow(0, n, 1).squeeze_dim(0), layers).reshape([1, tokens * 16, number])
        });
        Tensor::cat(masks.collect(), 0)
    }

    /// Puts the pixels of the tokens of an h x w grid into place.
    ///
    /// # Shapes
    /// [N, h * w * 16, M] -> [N, M, 4h, 4w]
    fn place(masks: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
        let [batch, _, number] = masks.dims();
        masks.swap_dims(1, 2).reshape([batch * number * height, width, 2, 2, 2, 2]).permute([0, 2, 4, 1, 3, 5]).reshape([
            batch,
            number,
            4 * height,
            4 * width,
        ])
    }
}

/// Which masks a call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Mask token 0.
    #[default]
    Single,
    /// Mask tokens 1 to 3.
    Multi,
}

/// The mask decoder.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    /// Two-way transformer.
    pub transformer: TwoWayTransformer,
    /// Token of the quality head, [1, C].
    pub iou_token: Embedding,
    /// Mask tokens, [4, C].
    pub mask_tokens: Embedding,
    /// Upscaling.
    pub output_upscaling: OutputUpscaling,
    /// One network a mask token.
    pub output_hypernetworks_mlps: Vec<Perceptron>,
    /// Predicted IoU of each mask.
    pub iou_prediction_head: Perceptron,
}

impl MaskDecoder {
    /// SAM's decoder with fresh weights.
    pub fn new(config: &SamConfig, device: &Device) -> Self {
        Self::from_config(&config.into(), device)
    }

    /// A decoder with fresh weights.
    pub fn from_config(config: &MaskDecoderConfig, device: &Device) -> Self {
        let c = config.two_way.width;
        let masks = MULTIMASK + 1;
        let up = |from: usize, to: usize| ConvTranspose2dConfig::new([from, to], [2, 2]).with_stride([2, 2]).init(device);
        let perceptron = |widths: &[usize]| Perceptron::new(widths, device).with_activation(config.activation);
        let eps = if config.norm_over == NormOver::Pixel { 1e-6 } else { 1e-5 };
        Self {
            transformer: TwoWayTransformer::new(&config.two_way, device),
            iou_token: EmbeddingConfig::new(1, c).init(device),
            mask_tokens: EmbeddingConfig::new(masks, c).init(device),
            output_upscaling: OutputUpscaling {
                conv1: up(c, c / 4),
                norm: LayerNorm2d::new(c / 4, eps, device),
                conv2: up(c / 4, c / 8),
                norm_over: config.norm_over,
            },
            output_hypernetworks_mlps: (0..masks).map(|_| perceptron(&[c, c, c, c / 8])).collect(),
            iou_prediction_head: perceptron(&[c, 256, 256, masks]),
        }
    }

    /// Low-resolution mask logits and predicted IoU.
    ///
    /// An embedding of one image serves all N prompts; embeddings of N images meet their prompts one by one.
    ///
    /// # Shapes
    /// - `image`: [1 or N, C, h, w]; `positions`: [1, C, h, w]
    /// - `sparse`: [N, T, C]; `dense`: [N, C, h, w], or [1, C, 1, 1] where it is the same everywhere
    /// - outputs: [N, M, 4h, 4w] and [N, M], with M = 1 or 3
    pub fn forward(
        &self,
        image: Tensor<4>,
        positions: Tensor<4>,
        sparse: Tensor<3>,
        dense: Tensor<4>,
        output: Output,
    ) -> (Tensor<4>, Tensor<2>) {
        let count = sparse.dims()[0];
        let [_, c, height, width] = image.dims();
        let own = Tensor::cat(vec![self.iou_token.weight.val(), self.mask_tokens.weight.val()], 0);
        let own_length = own.dims()[0];
        let own = own.unsqueeze::<3>().expand([count, own_length, c]);
        let tokens = if sparse.dims()[1] == 0 { own } else { Tensor::cat(vec![own, sparse], 1) };
        let positions = positions.cast(image.dtype());
        let flat = |x: Tensor<4>| {
            let [n, _, h, w] = x.dims();
            x.permute([0, 2, 3, 1]).reshape([n, h * w, c])
        };
        let map = (flat(image) + flat(dense)).expand([count, height * width, c]);
        let (tokens, keys) = self.transformer.forward(tokens, map, flat(positions));
        let (first, number) = match output {
            Output::Single => (0, 1),
            Output::Multi => (1, MULTIMASK),
        };
        let weights = (first..first + number)
            .map(|i| self.output_hypernetworks_mlps[i].forward(tokens.clone().narrow(1, 1 + i, 1)))
            .collect();
        let weights = Tensor::cat(weights, 1).swap_dims(1, 2);
        let masks = OutputUpscaling::place(self.output_upscaling.masks(keys, weights), [height, width]);
        let quality = self.iou_prediction_head.forward(tokens.narrow(1, 0, 1).squeeze_dim::<2>(1));
        (masks, quality.narrow(1, first, number))
    }
}
