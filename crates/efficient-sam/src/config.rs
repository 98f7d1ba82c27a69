//! `EfficientSamConfig`: sizes of an EfficientSAM.

use nn_ops::ConfigError;
use nn_ops::activation::Activation;
use nn_ops::config::{check_multiple, check_positive};
use sam_vit::{MaskDecoderConfig, NormOver, TokenSelfAttention, TwoWayConfig};
use serde::{Deserialize, Serialize};

/// Sizes of an EfficientSAM. The default is EfficientSAM-S.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EfficientSamConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Side of the grid that the position table was made for, in tokens; it is resized to the input's.
    pub table_grid: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks; all attend over the whole image.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP, in token widths.
    pub mlp_ratio: f64,
    /// Points per query, of which a box is two: longer lists are cut, shorter ones padded.
    pub max_points: usize,
    /// Channels of the image embedding and of prompt tokens.
    pub out_channels: usize,
    /// Two-way blocks of the mask decoder.
    pub decoder_depth: usize,
    /// Heads of the mask decoder.
    pub decoder_heads: usize,
    /// Hidden width of the mask decoder's MLP.
    pub decoder_mlp_dim: usize,
}

impl Default for EfficientSamConfig {
    fn default() -> Self {
        Self {
            image_size: 1024,
            patch_size: 16,
            table_grid: 14,
            embed_dim: 384,
            depth: 12,
            heads: 6,
            mlp_ratio: 4.0,
            max_points: 6,
            out_channels: 256,
            decoder_depth: 2,
            decoder_heads: 8,
            decoder_mlp_dim: 2048,
        }
    }
}

impl EfficientSamConfig {
    /// EfficientSAM-S: 26,413,028 parameters.
    pub fn small() -> Self {
        Self::default()
    }

    /// EfficientSAM-T: 10,223,204 parameters.
    pub fn tiny() -> Self {
        Self { embed_dim: 192, heads: 3, ..Self::default() }
    }

    /// Two narrow blocks at 64 pixels, for tests.
    pub fn toy() -> Self {
        Self {
            image_size: 64,
            table_grid: 3,
            embed_dim: 32,
            depth: 2,
            heads: 2,
            out_channels: 32,
            decoder_mlp_dim: 48,
            ..Self::default()
        }
    }

    /// Side of the token grid.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    pub(crate) fn mlp_dim(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// The mask decoder: SAM's with GELU, residuals in all self-attention, and a norm over whole maps.
    pub(crate) fn decoder(&self) -> MaskDecoderConfig {
        MaskDecoderConfig {
            two_way: TwoWayConfig {
                width: self.out_channels,
                depth: self.decoder_depth,
                heads: self.decoder_heads,
                mlp_dim: self.decoder_mlp_dim,
                activation: Activation::Gelu,
                self_attention: TokenSelfAttention::EfficientSam,
            },
            activation: Activation::Gelu,
            norm_over: NormOver::Map,
        }
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_positive(&[
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("table_grid", self.table_grid),
            ("embed_dim", self.embed_dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("max_points", self.max_points),
            ("out_channels", self.out_channels),
            ("decoder_depth", self.decoder_depth),
            ("decoder_heads", self.decoder_heads),
            ("decoder_mlp_dim", self.decoder_mlp_dim),
        ])?;
        check_multiple(("image_size", self.image_size), ("patch_size", self.patch_size))?;
        check_multiple(("embed_dim", self.embed_dim), ("heads", self.heads))?;
        if !(self.mlp_ratio > 0.0 && self.mlp_ratio <= 64.0 && self.mlp_dim() > 0) {
            return Err(ConfigError::new("mlp_ratio", self.mlp_ratio, "at most 64 and leave at least one hidden channel"));
        }
        let (channels, heads) = (self.out_channels, self.decoder_heads);
        if !channels.is_multiple_of(8) || !channels.is_multiple_of(2 * heads) {
            let expected = format!("a multiple of 8 and of twice decoder_heads, {heads}");
            return Err(ConfigError::new("out_channels", channels, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_cannot_be_are_named() {
        let base = EfficientSamConfig::small;
        for config in [base(), EfficientSamConfig::tiny(), EfficientSamConfig::toy()] {
            config.validate().unwrap();
        }
        let wrong = [
            (EfficientSamConfig { depth: 0, ..base() }, "depth"),
            (EfficientSamConfig { max_points: 0, ..base() }, "max_points"),
            (EfficientSamConfig { image_size: 1000, ..base() }, "image_size"),
            (EfficientSamConfig { heads: 7, ..base() }, "embed_dim"),
            (EfficientSamConfig { mlp_ratio: f64::NAN, ..base() }, "mlp_ratio"),
            (EfficientSamConfig { out_channels: 250, ..base() }, "out_channels"),
        ];
        for (config, key) in wrong {
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
