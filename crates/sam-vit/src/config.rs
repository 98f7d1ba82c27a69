//! Sizes of SAM ViT-B, ViT-L and ViT-H.

use nn_ops::ConfigError;
use nn_ops::config::{check_multiple, check_positive};
use serde::{Deserialize, Serialize};

/// Sizes of the image encoder (a ViTDet: Segment Anything, appendix A).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageEncoderConfig {
    /// Side of the square input that the position tables are made for, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP, in token widths.
    pub mlp_ratio: f64,
    /// Channels of the image embedding.
    pub out_channels: usize,
    /// Side of an attention window, in tokens.
    pub window_size: usize,
    /// Blocks (0-based) that attend over the whole image.
    pub global_blocks: Vec<usize>,
}

impl Default for ImageEncoderConfig {
    fn default() -> Self {
        Self {
            image_size: 1024,
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            heads: 12,
            mlp_ratio: 4.0,
            out_channels: 256,
            window_size: 14,
            global_blocks: vec![2, 5, 8, 11],
        }
    }
}

impl ImageEncoderConfig {
    /// Side of the token grid that the position tables are made for.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Hidden width of the MLP.
    pub fn mlp_dim(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_positive(&[
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("embed_dim", self.embed_dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("window_size", self.window_size),
        ])?;
        check_multiple(("image_size", self.image_size), ("patch_size", self.patch_size))?;
        check_multiple(("embed_dim", self.embed_dim), ("heads", self.heads))?;
        match self.global_blocks.iter().find(|block| **block >= self.depth) {
            Some(block) => Err(ConfigError::new("global_blocks", block, format!("blocks below depth, {}", self.depth))),
            None => Ok(()),
        }
    }
}

/// Sizes of a SAM: image encoder, prompt encoder and mask decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamConfig {
    /// The image encoder.
    pub image_encoder: ImageEncoderConfig,
    /// Channels inside the mask prompt's downscaling.
    pub mask_in_channels: usize,
    /// Two-way blocks of the mask decoder.
    pub decoder_depth: usize,
    /// Heads of the mask decoder.
    pub decoder_heads: usize,
    /// Hidden width of the mask decoder's MLP.
    pub decoder_mlp_dim: usize,
}

impl Default for SamConfig {
    fn default() -> Self {
        Self {
            image_encoder: ImageEncoderConfig::default(),
            mask_in_channels: 16,
            decoder_depth: 2,
            decoder_heads: 8,
            decoder_mlp_dim: 2048,
        }
    }
}

impl SamConfig {
    /// SAM with ViT-B: 93,735,472 parameters.
    pub fn vit_b() -> Self {
        Self::default()
    }

    /// SAM with ViT-L: 312,342,832 parameters.
    pub fn vit_l() -> Self {
        Self::with_encoder(1024, 24, 16, vec![5, 11, 17, 23])
    }

    /// SAM with ViT-H: 641,090,608 parameters.
    pub fn vit_h() -> Self {
        Self::with_encoder(1280, 32, 16, vec![7, 15, 23, 31])
    }

    fn with_encoder(embed_dim: usize, depth: usize, heads: usize, global_blocks: Vec<usize>) -> Self {
        let image_encoder = ImageEncoderConfig { embed_dim, depth, heads, global_blocks, ..ImageEncoderConfig::default() };
        Self { image_encoder, ..Self::default() }
    }

    /// Channels of image embeddings and prompt tokens.
    pub fn prompt_dim(&self) -> usize {
        self.image_encoder.out_channels
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.image_encoder.validate().map_err(|e| e.below("image_encoder"))?;
        check_positive(&[("decoder_depth", self.decoder_depth), ("decoder_heads", self.decoder_heads)])?;
        let channels = self.image_encoder.out_channels;
        if !channels.is_multiple_of(8) || !channels.is_multiple_of(2 * self.decoder_heads) {
            let expected = format!("a multiple of 8 and of twice decoder_heads, {}", self.decoder_heads);
            return Err(ConfigError::new("image_encoder.out_channels", channels, expected));
        }
        Ok(())
    }
}
