//! Variants and sizes of Deep Instruction Tuning.

use sam_vit::SamConfig;
use serde::{Deserialize, Serialize};
use text_encoders::bert::BertConfig;

/// How text reaches SAM (DIT Tables 1, 2, 4 and 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Default fusion: text meets the image in the mask decoder only (Tab. 1 "Default"; "Add 2 / 4 dec layers" with a
    /// deeper decoder).
    DefaultSam,
    /// Layer-wise DIT: a projection of the text features in front of every block (sec. 3.3, eq. 6).
    #[default]
    LayerWise,
    /// End-to-end DIT: the text slots go through the encoder, projected before every block (sec. 3.3, eq. 5).
    E2e,
    /// E-DIT with learnable tokens added before every block but the first (Tab. 2 "dynamic+static").
    E2eToken,
    /// L-DIT with learnable tokens added to the text features (Tab. 2 "dynamic+static").
    TokenLayerWise,
    /// L-DIT by cross-attention (Tab. 4 "CrossAtt").
    CrossAttention,
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

/// Sizes of a DIT without its text encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DitConfig {
    /// How text reaches SAM.
    pub variant: Variant,
    /// The SAM inside. `decoder_depth` 4 and 6 are "Add 2" and "Add 4 dec layers".
    pub sam: SamConfig,
    /// Side of the network's input, in pixels; the position tables are resized to it.
    pub input_size: usize,
    /// The text encoder. The released weights take the output of layer 1, the paper describes the last one.
    pub bert: BertConfig,
    /// Width of the text features (768 for BERT-base and CLIP L/14).
    pub text_dim: usize,
    /// Text tokens, special ones and padding included. The learnable tokens of two variants have this number.
    pub text_tokens: usize,
    /// A linear layer that brings the text features to the encoder's width first; needed where they differ (ViT-L, ViT-H).
    pub text_transform: bool,
    /// Dropout on text slots and attention maps, in training only.
    pub dropout: f64,
    /// Mask probability above which a pixel of the network's input is foreground (the paper's evaluation: 0.35).
    pub threshold: f64,
}

impl Default for DitConfig {
    fn default() -> Self {
        Self {
            variant: Variant::LayerWise,
            sam: SamConfig::vit_b(),
            input_size: 512,
            bert: BertConfig { output_layer: Some(1), ..BertConfig::base() },
            text_dim: 768,
            text_tokens: 20,
            text_transform: false,
            dropout: 0.1,
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

    /// Side of the token grid at the network's input size.
    pub fn grid(&self) -> usize {
        self.input_size / self.sam.image_encoder.patch_size
    }

    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// A sentence that names the field, its value and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        self.sam.validate().map_err(|e| format!("sam: {e}"))?;
        let encoder = &self.sam.image_encoder;
        if self.input_size == 0 || !self.input_size.is_multiple_of(encoder.patch_size) {
            return Err(format!("input_size {} is not a multiple of patch_size {}", self.input_size, encoder.patch_size));
        }
        if self.text_tokens == 0 {
            return Err("text_tokens is 0; it must be at least 1".into());
        }
        if self.variant.instructs_encoder() && !self.text_transform && self.text_dim != encoder.embed_dim {
            return Err(format!(
                "text_dim {} differs from the encoder's embed_dim {}; set text_transform = true",
                self.text_dim, encoder.embed_dim
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("dropout {} is not in [0, 1)", self.dropout));
        }
        if !(self.threshold > 0.0 && self.threshold < 1.0) {
            return Err(format!("threshold {} is not between 0 and 1", self.threshold));
        }
        Ok(())
    }
}
