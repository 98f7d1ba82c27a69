//! `DitConfig`: variants and sizes of Deep Instruction Tuning.

use nn_ops::ConfigError;
use nn_ops::activation::logit;
use nn_ops::config::{check_dropout, check_multiple, check_positive, check_probability};
use sam_vit::SamConfig;
use serde::{Deserialize, Deserializer, Serialize};
use text_encoders::bert::BertConfig;
use text_encoders::clip::ClipTextConfig;
use text_encoders::tokenizer::TokenizerKind;

/// How text reaches SAM (DIT Tables 1, 2, 4 and 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Default fusion: text meets the image in the mask decoder only (Tab. 1 "Default"; "Add 2 / 4 dec layers" with a
    /// deeper decoder).
    DefaultSam,
    /// Layer-wise DIT: a projection of the text features in front of every block (sec. 3.3, eq. 8).
    #[default]
    LayerWise,
    /// End-to-end DIT: the text slots go through the encoder, projected before every block (sec. 3.2, eq. 4 to 7).
    E2e,
    /// E-DIT with learnable tokens added before every block but the first (Tab. 2 "dynamic+static").
    E2eToken,
    /// L-DIT with learnable tokens added to the text features (Tab. 2 "dynamic+static").
    TokenLayerWise,
    /// L-DIT by cross-attention (Tab. 4 "CrossAtt").
    CrossAttention,
    /// The sibling of it that the authors' compiled code ran: one projection in front of the first block, the text itself
    /// later on, and PyTorch's layer norm.
    CrossAttentionOpp,
    /// L-DIT by cross-attention and a feed-forward network (Tab. 4 "CrossAtt+FFN").
    CrossAttentionFfn,
    /// L-DIT with each projection fed by the one before it (Tab. 9 "Cascade").
    Cascade,
}

impl Variant {
    /// Whether text takes part in the image encoder.
    pub fn instructs_encoder(self) -> bool {
        self != Variant::DefaultSam
    }
}

/// What reads the sentence (Tab. 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    /// BERT: `bert` says its sizes.
    #[default]
    Bert,
    /// CLIP's text tower, token features after its final norm: `clip` says its sizes.
    Clip,
}

/// How far a block of the image encoder looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderAttention {
    /// Every block attends over all text and image tokens, as in the released models; the position tables of SAM's
    /// windowed blocks are stretched to the whole grid.
    #[default]
    Global,
    /// SAM's windows in SAM's windowed blocks. Text slots are copied into every window, without a positional term, and
    /// their copies are averaged after attention; the global blocks are the same as under [`EncoderAttention::Global`].
    Windowed,
}

/// Which of SAM's masks answers points and boxes; sentences are always answered by the first, which is the one that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptMask {
    /// Mask token 0, as for sentences.
    #[default]
    First,
    /// Of mask tokens 1 to 3 the one with the best predicted IoU, as SAM's own predictor gives it; its logits come to the input's size
    /// by half-pixel centres, as there.
    BestOfThree,
}

/// A DIT with its text encoder. The default is the paper's main model, L-DIT with ViT-B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DitConfig {
    /// How text reaches SAM.
    pub variant: Variant,
    /// The SAM inside. `decoder_depth` 4 and 6 are "Add 2" and "Add 4 dec layers".
    pub sam: SamConfig,
    /// Side of the network's input, in pixels; the position tables are resized to it.
    pub input_size: usize,
    /// How far the blocks of the image encoder look.
    pub attention: EncoderAttention,
    /// What reads the sentence.
    pub text_encoder: TextKind,
    /// BERT. The released weights take the output of layer 1, which is the default here; the paper describes the last one,
    /// `output_layer = 12`.
    #[serde(deserialize_with = "released_layer")]
    pub bert: BertConfig,
    /// CLIP's text tower.
    pub clip: ClipTextConfig,
    /// Width of the text features (768 for BERT-base and CLIP L/14).
    pub text_dim: usize,
    /// Text tokens, special ones and padding included. The learnable tokens of two variants have this number.
    pub text_tokens: usize,
    /// A linear layer that brings the text features to the encoder's width first; needed where they differ (ViT-L, ViT-H).
    pub text_transform: bool,
    /// Which mask answers points and boxes.
    pub prompt_mask: PromptMask,
    /// Dropout on text slots and attention maps, in training only.
    pub dropout: f64,
    /// Weight of a Dice loss beside the cross entropy; the paper has none. It speaks about objects where the cross entropy speaks
    /// about pixels, and helps small models that start from nothing.
    pub dice_weight: f64,
    /// Mask probability above which a pixel of the network's input is foreground (the paper's evaluation: 0.35).
    pub threshold: f64,
}

impl Default for DitConfig {
    fn default() -> Self {
        Self {
            variant: Variant::LayerWise,
            sam: SamConfig::vit_b(),
            input_size: 512,
            attention: EncoderAttention::Global,
            text_encoder: TextKind::Bert,
            bert: BertConfig { output_layer: Some(1), ..BertConfig::base() },
            clip: ClipTextConfig::openai_l14(),
            text_dim: 768,
            text_tokens: 20,
            text_transform: false,
            prompt_mask: PromptMask::First,
            dropout: 0.1,
            dice_weight: 0.0,
            threshold: 0.35,
        }
    }
}

impl DitConfig {
    /// L-DIT with ViT-B: the paper's main model.
    pub fn layer_wise_vit_b() -> Self {
        Self::default()
    }

    /// L-DIT with ViT-H.
    pub fn layer_wise_vit_h() -> Self {
        Self { sam: SamConfig::vit_h(), text_transform: true, ..Self::default() }
    }

    /// Width of what the chosen text encoder puts out, and the longest sequence that it takes.
    pub fn text_sizes(&self) -> (usize, usize) {
        match self.text_encoder {
            TextKind::Bert => (self.bert.hidden, self.bert.max_positions),
            TextKind::Clip if self.clip.project_tokens => (self.clip.projection_dim, self.clip.max_positions),
            TextKind::Clip => (self.clip.width, self.clip.max_positions),
        }
    }

    /// Dropout of the chosen text encoder.
    pub fn text_dropout(&self) -> f64 {
        match self.text_encoder {
            TextKind::Bert => self.bert.dropout,
            TextKind::Clip => 0.0,
        }
    }

    /// Side of the token grid at the network's input size.
    pub fn grid(&self) -> usize {
        self.input_size / self.sam.image_encoder.patch_size
    }

    /// [`DitConfig::threshold`] as a logit.
    pub fn threshold_logit(&self) -> f64 {
        logit(self.threshold)
    }

    /// The tokenizer of the chosen text encoder.
    pub fn tokenizer_kind(&self) -> TokenizerKind {
        match self.text_encoder {
            TextKind::Bert => TokenizerKind::WordPiece,
            TextKind::Clip => TokenizerKind::Clip,
        }
    }

    /// Whether the parameter with this official name is trained: all are.
    pub fn trains(&self, _name: &str) -> bool {
        true
    }

    /// Checks the settings against each other; of the text encoders only the chosen one.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.sam.validate().map_err(|e| e.below("sam"))?;
        match self.text_encoder {
            TextKind::Bert => self.bert.validate().map_err(|e| e.below("bert")),
            TextKind::Clip => self.clip.validate().map_err(|e| e.below("clip")),
        }?;
        let encoder = &self.sam.image_encoder;
        check_positive(&[("input_size", self.input_size), ("text_tokens", self.text_tokens)])?;
        check_multiple(("input_size", self.input_size), ("patch_size", encoder.patch_size))?;
        let (width, positions) = self.text_sizes();
        if self.text_dim != width {
            return Err(ConfigError::new("text_dim", self.text_dim, format!("{width}, the width of the text encoder")));
        }
        if self.text_tokens > positions {
            let expected = format!("at most {positions}, the positions of the text encoder");
            return Err(ConfigError::new("text_tokens", self.text_tokens, expected));
        }
        if self.variant.instructs_encoder() && !self.text_transform && self.text_dim != encoder.embed_dim {
            let expected = format!("the image encoder's embed_dim, {}, or text_transform true", encoder.embed_dim);
            return Err(ConfigError::new("text_dim", self.text_dim, expected));
        }
        check_dropout("dropout", self.dropout)?;
        if !(self.dice_weight >= 0.0 && self.dice_weight.is_finite()) {
            return Err(ConfigError::new("dice_weight", self.dice_weight, "a number from 0 up"));
        }
        check_probability("threshold", self.threshold)
    }
}

/// A table that does not name BERT's layer means the released one, as an absent table does.
fn released_layer<'de, D: Deserializer<'de>>(from: D) -> Result<BertConfig, D::Error> {
    let bert = BertConfig::deserialize(from)?;
    Ok(BertConfig { output_layer: bert.output_layer.or(Some(1)), ..bert })
}
