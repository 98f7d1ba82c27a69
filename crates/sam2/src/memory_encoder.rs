//! The memory encoder: a frame's features and its mask become a memory.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::{Activation, gelu};
use nn_ops::conv::patch_conv;
use nn_ops::linear::mlp;
use nn_ops::norm::LayerNorm2d;

use crate::config::{STRIDE, Sam2Config};

/// Channels of the mask behind each halving: four times those before.
const MASK_CHANNELS: [usize; 5] = [1, 4, 16, 64, 256];

/// One halving of the mask.
#[derive(Module, Debug)]
pub struct Halving {
    /// 3 x 3, stride 2.
    pub conv: Conv2d,
    /// Norm.
    pub norm: LayerNorm2d,
}

/// Brings a mask at the input's size to the features' grid.
#[derive(Module, Debug)]
pub struct MaskDownsampler {
    /// Halvings, down to a 16th.
    pub layers: Vec<Halving>,
    /// 1 x 1, to the width of features.
    pub out: Conv2d,
}

impl MaskDownsampler {
    /// # Shapes
    /// [B, 1, 16 h, 16 w] -> [B, C, h, w]
    fn forward(&self, mask: Tensor<4>) -> Tensor<4> {
        let mask = mask.cast(self.out.weight.val().dtype());
        let x = self.layers.iter().fold(mask, |x, layer| gelu(layer.norm.forward(layer.conv.forward(x))));
        patch_conv(&self.out, x).permute([0, 3, 1, 2])
    }
}

/// A ConvNeXt block (Liu et al., 2022).
#[derive(Module, Debug)]
pub struct FuserBlock {
    /// Depthwise, 7 x 7.
    pub dwconv: Conv2d,
    /// Norm.
    pub norm: LayerNorm2d,
    /// To four times the width.
    pub pwconv1: Linear,
    /// And back.
    pub pwconv2: Linear,
    /// Scale per channel of what is added.
    pub gamma: Param<Tensor<1>>,
}

impl FuserBlock {
    /// # Shapes
    /// [B, C, h, w] -> the same
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mixed = self.norm.forward_last(self.dwconv.forward(x.clone()).permute([0, 2, 3, 1]));
        let scale = self.gamma.val().reshape([1, 1, 1, -1]);
        x + (mlp(&self.pwconv1, Activation::Gelu, &self.pwconv2, mixed) * scale).permute([0, 3, 1, 2])
    }
}

/// Blocks that mix features and mask.
#[derive(Module, Debug)]
pub struct Fuser {
    /// Blocks.
    pub layers: Vec<FuserBlock>,
}

/// The memory encoder.
#[derive(Module, Debug)]
pub struct MemoryEncoder {
    /// Mask to the features' grid.
    pub mask_downsampler: MaskDownsampler,
    /// Projection of the features, 1 x 1.
    pub pix_feat_proj: Conv2d,
    /// Mixing blocks.
    pub fuser: Fuser,
    /// To the memory's width, 1 x 1.
    pub out_proj: Conv2d,
}

impl MemoryEncoder {
    /// An encoder with fresh weights.
    pub fn new(config: &Sam2Config, device: &Device) -> Self {
        let c = config.channels;
        let point = |from: usize, to: usize| Conv2dConfig::new([from, to], [1, 1]).init(device);
        let halving = |pair: &[usize]| Halving {
            conv: Conv2dConfig::new([pair[0], pair[1]], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device),
            norm: LayerNorm2d::new(pair[1], 1e-6, device),
        };
        let block = || FuserBlock {
            dwconv: Conv2dConfig::new([c, c], [7, 7])
                .with_groups(c)
                .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
                .init(device),
            norm: LayerNorm2d::new(c, 1e-6, device),
            pwconv1: LinearConfig::new(c, 4 * c).init(device),
            pwconv2: LinearConfig::new(4 * c, c).init(device),
            gamma: Initializer::Constant { value: 1e-6 }.init([c], device),
        };
        Self {
            mask_downsampler: MaskDownsampler {
                layers: MASK_CHANNELS.windows(2).map(halving).collect(),
                out: point(MASK_CHANNELS[MASK_CHANNELS.len() - 1], c),
            },
            pix_feat_proj: point(c, c),
            fuser: Fuser { layers: vec![block(), block()] },
            out_proj: point(c, config.memory_channels),
        }
    }

    /// The memory of a frame, before it is rounded for keeping. `mask` are numbers of about -10 (outside) to 10 (inside).
    ///
    /// # Shapes
    /// `image`: features without any memory, [B, C, h, w]; `mask`: [B, 1, 16 h, 16 w]; output: [B, 64, h, w]
    pub fn forward(&self, image: Tensor<4>, mask: Tensor<4>) -> Tensor<4> {
        let first = |conv: &Conv2d, x: Tensor<4>| patch_conv(conv, x).permute([0, 3, 1, 2]);
        let x = first(&self.pix_feat_proj, image) + self.mask_downsampler.forward(mask);
        first(&self.out_proj, self.fuser.layers.iter().fold(x, |x, block| block.forward(x)))
    }
}

// Each halving is a factor of 2.
const _: () = assert!(1 << (MASK_CHANNELS.len() - 1) == STRIDE);
