//! SAM-2's image encoder: a Hiera trunk and a feature pyramid.

use burn::module::{Initializer, Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::conv::patch_conv;
use nn_ops::recompute::segment;
use nn_ops::resize::Resize;
use sam_vit::PatchEmbed;

use crate::block::HieraBlock;
use crate::config::{HieraConfig, PATCH, Sam2Config};

/// The trunk: four stages, each of twice the channels and half the grid of the one before.
#[derive(Module, Debug)]
pub struct Hiera {
    /// Overlapping patches: 7 x 7, stride 4.
    pub patch_embed: PatchEmbed,
    /// Positions on a coarse grid, [1, C, n, n].
    pub pos_embed: Param<Tensor<4>>,
    /// Positions inside a window, [1, C, w, w], the same in each.
    pub pos_embed_window: Param<Tensor<4>>,
    /// Blocks of all stages.
    pub blocks: Vec<HieraBlock>,
}

impl Hiera {
    /// A trunk with fresh weights.
    pub fn new(config: &HieraConfig, device: &Device) -> Self {
        let (width, side, window) = (config.embed_dim, config.position_side, config.windows[0]);
        let proj = Conv2dConfig::new([3, width], [7, 7])
            .with_stride([PATCH, PATCH])
            .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
            .init(device);
        Self {
            patch_embed: PatchEmbed { proj },
            pos_embed: Initializer::Zeros.init([1, width, side, side], device),
            pos_embed_window: Initializer::Zeros.init([1, width, window, window], device),
            blocks: (0..config.depth()).map(|i| HieraBlock::new(config, i, device)).collect(),
        }
    }

    /// Patches with their positions: the coarse table resized bicubically, and the window's table tiled.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, H / 4, W / 4, C]
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        let proj = &self.patch_embed.proj;
        let x = proj.forward(image.cast(proj.weight.val().dtype()));
        let [_, _, height, width] = x.dims();
        let window = self.pos_embed_window.val();
        let [_, _, side, _] = window.dims();
        let tiled = window.repeat(&[1, 1, height.div_ceil(side), width.div_ceil(side)]);
        let coarse = Resize::BICUBIC.forward(self.pos_embed.val(), [height, width]);
        (x + coarse + tiled.narrow(2, 0, height).narrow(3, 0, width)).permute([0, 2, 3, 1])
    }

    /// Outputs of the last block of each stage, not normed. Each block is a [`segment`] of recomputation.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, H / 4, W / 4, C], [B, H / 8, W / 8, 2 C], [B, H / 16, W / 16, 4 C], [B, H / 32, W / 32, 8 C]
    pub fn forward(&self, image: Tensor<4>) -> Vec<Tensor<4>> {
        let mut x = self.embed(image);
        let mut stages = Vec::new();
        for block in &self.blocks {
            if block.proj.is_some() {
                stages.push(x.clone());
            }
            x = segment(block, x, |block, x| block.forward(x));
        }
        stages.push(x);
        stages
    }
}

/// The lateral projection of one level of the pyramid.
#[derive(Module, Debug)]
pub struct Lateral {
    /// 1 x 1.
    pub conv: Conv2d,
}

/// The feature pyramid: each stage brought to one width; the third also takes in the fourth.
#[derive(Module, Debug)]
pub struct Pyramid {
    /// One per stage, the deepest first.
    pub convs: Vec<Lateral>,
}

impl Pyramid {
    /// # Shapes
    /// four maps [B, h, w, C of the stage] -> the same number of [B, 256, h, w]
    pub fn forward(&self, stages: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let lateral =
            |(stage, level): (Tensor<4>, &Lateral)| patch_conv(&level.conv, stage.permute([0, 3, 1, 2])).permute([0, 3, 1, 2]);
        let mut levels: Vec<Tensor<4>> = stages.into_iter().zip(self.convs.iter().rev()).map(lateral).collect();
        if let [.., third, fourth] = levels.as_mut_slice() {
            let [_, _, height, width] = third.dims();
            *third = third.clone() + Resize::NEAREST.forward(fourth.clone(), [height, width]);
        }
        levels
    }
}

/// Trunk and pyramid.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    /// Trunk.
    pub trunk: Hiera,
    /// Feature pyramid.
    pub neck: Pyramid,
}

impl ImageEncoder {
    /// An encoder with fresh weights.
    pub fn new(config: &Sam2Config, device: &Device) -> Self {
        let trunk = Hiera::new(&config.image_encoder, device);
        let lateral = |stage: usize| Lateral {
            conv: Conv2dConfig::new([config.image_encoder.width(stage), config.channels], [1, 1]).init(device),
        };
        Self { trunk, neck: Pyramid { convs: (0..4).rev().map(lateral).collect() } }
    }

    /// The pyramid's levels, finest first. The fourth, a 32nd of the input, is part of the third and used nowhere else.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, 256, H / 4, W / 4], [B, 256, H / 8, W / 8], [B, 256, H / 16, W / 16], [B, 256, H / 32, W / 32]
    pub fn forward(&self, image: Tensor<4>) -> Vec<Tensor<4>> {
        self.neck.forward(self.trunk.forward(image))
    }
}
