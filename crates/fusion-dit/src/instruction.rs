//! `Instruction`: what is written into the text slots in front of each encoder block (DIT sec. 3.2 and 3.3).

use burn::module::{Initializer, Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::linear::linear;
use nn_ops::norm::LayerNorm;

use crate::config::{DitConfig, Variant};
use crate::cross_attention::{GuidedAttention, GuidedBlock, StdNorm};

/// The new parameters of DIT inside the image encoder; a variant that keeps text out of the encoder has none.
#[derive(Module, Debug)]
pub struct Instruction {
    /// T: text features to the encoder's width.
    pub prob_text: Option<Linear>,
    /// What makes the slots of each block.
    pub form: InstructionForm,
    dropout: Dropout,
}

/// What makes the slots of each block, with the parameters that it needs; their names follow the released checkpoints.
#[derive(Module, Debug)]
pub enum InstructionForm {
    /// [`Variant::LayerWise`]: each block's slots from the text.
    LayerWise(Projections),
    /// [`Variant::E2e`]: each block's slots from what came out of those of the block before.
    E2e(Projections),
    /// [`Variant::Cascade`]: each block's slots from those that went into the block before.
    Cascade(Projections),
    /// [`Variant::E2eToken`].
    E2eToken(CarriedTokens),
    /// [`Variant::TokenLayerWise`].
    TokenLayerWise(LearnableTokens),
    /// [`Variant::CrossAttention`].
    CrossAttention(CrossAttention),
    /// [`Variant::CrossAttentionOpp`].
    CrossAttentionOpp(CrossAttentionOpp),
    /// [`Variant::CrossAttentionFfn`].
    CrossAttentionFfn(CrossAttentionFfn),
}

/// A projection per block.
#[derive(Module, Debug)]
pub struct Projections {
    /// P_i.
    pub probs: Vec<Linear>,
}

/// One projection in front of the first block, learnable tokens added in front of the others.
#[derive(Module, Debug)]
pub struct CarriedTokens {
    /// P.
    pub prob: Linear,
    /// S, [blocks - 1, L, C].
    pub tokens: Param<Tensor<3>>,
}

/// Learnable tokens added to the text.
#[derive(Module, Debug)]
pub struct LearnableTokens {
    /// S, [blocks, L, C].
    pub tokens: Param<Tensor<3>>,
}

/// A projection per block, and cross-attention with the norm behind it for every block but the first.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// P_i.
    pub probs: Vec<Linear>,
    /// Cross-attention.
    pub cross: Vec<GuidedAttention>,
    /// Norms.
    pub ln: Vec<StdNorm>,
}

/// One projection in front of the first block, cross-attention with PyTorch's norm behind it for the others.
#[derive(Module, Debug)]
pub struct CrossAttentionOpp {
    /// P.
    pub prob: Linear,
    /// Cross-attention.
    pub cross: Vec<GuidedAttention>,
    /// Norms.
    pub norms: Vec<LayerNorm>,
}

/// Cross-attention and a feed-forward network with the norm behind them, per block.
#[derive(Module, Debug)]
pub struct CrossAttentionFfn {
    /// Cross-attention and feed-forward network.
    pub guided: Vec<GuidedBlock>,
    /// Norms.
    pub ln: Vec<StdNorm>,
}

/// The released checkpoints name no form: module paths lose theirs.
pub(crate) const FORM_NAMES: &[(&str, &str)] = &[
    ("instruction.form.LayerWise.", "instruction."),
    ("instruction.form.E2e.", "instruction."),
    ("instruction.form.Cascade.", "instruction."),
    ("instruction.form.E2eToken.", "instruction."),
    ("instruction.form.TokenLayerWise.", "instruction."),
    ("instruction.form.CrossAttention.", "instruction."),
    ("instruction.form.CrossAttentionOpp.", "instruction."),
    ("instruction.form.CrossAttentionFfn.", "instruction."),
];

impl InstructionForm {
    /// None for the default fusion.
    fn new(config: &DitConfig, device: &Device) -> Option<Self> {
        let (depth, width) = (config.sam.image_encoder.depth, config.sam.image_encoder.embed_dim);
        let source = if config.text_transform { width } else { config.text_dim };
        // Every P_i sees the text features, which have `width` or the same number of channels.
        let from = |i: usize| if i == 0 { source } else { width };
        let attention = || (1..depth).map(|_| GuidedAttention::new(width, config.dropout, device)).collect();
        let norms = |count: usize| (0..count).map(|_| StdNorm::new(width, device)).collect();
        let tokens = |count: usize, init: Initializer| init.init([count, config.text_tokens, width], device);
        let zeros = || Projections { probs: (0..depth).map(|i| filled(from(i), width, 0.0, device)).collect() };
        Some(match config.variant {
            Variant::DefaultSam => return None,
            Variant::LayerWise => Self::LayerWise(zeros()),
            Variant::E2e => Self::E2e(zeros()),
            // A chain of zeros would stay zero, gradients included; identities after the first keep it alive.
            Variant::Cascade => Self::Cascade(Projections {
                probs: (0..depth)
                    .map(|i| if i == 0 { filled(source, width, 0.0, device) } else { identity(width, device) })
                    .collect(),
            }),
            Variant::E2eToken => {
                // Xavier on a 3-D tensor as PyTorch counts it: fan in = L C, fan out = (depth - 1) C.
                let count = depth.saturating_sub(1);
                let bound = (6.0 / ((config.text_tokens + count) * width) as f64).sqrt();
                Self::E2eToken(CarriedTokens {
                    prob: LinearConfig::new(source, width).init(device),
                    tokens: tokens(count, Initializer::Uniform { min: -bound, max: bound }),
                })
            }
            Variant::TokenLayerWise => {
                Self::TokenLayerWise(LearnableTokens { tokens: tokens(depth, Initializer::Normal { mean: 0.0, std: 1.0 }) })
            }
            Variant::CrossAttention => Self::CrossAttention(CrossAttention {
                probs: (0..depth).map(|i| filled(from(i), width, 1.0, device)).collect(),
                cross: attention(),
                ln: norms(depth.saturating_sub(1)),
            }),
            Variant::CrossAttentionOpp => Self::CrossAttentionOpp(CrossAttentionOpp {
                prob: filled(source, width, 1.0, device),
                cross: attention(),
                norms: (1..depth).map(|_| LayerNorm::new(width, 1e-5, device)).collect(),
            }),
            Variant::CrossAttentionFfn => Self::CrossAttentionFfn(CrossAttentionFfn {
                guided: (0..depth).map(|_| GuidedBlock::new(width, config.dropout, device)).collect(),
                ln: norms(depth),
            }),
        })
    }
}

impl Instruction {
    /// None for the default fusion.
    pub(crate) fn new(config: &DitConfig, device: &Device) -> Option<Self> {
        let width = config.sam.image_encoder.embed_dim;
        Some(Self {
            form: InstructionForm::new(config, device)?,
            prob_text: config.text_transform.then(|| LinearConfig::new(config.text_dim, width).init(device)),
            dropout: DropoutConfig::new(config.dropout).init(),
        })
    }

    /// The text at the encoder's width.
    pub(crate) fn transform(&self, text: Tensor<3>) -> Tensor<3> {
        match &self.prob_text {
            Some(layer) => linear(layer, text),
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
        use InstructionForm as Form;
        let drop = |x: Tensor<3>| self.dropout.forward(x);
        let text = text.clone();
        match (&self.form, slots) {
            (Form::E2e(form) | Form::Cascade(form), Some(slots)) => drop(linear(&form.probs[index], slots)),
            (Form::LayerWise(form) | Form::E2e(form) | Form::Cascade(form), _) => drop(linear(&form.probs[index], text)),
            (Form::E2eToken(form), None) => drop(linear(&form.prob, text)),
            (Form::E2eToken(form), Some(slots)) => slots + form.tokens.val().narrow(0, index - 1, 1),
            (Form::TokenLayerWise(form), _) => text + form.tokens.val().narrow(0, index, 1),
            (Form::CrossAttention(form), None) => linear(&form.probs[0], text),
            (Form::CrossAttention(form), Some(slots)) => {
                let attended = drop(form.cross[index - 1].forward(text.clone(), slots));
                form.ln[index - 1].forward(linear(&form.probs[index], text) + attended)
            }
            (Form::CrossAttentionOpp(form), None) => linear(&form.prob, text),
            (Form::CrossAttentionOpp(form), Some(slots)) => {
                let attended = drop(form.cross[index - 1].forward(text.clone(), slots));
                form.norms[index - 1].forward(text + attended)
            }
            (Form::CrossAttentionFfn(form), _) => {
                let attended = drop(form.guided[index].forward(text.clone(), image()));
                form.ln[index].forward(text + attended)
            }
        }
    }

    /// What the next block's slots are made from: the chain of projections for a cascade, the block's output otherwise.
    pub(crate) fn carries_projection(&self) -> bool {
        matches!(self.form, InstructionForm::Cascade(_))
    }
}

/// A linear layer with every weight of one value and no offset.
fn filled(from: usize, to: usize, value: f64, device: &Device) -> Linear {
    let mut linear = LinearConfig::new(from, to).with_initializer(Initializer::Constant { value }).init(device);
    linear.bias = Some(Initializer::Zeros.init([to], device));
    linear
}

/// A linear layer that passes its input through.
fn identity(width: usize, device: &Device) -> Linear {
    Linear { weight: Param::from_tensor(Tensor::eye(width, device)), bias: Some(Initializer::Zeros.init([width], device)) }
}
