//! The two-way transformer of the mask decoder: tokens attend to the image, the image attends to the tokens.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::norm::LayerNorm;
use nn_ops::projected_attention::{Projections, projected_attention};

use crate::config::SamConfig;
use crate::mlp::MlpBlock;

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
pub struct TwoWayAttention {
    /// Queries.
    pub q_proj: Linear,
    /// Keys.
    pub k_proj: Linear,
    /// Values.
    pub v_proj: Linear,
    /// Output.
    pub out_proj: Linear,
    heads: usize,
}

impl TwoWayAttention {
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
        let Self { q_proj, k_proj, v_proj, out_proj, heads } = self;
        projected_attention(Projections { q_proj, k_proj, v_proj, out_proj, heads: *heads }, q, k, v)
    }
}

/// One two-way block.
#[derive(Module, Debug)]
pub struct TwoWayBlock {
    /// Tokens among themselves.
    pub self_attn: TwoWayAttention,
    /// Norm after self-attention.
    pub norm1: LayerNorm,
    /// Tokens attend to the image.
    pub cross_attn_token_to_image: TwoWayAttention,
    /// Norm after it.
    pub norm2: LayerNorm,
    /// MLP on tokens.
    pub mlp: MlpBlock,
    /// Norm after it.
    pub norm3: LayerNorm,
    /// Norm after the image has attended to the tokens.
    pub norm4: LayerNorm,
    /// The image attends to the tokens.
    pub cross_attn_image_to_token: TwoWayAttention,
    /// The first block's self-attention has no positions.
    skip_first_layer_pe: bool,
    #[module(skip)]
    self_attention: TokenSelfAttention,
}

impl TwoWayBlock {
    fn new(config: &TwoWayConfig, first: bool, device: &Device) -> Self {
        let (c, heads) = (config.width, config.heads);
        let norm = || LayerNorm::new(c, EPS, device);
        Self {
            self_attn: TwoWayAttention::new(c, c, heads, device),
            norm1: norm(),
            cross_attn_token_to_image: TwoWayAttention::new(c, c / 2, heads, device),
            norm2: norm(),
            mlp: MlpBlock::new(c, config.mlp_dim, config.activation, device),
            norm3: norm(),
            norm4: norm(),
            cross_attn_image_to_token: TwoWayAttention::new(c, c / 2, heads, device),
            skip_first_layer_pe: first,
            self_attention: config.self_attention,
        }
    }

    /// # Shapes
    /// `queries`, `query_pe`: [N, T, C]; `keys`: [N, S, C]; `key_pe`: [1 or N, S, C]; outputs: queries, keys
    fn forward(&self, queries: Tensor<3>, keys: Tensor<3>, query_pe: Tensor<3>, key_pe: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        // Self-attention of the tokens.
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

        // Cross-attention, tokens to image.
        let (q, k) = (queries.clone() + query_pe.clone(), keys.clone() + key_pe);
        let attn_out = self.cross_attn_token_to_image.forward(q, k.clone(), keys.clone());
        let queries = self.norm2.forward(queries + attn_out);

        // MLP.
        let mlp_out = self.mlp.forward(queries.clone());
        let queries = self.norm3.forward(queries + mlp_out);

        // Cross-attention, image to tokens.
        let attn_out = self.cross_attn_image_to_token.forward(k, queries.clone() + query_pe, queries.clone());
        let keys = self.norm4.forward(keys + attn_out);
        (queries, keys)
    }
}

/// The two-way transformer.
#[derive(Module, Debug)]
pub struct TwoWayTransformer {
    /// Blocks.
    pub layers: Vec<TwoWayBlock>,
    /// A last attention of the tokens to the image.
    pub final_attn_token_to_image: TwoWayAttention,
    /// Norm after it.
    pub norm_final_attn: LayerNorm,
}

impl TwoWayTransformer {
    /// A transformer with fresh weights.
    pub fn new(config: &TwoWayConfig, device: &Device) -> Self {
        let c = config.width;
        Self {
            layers: (0..config.depth).map(|i| TwoWayBlock::new(config, i == 0, device)).collect(),
            final_attn_token_to_image: TwoWayAttention::new(c, c / 2, config.heads, device),
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
        let attn_out = self.final_attn_token_to_image.forward(queries.clone() + tokens, keys.clone() + positions, keys.clone());
        (self.norm_final_attn.forward(queries + attn_out), keys)
    }
}
