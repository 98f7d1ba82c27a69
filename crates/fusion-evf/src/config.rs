//! `EvfConfig`: sizes, image models, encoders and ablations of EVF-SAM.

use efficient_sam::EfficientSamConfig;
use nn_ops::ConfigError;
use nn_ops::activation::logit;
use nn_ops::config::{check_probability, check_weight, quoted};
use sam_vit::SamConfig;
use sam2::Sam2Config;
use serde::{Deserialize, Serialize};
use text_encoders::beit3::Beit3Config;
use text_encoders::clip::{ClipTextConfig, ClipVisionConfig};
use text_encoders::tokenizer::TokenizerKind;
use text_encoders::vilt::ViltConfig;

use crate::visual::{Generation, Input, VisualKind};

/// Which encoder prompts SAM, and how it joins image and text (EVF-SAM Tables 1, 3 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// CLIP's text tower: the end-of-text vector, projected unless `clip_text.project_pooled` is false. The paper's is not: its 123M
    /// parameters are those of a tower without projection.
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
    /// Which image model is prompted (Tab. 6).
    pub visual: VisualKind,
    /// Sizes of SAM.
    pub sam: SamConfig,
    /// Sizes of EfficientSAM.
    pub efficient_sam: EfficientSamConfig,
    /// Sizes of SAM-2.
    pub sam2: Sam2Config,
    /// Which released code the weights belong to; SAM has one behaviour in both.
    pub generation: Generation,
    /// How photographs become the image model's input, where it is not as the generation was trained and judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
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
    /// Whether the image encoder of SAM, EfficientSAM or SAM-2 is trained. The paper's never is; a model that starts without
    /// their weights needs it.
    pub train_image_encoder: bool,
    /// Whether the multimodal encoder is trained (Tab. 4).
    pub train_encoder: bool,
    /// Whether the prompt encoder is trained (Tab. 4): of all it holds, the released code trains `no_mask_embed` only, and of
    /// EfficientSAM's nothing.
    pub train_prompt_encoder: bool,
    /// Whether the mask decoder is trained (Tab. 4). SAM-2's is not in the released models, which keep its video mode.
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
            visual: VisualKind::Sam,
            sam: SamConfig::vit_h(),
            efficient_sam: EfficientSamConfig::small(),
            sam2: Sam2Config::hiera_large(),
            generation: Generation::Second,
            input: None,
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

    /// EVF-SAM2: SAM-2 Hiera-L with every weight frozen, as released; 898,444,594 parameters.
    pub fn sam2_large() -> Self {
        Self { visual: VisualKind::Sam2, train_prompt_encoder: false, train_mask_decoder: false, ..Self::default() }
    }

    /// EVF-EffiSAM-S: EfficientSAM-S, of which the mask decoder is trained; 700,427,492 parameters.
    pub fn efficient_sam_small() -> Self {
        Self { visual: VisualKind::EfficientSam, ..Self::default() }
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
            (Encoder::ClipText, _) => self.clip_text.pooled_width(),
            (Encoder::ClipLate, _) => self.clip_text.pooled_width() + self.clip_vision.projection_dim,
            (Encoder::ViltText | Encoder::ViltEarly, _) => self.vilt.hidden,
            (Encoder::ViltLate, _) => 2 * self.vilt.hidden,
            (Encoder::Beit3Late, _) | (Encoder::Beit3Early, PromptFeature::Concat) => 2 * self.beit3.dim,
            (Encoder::Beit3Text | Encoder::Beit3Early, _) => self.beit3.dim,
        }
    }

    /// Side of the image model's input, in pixels.
    pub fn input_size(&self) -> usize {
        match self.visual {
            VisualKind::Sam => self.sam.image_encoder.image_size,
            VisualKind::EfficientSam => self.efficient_sam.image_size,
            VisualKind::Sam2 => self.sam2.image_encoder.image_size,
        }
    }

    /// Width of the image model's prompt tokens.
    pub fn prompt_dim(&self) -> usize {
        match self.visual {
            VisualKind::Sam => self.sam.prompt_dim(),
            VisualKind::EfficientSam => self.efficient_sam.out_channels,
            VisualKind::Sam2 => self.sam2.channels,
        }
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
        match self.visual {
            VisualKind::Sam if name.starts_with("mask_decoder.") => self.train_mask_decoder,
            VisualKind::Sam if name.starts_with("image_encoder.") => self.train_image_encoder,
            VisualKind::Sam => self.train_prompt_encoder && name.starts_with("prompt_encoder.no_mask_embed."),
            VisualKind::EfficientSam if name.starts_with("mask_decoder.") => self.train_mask_decoder,
            VisualKind::EfficientSam => self.train_image_encoder && name.starts_with("image_encoder."),
            VisualKind::Sam2 => self.trains_sam2(name),
        }
    }

    /// Of SAM-2, what an image's masks depend on: no memory, no pointers, no score of the object. The decoder's convolutions of
    /// the finer maps come before the prompt, so they count as the image's side.
    fn trains_sam2(&self, name: &str) -> bool {
        if let Some(part) = name.strip_prefix("sam_mask_decoder.") {
            let before_prompt = part.starts_with("conv_s");
            let trained = self.train_mask_decoder && (self.train_image_encoder || !before_prompt);
            return trained && !part.starts_with("pred_obj_score_head.");
        }
        if name.starts_with("image_encoder.") || name == "no_mem_embed" {
            return self.train_image_encoder;
        }
        self.train_prompt_encoder && name.starts_with("sam_prompt_encoder.no_mask_embed.")
    }

    /// Checks the settings against each other; of the encoders only the chosen one.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.visual {
            VisualKind::Sam => self.sam.validate().map_err(|e| e.below("sam")),
            VisualKind::EfficientSam => self.efficient_sam.validate().map_err(|e| e.below("efficient_sam")),
            VisualKind::Sam2 => self.sam2.validate().map_err(|e| e.below("sam2")),
        }?;
        if let Some(input) = self.input.filter(|input| input.is_stretched() == (self.visual == VisualKind::Sam)) {
            let expected = match self.visual {
                VisualKind::Sam => "\"long_side_padded\", or absent, with visual \"sam\"",
                _ => "\"stretched\", \"stretched_bytes\" or \"long_side_then_stretched\", or absent, unless visual is \"sam\"",
            };
            return Err(ConfigError::new("input", quoted(&input), expected));
        }
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
        let presets = [EvfConfig::large(), EvfConfig::base(), EvfConfig::early_half()];
        for config in presets.into_iter().chain([EvfConfig::sam2_large(), EvfConfig::efficient_sam_small()]) {
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
    fn names_say_what_of_the_other_image_models_is_trained() {
        let trained = |config: &EvfConfig, names: &[(&str, bool)]| {
            for (name, trained) in names {
                assert_eq!(config.trains(&format!("visual_model.{name}")), *trained, "{name}");
            }
        };
        trained(
            &EvfConfig::efficient_sam_small(),
            &[
                ("image_encoder.pos_embed", false),
                ("mask_decoder.iou_token.weight", true),
                ("mask_decoder.final_output_upscaling_layers.0.1.weight", true),
                ("prompt_encoder.invalid_points.weight", false),
            ],
        );
        let released = EvfConfig::sam2_large();
        let names = [
            "image_encoder.trunk.pos_embed",
            "sam_mask_decoder.iou_token.weight",
            "sam_mask_decoder.conv_s0.weight",
            "sam_prompt_encoder.no_mask_embed.weight",
            "no_mem_embed",
        ];
        let never = ["sam_mask_decoder.pred_obj_score_head.layers.0.weight", "memory_attention.norm.weight", "no_obj_ptr"];
        trained(&released, &names.map(|name| (name, false)));
        assert!(released.trains("mm_extractor.beit3.text_embed.weight") && released.trains("text_hidden_fcs.0.0.weight"));
        let decoder = EvfConfig { train_mask_decoder: true, ..released.clone() };
        trained(&decoder, &[(names[1], true), (names[2], false), (names[3], false)]);
        let all = EvfConfig { train_image_encoder: true, train_prompt_encoder: true, ..decoder };
        trained(&all, &names.map(|name| (name, true)));
        trained(&all, &never.map(|name| (name, false)));
    }

    #[test]
    fn inputs_belong_to_their_image_models() {
        for (visual, input, fits) in [
            (VisualKind::Sam, Input::LongSidePadded, true),
            (VisualKind::Sam, Input::Stretched, false),
            (VisualKind::Sam2, Input::LongSidePadded, false),
            (VisualKind::EfficientSam, Input::StretchedBytes, true),
        ] {
            let config = EvfConfig { visual, input: Some(input), ..EvfConfig::default() };
            assert_eq!(config.validate().err().map(|e| e.key), (!fits).then(|| "input".to_owned()), "{visual:?} {input:?}");
        }
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
