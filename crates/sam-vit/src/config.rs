//! Sizes of SAM ViT-B, ViT-L and ViT-H.

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
    /// A sentence that names the field, its value and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let e = &self.image_encoder;
        let zero = [
            ("image_size", e.image_size),
            ("patch_size", e.patch_size),
            ("embed_dim", e.embed_dim),
            ("depth", e.depth),
            ("heads", e.heads),
            ("window_size", e.window_size),
            ("decoder_depth", self.decoder_depth),
            ("decoder_heads", self.decoder_heads),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, v)| *v == 0) {
            return Err(format!("{name} is 0; it must be at least 1"));
        }
        if !e.image_size.is_multiple_of(e.patch_size) {
            return Err(format!("image_size {} is not a multiple of patch_size {}", e.image_size, e.patch_size));
        }
        if !e.embed_dim.is_multiple_of(e.heads) {
            return Err(format!("embed_dim {} is not a multiple of heads {}", e.embed_dim, e.heads));
        }
        if !e.out_channels.is_multiple_of(8) || !e.out_channels.is_multiple_of(2 * self.decoder_heads) {
            return Err(format!(
                "out_channels {} must be a multiple of 8 and of twice decoder_heads {}",
                e.out_channels, self.decoder_heads
            ));
        }
        if let Some(block) = e.global_blocks.iter().find(|b| **b >= e.depth) {
            return Err(format!("global_blocks names block {block}, but depth is {}", e.depth));
        }
        Ok(())
    }
}
