//! The two-way transformer of the mask decoder: tokens look at the image, the image looks back.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::attention::multi_head;
use nn_ops::linear::linear;
use nn_ops::norm::LayerNorm;

use crate::config::SamConfig;
use crate::few_tokens;

/// LayerNorm epsilon of the released decoder (the Hugging Face port writes 1e-6 for some norms).
const EPS: f64 = 1e-5;

/// Sizes of a two-way transformer, and what released decoders do differently in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoWayConfig {
    /// Width of tokens and pixels.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the token MLPs.
    pub mlp_dim: usize,
    /// Activation of the token MLPs.
    pub activation: Activation,
    /// What self-attention of the tokens does with residuals and positions.
    pub self_attention: TokenSelfAttention,
}

impl From<&SamConfig> for TwoWayConfig {
    /// SAM's own.
    fn from(config: &SamConfig) -> Self {
        Self {
            width: config.prompt_dim(),
            depth: config.decoder_depth,
            heads: config.decoder_heads,
            mlp_dim: config.decoder_mlp_dim,
            activation: Activation::Relu,
            self_attention: TokenSelfAttention::Sam,
        }
    }
}

/// What self-attention of the tokens does with residuals and positions, in the first block and in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenSelfAttention {
    /// First block: `q = A(q, q, q)`. Others: `q = q + A(q + pe, q + pe, q)`.
    #[default]
    Sam,
    /// First block: `q = q + A(q, q, q)`. Others: `q = q + pe`, then the same.
    EfficientSam,
}

/// Attention with separate projections and an inner width.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries.
    pub q_proj: Linear,
    /// Keys.
    pub k_proj: Linear,
    /// Values.
    pub v_proj: Linear,
    /// Output.
    pub out_proj: Linear,
    pub(crate) heads: usize,
}

impl Attention {
    fn new(width: usize, inner: usize, heads: usize, device: &Device) -> Self {
        let layer = |i, o| LinearConfig::new(i, o).init(device);
        Self {
            q_proj: layer(width, inner),
            k_proj: layer(width, inner),
            v_proj: layer(width, inner),
            out_proj: layer(inner, width),
            heads,
        }
    }

    /// # Shapes
    /// `q`: [N, Sq, C]; `k`, `v`: [N, Sk, C]; output: [N, Sq, C]
    pub fn forward(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
        let (queries, keys) = (q.dims()[1], k.dims()[1]);
        if few_tokens::suits(self, &q, queries, keys) {
            few_tokens::look(self, q, k, v)
        } else if few_tokens::suits(self, &q, keys, queries) {
            few_tokens::look_back(self, q, k, v)
        } else {
            self.project(q, k, v)
        }
    }

    /// Attention as it is written: project, attend, project.
    pub(crate) fn project(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
        let projected = [linear(&self.q_proj, q), linear(&self.k_proj, k), linear(&self.v_proj, v)];
        linear(&self.out_proj, multi_head(projected, self.heads, None))
    }
}

/// The token MLP.
#[derive(Module, Debug)]
pub struct Mlp {
    /// First layer.
    pub lin1: Linear,
    /// Second layer.
    pub lin2: Linear,
}

/// One two-way block.
#[derive(Module, Debug)]
pub struct TwoWayBlock {
    /// Tokens among themselves.
    pub self_attn: Attention,
    /// Norm after self-attention.
    pub norm1: LayerNorm,
    /// Tokens look at the image.
    pub cross_attn_token_to_image: Attention,
    /// Norm after it.
    pub norm2: LayerNorm,
    /// MLP on tokens.
    pub mlp: Mlp,
    /// Norm after it.
    pub norm3: LayerNorm,
    /// Norm after the image has looked at the tokens.
    pub norm4: LayerNorm,
    /// The image looks at tokens.
    pub cross_attn_image_to_token: Attention,
    /// The first block's self-attention has no positions.
    skip_first_layer_pe: bool,
    #[module(skip)]
    self_attention: TokenSelfAttention,
    #[module(skip)]
    activation: Activation,
}

impl TwoWayBlock {
    fn new(config: &TwoWayConfig, first: bool, device: &Device) -> Self {
        let (c, heads) = (config.width, config.heads);
        let norm = || LayerNorm::new(c, EPS, device);
        Self {
            self_attn: Attention::new(c, c, heads, device),
            norm1: norm(),
            cross_attn_token_to_image: Attention::new(c, c / 2, heads, device),
            norm2: norm(),
            mlp: Mlp {
                lin1: LinearConfig::new(c, config.mlp_dim).init(device),
                lin2: LinearConfig::new(config.mlp_dim, c).init(device),
            },
            norm3: norm(),
            norm4: norm(),
            cross_attn_image_to_token: Attention::new(c, c / 2, heads, device),
            skip_first_layer_pe: first,
            self_attention: config.self_attention,
            activation: config.activation,
        }
    }

    /// # Shapes
    /// `queries`, `query_pe`: [N, T, C]; `keys`: [N, S, C]; `key_pe`: [1 or N, S, C]; outputs: queries, keys
    fn forward(&self, queries: Tensor<3>, keys: Tensor<3>, query_pe: Tensor<3>, key_pe: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let attend = |q: &Tensor<3>, v: Tensor<3>| self.self_attn.forward(q.clone(), q.clone(), v);
        let queries = match (self.self_attention, self.skip_first_layer_pe) {
            (TokenSelfAttention::Sam, true) => attend(&queries, queries.clone()),
            (TokenSelfAttention::Sam, false) => queries.clone() + attend(&(queries.clone() + query_pe.clone()), queries),
            (TokenSelfAttention::EfficientSam, first) => {
                let queries = if first { queries } else { queries + query_pe.clone() };
                queries.clone() + attend(&queries, queries.clone())
            }
        };
        let queries = self.norm1.forward(queries);
        let placed = keys.clone() + key_pe.clone();
        let looked = self.cross_attn_token_to_image.forward(queries.clone() + query_pe.clone(), placed.clone(), keys.clone());
        let queries = self.norm2.forward(queries + looked);
        let hidden = self.mlp.lin2.forward(self.activation.forward(self.mlp.lin1.forward(queries.clone())));
        let queries = self.norm3.forward(queries + hidden);
        let back = self.cross_attn_image_to_token.forward(placed, queries.clone() + query_pe, queries.clone());
        let keys = self.norm4.forward(keys + back);
        (queries, keys)
    }
}

/// The two-way transformer.
#[derive(Module, Debug)]
pub struct TwoWayTransformer {
    /// Blocks.
    pub layers: Vec<TwoWayBlock>,
    /// A last look of the tokens at the image.
    pub final_attn_token_to_image: Attention,
    /// Norm after it.
    pub norm_final_attn: LayerNorm,
}

impl TwoWayTransformer {
    /// A transformer with fresh weights.
    pub fn new(config: &TwoWayConfig, device: &Device) -> Self {
        let c = config.width;
        Self {
            layers: (0..config.depth).map(|i| TwoWayBlock::new(config, i == 0, device)).collect(),
            final_attn_token_to_image: Attention::new(c, c / 2, config.heads, device),
            norm_final_attn: LayerNorm::new(c, EPS, device),
        }
    }

    /// # Shapes
    /// `tokens`: [N, T, C]; `image`: [N, S, C]; `positions`: [1 or N, S, C]; outputs: tokens, image
    pub fn forward(&self, tokens: Tensor<3>, image: Tensor<3>, positions: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let (mut queries, mut keys) = (tokens.clone(), image);
        for layer in &self.layers {
            (queries, keys) = layer.forward(queries, keys, tokens.clone(), positions.clone());
        }
        let looked = self.final_attn_token_to_image.forward(queries.clone() + tokens, keys.clone() + positions, keys.clone());
        (self.norm_final_attn.forward(queries + looked), keys)
    }
}
