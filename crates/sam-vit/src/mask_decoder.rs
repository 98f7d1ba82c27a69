//! SAM's mask decoder: a two-way transformer, upscaling, and one small network per mask.

use burn::module::Module;
use burn::nn::conv::{ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::{Activation, gelu};
use nn_ops::conv::{upscale_product, upscale_tokens};
use nn_ops::linear::Epilogue;
use nn_ops::norm::LayerNorm2d;

use crate::config::SamConfig;
use crate::mlp::Mlp;
use crate::two_way::{TwoWayConfig, TwoWayTransformer};

/// Masks that one call can put out beside the single one.
const MULTIMASK: usize = 3;

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
        upscale_tokens(&self.conv2, self.quarters(x), Epilogue::Gelu).reshape([batch, tokens * 16, width / 8])
    }

    /// The first half: 4 pixels per token.
    ///
    /// # Shapes
    /// [N, S, C] -> [N, S * 4, C / 4]
    fn quarters(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let x = upscale_tokens(&self.conv1, x, Epilogue::None).reshape([batch, tokens * 4, width / 4]);
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
        let [batch, tokens, _] = x.dims();
        let number = weights.dims()[2];
        upscale_product(&self.conv2, self.quarters(x), Epilogue::Gelu, weights).reshape([batch, tokens * 16, number])
    }

    /// Puts the pixels of the tokens of an h x w grid into place.
    ///
    /// # Shapes
    /// [N, h * w * 16, M] -> [N, M, 4h, 4w]
    pub fn place(masks: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
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
    /// One network per mask token.
    pub output_hypernetworks_mlps: Vec<Mlp>,
    /// Predicted IoU of each mask.
    pub iou_prediction_head: Mlp,
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
        let mlp = |widths: &[usize]| Mlp::new(widths, device).with_activation(config.activation);
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
            output_hypernetworks_mlps: (0..masks).map(|_| mlp(&[c, c, c, c / 8])).collect(),
            iou_prediction_head: mlp(&[c, 256, 256, masks]),
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
        let [_, _, height, width] = image.dims();
        let (tokens, keys) = self.attend(None, image, positions, sparse, dense);
        let (first, number) = match output {
            Output::Single => (0, 1),
            Output::Multi => (1, MULTIMASK),
        };
        let weights = self.mask_weights(tokens.clone().narrow(1, 1 + first, number), first);
        let masks = OutputUpscaling::place(self.output_upscaling.masks(keys, weights), [height, width]);
        let quality = self.iou_prediction_head.forward(tokens.narrow(1, 0, 1).squeeze_dim::<2>(1));
        (masks, quality.narrow(1, first, number))
    }

    /// Tokens and image after the two-way transformer: the tokens `before`, if any, then the decoder's own, one of quality
    /// and one a mask, then those of `sparse`.
    ///
    /// # Shapes
    /// `before`: [F, C]; the others as in [`MaskDecoder::forward`]; outputs: [N, F + 5 + T, C] and [N, h * w, C]
    pub fn attend(
        &self,
        before: Option<Tensor<2>>,
        image: Tensor<4>,
        positions: Tensor<4>,
        sparse: Tensor<3>,
        dense: Tensor<4>,
    ) -> (Tensor<3>, Tensor<3>) {
        let count = sparse.dims()[0];
        let [_, c, height, width] = image.dims();
        let own = [self.iou_token.weight.val(), self.mask_tokens.weight.val()];
        let own = Tensor::cat(before.into_iter().chain(own).collect(), 0);
        let own_length = own.dims()[0];
        let own = own.unsqueeze::<3>().expand([count, own_length, c]);
        let tokens = if sparse.dims()[1] == 0 { own } else { Tensor::cat(vec![own, sparse], 1) };
        let positions = positions.cast(image.dtype());
        let flat = |x: Tensor<4>| {
            let [n, _, h, w] = x.dims();
            x.permute([0, 2, 3, 1]).reshape([n, h * w, c])
        };
        let map = (flat(image) + flat(dense)).expand([count, height * width, c]);
        self.transformer.forward(tokens, map, flat(positions))
    }

    /// What the upscaled pixels are multiplied with to become masks. `tokens` are those of the masks from number `first` on.
    ///
    /// # Shapes
    /// [N, M, C] -> [N, C / 8, M]
    pub fn mask_weights(&self, tokens: Tensor<3>, first: usize) -> Tensor<3> {
        let networks = self.output_hypernetworks_mlps.iter().skip(first).zip(0..tokens.dims()[1]);
        let weights = networks.map(|(network, i)| network.forward(tokens.clone().narrow(1, i, 1))).collect();
        Tensor::cat(weights, 1).swap_dims(1, 2)
    }
}
