//! What is written into the text slots in front of each encoder block.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::norm::LayerNorm;

use crate::config::{DitConfig, Variant};
use crate::cross_attention::{GuidedAttention, GuidedBlock, StdNorm};

/// The new parameters of DIT inside the image encoder.
///
/// Which fields are present depends on the variant; their names follow the released checkpoints.
#[derive(Module, Debug)]
pub struct Instruction {
    /// T: text features to the encoder's width.
    pub prob_text: Option<Linear>,
    /// P_i, one a block.
    pub probs: Vec<Linear>,
    /// The single P of [`Variant::E2eToken`] and [`Variant::CrossAttentionOpp`].
    pub prob: Option<Linear>,
    /// S: learnable tokens, [blocks (- 1), L, C].
    pub tokens: Option<Param<Tensor<3>>>,
    /// Cross-attention, one a block but the first.
    pub cross: Vec<GuidedAttention>,
    /// Cross-attention with feed-forward network, one a block.
    pub guided: Vec<GuidedBlock>,
    /// Norms behind `cross` or `guided`.
    pub ln: Vec<StdNorm>,
    /// PyTorch's norms in their place, of [`Variant::CrossAttentionOpp`].
    pub norms: Vec<LayerNorm>,
    dropout: Dropout,
    #[module(skip)]
    variant: Variant,
}

impl Instruction {
    pub(crate) fn new(config: &DitConfig, device: &Device) -> Self {
        use Variant::*;
        let (depth, width) = (config.sam.image_encoder.depth, config.sam.image_encoder.embed_dim);
        let source = if config.text_transform { width } else { config.text_dim };
        let variant = config.variant;
        let plain = |i, o| LinearConfig::new(i, o).init(device);
        let filled = |i: usize, value: f64| {
            let from = if i == 0 { source } else { width };
            let mut linear = LinearConfig::new(from, width).with_initializer(Initializer::Constant { value }).init(device);
            linear.bias = Some(Initializer::Zeros.init([width], device));
            linear
        };
        let probs = match variant {
            // Every P_i sees the text features, which have `width` or the same number of channels.
            LayerWise | E2e => (0..depth).map(|i| filled(i, 0.0)).collect(),
            CrossAttention => (0..depth).map(|i| filled(i, 1.0)).collect(),
            // A chain of zeros would stay zero, gradients included; identities after the first keep it alive (sheet sec. 11).
            Cascade => (0..depth).map(|i| if i == 0 { filled(i, 0.0) } else { identity(width, device) }).collect(),
            DefaultSam | E2eToken | TokenLayerWise | CrossAttentionFfn | CrossAttentionOpp => Vec::new(),
        };
        let tokens = match variant {
            E2eToken => {
                // Xavier on a 3-D tensor as PyTorch counts it: fan in = L C, fan out = (depth - 1) C.
                let count = depth.saturating_sub(1);
                let bound = (6.0 / ((config.text_tokens + count) * width) as f64).sqrt();
                let init = Initializer::Uniform { min: -bound, max: bound };
                Some(init.init([count, config.text_tokens, width], device))
            }
            TokenLayerWise => {
                let init = Initializer::Normal { mean: 0.0, std: 1.0 };
                Some(init.init([depth, config.text_tokens, width], device))
            }
            _ => None,
        };
        let norms = |count: usize| (0..count).map(|_| StdNorm::new(width, device)).collect();
        Self {
            prob_text: (config.text_transform && variant.instructs_encoder()).then(|| plain(config.text_dim, width)),
            probs,
            prob: match variant {
                E2eToken => Some(plain(source, width)),
                CrossAttentionOpp => Some(filled(0, 1.0)),
                _ => None,
            },
            tokens,
            cross: match variant {
                CrossAttention | CrossAttentionOpp => {
                    (1..depth).map(|_| GuidedAttention::new(width, config.dropout, device)).collect()
                }
                _ => Vec::new(),
            },
            guided: match variant {
                CrossAttentionFfn => (0..depth).map(|_| GuidedBlock::new(width, config.dropout, device)).collect(),
                _ => Vec::new(),
            },
            ln: match variant {
                CrossAttention => norms(depth.saturating_sub(1)),
                CrossAttentionFfn => norms(depth),
                _ => Vec::new(),
            },
            norms: match variant {
                CrossAttentionOpp => (1..depth).map(|_| LayerNorm::new(width, 1e-5, device)).collect(),
                _ => Vec::new(),
            },
            dropout: DropoutConfig::new(config.dropout).init(),
            variant,
        }
    }

    /// The text at the encoder's width.
    pub(crate) fn transform(&self, text: Tensor<3>) -> Tensor<3> {
        match &self.prob_text {
            Some(linear) => linear.forward(text),
            None => text,
        }
    }

    /// The slots before block `index`. `text` are the (transformed) text features, `slots` what came out of the slots
    /// of the block before (absent before the first), `image` the image tokens about to enter the block.
    ///
    /// They are made outside of the segment of recomputation that the block is, because of their dropout.
    ///
    /// # Shapes
    /// `text`, `slots`: [B, L, C]; `image`: [B, S, C]; output: [B, L, C]
    pub(crate) fn slots(
        &self,
        index: usize,
        text: &Tensor<3>,
        slots: Option<Tensor<3>>,
        image: impl FnOnce() -> Tensor<3>,
    ) -> Tensor<3> {
        let drop = |x: Tensor<3>| self.dropout.forward(x);
        let token = |i: usize| self.tokens.as_ref().map(|t| t.val().narrow(0, i, 1));
        let text = text.clone();
        match (self.variant, slots) {
            (Variant::E2e | Variant::Cascade, Some(slots)) => drop(self.probs[index].forward(slots)),
            (Variant::LayerWise | Variant::E2e | Variant::Cascade, _) => drop(self.probs[index].forward(text)),
            (Variant::E2eToken, Some(slots)) => match token(index - 1) {
                Some(token) => slots + token,
                None => slots,
            },
            (Variant::E2eToken, None) => drop(self.single(text)),
            (Variant::CrossAttentionOpp, None) => self.single(text),
            (Variant::CrossAttentionOpp, Some(slots)) => {
                let looked = drop(self.cross[index - 1].forward(text.clone(), slots));
                self.norms[index - 1].forward(text + looked)
            }
            (Variant::TokenLayerWise, _) => match token(index) {
                Some(token) => text + token,
                None => text,
            },
            (Variant::CrossAttention, None) => self.probs[0].forward(text),
            (Variant::CrossAttention, Some(slots)) => {
                let looked = drop(self.cross[index - 1].forward(text.clone(), slots));
                self.ln[index - 1].forward(self.probs[index].forward(text) + looked)
            }
            (Variant::CrossAttentionFfn, _) => {
                let looked = drop(self.guided[index].forward(text.clone(), image()));
                self.ln[index].forward(text + looked)
            }
            (Variant::DefaultSam, _) => text,
        }
    }

    fn single(&self, text: Tensor<3>) -> Tensor<3> {
        match &self.prob {
            Some(prob) => prob.forward(text),
            None => text,
        }
    }

    /// What the next block's slots are made from: the chain of projections for a cascade, the block's output otherwise.
    pub(crate) fn carries_projection(&self) -> bool {
        self.variant == Variant::Cascade
    }
}

/// A linear layer that passes its input through.
fn identity(width: usize, device: &Device) -> Linear {
    Linear { weight: Param::from_tensor(Tensor::eye(width, device)), bias: Some(Initializer::Zeros.init([width], device)) }
}
