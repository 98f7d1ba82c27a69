//! Sizes of a SAM-2: Hiera tiny, small, base+, large, and any other.

use nn_ops::ConfigError;
use nn_ops::config::{check_multiple, check_positive};
use sam_vit::{ImageEncoderConfig, SamConfig};
use serde::{Deserialize, Serialize};

/// Pixels to a token of the first stage.
pub(crate) const PATCH: usize = 4;
/// Pixels to a token of the map that prompts meet, the third stage.
pub(crate) const STRIDE: usize = 16;

/// Sizes of the image encoder: a Hiera trunk of four stages and the neck's width (SAM 2, appendix D.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HieraConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Width of a token in the first stage; each later one doubles it.
    pub embed_dim: usize,
    /// Attention heads in the first stage; each later one doubles them.
    pub heads: usize,
    /// Blocks per stage.
    pub stages: [usize; 4],
    /// Blocks (0-based) that attend over the whole image.
    pub global_blocks: Vec<usize>,
    /// Side of an attention window per stage, in tokens. The first block of a stage still takes that of the stage before.
    pub windows: [usize; 4],
    /// Side of the table of positions, which is resized to the token grid.
    pub position_side: usize,
}

impl Default for HieraConfig {
    fn default() -> Self {
        Self {
            image_size: 1024,
            embed_dim: 96,
            heads: 1,
            stages: [1, 2, 7, 2],
            global_blocks: vec![5, 7, 9],
            windows: [8, 4, 14, 7],
            position_side: 7,
        }
    }
}

impl HieraConfig {
    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.stages.iter().sum()
    }

    /// Width of a token in stage `stage` (0-based).
    pub fn width(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Stage (0-based) of a block, and whether it is the first of a stage behind the first: those double the width and
    /// halve the grid.
    pub(crate) fn stage_of(&self, block: usize) -> (usize, bool) {
        let mut first = 0;
        for (stage, blocks) in self.stages.iter().enumerate() {
            if block < first + blocks {
                return (stage, stage > 0 && block == first);
            }
            first += blocks;
        }
        (self.stages.len() - 1, false)
    }

    /// Side of the attention window of a block; 0 attends over the whole image.
    pub(crate) fn window_of(&self, block: usize) -> usize {
        let (stage, pools) = self.stage_of(block);
        if self.global_blocks.contains(&block) { 0 } else { self.windows[stage - usize::from(pools)] }
    }

    /// What the side of an input must be a multiple of, in pixels: the deepest map is at a 32nd, and the first stage's grid
    /// is tiled with windows.
    pub fn input_multiple(&self) -> usize {
        input_multiple(self.windows[0])
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let least = |sizes: [usize; 4]| sizes.into_iter().min().unwrap_or(0);
        check_positive(&[
            ("image_size", self.image_size),
            ("embed_dim", self.embed_dim),
            ("heads", self.heads),
            ("stages", least(self.stages)),
            ("windows", least(self.windows)),
            ("position_side", self.position_side),
        ])?;
        check_multiple(("image_size", self.image_size), ("32 and four times the first of windows", self.input_multiple()))?;
        check_multiple(("embed_dim", self.embed_dim), ("heads", self.heads))?;
        if let Some(block) = self.global_blocks.iter().find(|block| **block >= self.depth()) {
            return Err(ConfigError::new("global_blocks", block, format!("blocks below the sum of stages, {}", self.depth())));
        }
        let firsts = (1..4).map(|stage| self.stages[..stage].iter().sum());
        match firsts.map(|block| self.window_of(block)).find(|window| !window.is_multiple_of(2)) {
            Some(window) => Err(ConfigError::new("windows", window, "even where a stage follows, which pools by 2")),
            None => Ok(()),
        }
    }
}

/// The least common multiple of a 32nd's side and a window's, in pixels.
pub(crate) fn input_multiple(window: usize) -> usize {
    let window = PATCH * window;
    (1..=window).map(|k| k * 2 * STRIDE).find(|side| side.is_multiple_of(window)).unwrap_or(window)
}

/// Sizes of a SAM-2: image encoder, decoder, memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sam2Config {
    /// The image encoder's trunk.
    pub image_encoder: HieraConfig,
    /// Channels of image embeddings, prompt tokens and object pointers.
    pub channels: usize,
    /// Channels inside the mask prompt's downscaling.
    pub mask_in_channels: usize,
    /// Two-way blocks of the mask decoder.
    pub decoder_depth: usize,
    /// Heads of the mask decoder.
    pub decoder_heads: usize,
    /// Hidden width of the mask decoder's MLP.
    pub decoder_mlp_dim: usize,
    /// Channels of a memory.
    pub memory_channels: usize,
    /// Layers of the memory attention.
    pub memory_layers: usize,
    /// Hidden width of the memory attention's MLP.
    pub memory_mlp_dim: usize,
    /// Frames in the memory of one object: one prompted, the others the last before.
    pub memories: usize,
    /// Object pointers that the memory attention sees: one prompted, the others the last before.
    pub pointers: usize,
    /// Whether the two parts that the checkpoints of SAM 2.1 add to video are there: pointers know how long ago they were
    /// made, and the memory of a frame without the object says so.
    pub version_2_1: bool,
}

impl Default for Sam2Config {
    fn default() -> Self {
        Self {
            image_encoder: HieraConfig::default(),
            channels: 256,
            mask_in_channels: 16,
            decoder_depth: 2,
            decoder_heads: 8,
            decoder_mlp_dim: 2048,
            memory_channels: 64,
            memory_layers: 4,
            memory_mlp_dim: 2048,
            memories: 7,
            pointers: 16,
            version_2_1: false,
        }
    }
}

impl Sam2Config {
    /// `sam2_hiera_tiny`: 38,945,986 parameters.
    pub fn hiera_tiny() -> Self {
        Self::default()
    }

    /// `sam2_hiera_small`: 46,043,842 parameters.
    pub fn hiera_small() -> Self {
        Self::with_encoder(HieraConfig { stages: [1, 2, 11, 2], global_blocks: vec![7, 10, 13], ..HieraConfig::default() })
    }

    /// `sam2_hiera_base_plus`: 80,833,666 parameters.
    pub fn hiera_base_plus() -> Self {
        Self::with_encoder(HieraConfig {
            embed_dim: 112,
            heads: 2,
            stages: [2, 3, 16, 3],
            global_blocks: vec![12, 16, 20],
            position_side: 14,
            ..HieraConfig::default()
        })
    }

    /// `sam2_hiera_large`: 224,430,130 parameters.
    pub fn hiera_large() -> Self {
        Self::with_encoder(HieraConfig {
            embed_dim: 144,
            heads: 2,
            stages: [2, 6, 36, 4],
            global_blocks: vec![23, 33, 43],
            windows: [8, 4, 16, 8],
            ..HieraConfig::default()
        })
    }

    /// One narrow block per stage at 64 pixels, for tests.
    pub fn toy() -> Self {
        let image_encoder = HieraConfig {
            image_size: 64,
            embed_dim: 8,
            stages: [1, 1, 1, 1],
            global_blocks: vec![2],
            windows: [8, 4, 4, 2],
            ..HieraConfig::default()
        };
        Self { image_encoder, channels: 32, memory_channels: 16, decoder_mlp_dim: 32, ..Self::default() }
    }

    /// The published sizes, with their names.
    pub fn published() -> [(&'static str, Self); 4] {
        [
            ("hiera_tiny", Self::hiera_tiny()),
            ("hiera_small", Self::hiera_small()),
            ("hiera_base_plus", Self::hiera_base_plus()),
            ("hiera_large", Self::hiera_large()),
        ]
    }

    fn with_encoder(image_encoder: HieraConfig) -> Self {
        Self { image_encoder, ..Self::default() }
    }

    /// The sizes of the parts that are SAM's: prompt encoder and mask decoder.
    pub(crate) fn sam(&self) -> SamConfig {
        SamConfig {
            image_encoder: ImageEncoderConfig {
                image_size: self.image_encoder.image_size,
                patch_size: STRIDE,
                out_channels: self.channels,
                ..ImageEncoderConfig::default()
            },
            mask_in_channels: self.mask_in_channels,
            decoder_depth: self.decoder_depth,
            decoder_heads: self.decoder_heads,
            decoder_mlp_dim: self.decoder_mlp_dim,
        }
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.image_encoder.validate().map_err(|e| e.below("image_encoder"))?;
        check_positive(&[
            ("decoder_depth", self.decoder_depth),
            ("decoder_heads", self.decoder_heads),
            ("memory_channels", self.memory_channels),
            ("memories", self.memories),
            ("pointers", self.pointers),
        ])?;
        if self.mask_in_channels < 4 {
            return Err(ConfigError::new("mask_in_channels", self.mask_in_channels, "at least 4"));
        }
        if !self.channels.is_multiple_of(8) || !self.channels.is_multiple_of(2 * self.decoder_heads) {
            let expected = format!("a multiple of 8 and of twice decoder_heads, {}", self.decoder_heads);
            return Err(ConfigError::new("channels", self.channels, expected));
        }
        if !self.memory_channels.is_multiple_of(4) || !self.channels.is_multiple_of(self.memory_channels) {
            let expected = format!("a multiple of 4 and a divisor of channels, {}", self.channels);
            return Err(ConfigError::new("memory_channels", self.memory_channels, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The windows lag one block behind the stages (tiny: blocks 1, 3 and 10 change the width).
    #[test]
    fn windows_of_tiny() {
        let tiny = HieraConfig::default();
        let windows: Vec<usize> = (0..tiny.depth()).map(|b| tiny.window_of(b)).collect();
        assert_eq!(windows, [8, 8, 4, 4, 14, 0, 14, 0, 14, 0, 14, 7]);
        let pools: Vec<usize> = (0..tiny.depth()).filter(|b| tiny.stage_of(*b).1).collect();
        assert_eq!(pools, [1, 3, 10]);
    }

    #[test]
    fn published_sizes_are_valid_and_wrong_ones_are_named() {
        for (name, config) in Sam2Config::published() {
            assert_eq!((name, config.validate()), (name, Ok(())));
            assert_eq!(config.image_encoder.input_multiple(), 32);
        }
        let wrong = |change: fn(&mut Sam2Config), word: &str| {
            let mut config = Sam2Config::default();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        wrong(|c| c.image_encoder.image_size = 1000, "`image_encoder.image_size` is 1000: must be a multiple of 32");
        wrong(|c| c.image_encoder.windows = [8, 5, 14, 7], "`image_encoder.windows` is 5: must be even");
        wrong(|c| c.image_encoder.global_blocks = vec![12], "`image_encoder.global_blocks` is 12");
        wrong(|c| c.image_encoder.heads = 5, "multiple of heads, 5");
        wrong(|c| c.memory_channels = 48, "`memory_channels` is 48");
        wrong(|c| c.channels = 264, "`channels` is 264");
        wrong(|c| c.memories = 0, "`memories` is 0");
        wrong(|c| c.image_encoder.stages = [1, 0, 1, 1], "`image_encoder.stages` is 0");
        wrong(|c| c.mask_in_channels = 3, "`mask_in_channels` is 3");
    }
}
