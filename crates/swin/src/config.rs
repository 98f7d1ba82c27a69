//! `SwinConfig`: sizes of a Swin Transformer.

use nn_ops::ConfigError;
use nn_ops::config::check_positive;
use serde::{Deserialize, Serialize};

/// Sizes of a Swin Transformer. The default is Swin-B with windows of 12.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwinConfig {
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Channels of the first stage; each further one doubles them.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Attention heads of each stage.
    pub heads: Vec<usize>,
    /// Side of an attention window, in tokens.
    pub window: usize,
    /// Hidden width of the MLP, in token widths.
    pub mlp_ratio: f64,
    /// Stages (0-based) whose outputs go through a layer norm, `norm{stage}`. Classifiers lack these norms: they start at
    /// gain 1 and bias 0, as detectors' and segmenters' backbones have them.
    pub output_norms: Vec<usize>,
    /// Added to variances.
    pub layer_norm_eps: f64,
}

impl Default for SwinConfig {
    fn default() -> Self {
        Self::base_window12()
    }
}

impl SwinConfig {
    /// Swin-T with windows of 7: 27,517,818 parameters, three output norms aside.
    pub fn tiny() -> Self {
        Self { embed_dim: 96, depths: vec![2, 2, 6, 2], heads: vec![3, 6, 12, 24], window: 7, ..Self::default() }
    }

    /// Swin-S with windows of 7.
    pub fn small() -> Self {
        Self { depths: vec![2, 2, 18, 2], ..Self::tiny() }
    }

    /// Swin-B with windows of 7.
    pub fn base() -> Self {
        Self { window: 7, ..Self::default() }
    }

    /// Swin-B with windows of 12 (`swin_base_patch4_window12_384_22k.pth`): 86,876,536 parameters with three output norms.
    pub fn base_window12() -> Self {
        Self {
            patch_size: 4,
            embed_dim: 128,
            depths: vec![2, 2, 18, 2],
            heads: vec![4, 8, 16, 32],
            window: 12,
            mlp_ratio: 4.0,
            output_norms: vec![1, 2, 3],
            layer_norm_eps: 1e-5,
        }
    }

    /// Swin-L with windows of 12.
    pub fn large_window12() -> Self {
        Self { embed_dim: 192, heads: vec![6, 12, 24, 48], ..Self::default() }
    }

    /// Two stages of narrow blocks, for tests: windows of 2.
    pub fn toy() -> Self {
        Self {
            embed_dim: 8,
            depths: vec![2, 2],
            heads: vec![1, 2],
            window: 2,
            mlp_ratio: 2.0,
            output_norms: vec![0, 1],
            ..Self::default()
        }
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.depths.len()
    }

    /// Channels of a stage.
    pub fn width(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Pixels per token of a stage, along one side.
    pub fn stride(&self, stage: usize) -> usize {
        self.patch_size << stage
    }

    /// (height, width) of a stage's map for an image of (height, width) pixels: sides are rounded up.
    pub fn grid(&self, stage: usize, image: (usize, usize)) -> (usize, usize) {
        let side = |pixels: usize| (0..stage).fold(pixels.div_ceil(self.patch_size.max(1)), |n, _| n.div_ceil(2));
        (side(image.0), side(image.1))
    }

    /// Hidden width of the MLP of a stage.
    pub(crate) fn mlp_dim(&self, stage: usize) -> usize {
        (self.width(stage) as f64 * self.mlp_ratio) as usize
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_positive(&[("patch_size", self.patch_size), ("embed_dim", self.embed_dim), ("window", self.window)])?;
        if self.depths.is_empty() || self.stages() > 8 || self.depths.contains(&0) {
            return Err(ConfigError::new("depths", format!("{:?}", self.depths), "1 to 8 stages of at least one block"));
        }
        let heads = |expected: String| Err(ConfigError::new("heads", format!("{:?}", self.heads), expected));
        if self.heads.len() != self.stages() {
            return heads(format!("one number per stage, {}", self.stages()));
        }
        for (stage, number) in self.heads.iter().enumerate() {
            if *number == 0 || !self.width(stage).is_multiple_of(*number) {
                return heads(format!("divisors of the stages' widths, {} for stage {stage}", self.width(stage)));
            }
        }
        if !(self.mlp_ratio > 0.0 && self.mlp_ratio <= 64.0 && self.mlp_dim(0) > 0) {
            return Err(ConfigError::new("mlp_ratio", self.mlp_ratio, "at most 64 and leave at least one hidden channel"));
        }
        if self.output_norms.iter().any(|stage| *stage >= self.stages()) {
            let expected = format!("stages below {}, counted from 0", self.stages());
            return Err(ConfigError::new("output_norms", format!("{:?}", self.output_norms), expected));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps.is_finite()) {
            return Err(ConfigError::new("layer_norm_eps", self.layer_norm_eps, "a positive number"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_at_480() {
        let config = SwinConfig::base_window12();
        let maps: Vec<_> =
            (0..4).map(|stage| (config.stride(stage), config.grid(stage, (480, 480)).0, config.width(stage))).collect();
        assert_eq!(maps, [(4, 120, 128), (8, 60, 256), (16, 30, 512), (32, 15, 1024)]);
        assert_eq!(config.grid(3, (108, 101)), (4, 4));
    }

    #[test]
    fn sizes_that_cannot_be_are_named() {
        let base = SwinConfig::base_window12;
        for config in
            [SwinConfig::tiny(), SwinConfig::small(), SwinConfig::base(), SwinConfig::large_window12(), SwinConfig::toy()]
        {
            config.validate().unwrap();
        }
        let wrong = [
            (SwinConfig { window: 0, ..base() }, "`window` is 0"),
            (SwinConfig { depths: vec![], ..base() }, "`depths` is []"),
            (SwinConfig { depths: vec![2, 0, 2, 2], ..base() }, "depths"),
            (SwinConfig { heads: vec![4, 8], ..base() }, "one number per stage"),
            (SwinConfig { heads: vec![4, 7, 16, 32], ..base() }, "stage 1"),
            (SwinConfig { mlp_ratio: f64::NAN, ..base() }, "mlp_ratio"),
            (SwinConfig { output_norms: vec![4], ..base() }, "output_norms"),
            (SwinConfig { layer_norm_eps: 0.0, ..base() }, "layer_norm_eps"),
        ];
        for (config, word) in wrong {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
