//! BERT (DIT sec. 3.2): post-norm self-attention, any depth, the output of any layer.

use burn::module::Module;
use burn::nn::{Dropout, Embedding, Linear};
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::ConfigError;
use nn_ops::activation::gelu;
use nn_ops::config::check_dropout;
use nn_ops::linear;
use nn_ops::norm::LayerNorm;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, WeightsError, load};
use serde::{Deserialize, Serialize};

use crate::encoder::check_width;
use crate::layers::{INIT_STD, check_sizes, dropout, key_mask, linear, norm, positions, self_attention, table};
use crate::table::TokenTable;
use crate::{TextBatch, TextEncoder, TextError, TextFeatures};

/// Sizes of a BERT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BertConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden: usize,
    /// Number of layers that are built.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward part.
    pub ffn: usize,
    /// Rows of the position table.
    pub max_positions: usize,
    /// Rows of the token-type table; type 0 is always used.
    pub token_types: usize,
    /// Dropout on embeddings, attention maps and sub-layer outputs; acts where gradients are tracked only.
    pub dropout: f64,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Layer whose output [`TextEncoder::encode`] returns, from 1; the last one if absent.
    ///
    /// DIT's released code returns layer 1 although it builds twelve; its paper describes the last.
    pub output_layer: Option<usize>,
    /// Token tables of more bytes than this stay on the host.
    pub host_table_above: Option<u64>,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden: 768,
            layers: 12,
            heads: 12,
            ffn: 3072,
            max_positions: 512,
            token_types: 2,
            dropout: 0.1,
            layer_norm_eps: 1e-12,
            output_layer: None,
            host_table_above: None,
        }
    }
}

impl BertConfig {
    /// `bert-base-uncased`: 109,482,240 parameters, pooler included.
    pub fn base() -> Self {
        Self::default()
    }

    /// Two narrow layers for tests and the demonstration.
    pub fn tiny(vocab_size: usize) -> Self {
        Self { vocab_size, hidden: 64, layers: 2, heads: 4, ffn: 128, max_positions: 32, ..Self::default() }
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
            ("token_types", self.token_types),
        ];
        check_sizes(&sizes, self.hidden, self.heads)?;
        check_dropout("dropout", self.dropout)?;
        match self.output_layer {
            Some(layer) if !(1..=self.layers).contains(&layer) => {
                Err(ConfigError::new("output_layer", layer, format!("1 to {}, the number of layers", self.layers)))
            }
            _ => Ok(()),
        }
    }

    /// A model with fresh weights.
    pub fn init(&self, device: &Device) -> Bert {
        Bert {
            embeddings: BertEmbeddings::new(self, device),
            encoder_layers: (0..self.layers).map(|_| Layer::new(self, device)).collect(),
            pooler_dense: linear(self.hidden, self.hidden, device),
            output_layer: self.output_layer.unwrap_or(self.layers),
        }
    }

    /// A model with the weights of `state_dict`: Hugging Face names, with or without `bert.` in front, norms called
    /// `weight`/`bias` or, in old files, `gamma`/`beta`. Heads under `cls.` are not used; a file without pooler loads.
    ///
    /// # Errors
    /// When any other tensor is missing, superfluous or of another shape.
    pub fn load(&self, state_dict: StateDict, device: &Device) -> Result<(Bert, LoadReport), WeightsError> {
        let state_dict = state_dict.strip_prefix("bert.")?.rename(|name| Some(modern_norm(name)))?;
        let mut model = self.init(device);
        let table = "embeddings.word_embeddings.weight";
        let on_host = model.embeddings.word_embeddings.read_to_host(&state_dict, table, self.host_table_above)?;
        let unused: &[&str] = &["cls.*", "embeddings.position_ids", table];
        let allow = Allow { missing: &["pooler.*"], unused: &unused[..2 + usize::from(on_host)] };
        load(model, &state_dict, &Bert::names(), &allow)
    }
}

/// `LayerNorm.gamma` and `.beta`, as TensorFlow's converter wrote them, under today's names.
fn modern_norm(name: &str) -> String {
    match (name.strip_suffix(".gamma"), name.strip_suffix(".beta")) {
        (Some(stem), _) => format!("{stem}.weight"),
        (_, Some(stem)) => format!("{stem}.bias"),
        _ => name.to_owned(),
    }
}

/// Sum of word, position and type-0 vectors, normalised. ViLT's text side uses the same.
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    pub(crate) word_embeddings: TokenTable,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
    dropout: Dropout,
}

impl BertEmbeddings {
    pub(crate) fn new(config: &BertConfig, device: &Device) -> Self {
        let table_of = |rows| table(rows, config.hidden, device);
        Self {
            word_embeddings: TokenTable::new(config.vocab_size, config.hidden, INIT_STD, device),
            position_embeddings: table_of(config.max_positions),
            token_type_embeddings: table_of(config.token_types),
            layer_norm: norm(config.hidden, config.layer_norm_eps, device),
            dropout: dropout(config.dropout),
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.layer_norm.gamma.lazy_shape().dims::<1>()[0]
    }

    pub(crate) fn max_len(&self) -> usize {
        self.position_embeddings.weight.lazy_shape().dims::<2>()[0]
    }

    /// # Shapes
    /// [Q, T] -> [Q, T, C]
    pub(crate) fn forward(&self, batch: &TextBatch) -> Result<Tensor<3>, TextError> {
        check_width(batch, self.max_len())?;
        let places = positions(&self.position_embeddings.weight, 0, batch.width());
        let words = self.word_embeddings.forward(batch, &places)?;
        let x = words + places + positions(&self.token_type_embeddings.weight, 0, 1);
        Ok(self.dropout.forward(self.layer_norm.forward(x)))
    }
}

/// Projections of the self-attention.
#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
}

/// A linear map, dropout, the residual and a norm.
#[derive(Module, Debug)]
struct Output {
    dense: Linear,
    layer_norm: LayerNorm,
    dropout: Dropout,
}

impl Output {
    fn new(from: usize, config: &BertConfig, device: &Device) -> Self {
        Self {
            dense: linear(from, config.hidden, device),
            layer_norm: norm(config.hidden, config.layer_norm_eps, device),
            dropout: dropout(config.dropout),
        }
    }

    fn forward(&self, x: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        self.layer_norm.forward(self.dropout.forward(linear::linear(&self.dense, x)) + residual)
    }
}

/// One post-norm layer.
#[derive(Module, Debug)]
struct Layer {
    attention_self: SelfAttention,
    attention_output: Output,
    intermediate_dense: Linear,
    output: Output,
    attention_dropout: Dropout,
    heads: usize,
}

impl Layer {
    fn new(config: &BertConfig, device: &Device) -> Self {
        let square = || linear(config.hidden, config.hidden, device);
        Self {
            attention_self: SelfAttention { query: square(), key: square(), value: square() },
            attention_output: Output::new(config.hidden, config, device),
            intermediate_dense: linear(config.hidden, config.ffn, device),
            output: Output::new(config.ffn, config, device),
            attention_dropout: dropout(config.dropout),
            heads: config.heads,
        }
    }

    /// # Shapes
    /// x [Q, T, C], mask [Q, 1, 1, T] with `true` where hidden -> [Q, T, C]
    fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let maps = &self.attention_self;
        let qkv = [&maps.query, &maps.key, &maps.value].map(|map| linear::linear(map, x.clone()));
        let attended = self_attention(qkv, self.heads, mask, &self.attention_dropout);
        let x = self.attention_output.forward(attended, x);
        self.output.forward(gelu(linear::linear(&self.intermediate_dense, x.clone())), x)
    }
}

/// BERT. Built by [`BertConfig::init`] or [`BertConfig::load`].
///
/// Padding is hidden from attention. (The reference adds -10000 to its logits instead, which is the same in `f32`: the
/// exponential of either is 0.) The pooled vector of [`TextEncoder::encode`] is the feature of `[CLS]`.
///
/// Dropout acts in training even if the weights are frozen by `no_grad`, as in DIT's code; `freeze` and `valid` stop it.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: BertEmbeddings,
    encoder_layers: Vec<Layer>,
    pooler_dense: Linear,
    output_layer: usize,
}

impl Bert {
    /// From module paths to Hugging Face names, without the `bert.` in front.
    pub fn names() -> KeyMap {
        KeyMap::new(&[
            ("layer_norm", "LayerNorm"),
            ("encoder_layers", "encoder.layer"),
            ("attention_self", "attention.self"),
            ("attention_output", "attention.output"),
            ("intermediate_dense", "intermediate.dense"),
            ("pooler_dense", "pooler.dense"),
        ])
    }

    /// Moves a token table of more than `limit` bytes to the host.
    pub fn with_host_table_above(mut self, limit: Option<u64>) -> Self {
        self.embeddings.word_embeddings = self.embeddings.word_embeddings.on_host_above(limit);
        self
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.encoder_layers.len()
    }

    /// Outputs of the layers 1 to `last`, in order.
    ///
    /// # Shapes
    /// [Q, T] -> `last` times [Q, T, C]
    ///
    /// # Errors
    /// When an id or a length does not fit the tables, or `last` is 0 or exceeds the depth.
    pub fn layer_outputs(&self, batch: &TextBatch, last: usize) -> Result<Vec<Tensor<3>>, TextError> {
        if !(1..=self.depth()).contains(&last) {
            return Err(ConfigError::new("layer", last, format!("1 to {}, the number of layers", self.depth())).into());
        }
        let mut x = self.embeddings.forward(batch)?;
        let mask = batch.is_padded().then(|| key_mask(batch.padding_tensor(&x.device())));
        let mut outputs = Vec::with_capacity(last);
        for layer in &self.encoder_layers[..last] {
            x = layer.forward(x, mask.clone());
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    /// BERT's pooler: tanh of a linear map of `[CLS]`.
    ///
    /// # Shapes
    /// [Q, T, C] -> [Q, C]
    pub fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.pooler_dense.forward(first_token(tokens)).tanh()
    }
}

impl TextEncoder for Bert {
    fn vocab_size(&self) -> usize {
        self.embeddings.word_embeddings.rows()
    }

    fn width(&self) -> usize {
        self.embeddings.width()
    }

    fn max_len(&self) -> usize {
        self.embeddings.max_len()
    }

    fn encode(&self, batch: &TextBatch) -> Result<TextFeatures, TextError> {
        let mut outputs = self.layer_outputs(batch, self.output_layer)?;
        let tokens = outputs.swap_remove(self.output_layer - 1);
        let mask = batch.mask_tensor(&tokens.device());
        Ok(TextFeatures { pooled: first_token(tokens.clone()), tokens, mask })
    }
}

/// # Shapes
/// [Q, T, C] -> [Q, C]
pub(crate) fn first_token(tokens: Tensor<3>) -> Tensor<2> {
    tokens.narrow(1, 0, 1).squeeze_dim(1)
}
