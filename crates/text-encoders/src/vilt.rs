//! ViLT (EVF-SAM tables 1 and 3): BERT's embeddings and a ViT over patches in one pre-norm transformer.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, Embedding, Linear};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use nn_ops::ConfigError;
use nn_ops::activation::gelu;
use nn_ops::config::{check_dropout, check_multiple};
use nn_ops::conv::patch_conv;
use nn_ops::linear;
use nn_ops::norm::LayerNorm;
use nn_ops::resize::Resize;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, WeightsError, load};
use serde::{Deserialize, Serialize};

use crate::bert::{BertConfig, BertEmbeddings, first_token};
use crate::layers::{INIT_STD, check_sizes, dropout, key_mask, linear, norm, normal, positions, self_attention, table};
use crate::{TextBatch, TextEncoder, TextError, TextFeatures};

/// Sizes of a ViLT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViltConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward part.
    pub ffn: usize,
    /// Rows of the text position table.
    pub max_positions: usize,
    /// Side in pixels of the square that the image position table is made for; other images resize it.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Dropout; acts where gradients are tracked only.
    pub dropout: f64,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Token tables of more bytes than this stay on the host.
    pub host_table_above: Option<u64>,
}

impl Default for ViltConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden: 768,
            layers: 12,
            heads: 12,
            ffn: 3072,
            max_positions: 40,
            image_size: 384,
            patch_size: 32,
            dropout: 0.0,
            layer_norm_eps: 1e-12,
            host_table_above: None,
        }
    }
}

impl ViltConfig {
    /// ViLT-B/32.
    pub fn b32() -> Self {
        Self::default()
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("ffn", self.ffn),
            ("max_positions", self.max_positions),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
        ];
        check_sizes(&sizes, self.hidden, self.heads)?;
        check_dropout("dropout", self.dropout)?;
        check_multiple(("image_size", self.image_size), ("patch_size", self.patch_size))
    }

    /// A model with fresh weights.
    pub fn init(&self, device: &Device) -> Vilt {
        let text = BertConfig {
            vocab_size: self.vocab_size,
            hidden: self.hidden,
            max_positions: self.max_positions,
            dropout: self.dropout,
            layer_norm_eps: self.layer_norm_eps,
            ..BertConfig::default()
        };
        let patch = [self.patch_size; 2];
        let side = self.image_size / self.patch_size.max(1);
        Vilt {
            text_embeddings: BertEmbeddings::new(&text, device),
            cls_token: Initializer::Zeros.init([1, 1, self.hidden], device),
            image_positions: Initializer::Zeros.init([1, side * side + 1, self.hidden], device),
            patch_projection: Conv2dConfig::new([3, self.hidden], patch)
                .with_stride(patch)
                .with_initializer(normal(INIT_STD))
                .init(device),
            modality_types: table(2, self.hidden, device),
            dropout: dropout(self.dropout),
            encoder_layers: (0..self.layers).map(|_| Layer::new(self, device)).collect(),
            layernorm: norm(self.hidden, self.layer_norm_eps, device),
            pooler_dense: linear(self.hidden, self.hidden, device),
            grid: side,
        }
    }

    /// A model with the weights of `state_dict`: Hugging Face names, with or without `vilt.` in front. Task heads are
    /// not used; a file without pooler loads.
    ///
    /// # Errors
    /// When any other tensor is missing, superfluous or of another shape.
    pub fn load(&self, state_dict: StateDict, device: &Device) -> Result<(Vilt, LoadReport), WeightsError> {
        let state_dict = state_dict.strip_prefix("vilt.")?;
        let mut model = self.init(device);
        let table = "embeddings.text_embeddings.word_embeddings.weight";
        let on_host = model.text_embeddings.word_embeddings.read_to_host(&state_dict, table, self.host_table_above)?;
        let unused: &[&str] =
            &["mlm_score.*", "itm_score.*", "rank_output.*", "classifier.*", "embeddings.text_embeddings.position_ids", table];
        let allow = Allow { missing: &["pooler.*"], unused: &unused[..5 + usize::from(on_host)] };
        load(model, &state_dict, &Vilt::names(), &allow)
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
}

/// `x += attention(before x); x += mlp(after x)`.
#[derive(Module, Debug)]
struct Layer {
    attention_attention: SelfAttention,
    attention_output: Linear,
    intermediate: Linear,
    output: Linear,
    layernorm_before: LayerNorm,
    layernorm_after: LayerNorm,
    dropout: Dropout,
    heads: usize,
}

impl Layer {
    fn new(config: &ViltConfig, device: &Device) -> Self {
        let square = || linear(config.hidden, config.hidden, device);
        let norm = || norm(config.hidden, config.layer_norm_eps, device);
        Self {
            attention_attention: SelfAttention { query: square(), key: square(), value: square() },
            attention_output: square(),
            intermediate: linear(config.hidden, config.ffn, device),
            output: linear(config.ffn, config.hidden, device),
            layernorm_before: norm(),
            layernorm_after: norm(),
            dropout: dropout(config.dropout),
            heads: config.heads,
        }
    }

    fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let maps = &self.attention_attention;
        let h = self.layernorm_before.forward(x.clone());
        let qkv = [&maps.query, &maps.key, &maps.value].map(|map| linear::linear(map, h.clone()));
        let attended = linear::linear(&self.attention_output, self_attention(qkv, self.heads, mask, &self.dropout));
        let x = x + self.dropout.forward(attended);
        let h = gelu(linear::linear(&self.intermediate, self.layernorm_after.forward(x.clone())));
        x + self.dropout.forward(linear::linear(&self.output, h))
    }
}

/// ViLT. Built by [`ViltConfig::init`] or [`ViltConfig::load`].
///
/// As a [`TextEncoder`] it makes text-only passes. The vector of a text, and of a joint pass, is the final-normed
/// feature of the text's `[CLS]`.
///
/// # Limits
/// Images of a batch have one size, without padding.
#[derive(Module, Debug)]
pub struct Vilt {
    text_embeddings: BertEmbeddings,
    cls_token: Param<Tensor<3>>,
    image_positions: Param<Tensor<3>>,
    patch_projection: Conv2d,
    modality_types: Embedding,
    dropout: Dropout,
    encoder_layers: Vec<Layer>,
    layernorm: LayerNorm,
    pooler_dense: Linear,
    grid: usize,
}

/// Final-normed features of a joint pass.
#[derive(Debug, Clone)]
pub struct ViltFeatures {
    /// Text features, [Q, T, C].
    pub text: Tensor<3>,
    /// Image features, the image's own class token first, [Q, 1 + N, C].
    pub image: Tensor<3>,
}

impl ViltFeatures {
    /// The text's `[CLS]`, which stands for the pair.
    ///
    /// # Shapes
    /// -> [Q, C]
    pub fn cls(&self) -> Tensor<2> {
        first_token(self.text.clone())
    }
}

impl Vilt {
    /// From module paths to Hugging Face names, without the `vilt.` in front.
    pub fn names() -> KeyMap {
        KeyMap::new(&[
            ("layer_norm", "LayerNorm"),
            ("text_embeddings", "embeddings.text_embeddings"),
            ("cls_token", "embeddings.cls_token"),
            ("image_positions", "embeddings.position_embeddings"),
            ("patch_projection", "embeddings.patch_embeddings.projection"),
            ("modality_types", "embeddings.token_type_embeddings"),
            ("attention_attention", "attention.attention"),
            ("attention_output", "attention.OUT.dense"),
            ("intermediate", "intermediate.dense"),
            (".output.", ".output.dense."),
            (".OUT.", ".output."),
            ("encoder_layers", "encoder.layer"),
            ("pooler_dense", "pooler.dense"),
        ])
    }

    /// One pass over images and texts together, row by row.
    ///
    /// # Shapes
    /// image [Q, 3, H, W] with H and W of at least one patch (a rest beyond whole patches is cut), batch [Q, T]
    ///
    /// # Errors
    /// When rows differ, the image is too small, or an id or a length does not fit the tables.
    pub fn joint(&self, image: Tensor<4>, batch: &TextBatch) -> Result<ViltFeatures, TextError> {
        let found = image.dims();
        if found[0] != batch.rows() {
            let expected = format!("[{}, 3, H, W], an image a text", batch.rows());
            return Err(TextError::Shape { what: "images", found: found.to_vec(), expected });
        }
        let text = self.embed_text(batch)?;
        let image = self.embed_image(image)?;
        let (queries, words, seen) = (text.dims()[0], text.dims()[1], image.dims()[1]);
        let mask = batch.is_padded().then(|| {
            let none = TensorData::new(vec![false; queries * seen], [queries, seen]);
            let device = text.device();
            key_mask(Tensor::cat(vec![batch.padding_tensor(&device), Tensor::from_data(none, &device)], 1))
        });
        let x = self.run(Tensor::cat(vec![text, image], 1), mask);
        Ok(ViltFeatures { text: x.clone().narrow(1, 0, words), image: x.narrow(1, words, seen) })
    }

    /// One pass over texts alone.
    ///
    /// # Shapes
    /// [Q, T] -> [Q, T, C]
    ///
    /// # Errors
    /// When an id or a length does not fit the tables.
    pub fn text_only(&self, batch: &TextBatch) -> Result<Tensor<3>, TextError> {
        let text = self.embed_text(batch)?;
        let mask = batch.is_padded().then(|| key_mask(batch.padding_tensor(&text.device())));
        Ok(self.run(text, mask))
    }

    /// One pass over images alone; position 0 is the image's class token.
    ///
    /// # Shapes
    /// [B, 3, H, W] -> [B, 1 + N, C]
    ///
    /// # Errors
    /// When the image is smaller than a patch or has not three channels.
    pub fn image_only(&self, image: Tensor<4>) -> Result<Tensor<3>, TextError> {
        Ok(self.run(self.embed_image(image)?, None))
    }

    /// tanh of a linear map of position 0: what ViLT's own heads start from.
    ///
    /// # Shapes
    /// [Q, S, C] -> [Q, C]
    pub fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.pooler_dense.forward(first_token(tokens)).tanh()
    }

    fn run(&self, x: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let x = self.encoder_layers.iter().fold(x, |x, layer| layer.forward(x, mask.clone()));
        self.layernorm.forward(x)
    }

    fn embed_text(&self, batch: &TextBatch) -> Result<Tensor<3>, TextError> {
        Ok(self.text_embeddings.forward(batch)? + positions(&self.modality_types.weight, 0, 1))
    }

    /// # Shapes
    /// [B, 3, H, W] -> [B, 1 + N, C]
    fn embed_image(&self, image: Tensor<4>) -> Result<Tensor<3>, TextError> {
        let found = image.dims();
        let [_, _, side, _] = self.patch_projection.weight.lazy_shape().dims::<4>();
        if found[1] != 3 || found[2] < side || found[3] < side {
            let expected = format!("[B, 3, H, W] with H and W of at least {side}");
            return Err(TextError::Shape { what: "an image", found: found.to_vec(), expected });
        }
        let patches = patch_conv(&self.patch_projection, image);
        let [batch, rows, columns, width] = patches.dims();
        let table = self.image_positions.val();
        let places = self.grid * self.grid;
        let map = table.clone().narrow(1, 1, places).reshape([1, self.grid, self.grid, width]).permute([0, 3, 1, 2]);
        let map =
            Resize::BILINEAR_ALIGNED.forward(map, [rows, columns]).permute([0, 2, 3, 1]).reshape([1, rows * columns, width]);
        let cls = (self.cls_token.val() + table.narrow(1, 0, 1)).expand([batch, 1, width]);
        let x = Tensor::cat(vec![cls, patches.reshape([batch, rows * columns, width]) + map], 1);
        Ok(self.dropout.forward(x) + positions(&self.modality_types.weight, 1, 1))
    }
}

impl TextEncoder for Vilt {
    fn vocab_size(&self) -> usize {
        self.text_embeddings.word_embeddings.rows()
    }

    fn width(&self) -> usize {
        self.text_embeddings.width()
    }

    fn max_len(&self) -> usize {
        self.text_embeddings.max_len()
    }

    fn encode(&self, batch: &TextBatch) -> Result<TextFeatures, TextError> {
        let tokens = self.text_only(batch)?;
        let mask = batch.mask_tensor(&tokens.device());
        Ok(TextFeatures { pooled: first_token(tokens.clone()), tokens, mask })
    }
}
