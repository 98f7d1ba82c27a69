//! The mutual-aware mask decoder (RISAM sec. 3.4, eq. 6 to 9).

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::attention::{multi_head_attention, softmax};
use nn_ops::norm::LayerNorm;
use nn_ops::precision::to_f32;

use crate::config::RisamConfig;
use crate::enhancement::layer_norm;
use crate::mutual::AttentionMaps;
use crate::options::NormPlacement;

/// Multi-head attention. The paper lists three maps; the fourth, of the output, is standard. The scale is one over the
/// root of a head's width (the text under eq. 7 calls the root itself the dimension).
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Output.
    pub out: Linear,
    heads: usize,
}

impl MultiHeadAttention {
    pub(crate) fn new(width: usize, heads: usize, device: &Device) -> Self {
        let linear = || xavier(width, device);
        Self { q: linear(), k: linear(), v: linear(), out: linear(), heads }
    }

    /// # Shapes
    /// `q`: [B, Sq, C]; `k`, `v`: [B, Sk, C]; `mask`: [B, 1, 1, Sk], `true` where a key is hidden; output: [B, Sq, C]
    pub fn forward(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let projected = [self.q.forward(q), self.k.forward(k), self.v.forward(v)];
        self.out.forward(multi_head_attention(projected, self.heads, mask))
    }

    /// Attention of regions and words together, those behind the `regions`, to each other, mean over heads.
    ///
    /// # Shapes
    /// `x`: [B, regions + length, C]; `mask`: [B, 1, 1, regions + length], `true` where hidden
    pub(crate) fn maps(&self, x: Tensor<3>, mask: Tensor<4, Bool>, regions: usize, length: usize) -> AttentionMaps {
        let [batch, total, width] = x.dims();
        let head = width / self.heads.max(1);
        let [q, k] = [self.q.forward(x.clone()), self.k.forward(x)].map(|x| x.reshape([batch, total, self.heads, head]));
        let mask = mask.reshape([batch, 1, total]).expand([batch, total, total]);
        // Head by head: all maps of 4096 regions at once would be 0.5 GB.
        let maps = (0..self.heads).map(|number| {
            let of = |x: &Tensor<4>| x.clone().narrow(2, number, 1).reshape([batch, total, head]);
            let logits = of(&q).matmul(of(&k).swap_dims(1, 2)) / (head as f64).sqrt();
            to_f32(softmax(logits.mask_fill(mask.clone(), f32::NEG_INFINITY), 2))
        });
        let sum = maps.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([batch, total, total], &q.device()));
        let mean = sum / self.heads.max(1) as f64;
        AttentionMaps {
            words: mean.clone().narrow(1, 0, regions).narrow(2, regions, length),
            regions: mean.narrow(1, regions, length).narrow(2, 0, regions),
        }
    }
}

/// Xavier-uniform weights and no offset to begin with.
fn xavier(width: usize, device: &Device) -> Linear {
    let mut linear = LinearConfig::new(width, width).with_initializer(Initializer::XavierUniform { gain: 1.0 }).init(device);
    linear.bias = Some(Initializer::Zeros.init([width], device));
    linear
}

/// The state between blocks.
#[derive(Debug, Clone)]
pub struct DecoderState {
    /// Regions, [B, L_v, C].
    pub visual: Tensor<3>,
    /// The query, then the words, [B, 1 + L, C].
    pub tokens: Tensor<3>,
}

/// What all blocks share.
#[derive(Debug, Clone, Default)]
pub struct DecoderContext {
    /// Hidden tokens, [B, 1, 1, 1 + L].
    pub mask: Option<Tensor<4, Bool>>,
    /// Positions of the regions, [1, L_v, C].
    pub visual: Option<Tensor<3>>,
    /// Positions of the tokens, [1, 1 + L, C]; zero for the query.
    pub tokens: Option<Tensor<3>>,
}

/// One block: regions among themselves, tokens among themselves, regions look at tokens. As printed it has neither norms,
/// nor a feed-forward part, nor dropout.
#[derive(Module, Debug)]
pub struct DecoderBlock {
    /// Regions among themselves (eq. 6 and 7).
    pub self_v: MultiHeadAttention,
    /// Query and words among themselves (eq. 8).
    pub self_c: MultiHeadAttention,
    /// Regions look at tokens (eq. 9; the sentence after it writes F-bar for the F-hat of the equation).
    pub cross: MultiHeadAttention,
    /// Tokens look at regions, before that (Tab. 5, #9; SAM's layer).
    pub token_to_image: Option<MultiHeadAttention>,
    /// Feed-forward part of the regions, first layer.
    pub ffn_in: Option<Linear>,
    /// Second layer.
    pub ffn_out: Option<Linear>,
    /// Norm of each of the above, in the order `self_v`, `self_c`, `cross`, `token_to_image`, feed-forward; or none at all.
    pub norms: Vec<LayerNorm>,
    #[module(skip)]
    placement: NormPlacement,
}

/// Places of the norms.
const SELF_V: usize = 0;
const SELF_C: usize = 1;
const CROSS: usize = 2;
const EXTRA: usize = 3;

impl DecoderBlock {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let width = config.width;
        let attention = || MultiHeadAttention::new(width, config.heads, device);
        let (toi, ffn) = (config.token_to_image, config.ffn);
        let norms = if config.norm == NormPlacement::None { 0 } else { 3 + usize::from(toi) + usize::from(ffn > 0) };
        Self {
            self_v: attention(),
            self_c: attention(),
            cross: attention(),
            token_to_image: toi.then(attention),
            ffn_in: (ffn > 0).then(|| LinearConfig::new(width, ffn).init(device)),
            ffn_out: (ffn > 0).then(|| LinearConfig::new(ffn, width).init(device)),
            norms: (0..norms).map(|_| layer_norm(width, device)).collect(),
            placement: config.norm,
        }
    }

    /// # Shapes
    /// As in [`DecoderState`] and [`DecoderContext`].
    pub fn forward(&self, state: DecoderState, context: &DecoderContext) -> DecoderState {
        let DecoderState { visual, tokens } = state;
        let placed = |x: Tensor<3>, positions: &Option<Tensor<3>>| match positions {
            Some(positions) => x + positions.clone(),
            None => x,
        };
        let mask = context.mask.clone();
        let visual = self.residual(SELF_V, visual, |x| {
            let at = placed(x.clone(), &context.visual);
            self.self_v.forward(at.clone(), at, x, None)
        });
        let mut tokens = self.residual(SELF_C, tokens, |x| {
            let at = placed(x.clone(), &context.tokens);
            self.self_c.forward(at.clone(), at, x, mask.clone())
        });
        if let Some(look) = &self.token_to_image {
            tokens = self.residual(EXTRA, tokens, |x| look.forward(x, visual.clone(), visual.clone(), None));
        }
        let mut visual = self.residual(CROSS, visual, |x| {
            self.cross.forward(placed(x, &context.visual), tokens.clone(), tokens.clone(), mask.clone())
        });
        if let (Some(first), Some(second)) = (&self.ffn_in, &self.ffn_out) {
            let place = EXTRA + usize::from(self.token_to_image.is_some());
            visual = self.residual(place, visual, |x| second.forward(relu(first.forward(x))));
        }
        DecoderState { visual, tokens }
    }

    /// `layer(x) + x`, with the norm of that place before the layer or after the sum.
    fn residual(&self, place: usize, x: Tensor<3>, layer: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        match (self.placement, self.norms.get(place)) {
            (NormPlacement::Pre, Some(norm)) => layer(norm.forward(x.clone())) + x,
            (NormPlacement::Post, Some(norm)) => norm.forward(layer(x.clone()) + x),
            _ => layer(x.clone()) + x,
        }
    }
}
