//! The backbone: stages of blocks, a feature map behind each.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::norm::LayerNorm;
use nn_ops::recompute::segment;

use crate::block::SwinBlock;
use crate::config::SwinConfig;
use crate::error::SwinError;
use crate::patch::{PatchEmbed, PatchMerging};
use crate::window::WindowGrid;

/// Blocks at one resolution, and the merging that leads to the next.
#[derive(Module, Debug)]
pub struct Stage {
    /// Blocks.
    pub blocks: Vec<SwinBlock>,
    /// Merging; absent behind the last stage.
    pub downsample: Option<PatchMerging>,
}

impl Stage {
    /// The stage's output, before merging. Each block is a [`segment`] of recomputation.
    ///
    /// # Shapes
    /// [B, H, W, C] -> the same
    pub fn forward(&self, x: Tensor<4>, window: usize) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let shifts = self.blocks.iter().any(|block| block.shifted);
        let grid = WindowGrid::new(height, width, window, shifts, &x.device());
        self.blocks.iter().fold(x, |x, block| {
            let grid = grid.clone();
            segment(block, x, move |block, x| block.forward(x, &grid))
        })
    }
}

/// A Swin Transformer without classifier. Built by [`SwinConfig::init`] or [`Swin::from_pretrained`].
#[derive(Module, Debug)]
pub struct Swin {
    /// Patches.
    pub patch_embed: PatchEmbed,
    /// Stages.
    pub layers: Vec<Stage>,
    /// Norms of the stages' outputs, where there are some.
    pub norms: Vec<Option<LayerNorm>>,
    /// Side of a window.
    window: usize,
}

impl SwinConfig {
    /// A backbone with fresh weights.
    ///
    /// # Errors
    /// [`SwinError::Config`] for sizes that contradict each other.
    pub fn init(&self, device: &Device) -> Result<Swin, SwinError> {
        self.validate()?;
        let last = self.stages() - 1;
        let stage = |stage: usize| Stage {
            blocks: (0..self.depths[stage]).map(|index| SwinBlock::new(self, stage, index, device)).collect(),
            downsample: (stage < last).then(|| PatchMerging::new(self.width(stage), self.layer_norm_eps, device)),
        };
        let norm = |stage: usize| {
            let wanted = self.output_norms.contains(&stage);
            wanted.then(|| LayerNorm::new(self.width(stage), self.layer_norm_eps, device))
        };
        Ok(Swin {
            patch_embed: PatchEmbed::new(self, device),
            layers: (0..=last).map(stage).collect(),
            norms: (0..=last).map(norm).collect(),
            window: self.window,
        })
    }
}

impl Swin {
    /// A feature map per stage, normed where the configuration has a norm for it.
    ///
    /// # Shapes
    /// [B, 3, H, W], normalised -> [B, h, w, C] per stage; sides as [`SwinConfig::grid`] says
    ///
    /// # Errors
    /// [`SwinError::Shape`] for a tensor that is no image.
    pub fn forward(&self, image: Tensor<4>) -> Result<Vec<Tensor<4>>, SwinError> {
        let found = image.dims();
        if found[1] != 3 || found.contains(&0) {
            return Err(SwinError::Shape { what: "an image", found: found.to_vec(), expected: "[B, 3, H, W], none 0".into() });
        }
        let mut maps = Vec::with_capacity(self.layers.len());
        let mut x = self.patch_embed.forward(image);
        for (stage, norm) in self.layers.iter().zip(&self.norms) {
            x = stage.forward(x, self.window);
            maps.push(match norm {
                Some(norm) => norm.forward(x.clone()),
                None => x.clone(),
            });
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(x);
            }
        }
        Ok(maps)
    }

    /// Side of a window, in tokens.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.patch_embed.proj.weight.lazy_device()
    }
}
