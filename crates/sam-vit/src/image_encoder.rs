//! SAM's image encoder: a ViT with windowed and global attention, and a neck to 256 channels.

use burn::module::{Initializer, Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::conv::patch_conv;
use nn_ops::norm::LayerNorm2d;
use nn_ops::recompute::segment;
use nn_ops::resize::Resize;

use crate::block::Block;
use crate::config::ImageEncoderConfig;

/// Cuts the image into patches and projects each.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Projection, kernel = stride = patch.
    pub proj: Conv2d,
}

/// Brings the last block's tokens to the width of prompts.
#[derive(Module, Debug)]
pub struct Neck {
    /// 1 x 1, no bias.
    pub conv1: Conv2d,
    /// Norm over channels.
    pub norm1: LayerNorm2d,
    /// 3 x 3, no bias. SAM's one general convolution; the others avoid its backward, which GPUs have had wrong or slow.
    pub conv2: Conv2d,
    /// Norm over channels.
    pub norm2: LayerNorm2d,
}

impl Neck {
    /// A neck with fresh weights.
    pub fn new(from: usize, to: usize, device: &Device) -> Self {
        let conv = |from, k| Conv2dConfig::new([from, to], [k, k]).with_bias(false);
        Self {
            conv1: conv(from, 1).init(device),
            norm1: LayerNorm2d::new(to, 1e-6, device),
            conv2: conv(to, 3).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device),
            norm2: LayerNorm2d::new(to, 1e-6, device),
        }
    }

    /// # Shapes
    /// [B, H, W, C] -> [B, 256, H, W]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = patch_conv(&self.conv1, x.permute([0, 3, 1, 2])).permute([0, 3, 1, 2]);
        self.norm2.forward(self.conv2.forward(self.norm1.forward(x)))
    }
}

/// The image encoder.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    /// Patch projection.
    pub patch_embed: PatchEmbed,
    /// Absolute positions, [1, G, G, C].
    pub pos_embed: Param<Tensor<4>>,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Neck.
    pub neck: Neck,
}

impl ImageEncoder {
    /// An encoder with fresh weights.
    pub fn new(config: &ImageEncoderConfig, device: &Device) -> Self {
        let (width, patch, out) = (config.embed_dim, config.patch_size, config.out_channels);
        Self {
            patch_embed: PatchEmbed {
                proj: Conv2dConfig::new([3, width], [patch, patch]).with_stride([patch, patch]).init(device),
            },
            pos_embed: Initializer::Zeros.init([1, config.grid(), config.grid(), width], device),
            blocks: (0..config.depth).map(|i| Block::new(config, i, device)).collect(),
            neck: Neck::new(width, out, device),
        }
    }

    /// Patch tokens with their absolute positions, resized bicubically where the image is not of the configured size.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, H / patch, W / patch, C]
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        let x = patch_conv(&self.patch_embed.proj, image);
        let [_, height, width, _] = x.dims();
        let table = self.pos_embed.val();
        let [_, rows, columns, _] = table.dims();
        if (rows, columns) == (height, width) {
            return x + table;
        }
        x + Resize::BICUBIC.forward(table.permute([0, 3, 1, 2]), [height, width]).permute([0, 2, 3, 1])
    }

    /// # Shapes
    /// [B, 3, H, W], normalised and padded -> image embedding [B, 256, H / patch, W / patch]
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        self.forward_taps(image, &[]).0
    }

    /// As [`ImageEncoder::forward`], with the outputs of the blocks named in `taps` (0-based, before the neck). Each block is a
    /// [`segment`] of recomputation.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> ([B, 256, h, w], one [B, h, w, C] per tap, in the order of the blocks)
    pub fn forward_taps(&self, image: Tensor<4>, taps: &[usize]) -> (Tensor<4>, Vec<Tensor<4>>) {
        let mut x = self.embed(image);
        let [_, height, width, _] = x.dims();
        let device = x.device();
        let mut tapped = Vec::with_capacity(taps.len());
        // Windowed blocks share one grid, global blocks another.
        let mut grids: [Option<(usize, crate::Grid)>; 2] = [None, None];
        for (index, block) in self.blocks.iter().enumerate() {
            let slot = &mut grids[usize::from(block.window > 0)];
            let grid = match slot {
                Some((window, grid)) if *window == block.window => grid,
                _ => &mut slot.insert((block.window, block.grid(height, width, &device))).1,
            };
            let grid = grid.clone();
            x = segment(block, x, move |block, x| block.forward(x, &grid));
            if taps.contains(&index) {
                tapped.push(x.clone());
            }
        }
        (self.neck.forward(x), tapped)
    }
}
