//! Sizes of a BEiT-3: base, large and tiny.

use nn_ops::ConfigError;
use nn_ops::config::check_multiple;
use serde::{Deserialize, Serialize};

use crate::layers::check_sizes;

/// Sizes of a BEiT-3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beit3Config {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a token.
    pub dim: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub ffn: usize,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Rows of the text position table. The first two are never used.
    pub max_positions: usize,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Spread of fresh weights. The published models began with 0.02; a width of 64 needs more, or every token's attention
    /// is even and stays so for thousands of steps.
    pub init_std: f64,
    /// Layers, from 1, in which image and text attend to each other; all if absent. In the others each attends to its
    /// own kind only (EVF-SAM table 3: "early fusion, L1-L12").
    pub fused_layers: Option<Vec<usize>>,
    /// Token tables of more bytes than this stay on the host.
    pub host_table_above: Option<u64>,
}

impl Default for Beit3Config {
    fn default() -> Self {
        Self {
            vocab_size: 64010,
            dim: 1024,
            layers: 24,
            heads: 16,
            ffn: 4096,
            image_size: 224,
            patch_size: 16,
            max_positions: 1024,
            layer_norm_eps: 1e-5,
            init_std: 0.02,
            fused_layers: None,
            host_table_above: None,
        }
    }
}

impl Beit3Config {
    /// BEiT-3 base: 220,987,392 parameters.
    pub fn base() -> Self {
        Self { dim: 768, layers: 12, heads: 12, ffn: 3072, ..Self::default() }
    }

    /// BEiT-3 large: 672,702,464 parameters.
    pub fn large() -> Self {
        Self::default()
    }

    /// Two narrow layers for tests and the demonstration.
    pub fn tiny(vocab_size: usize) -> Self {
        Self {
            vocab_size,
            dim: 64,
            layers: 2,
            heads: 4,
            ffn: 128,
            image_size: 32,
            patch_size: 16,
            max_positions: 64,
            ..Self::default()
        }
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size.max(1)).pow(2)
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("dim", self.dim),
            ("layers", self.layers),
            ("ffn", self.ffn),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
        ];
        check_sizes(&sizes, self.dim, self.heads)?;
        check_multiple(("image_size", self.image_size), ("patch_size", self.patch_size))?;
        if self.max_positions < 3 {
            let expected = "at least 3, for the first two rows are not used";
            return Err(ConfigError::new("max_positions", self.max_positions, expected));
        }
        if !(self.init_std > 0.0 && self.init_std <= 1.0) {
            return Err(ConfigError::new("init_std", self.init_std, "above 0 and at most 1"));
        }
        match self.fused_layers.iter().flatten().find(|layer| !(1..=self.layers).contains(*layer)) {
            Some(layer) => Err(ConfigError::new("fused_layers", layer, format!("layers 1 to {}", self.layers))),
            None => Ok(()),
        }
    }
}
