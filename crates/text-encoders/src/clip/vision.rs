//! CLIP's image tower.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor};
use nn_ops::ConfigError;
use nn_ops::activation::Activation;
use nn_ops::config::check_multiple;
use nn_ops::conv::patch_conv;
use nn_ops::norm::LayerNorm;
use nn_ops::precision::to_f32;
use nn_ops::recompute::segment;
use nn_ops::resize::Resize;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, WeightsError, load};
use serde::{Deserialize, Serialize};

use super::layer::{ClipLayer, LayerSizes};
use super::weights::hugging_face_names;
use crate::TextError;
use crate::bert::first_token;
use crate::layers::{INIT_STD, check_image, check_sizes, norm, normal, projection, table};

/// Sizes of a CLIP image tower (a ViT).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipVisionConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward part.
    pub ffn: usize,
    /// Width of the space shared with the text tower.
    pub projection_dim: usize,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Mean of the three channels that images are normalised with, of values from 0 to 1.
    pub mean: [f32; 3],
    /// Their standard deviation.
    pub std: [f32; 3],
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 14,
            width: 1024,
            layers: 24,
            heads: 16,
            ffn: 4096,
            projection_dim: 768,
            activation: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            mean: Self::MEAN,
            std: Self::STD,
        }
    }
}

impl ClipVisionConfig {
    /// OpenAI's mean of the three channels, of values from 0 to 1; OpenCLIP's H/14 has it, too.
    pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
    /// Their standard deviation.
    pub const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

    /// OpenAI ViT-B/16: 86,192,640 parameters.
    pub fn openai_b16() -> Self {
        Self { patch_size: 16, width: 768, layers: 12, heads: 12, ffn: 3072, projection_dim: 512, ..Self::default() }
    }

    /// OpenAI ViT-L/14: 303,966,208 parameters.
    pub fn openai_l14() -> Self {
        Self::default()
    }

    /// OpenCLIP ViT-L/14 (LAION-2B), whose images are normalised to -1 to 1.
    pub fn openclip_l14() -> Self {
        Self { activation: Activation::Gelu, mean: [0.5; 3], std: [0.5; 3], ..Self::default() }
    }

    /// OpenCLIP ViT-H/14.
    pub fn openclip_h14() -> Self {
        Self { width: 1280, layers: 32, ffn: 5120, projection_dim: 1024, activation: Activation::Gelu, ..Self::default() }
    }

    /// Two narrow layers for tests.
    pub fn tiny() -> Self {
        Self { image_size: 32, patch_size: 8, width: 64, layers: 2, heads: 4, ffn: 128, projection_dim: 48, ..Self::default() }
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("width", self.width),
            ("layers", self.layers),
            ("ffn", self.ffn),
            ("projection_dim", self.projection_dim),
        ];
        check_sizes(&sizes, self.width, self.heads)?;
        if self.std.iter().any(|std| !(std.is_finite() && *std > 0.0)) {
            return Err(ConfigError::new("std", format!("{:?}", self.std), "three numbers above 0"));
        }
        check_multiple(("image_size", self.image_size), ("patch_size", self.patch_size))
    }

    /// A tower with fresh weights.
    pub fn init(&self, device: &Device) -> ClipVision {
        let sizes = LayerSizes {
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            ffn: self.ffn,
            activation: self.activation,
            eps: self.layer_norm_eps,
        };
        let patch = [self.patch_size; 2];
        let places = (self.image_size / self.patch_size).pow(2) + 1;
        ClipVision {
            vision_model: VisionTower {
                class_embedding: normal(INIT_STD).init([self.width], device),
                patch_embedding: Conv2dConfig::new([3, self.width], patch).with_stride(patch).with_bias(false).init(device),
                position_embedding: table(places, self.width, device),
                pre_layer_norm: norm(self.width, self.layer_norm_eps, device),
                layers: (0..self.layers).map(|_| ClipLayer::new(&sizes, device)).collect(),
                post_layer_norm: norm(self.width, self.layer_norm_eps, device),
            },
            visual_projection: projection(self.width, self.projection_dim, device),
            image_size: self.image_size,
        }
    }

    /// A tower with the weights of `state_dict`: Hugging Face, OpenAI or OpenCLIP names. The text tower and the
    /// temperature are not used.
    ///
    /// # Errors
    /// When any other tensor is missing, superfluous or of another shape.
    pub fn load(&self, state_dict: StateDict, device: &Device) -> Result<(ClipVision, LoadReport), WeightsError> {
        self.fill(state_dict, &[], device)
    }

    /// As [`ClipVisionConfig::load`], where the file may lack what [`ClipVision::taps`] does not read: the last norm and the
    /// projection, which then stay fresh.
    ///
    /// # Errors
    /// As [`ClipVisionConfig::load`].
    pub fn load_taps(&self, state_dict: StateDict, device: &Device) -> Result<(ClipVision, LoadReport), WeightsError> {
        self.fill(state_dict, &["vision_model.post_layernorm.*", "visual_projection.weight"], device)
    }

    fn fill(&self, state_dict: StateDict, missing: &[&str], device: &Device) -> Result<(ClipVision, LoadReport), WeightsError> {
        let state_dict = hugging_face_names(state_dict)?;
        let unused = ["text_model.*", "text_projection.weight", "logit_scale", "vision_model.embeddings.position_ids"];
        load(self.init(device), &state_dict, &ClipVision::names(), &Allow { missing, unused: &unused })
    }
}

#[derive(Module, Debug)]
struct VisionTower {
    class_embedding: Param<Tensor<1>>,
    patch_embedding: Conv2d,
    position_embedding: Embedding,
    pre_layer_norm: LayerNorm,
    layers: Vec<ClipLayer>,
    post_layer_norm: LayerNorm,
}

/// CLIP's image tower. Built by [`ClipVisionConfig::init`] or [`ClipVisionConfig::load`].
#[derive(Module, Debug)]
pub struct ClipVision {
    vision_model: VisionTower,
    visual_projection: Linear,
    image_size: usize,
}

impl ClipVision {
    /// From module paths to Hugging Face names.
    pub fn names() -> KeyMap {
        KeyMap::new(&[
            ("vision_model.class_embedding", "vision_model.embeddings.class_embedding"),
            ("vision_model.patch_embedding", "vision_model.embeddings.patch_embedding"),
            ("vision_model.position_embedding", "vision_model.embeddings.position_embedding"),
            ("vision_model.pre_layer_norm", "vision_model.pre_layrnorm"), // spelt so in every published file
            ("vision_model.post_layer_norm", "vision_model.post_layernorm"),
            ("vision_model.layers", "vision_model.encoder.layers"),
        ])
    }

    /// Token features as the last layer leaves them, class token first.
    ///
    /// # Shapes
    /// [B, 3, S, S] with S the configured side -> [B, 1 + (S / patch)^2, C]
    ///
    /// # Errors
    /// When the image has another shape.
    pub fn tokens(&self, image: Tensor<4>) -> Result<Tensor<3>, TextError> {
        check_image(&image, [self.image_size; 2])?;
        let (x, _) = self.embed(image);
        Ok(self.vision_model.layers.iter().fold(x, |x, layer| layer.forward(x, None)))
    }

    /// The residual stream behind the layers named in `taps` (0-based), without the class token, for an image of any size: the
    /// position table is resized to its grid. No norm follows, also not behind the last layer.
    ///
    /// # Shapes
    /// [B, 3, H, W], sides multiples of the patch -> one [B, H / patch, W / patch, C] per tap, in the order of the layers
    ///
    /// # Errors
    /// When the image has no whole patches, or a tap is no layer.
    pub fn taps(&self, image: Tensor<4>, taps: &[usize]) -> Result<Vec<Tensor<4>>, TextError> {
        let [.., patch] = self.vision_model.patch_embedding.weight.dims();
        let found = image.dims();
        if found[1] != 3 || found[2..].iter().any(|side| *side == 0 || !side.is_multiple_of(patch)) {
            let expected = format!("[B, 3, H, W] with H and W multiples of the patch, {patch}");
            return Err(TextError::Shape { what: "an image", found: found.to_vec(), expected });
        }
        let depth = self.vision_model.layers.len();
        if let Some(tap) = taps.iter().find(|tap| **tap >= depth) {
            let expected = format!("layers below {depth}, counted from 0");
            return Err(ConfigError::new("taps", tap, expected).into());
        }
        let (mut x, [rows, columns]) = self.embed(image);
        let mut tapped = Vec::with_capacity(taps.len());
        for (index, layer) in self.vision_model.layers.iter().enumerate() {
            x = segment(layer, x, |layer, x| layer.forward(x, None));
            if taps.contains(&index) {
                let [batch, length, width] = x.dims();
                tapped.push(x.clone().narrow(1, 1, length - 1).reshape([batch, rows, columns, width]));
            }
        }
        Ok(tapped)
    }

    /// What enters the first layer, class token first, and the (rows, columns) of the patches behind it.
    ///
    /// # Shapes
    /// [B, 3, H, W], sides multiples of the patch -> [B, 1 + rows columns, C]
    pub fn embed(&self, image: Tensor<4>) -> (Tensor<3>, [usize; 2]) {
        let tower = &self.vision_model;
        let patches = patch_conv(&tower.patch_embedding, image);
        let [batch, rows, columns, width] = patches.dims();
        let class = tower.class_embedding.val().reshape([1, 1, width]).expand([batch, 1, width]);
        let x = Tensor::cat(vec![class, patches.reshape([batch, rows * columns, width])], 1);
        (tower.pre_layer_norm.forward(x + self.positions(rows, columns).unsqueeze::<3>()), [rows, columns])
    }

    /// The position table for a grid: the class token's row as it is, the patches' rows resized bicubically, half-pixel centres
    /// and no antialiasing, in single precision.
    ///
    /// # Shapes
    /// output: [1 + rows columns, C]
    pub fn positions(&self, rows: usize, columns: usize) -> Tensor<2> {
        let table = self.vision_model.position_embedding.weight.val();
        let [places, width] = table.dims();
        let side = (places - 1).isqrt();
        if (rows, columns) == (side, side) {
            return table;
        }
        let class = table.clone().narrow(0, 0, 1);
        let patches = to_f32(table.clone()).narrow(0, 1, places - 1).transpose().reshape([1, width, side, side]);
        let patches = Resize::BICUBIC.forward(patches, [rows, columns]).reshape([width, rows * columns]).transpose();
        Tensor::cat(vec![class, patches.cast(table.dtype())], 0)
    }

    /// The class token through the last norm and the projection.
    ///
    /// # Shapes
    /// tokens [B, N, C] -> [B, P]
    pub fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.visual_projection.forward(self.vision_model.post_layer_norm.forward(first_token(tokens)))
    }
}
