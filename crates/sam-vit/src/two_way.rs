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
    /// The first block's self-attention has no positions and replaces the tokens.
    skip_first_layer_pe: bool,
}

impl TwoWayBlock {
    fn new(config: &SamConfig, first: bool, device: &Device) -> Self {
        let (c, heads) = (config.prompt_dim(), config.decoder_heads);
        let norm = || LayerNorm::new(c, EPS, device);
        Self {
            self_attn: TwoWayAttention::new(c, c, heads, device),
            norm1: norm(),
            cross_attn_token_to_image: TwoWayAttention::new(c, c / 2, heads, device),
            norm2: norm(),
            mlp: MlpBlock::new(c, config.decoder_mlp_dim, Activation::Relu, device),
            norm3: norm(),
            norm4: norm(),
            cross_attn_image_to_token: TwoWayAttention::new(c, c / 2, heads, device),
            skip_first_layer_pe: first,
        }
    }

    /// # Shapes
    /// `queries`, `query_pe`: [N, T, C]; `keys`: [N, S, C]; `key_pe`: [1 or N, S, C]; outputs: queries, keys
    fn forward(&self, queries: Tensor<3>, keys: Tensor<3>, query_pe: Tensor<3>, key_pe: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        // Self-attention of the tokens.
        let queries = if self.skip_first_layer_pe {
            self.self_attn.forward(queries.clone(), queries.clone(), queries)
        } else {
            let q = queries.clone() + query_pe.clone();
            queries.clone() + self.self_attn.forward(q.clone(), q, queries)
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
    /// A transformer with fresh weights, of the decoder's sizes in `config`.
    pub fn new(config: &SamConfig, device: &Device) -> Self {
        let c = config.prompt_dim();
        Self {
            layers: (0..config.decoder_depth).map(|i| TwoWayBlock::new(config, i == 0, device)).collect(),
            final_attn_token_to_image: TwoWayAttention::new(c, c / 2, config.decoder_heads, device),
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
