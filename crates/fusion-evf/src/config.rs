//! `EvfConfig`: sizes, encoders and ablations of EVF-SAM.

use nn_ops::ConfigError;
use nn_ops::activation::logit;
use nn_ops::config::{check_probability, check_weight, quoted};
use sam_vit::SamConfig;
use serde::{Deserialize, Serialize};
use text_encoders::beit3::Beit3Config;
use text_encoders::clip::{ClipTextConfig, ClipVisionConfig};
use text_encoders::tokenizer::TokenizerKind;
use text_encoders::vilt::ViltConfig;

/// Which encoder prompts SAM, and how it joins image and text (EVF-SAM Tables 1, 3 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// CLIP's text tower: the end-of-text vector, projected (whether it is, the paper leaves open).
    ClipText,
    /// CLIP's two towers, their vectors side by side.
    ClipLate,
    /// ViLT on text alone.
    ViltText,
    /// ViLT on text and on the image apart, the two class tokens side by side.
    ViltLate,
    /// ViLT on both together.
    ViltEarly,
    /// BEiT-3 on text alone: the feature of `<s>`.
    Beit3Text,
    /// BEiT-3 on text and on the image apart, the two class tokens side by side.
    Beit3Late,
    /// BEiT-3 on both together; `beit3.fused_layers` says in which layers they meet ("early fusion, L1-L12").
    #[default]
    Beit3Early,
}

impl Encoder {
    /// Whether it sees the image.
    pub fn sees(self) -> bool {
        !matches!(self, Self::ClipText | Self::ViltText | Self::Beit3Text)
    }
}

/// What of a joint BEiT-3 pass becomes the prompt (EVF-SAM Tab. 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptFeature {
    /// The image's `[CLS]`.
    #[default]
    ImageCls,
    /// The text's `<s>`.
    TextCls,
    /// The mean of the patches.
    AvgPool,
    /// Image `[CLS]` and text `<s>` side by side.
    Concat,
}

/// An EVF-SAM with its encoders. The default is the paper's model: BEiT-3 large and SAM ViT-H, 1,315,105,072 parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvfConfig {
    /// The SAM that is prompted.
    pub sam: SamConfig,
    /// Which encoder prompts it.
    pub encoder: Encoder,
    /// What of a joint BEiT-3 pass is taken; the other encoders have one feature only.
    pub feature: PromptFeature,
    /// Sizes of BEiT-3.
    pub beit3: Beit3Config,
    /// Sizes of CLIP's text tower.
    pub clip_text: ClipTextConfig,
    /// Sizes of CLIP's image tower.
    pub clip_vision: ClipVisionConfig,
    /// Sizes of ViLT.
    pub vilt: ViltConfig,
    /// Longest sentence in tokens, special ones included; encoders with fewer positions cut earlier.
    pub max_tokens: usize,
    /// Whether SAM's image encoder is trained. The paper's never is; a model that starts without SAM's weights needs it.
    pub train_image_encoder: bool,
    /// Whether the multimodal encoder is trained (Tab. 4).
    pub train_encoder: bool,
    /// Whether the prompt encoder is trained (Tab. 4): of all it holds, the released code trains `no_mask_embed` only.
    pub train_prompt_encoder: bool,
    /// Whether SAM's mask decoder is trained (Tab. 4).
    pub train_mask_decoder: bool,
    /// Weight of the cross entropy in the loss.
    pub bce_weight: f64,
    /// Weight of the dice loss.
    pub dice_weight: f64,
    /// Mask probability above which a pixel is foreground.
    pub threshold: f64,
}

impl Default for EvfConfig {
    fn default() -> Self {
        Self {
            sam: SamConfig::vit_h(),
            encoder: Encoder::Beit3Early,
            feature: PromptFeature::ImageCls,
            beit3: Beit3Config::large(),
            clip_text: ClipTextConfig::openai_l14(),
            clip_vision: ClipVisionConfig::openai_l14(),
            vilt: ViltConfig::b32(),
            max_tokens: 512,
            train_image_encoder: false,
            train_encoder: true,
            train_prompt_encoder: true,
            train_mask_decoder: true,
            bce_weight: 1.0,
            dice_weight: 1.0,
            threshold: 0.5,
        }
    }
}

impl EvfConfig {
    /// The paper's model.
    pub fn large() -> Self {
        Self::default()
    }

    /// With BEiT-3 base: 862,865,456 parameters.
    pub fn base() -> Self {
        Self { beit3: Beit3Config::base(), ..Self::default() }
    }

    /// Early fusion in the first half of the layers only (Tab. 3).
    pub fn early_half() -> Self {
        let beit3 = Beit3Config::large();
        let fused_layers = Some((1..=beit3.layers / 2).collect());
        Self { beit3: Beit3Config { fused_layers, ..beit3 }, ..Self::default() }
    }

    /// Width of the vector that the projector takes.
    pub fn feature_width(&self) -> usize {
        match (self.encoder, self.feature) {
            (Encoder::ClipText, _) => self.clip_text.projection_dim,
            (Encoder::ClipLate, _) => self.clip_text.projection_dim + self.clip_vision.projection_dim,
            (Encoder::ViltText | Encoder::ViltEarly, _) => self.vilt.hidden,
            (Encoder::ViltLate, _) => 2 * self.vilt.hidden,
            (Encoder::Beit3Late, _) | (Encoder::Beit3Early, PromptFeature::Concat) => 2 * self.beit3.dim,
            (Encoder::Beit3Text | Encoder::Beit3Early, _) => self.beit3.dim,
        }
    }

    /// Side of SAM's input, in pixels.
    pub fn input_size(&self) -> usize {
        self.sam.image_encoder.image_size
    }

    /// [`EvfConfig::threshold`] as a logit; 0 for a half.
    pub fn threshold_logit(&self) -> f64 {
        logit(self.threshold)
    }

    /// The tokenizer of the chosen encoder.
    pub fn tokenizer_kind(&self) -> TokenizerKind {
        match self.encoder {
            Encoder::ClipText | Encoder::ClipLate => TokenizerKind::Clip,
            Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => TokenizerKind::WordPiece,
            Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => TokenizerKind::Beit3,
        }
    }

    /// Whether the parameter with this official name is trained (EVF-SAM Tab. 4; of the prompt encoder what the released
    /// code trains).
    pub fn trains(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix("visual_model.") else {
            return self.train_encoder || !name.starts_with("mm_extractor.");
        };
        if name.starts_with("mask_decoder.") {
            self.train_mask_decoder
        } else if name.starts_with("image_encoder.") {
            self.train_image_encoder
        } else {
            self.train_prompt_encoder && name.starts_with("prompt_encoder.no_mask_embed.")
        }
    }

    /// Checks the settings against each other; of the encoders only the chosen one.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.sam.validate().map_err(|e| e.below("sam"))?;
        match self.encoder {
            Encoder::ClipText => self.validate_clip_text(),
            Encoder::ClipLate => {
                self.validate_clip_text().and_then(|()| self.clip_vision.validate().map_err(|e| e.below("clip_vision")))
            }
            Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => self.vilt.validate().map_err(|e| e.below("vilt")),
            Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => self.beit3.validate().map_err(|e| e.below("beit3")),
        }?;
        if self.feature != PromptFeature::ImageCls && self.encoder != Encoder::Beit3Early {
            let expected = "\"image_cls\" unless encoder is \"beit3_early\": the other encoders have one feature";
            return Err(ConfigError::new("feature", quoted(&self.feature), expected));
        }
        if self.max_tokens < 3 {
            return Err(ConfigError::new("max_tokens", self.max_tokens, "at least 3, or no word has a place"));
        }
        check_weight("bce_weight", self.bce_weight)?;
        check_weight("dice_weight", self.dice_weight)?;
        check_probability("threshold", self.threshold)
    }

    fn validate_clip_text(&self) -> Result<(), ConfigError> {
        self.clip_text.validate().map_err(|e| e.below("clip_text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_hold_together() {
        for config in [EvfConfig::large(), EvfConfig::base(), EvfConfig::early_half()] {
            config.validate().unwrap();
        }
        assert_eq!(EvfConfig::early_half().beit3.fused_layers.unwrap(), (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn features_are_as_wide_as_their_encoders() {
        use Encoder::*;
        let width = |encoder| EvfConfig { encoder, ..EvfConfig::default() }.feature_width();
        assert_eq!(
            [ClipText, ClipLate, ViltText, ViltLate, ViltEarly, Beit3Text, Beit3Late, Beit3Early].map(width),
            [768, 1536, 768, 1536, 768, 1024, 2048, 1024]
        );
        assert_eq!(EvfConfig { feature: PromptFeature::Concat, ..EvfConfig::default() }.feature_width(), 2048);
    }

    #[test]
    fn names_say_what_is_trained() {
        let config = EvfConfig::default();
        for (name, trained) in [
            ("visual_model.image_encoder.pos_embed", false),
            ("visual_model.prompt_encoder.no_mask_embed.weight", true),
            ("visual_model.prompt_encoder.point_embeddings.0.weight", false),
            ("visual_model.mask_decoder.iou_token.weight", true),
            ("mm_extractor.beit3.text_embed.weight", true),
            ("text_hidden_fcs.0.0.weight", true),
        ] {
            assert_eq!(config.trains(name), trained, "{name}");
        }
        let frozen = EvfConfig { train_encoder: false, train_mask_decoder: false, train_prompt_encoder: false, ..config };
        assert!(!frozen.trains("mm_extractor.beit3.text_embed.weight") && frozen.trains("text_hidden_fcs.0.0.weight"));
        assert!(
            !frozen.trains("visual_model.mask_decoder.iou_token.weight")
                && !frozen.trains("visual_model.prompt_encoder.no_mask_embed.weight")
        );
    }

    #[test]
    fn recipes_name_options_and_typos_are_errors() {
        let config: EvfConfig = toml::from_str("encoder = \"vilt_late\"").unwrap();
        assert_eq!(config.encoder, Encoder::ViltLate);
        assert_eq!(toml::from_str::<EvfConfig>("feature = \"avg_pool\"").unwrap().feature, PromptFeature::AvgPool);
        assert!(toml::from_str::<EvfConfig>("encodr = \"vilt_late\"").is_err());
        let wrong = EvfConfig { feature: PromptFeature::TextCls, ..config };
        assert_eq!(wrong.validate().unwrap_err().key, "feature");
        for threshold in [0.0, 1.0, f64::NAN] {
            assert_eq!(EvfConfig { threshold, ..EvfConfig::default() }.validate().unwrap_err().key, "threshold");
        }
        assert_eq!(EvfConfig::default().threshold_logit(), 0.0);
    }
}
