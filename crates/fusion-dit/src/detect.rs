//! `DitConfig::detect`: variant and sizes from a weight file.

use nn_ops::weights::{StateDict, WeightsError};
use sam_vit::SamConfig;
use text_encoders::bert::BertConfig;
use text_encoders::clip::ClipTextConfig;

use crate::config::{DitConfig, TextKind, Variant};
use crate::error::DitError;

impl DitConfig {
    /// Reads variant and sizes off the names and shapes of a released file or one of ours.
    ///
    /// Some things leave no trace and are what the released models have: input of 512, attention everywhere, heads of 64
    /// channels in the text encoder, BERT's layer 1. L-DIT, E-DIT and cascade have the same tensors; the released files
    /// are L-DIT, so that is what is found.
    ///
    /// # Errors
    /// A file that is no DIT.
    pub fn detect(checkpoint: &StateDict) -> Result<Self, DitError> {
        let file = checkpoint.clone().strip_prefix("state_dict.")?.strip_prefix("module.")?;
        let has = |part: &str| file.names().any(|name| name.starts_with(part));
        let rows = |name: &str| match file.shape(name) {
            Some(&[rows, columns]) => Ok([rows, columns]),
            _ => {
                Err(WeightsError::Format { path: file.path().to_owned(), what: format!("no matrix `{name}`, so this is no DIT") })
            }
        };
        let count =
            |before: &str, after: &str| (0..).take_while(|i| file.shape(&format!("{before}{i}{after}")).is_some()).count();
        let variant = match (has("visual_encoder.cross."), has("visual_encoder.tokens"), has("visual_encoder.probs.weight")) {
            (true, ..) if has("visual_encoder.cross.0.mhatt.") => Variant::CrossAttentionFfn,
            (true, _, true) => Variant::CrossAttentionOpp,
            (true, ..) => Variant::CrossAttention,
            (_, true, true) => Variant::E2eToken,
            (_, true, false) => Variant::TokenLayerWise,
            _ if has("visual_encoder.probs.0.") => Variant::LayerWise,
            _ => Variant::DefaultSam,
        };
        let standard = Self::default();
        let mut config = Self {
            variant,
            text_dim: rows("text_proj.weight")?[1],
            text_transform: has("visual_encoder.prob_text."),
            text_tokens: match file.shape("visual_encoder.tokens") {
                Some(&[_, tokens, _]) => tokens,
                _ => standard.text_tokens,
            },
            ..standard
        };
        if has("lang_encoder.clip.") {
            let part = |name: &str| format!("lang_encoder.clip.text_model.{name}");
            let [vocab_size, width] = rows(&part("embeddings.token_embedding.weight"))?;
            config.text_encoder = TextKind::Clip;
            config.clip = ClipTextConfig {
                vocab_size,
                width,
                layers: count(&part("encoder.layers."), ".mlp.fc1.weight"),
                heads: (width / 64).max(1),
                ffn: rows(&part("encoder.layers.0.mlp.fc1.weight"))?[0],
                max_positions: rows(&part("embeddings.position_embedding.weight"))?[0],
                projection_dim: rows("lang_encoder.clip.text_projection.weight")?[0],
                ..config.clip
            };
        } else {
            let part = |name: &str| format!("lang_encoder.bert.{name}");
            let [vocab_size, hidden] = rows(&part("embeddings.word_embeddings.weight"))?;
            config.bert = BertConfig {
                vocab_size,
                hidden,
                layers: count(&part("encoder.layer."), ".output.dense.weight"),
                heads: (hidden / 64).max(1),
                ffn: rows(&part("encoder.layer.0.intermediate.dense.weight"))?[0],
                max_positions: rows(&part("embeddings.position_embeddings.weight"))?[0],
                token_types: rows(&part("embeddings.token_type_embeddings.weight"))?[0],
                ..config.bert
            };
        }
        let sam = file.rename(|name| Some(name.replacen("visual_encoder.", "image_encoder.", 1)))?;
        config.sam = SamConfig::detect(&sam)?;
        config.validate()?;
        Ok(config)
    }
}
