//! The BEiT-3 model: joint, text-only and image-only passes.

use burn::module::{Initializer, Module, Param};
use burn::nn::Embedding;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use nn_ops::conv::patch_conv;
use nn_ops::norm::LayerNorm;
use nn_ops::recompute::segment;
use nn_ops::resize::Resize;
use nn_ops::rows::select_rows;
use nn_ops::weights::KeyMap;

use super::config::Beit3Config;
use super::layer::{Layer, Masks, Multiway, Streams};
use crate::bert::first_token;
use crate::encoder::check_width;
use crate::layers::{check_image, key_mask, norm, normal, positions, spread_table};
use crate::table::TokenTable;
use crate::{TextBatch, TextEncoder, TextError, TextFeatures};

/// Rows of the position tables that are never used; an inheritance of fairseq's padding index.
const POSITION_OFFSET: usize = 2;

#[derive(Module, Debug)]
struct VisionEmbed {
    cls_token: Param<Tensor<3>>,
    mask_token: Param<Tensor<3>>,
    proj: Conv2d,
}

#[derive(Module, Debug)]
struct Encoder {
    embed_positions: Multiway<Embedding>,
    layers: Vec<Layer>,
    layer_norm: Multiway<LayerNorm>,
}

/// BEiT-3. Built by [`Beit3Config::init`] or [`Beit3Config::load`].
///
/// As a [`TextEncoder`] it makes text-only passes; the pooled vector is the feature of `<s>`.
#[derive(Module, Debug)]
pub struct Beit3 {
    pub(super) text_embed: TokenTable,
    vision_embed: VisionEmbed,
    encoder: Encoder,
    image_size: usize,
}

/// Final-normed features of a pass.
#[derive(Debug, Clone)]
pub struct Beit3Features {
    /// Image features, `[CLS]` first then patches in row-major order, [Q, 1 + N, D]; absent in a text-only pass.
    pub vision: Option<Tensor<3>>,
    /// Text features, `<s>` first, [Q, T, D]; absent in an image-only pass.
    pub text: Option<Tensor<3>>,
}

impl Beit3Features {
    /// Image tokens, then text tokens.
    ///
    /// # Shapes
    /// -> [Q, 1 + N + T, D]
    pub fn sequence(&self) -> Option<Tensor<3>> {
        let parts: Vec<_> = [&self.vision, &self.text].into_iter().flatten().cloned().collect();
        if parts.is_empty() { None } else { Some(Tensor::cat(parts, 1)) }
    }

    /// The image's `[CLS]`: what EVF-SAM makes its prompt of.
    ///
    /// # Shapes
    /// -> [Q, D]
    pub fn image_cls(&self) -> Option<Tensor<2>> {
        self.vision.clone().map(first_token)
    }

    /// The feature of `<s>`.
    ///
    /// # Shapes
    /// -> [Q, D]
    pub fn text_cls(&self) -> Option<Tensor<2>> {
        self.text.clone().map(first_token)
    }
}

impl Beit3Config {
    /// A model with fresh weights.
    pub fn init(&self, device: &Device) -> Beit3 {
        Beit3::new(self, device)
    }
}

impl Beit3 {
    fn new(config: &Beit3Config, device: &Device) -> Self {
        let (dim, std) = (config.dim, config.init_std);
        let patch = [config.patch_size; 2];
        let token = || Initializer::Zeros.init([1, 1, dim], device);
        Self {
            text_embed: TokenTable::new(config.vocab_size, dim, std, device),
            vision_embed: VisionEmbed {
                cls_token: token(),
                mask_token: token(),
                proj: Conv2dConfig::new([3, dim], patch).with_stride(patch).with_initializer(normal(std)).init(device),
            },
            encoder: Encoder {
                embed_positions: Multiway {
                    a: spread_table(config.patches() + 1 + POSITION_OFFSET, dim, std, device),
                    b: spread_table(config.max_positions, dim, std, device),
                },
                layers: (1..=config.layers).map(|number| Layer::new(config, number, device)).collect(),
                layer_norm: Multiway::new(|| norm(dim, config.layer_norm_eps, device)),
            },
            image_size: config.image_size,
        }
    }

    /// From module paths to published names, without the `beit3.` in front.
    pub fn names() -> KeyMap {
        KeyMap::new(&[(".a.", ".A."), (".b.", ".B.")])
    }

    /// Moves a token table of more than `limit` bytes to the host.
    pub fn with_host_table_above(mut self, limit: Option<u64>) -> Self {
        self.text_embed = self.text_embed.on_host_above(limit);
        self
    }

    /// Side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// Brings images with values in [0, 1] to the model's side and to [-1, 1]: bicubic, aspect ignored, no antialias,
    /// not clamped (EVF-SAM's multimodal branch).
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, 3, S, S]
    pub fn preprocess(&self, image: Tensor<4>) -> Tensor<4> {
        preprocess(image, self.image_size)
    }

    /// One pass over images and texts together. `image_of[q]` is the image that text q speaks about.
    ///
    /// # Shapes
    /// image [B, 3, S, S], batch [Q, T], `image_of` Q numbers below B
    ///
    /// # Errors
    /// When the image has another shape, an id or a length does not fit the tables, or `image_of` does not fit.
    pub fn joint(&self, image: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<Beit3Features, TextError> {
        let (x, masks) = self.embed_both(image, batch, image_of)?;
        Ok(self.run(x, &masks))
    }

    /// How the tokens [image `[CLS]` ; patches ; text] attend to each other in the last layer of a joint pass.
    ///
    /// # Shapes
    /// As [`Beit3::joint`]; output: [Q, heads, S, S] with S = 1 + N + T, each row a distribution over the tokens that it sees
    ///
    /// # Errors
    /// As [`Beit3::joint`].
    pub fn last_attention(&self, image: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<Tensor<4>, TextError> {
        let (x, masks) = self.embed_both(image, batch, image_of)?;
        let none = || TextError::from(nn_ops::ConfigError::new("layers", 0, "at least 1"));
        let (last, before) = self.encoder.layers.split_last().ok_or_else(none)?;
        let x = before.iter().fold(x, |x, layer| layer.forward(x, &masks));
        last.attention(x, &masks).ok_or_else(none)
    }

    /// Tokens of images and texts, an image for each text, and which of them are padding.
    fn embed_both(&self, image: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<(Streams, Masks), TextError> {
        let images = image.dims()[0];
        if image_of.len() != batch.rows() || image_of.iter().any(|&i| i >= images) {
            return Err(TextError::Shape {
                what: "image_of",
                found: image_of.to_vec(),
                expected: format!("{} numbers below {images}", batch.rows()),
            });
        }
        let vision = select_rows(self.embed_image(image)?, image_of);
        let (text, padding) = self.embed_text(batch)?;
        let masks = match padding {
            None => Masks::default(),
            Some(padding) => {
                let [queries, seen, _] = vision.dims();
                let none =
                    Tensor::<2, Bool>::from_data(TensorData::new(vec![false; queries * seen], [queries, seen]), &vision.device());
                let joint = Tensor::cat(vec![none, padding.clone()], 1);
                Masks { text: Some(key_mask(padding)), joint: Some(key_mask(joint)) }
            }
        };
        Ok((Streams { vision: Some(vision), text: Some(text) }, masks))
    }

    /// One pass over texts alone.
    ///
    /// # Errors
    /// When an id or a length does not fit the tables.
    pub fn text_only(&self, batch: &TextBatch) -> Result<Beit3Features, TextError> {
        let (text, padding) = self.embed_text(batch)?;
        let masks = Masks { text: padding.map(key_mask), joint: None };
        Ok(self.run(Streams { vision: None, text: Some(text) }, &masks))
    }

    /// One pass over images alone.
    ///
    /// # Shapes
    /// [B, 3, S, S]
    ///
    /// # Errors
    /// When the image has another shape.
    pub fn vision_only(&self, image: Tensor<4>) -> Result<Beit3Features, TextError> {
        let vision = Some(self.embed_image(image)?);
        Ok(self.run(Streams { vision, text: None }, &Masks::default()))
    }

    #[cfg(test)]
    pub(super) fn encoder_layers(&self) -> &[Layer] {
        &self.encoder.layers
    }

    fn run(&self, x: Streams, masks: &Masks) -> Beit3Features {
        let through = |x, layer| {
            let masks = masks.clone();
            segment(layer, x, move |layer: &Layer, x: Streams| layer.forward(x, &masks))
        };
        let x = self.encoder.layers.iter().fold(x, through);
        let Streams { vision, text } = x.norm(&self.encoder.layer_norm);
        Beit3Features { vision, text }
    }

    /// # Shapes
    /// [B, 3, S, S] -> [B, 1 + N, D]
    fn embed_image(&self, image: Tensor<4>) -> Result<Tensor<3>, TextError> {
        let [batch, _, _, _] = check_image(&image, [self.image_size; 2])?;
        let patches = patch_conv(&self.vision_embed.proj, image);
        let [_, rows, columns, dim] = patches.dims();
        let cls = self.vision_embed.cls_token.val().expand([batch, 1, dim]);
        let x = Tensor::cat(vec![cls, patches.reshape([batch, rows * columns, dim])], 1);
        Ok(x + positions(&self.encoder.embed_positions.a.weight, POSITION_OFFSET, rows * columns + 1))
    }

    /// Embedded tokens, padding zeroed once, and where padding is if there is any.
    ///
    /// # Shapes
    /// [Q, T] -> [Q, T, D], [Q, T]
    fn embed_text(&self, batch: &TextBatch) -> Result<(Tensor<3>, Option<Tensor<2, Bool>>), TextError> {
        check_width(batch, self.max_len())?;
        let places = positions(&self.encoder.embed_positions.b.weight, POSITION_OFFSET, batch.width());
        let x = self.text_embed.forward(batch, &places)? + places;
        if !batch.is_padded() {
            return Ok((x, None));
        }
        let padding = batch.padding_tensor(&x.device());
        let shape = x.dims();
        let x = x.mask_fill(padding.clone().unsqueeze_dim::<3>(2).expand(shape), 0.0);
        Ok((x, Some(padding)))
    }
}

impl TextEncoder for Beit3 {
    fn vocab_size(&self) -> usize {
        self.text_embed.rows()
    }

    fn width(&self) -> usize {
        self.encoder.layer_norm.b.gamma.lazy_shape().dims::<1>()[0]
    }

    fn max_len(&self) -> usize {
        self.encoder.embed_positions.b.weight.lazy_shape().dims::<2>()[0] - POSITION_OFFSET
    }

    fn encode(&self, batch: &TextBatch) -> Result<TextFeatures, TextError> {
        let features = self.text_only(batch)?;
        let tokens = features.text.ok_or(TextError::EmptyBatch { row: 0 })?;
        let mask = batch.mask_tensor(&tokens.device());
        Ok(TextFeatures { pooled: first_token(tokens.clone()), tokens, mask })
    }
}

/// See [`Beit3::preprocess`].
///
/// # Shapes
/// [B, 3, H, W] -> [B, 3, side, side]
pub(crate) fn preprocess(image: Tensor<4>, side: usize) -> Tensor<4> {
    Resize::BICUBIC.forward(image, [side, side]) * 2.0 - 1.0
}
