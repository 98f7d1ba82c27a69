//! Sizes of the golden cases, as the files state them.

use nn_ops::activation::Activation;
use serde::Deserialize;
use serde_json::Value;

use super::{CheckError, from_value, wrong};
use crate::beit3::Beit3Config;
use crate::bert::BertConfig;
use crate::clip::{ClipTextConfig, ClipVisionConfig};
use crate::vilt::ViltConfig;

/// Name of the resize case of `evf` files.
pub(super) const RESIZE: &str = "resize_bicubic_no_antialias";
/// Its input.
pub(super) const PHOTO: &str = "in.photo";

#[derive(Debug, Clone)]
pub(super) enum Spec {
    Bert(BertSpec),
    ClipText(ClipTextSpec),
    ClipVision(ClipVisionSpec),
    Vilt(ViltSpec),
    Beit3(Beit3Spec),
    Resize,
}

impl Spec {
    pub(super) fn of_text_encoders(name: &str, value: Value) -> Result<Self, CheckError> {
        if name.starts_with("bert") {
            Ok(Self::Bert(from_value(name, value)?))
        } else if name.starts_with("clip_text") || name.starts_with("openclip_text") {
            Ok(Self::ClipText(from_value(name, value)?))
        } else if name.starts_with("clip_vision") || name.starts_with("openclip_vision") {
            Ok(Self::ClipVision(from_value(name, value)?))
        } else if name.starts_with("vilt") {
            Ok(Self::Vilt(from_value(name, value)?))
        } else {
            Err(wrong(name, "belongs to no family; expected bert*, [open]clip_text*, [open]clip_vision* or vilt*"))
        }
    }
}

/// Ids with a mask of ones and zeros, and what every case states.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tokens {
    pub(super) token_ids: Vec<Vec<u32>>,
    pub(super) mask: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct BertSpec {
    vocab: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    ffn: usize,
    max_pos: usize,
    #[serde(flatten)]
    pub(super) tokens: Tokens,
    pub(super) parameters: usize,
    pub(super) prefix: String,
}

impl BertSpec {
    pub(super) fn config(&self) -> BertConfig {
        BertConfig {
            vocab_size: self.vocab,
            hidden: self.hidden,
            layers: self.layers,
            heads: self.heads,
            ffn: self.ffn,
            max_positions: self.max_pos,
            ..BertConfig::default()
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ClipTextSpec {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    projection_dim: usize,
    hidden_act: Activation,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    #[serde(flatten)]
    pub(super) tokens: Tokens,
    pub(super) parameters: usize,
    pub(super) prefix: String,
}

impl ClipTextSpec {
    pub(super) fn config(&self) -> ClipTextConfig {
        let usual = ClipTextConfig::default();
        ClipTextConfig {
            vocab_size: self.vocab_size.unwrap_or(usual.vocab_size),
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            ffn: self.intermediate_size,
            max_positions: self.max_position_embeddings.unwrap_or(usual.max_positions),
            projection_dim: self.projection_dim,
            activation: self.hidden_act,
            ..usual
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ClipVisionSpec {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    projection_dim: usize,
    hidden_act: Activation,
    image_size: usize,
    patch_size: usize,
    pub(super) parameters: usize,
    pub(super) prefix: String,
}

impl ClipVisionSpec {
    pub(super) fn config(&self) -> ClipVisionConfig {
        ClipVisionConfig {
            image_size: self.image_size,
            patch_size: self.patch_size,
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            ffn: self.intermediate_size,
            projection_dim: self.projection_dim,
            activation: self.hidden_act,
            ..ClipVisionConfig::default()
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ViltSpec {
    vocab: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    ffn: usize,
    image_size: usize,
    patch: usize,
    max_pos: usize,
    #[serde(flatten)]
    pub(super) tokens: Tokens,
    pub(super) parameters: usize,
    pub(super) prefix: String,
}

impl ViltSpec {
    pub(super) fn config(&self) -> ViltConfig {
        ViltConfig {
            vocab_size: self.vocab,
            hidden: self.hidden,
            layers: self.layers,
            heads: self.heads,
            ffn: self.ffn,
            max_positions: self.max_pos,
            image_size: self.image_size,
            patch_size: self.patch,
            ..ViltConfig::default()
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Beit3Spec {
    dim: usize,
    layers: usize,
    heads: usize,
    ffn: Option<usize>,
    vocab: Option<usize>,
    img_size: Option<usize>,
    patch: Option<usize>,
    pad_id: Option<u32>,
    pub(super) token_ids: Vec<Vec<u32>>,
    pub(super) parameters: usize,
}

impl Beit3Spec {
    pub(super) fn config(&self) -> Beit3Config {
        let usual = Beit3Config::default();
        Beit3Config {
            vocab_size: self.vocab.unwrap_or(usual.vocab_size),
            dim: self.dim,
            layers: self.layers,
            heads: self.heads,
            ffn: self.ffn.unwrap_or(4 * self.dim),
            image_size: self.img_size.unwrap_or(usual.image_size),
            patch_size: self.patch.unwrap_or(usual.patch_size),
            ..usual
        }
    }

    /// Real tokens of each row.
    pub(super) fn lengths(&self) -> Vec<usize> {
        let pad = self.pad_id.unwrap_or(1);
        self.token_ids.iter().map(|row| row.iter().take_while(|id| **id != pad).count()).collect()
    }
}
