//! CLIP's text tower.

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use nn_ops::ConfigError;
use nn_ops::activation::Activation;
use nn_ops::norm::LayerNorm;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, WeightsError, load};
use serde::{Deserialize, Serialize};

use super::layer::{ClipLayer, LayerSizes};
use super::weights::hugging_face_names;
use crate::encoder::check_width;
use crate::layers::{INIT_STD, check_sizes, norm, positions, projection, table};
use crate::table::TokenTable;
use crate::{TextBatch, TextEncoder, TextError, TextFeatures};

/// Sizes of a CLIP text tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipTextConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a token.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward part.
    pub ffn: usize,
    /// Rows of the position table.
    pub max_positions: usize,
    /// Width of the space shared with the image tower.
    pub projection_dim: usize,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Whether token features go through the text projection, too. It is trained on the end-of-text vector only, so
    /// per-token users (RISAM) take them before it.
    pub project_tokens: bool,
    /// Whether there is a text projection, through which the end-of-text feature becomes the pooled vector; without one it is that
    /// vector itself.
    pub project_pooled: bool,
    /// Token tables of more bytes than this stay on the host.
    pub host_table_above: Option<u64>,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            width: 512,
            layers: 12,
            heads: 8,
            ffn: 2048,
            max_positions: 77,
            projection_dim: 512,
            activation: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            project_tokens: false,
            project_pooled: true,
            host_table_above: None,
        }
    }
}

impl ClipTextConfig {
    /// OpenAI ViT-B/32: 63,428,096 parameters.
    pub fn openai_b32() -> Self {
        Self::default()
    }

    /// OpenAI ViT-B/16: the sizes of B/32.
    pub fn openai_b16() -> Self {
        Self::default()
    }

    /// OpenAI RN50: as B/32 with a projection to 1024.
    pub fn openai_rn50() -> Self {
        Self { projection_dim: 1024, ..Self::default() }
    }

    /// OpenAI ViT-L/14: 123,650,304 parameters.
    pub fn openai_l14() -> Self {
        Self { width: 768, heads: 12, ffn: 3072, projection_dim: 768, ..Self::default() }
    }

    /// OpenCLIP ViT-L/14: the sizes of OpenAI's with the exact GELU.
    pub fn openclip_l14() -> Self {
        Self { activation: Activation::Gelu, ..Self::openai_l14() }
    }

    /// OpenCLIP ViT-H/14: 354,032,640 parameters.
    pub fn openclip_h14() -> Self {
        Self {
            width: 1024,
            layers: 24,
            heads: 16,
            ffn: 4096,
            projection_dim: 1024,
            activation: Activation::Gelu,
            ..Self::default()
        }
    }

    /// Two narrow layers for tests.
    pub fn tiny(vocab_size: usize) -> Self {
        Self { vocab_size, width: 64, layers: 2, heads: 4, ffn: 128, max_positions: 32, projection_dim: 48, ..Self::default() }
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("width", self.width),
            ("layers", self.layers),
            ("ffn", self.ffn),
            ("max_positions", self.max_positions),
            ("projection_dim", self.projection_dim),
        ];
        check_sizes(&sizes, self.width, self.heads)?;
        if self.project_tokens && !self.project_pooled {
            let expected = "false where project_pooled is, for there is no projection then";
            return Err(ConfigError::new("project_tokens", true, expected));
        }
        Ok(())
    }

    /// Width of the pooled vector.
    pub fn pooled_width(&self) -> usize {
        if self.project_pooled { self.projection_dim } else { self.width }
    }

    /// A tower with fresh weights.
    pub fn init(&self, device: &Device) -> ClipText {
        let sizes = LayerSizes {
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            ffn: self.ffn,
            activation: self.activation,
            eps: self.layer_norm_eps,
        };
        ClipText {
            text_model: TextTower {
                token_embedding: TokenTable::new(self.vocab_size, self.width, INIT_STD, device),
                position_embedding: table(self.max_positions, self.width, device),
                layers: (0..self.layers).map(|_| ClipLayer::new(&sizes, device)).collect(),
                final_layer_norm: norm(self.width, self.layer_norm_eps, device),
            },
            text_projection: self.project_pooled.then(|| projection(self.width, self.projection_dim, device)),
            project_tokens: self.project_tokens,
        }
    }

    /// A tower with the weights of `state_dict`: Hugging Face, OpenAI or OpenCLIP names. The image tower and the
    /// temperature are not used.
    ///
    /// # Errors
    /// When any other tensor is missing, superfluous or of another shape.
    pub fn load(&self, state_dict: StateDict, device: &Device) -> Result<(ClipText, LoadReport), WeightsError> {
        let state_dict = hugging_face_names(state_dict)?;
        let mut model = self.init(device);
        let table = "text_model.embeddings.token_embedding.weight";
        let on_host = model.text_model.token_embedding.read_to_host(&state_dict, table, self.host_table_above)?;
        let mut unused = vec!["vision_model.*", "visual_projection.weight", "logit_scale", "text_model.embeddings.position_ids"];
        unused.extend(on_host.then_some(table));
        unused.extend((!self.project_pooled).then_some("text_projection.weight"));
        let allow = Allow { missing: &[], unused: &unused };
        load(model, &state_dict, &ClipText::names(), &allow)
    }
}

#[derive(Module, Debug)]
struct TextTower {
    token_embedding: TokenTable,
    position_embedding: Embedding,
    layers: Vec<ClipLayer>,
    final_layer_norm: LayerNorm,
}

/// CLIP's text tower. Built by [`ClipTextConfig::init`] or [`ClipTextConfig::load`].
///
/// Attention is causal, so what follows the end-of-text token never reaches a real one. Token features are those after
/// the final norm; the pooled vector is the end-of-text feature, through the text projection where there is one.
#[derive(Module, Debug)]
pub struct ClipText {
    text_model: TextTower,
    text_projection: Option<Linear>,
    project_tokens: bool,
}

impl ClipText {
    /// From module paths to Hugging Face names.
    pub fn names() -> KeyMap {
        KeyMap::new(&[
            ("text_model.token_embedding", "text_model.embeddings.token_embedding"),
            ("text_model.position_embedding", "text_model.embeddings.position_embedding"),
            ("text_model.layers", "text_model.encoder.layers"),
        ])
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.text_model.position_embedding.weight.lazy_device()
    }

    /// Moves a token table of more than `limit` bytes to the host.
    pub fn with_host_table_above(mut self, limit: Option<u64>) -> Self {
        self.text_model.token_embedding = self.text_model.token_embedding.on_host_above(limit);
        self
    }

    /// Token features after the final norm, before any projection.
    ///
    /// # Shapes
    /// [Q, T] -> [Q, T, C]
    ///
    /// # Errors
    /// When an id or a length does not fit the tables.
    pub fn tokens(&self, batch: &TextBatch) -> Result<Tensor<3>, TextError> {
        check_width(batch, self.max_len())?;
        let tower = &self.text_model;
        let places = positions(&tower.position_embedding.weight, 0, batch.width());
        let mut x = tower.token_embedding.forward(batch, &places)? + places;
        let mask = causal_mask(batch.width(), &x.device());
        for layer in &tower.layers {
            x = layer.forward(x, Some(mask.clone()));
        }
        Ok(tower.final_layer_norm.forward(x))
    }

    /// The end-of-text vector of each row, projected where there is a projection: the token of the largest id.
    ///
    /// # Shapes
    /// tokens [Q, T, C] -> [Q, P], or [Q, C] without projection
    pub fn pool(&self, tokens: Tensor<3>, batch: &TextBatch) -> Tensor<2> {
        let ends = (0..batch.rows()).zip(batch.lengths()).map(|(row, &length)| {
            let ids = &batch.row(row)[..length];
            // The first of equals: `max_by_key` keeps the last.
            let end = ids.iter().enumerate().rev().max_by_key(|(_, id)| **id).map_or(0, |(place, _)| place);
            (row * batch.width() + end) as i32
        });
        let ends: Vec<i32> = ends.collect();
        let [rows, width, channels] = tokens.dims();
        let count = ends.len();
        let ends = Tensor::<1, burn::tensor::Int>::from_data(TensorData::new(ends, [count]), &tokens.device());
        self.projected(tokens.reshape([rows * width, channels]).select(0, ends))
    }

    fn projected<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.text_projection {
            Some(projection) => projection.forward(x),
            None => x,
        }
    }
}

impl TextEncoder for ClipText {
    fn vocab_size(&self) -> usize {
        self.text_model.token_embedding.rows()
    }

    fn width(&self) -> usize {
        if self.project_tokens {
            self.pooled_width()
        } else {
            self.text_model.position_embedding.weight.lazy_shape().dims::<2>()[1]
        }
    }

    fn pooled_width(&self) -> usize {
        self.text_projection.as_ref().map_or_else(|| self.width(), |projection| projection.weight.lazy_shape().dims::<2>()[1])
    }

    fn max_len(&self) -> usize {
        self.text_model.position_embedding.weight.lazy_shape().dims::<2>()[0]
    }

    fn encode(&self, batch: &TextBatch) -> Result<TextFeatures, TextError> {
        let tokens = self.tokens(batch)?;
        let pooled = self.pool(tokens.clone(), batch);
        let mask = batch.mask_tensor(&tokens.device());
        let tokens = if self.project_tokens { self.projected(tokens) } else { tokens };
        Ok(TextFeatures { tokens, mask, pooled })
    }
}

/// `true` above the diagonal.
///
/// # Shapes
/// -> [1, 1, T, T]
fn causal_mask(width: usize, device: &Device) -> Tensor<4, Bool> {
    let hidden: Vec<bool> = (0..width * width).map(|at| at % width > at / width).collect();
    Tensor::from_data(TensorData::new(hidden, [1, 1, width, width]), device)
}
