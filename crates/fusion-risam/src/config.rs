//! `RisamConfig`: sizes and ablations of RISAM.

use nn_ops::ConfigError;
use nn_ops::activation::logit;
use nn_ops::config::{check_multiple, check_positive, check_probability, check_weight};
use nn_ops::weights::KeyMap;
use sam_vit::SamConfig;
use serde::{Deserialize, Serialize};
use swin::SwinConfig;
use text_encoders::clip::{ClipText, ClipTextConfig, ClipVision, ClipVisionConfig};

use crate::net::RisamNet;
use crate::options::{
    Backbone, Decoder, Enhancement, Interaction, LanguageSoftmax, LinguisticPosition, NormPlacement, Upsampling, VisualPosition,
};

/// A RISAM with its encoders. The default is the paper's model: 5,795,904 trained parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RisamConfig {
    /// The network that sees the image (Tab. 7): `sam`, `clip_vision` or `swin` gives its sizes.
    pub backbone: Backbone,
    /// The SAM whose image encoder is used. Its mask decoder serves `decoder = "sam"` and `baseline` only.
    pub sam: SamConfig,
    /// CLIP's image tower, with `backbone = "clip"`.
    pub clip_vision: ClipVisionConfig,
    /// The Swin Transformer, with `backbone = "swin"`.
    pub swin: SwinConfig,
    /// Side of the network's input, in pixels.
    pub input_size: usize,
    /// Blocks (0-based) whose outputs are F_v1, F_v2 and F_v3: of SAM the global ones from the second on, of Swin stages.
    pub taps: [usize; 3],
    /// The text encoder. `clip.project_tokens` sends each token through the text projection, too.
    pub clip: ClipTextConfig,
    /// Longest sentence: 17 for RefCOCO, 25 for RefCOCO+ and G-Ref.
    pub words: usize,
    /// Whether start and end of text come on top of `words`. The paper says "maximum word number"; like CRIS, the default
    /// counts them in.
    pub words_exclude_special: bool,
    /// Whether the image encoder is trained. The paper's never is; a model that starts without its weights needs it.
    pub train_image_encoder: bool,
    /// Whether the text encoder stays as it was loaded (Tab. 9 trains it).
    pub text_frozen: bool,

    /// Working width C. The paper prints C for the encoder's width, too; of 256, 512 and 1280 only 256 gives its 6M.
    pub width: usize,
    /// Attention heads of the decoder.
    pub heads: usize,
    /// How the three taps become one map (Tab. 6, #1 and #11).
    pub enhancement: Enhancement,
    /// One linear layer instead of two with a GELU between for each tap.
    pub single_linear: bool,
    /// A layer norm on each tap first. SAM's blocks put out large, skewed values; the paper norms nothing.
    pub tap_layer_norm: bool,

    /// How image and words meet (Tab. 2, #2; Tab. 3, #5 to #7).
    pub interaction: Interaction,
    /// Number of interaction blocks (Tab. 4). `conv` and `te` have a form of their own and ignore it.
    pub interaction_blocks: usize,
    /// Whether irrelevant pairs are removed (Tab. 3, #8); padding always is.
    pub relevance_mask: bool,
    /// Relevance at and above which a pair stays (Fig. 8). Another setting than `threshold`.
    pub tau: f64,
    /// What the attention of words over regions is normalised over.
    pub language_softmax: LanguageSoftmax,
    /// Positions of the words.
    pub linguistic_position: LinguisticPosition,

    /// The decoder (Tab. 2, #3).
    pub decoder: Decoder,
    /// Number of decoder blocks; the default is the least that "next decoder block" allows and the one that gives 6M.
    pub decoder_blocks: usize,
    /// Whether tokens look at the image in each block (Tab. 5, #9).
    pub token_to_image: bool,
    /// Whether the decoder sees the words (Tab. 5, #10, turns it off: the query alone remains).
    pub language_in_decoder: bool,
    /// Convolutions on the visual features instead of decoder and head; needs `language_in_decoder = false`.
    pub vlt_head: bool,
    /// Positions of the regions in the decoder.
    pub visual_position: VisualPosition,
    /// Layer norms of the decoder; the paper has none.
    pub norm: NormPlacement,
    /// Hidden width of a feed-forward part at the end of each decoder block; 0 for none, as in the paper.
    pub ffn: usize,
    /// Channels after each of the two upsamplings.
    pub up_channels: [usize; 2],
    /// GELUs between the upsamplings; the paper lists none.
    pub upsampling: Upsampling,
    /// Tab. 11: SAM itself, its decoder trained, prompted by a linear map of the words. Everything above is then ignored.
    pub baseline: bool,

    /// Weight of target pixels in the focal loss, 1 - alpha elsewhere; none is printed.
    pub focal_alpha: Option<f64>,
    /// Added to both parts of the dice fraction; 0 is the printed formula, 1 the usual one.
    pub dice_smooth: f64,
    /// Mask probability above which a pixel is foreground.
    pub threshold: f64,
}

impl Default for RisamConfig {
    fn default() -> Self {
        Self {
            backbone: Backbone::Sam,
            sam: SamConfig::vit_h(),
            clip_vision: ClipVisionConfig::openai_b16(),
            swin: SwinConfig::base_window12(),
            input_size: 1024,
            taps: [15, 23, 31],
            clip: ClipTextConfig::openai_b16(),
            words: 17,
            words_exclude_special: false,
            train_image_encoder: false,
            text_frozen: true,
            width: 256,
            heads: 8,
            enhancement: Enhancement::Full,
            single_linear: false,
            tap_layer_norm: false,
            interaction: Interaction::Mutual,
            interaction_blocks: 2,
            relevance_mask: true,
            tau: 0.35,
            language_softmax: LanguageSoftmax::Words,
            linguistic_position: LinguisticPosition::Sine,
            decoder: Decoder::Own,
            decoder_blocks: 2,
            token_to_image: false,
            language_in_decoder: true,
            vlt_head: false,
            visual_position: VisualPosition::None,
            norm: NormPlacement::None,
            ffn: 0,
            up_channels: [64, 32],
            upsampling: Upsampling::Plain,
            baseline: false,
            focal_alpha: None,
            dice_smooth: 1.0,
            threshold: 0.35,
        }
    }
}

impl RisamConfig {
    /// The paper's model: SAM ViT-H and CLIP's 512-wide text tower.
    pub fn vit_h() -> Self {
        Self::default()
    }

    /// The same on SAM ViT-L.
    pub fn vit_l() -> Self {
        Self { sam: SamConfig::vit_l(), taps: [11, 17, 23], ..Self::default() }
    }

    /// The same on SAM ViT-B.
    pub fn vit_b() -> Self {
        Self { sam: SamConfig::vit_b(), taps: [5, 8, 11], ..Self::default() }
    }

    /// On CLIP's ViT-B/16 at 480 pixels (Tab. 7, "ViT-B"): 5,402,688 trained parameters. The layers are those of SAM ViT-B's
    /// global blocks, as the paper taps them in ViT-H.
    pub fn clip_b16() -> Self {
        Self { backbone: Backbone::Clip, input_size: 480, taps: [5, 8, 11], ..Self::default() }
    }

    /// On Swin-B with windows of 12 at 480 pixels (Tab. 7): 5,271,616 trained parameters. Taps are the stages of strides 8, 16
    /// and 32.
    pub fn swin_b() -> Self {
        Self { backbone: Backbone::Swin, input_size: 480, taps: [1, 2, 3], ..Self::default() }
    }

    /// The paper's model for RefCOCO+ and G-Ref, whose sentences are longer.
    pub fn long_sentences() -> Self {
        Self { words: 25, ..Self::default() }
    }

    /// Channels of a word.
    pub fn text_width(&self) -> usize {
        if self.clip.project_tokens { self.clip.projection_dim } else { self.clip.width }
    }

    /// Tokens a sentence may have, start and end included.
    pub fn max_tokens(&self) -> usize {
        self.words + if self.words_exclude_special { 2 } else { 0 }
    }

    /// The relevance a pair needs, as a logit, so that no sigmoid is rounded: `ln(tau / (1 - tau))`.
    pub fn tau_logit(&self) -> f64 {
        logit(self.tau)
    }

    /// The mask threshold as a logit.
    pub fn threshold_logit(&self) -> f64 {
        logit(self.threshold)
    }

    /// Whether the parameter with this official name is trained: the fusion is, fixed tables are not, the encoders where
    /// they are not frozen.
    pub fn trains(&self, name: &str) -> bool {
        !(name.starts_with("prompt_encoder.")
            || !self.train_image_encoder && name.starts_with("image_encoder.")
            || self.text_frozen && name.starts_with("text_encoder.")
            || name.ends_with(".running_mean")
            || name.ends_with(".running_var"))
    }

    /// From module paths to the names of our checkpoints: the encoder's own (SAM's, CLIP's at Hugging Face, Microsoft's Swin)
    /// behind `image_encoder.`, CLIP's Hugging Face names behind `text_encoder.`, [`RisamNet::names`] for the rest.
    pub fn names(&self) -> KeyMap {
        KeyMap::new(&[
            ("^net.", ""),
            ("^image_encoder.Sam.", "image_encoder."),
            ("^image_encoder.Clip.", "image_encoder."),
            ("^image_encoder.Swin.norms.", "image_encoder.norm"),
            ("^image_encoder.Swin.", "image_encoder."),
        ])
        .and(RisamNet::names())
        .and(ClipText::names())
        .and(ClipVision::names())
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first key that does not fit, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.sam.validate().map_err(|e| e.below("sam"))?;
        self.clip.validate().map_err(|e| e.below("clip"))?;
        check_positive(&[
            ("input_size", self.input_size),
            ("width", self.width),
            ("heads", self.heads),
            ("interaction_blocks", self.interaction_blocks),
            ("decoder_blocks", self.decoder_blocks),
            ("up_channels", self.up_channels[0].min(self.up_channels[1])),
        ])?;
        self.validate_backbone()?;
        check_multiple(("width", self.width), ("heads", self.heads))?;
        if self.max_tokens() < 3 || self.max_tokens() > self.clip.max_positions {
            let special = if self.words_exclude_special { " beside start and end" } else { ", start and end among them" };
            let expected = format!("such that a sentence has 3 to {} tokens{special}", self.clip.max_positions);
            return Err(ConfigError::new("words", self.words, expected));
        }
        check_probability("tau", self.tau)?;
        check_probability("threshold", self.threshold)?;
        if let Some(alpha) = self.focal_alpha.filter(|a| !(0.0..=1.0).contains(a)) {
            return Err(ConfigError::new("focal_alpha", alpha, "from 0 to 1"));
        }
        check_weight("dice_smooth", self.dice_smooth)?;
        self.validate_choices()
    }

    fn validate_choices(&self) -> Result<(), ConfigError> {
        let needs_sam_width = self.visual_position == VisualPosition::SamDense || self.decoder == Decoder::Sam;
        if !self.baseline && needs_sam_width && self.width != self.sam.prompt_dim() {
            let what = "visual_position = \"sam_dense\" or decoder = \"sam\"";
            return Err(ConfigError::new("width", self.width, format!("SAM's {} with {what}", self.sam.prompt_dim())));
        }
        if self.enhancement == Enhancement::VitDet && self.grid() < 2 {
            let expected = "two patches or more with enhancement = \"vit_det\", which halves the grid";
            return Err(ConfigError::new("input_size", self.input_size, expected));
        }
        if self.vlt_head && (self.language_in_decoder || self.decoder == Decoder::Sam) {
            let expected = "false unless language_in_decoder is false and decoder is \"own\", for it replaces the decoder";
            return Err(ConfigError::new("vlt_head", true, expected));
        }
        if self.vlt_head && !self.width.is_multiple_of(4) {
            return Err(ConfigError::new("width", self.width, "a multiple of 4 with vlt_head"));
        }
        if self.decoder == Decoder::Sam && !self.language_in_decoder {
            return Err(ConfigError::new("language_in_decoder", false, "true with decoder = \"sam\", which words prompt"));
        }
        if self.decoder == Decoder::Sam && self.token_to_image {
            let expected = "false with decoder = \"sam\", which has its own token layers";
            return Err(ConfigError::new("token_to_image", true, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_logits() {
        let config = RisamConfig::default();
        assert!((config.tau_logit() + 0.619_039_2).abs() < 1e-7);
        assert_eq!(config.tau_logit(), config.threshold_logit());
        assert_eq!(RisamConfig { tau: 0.5, ..config }.tau_logit(), 0.0);
    }

    #[test]
    fn presets_hold_together() {
        for config in [RisamConfig::vit_h(), RisamConfig::vit_l(), RisamConfig::vit_b(), RisamConfig::long_sentences()] {
            config.validate().unwrap();
            assert!(config.taps.iter().all(|t| config.sam.image_encoder.global_blocks.contains(t)));
        }
        for (config, widths) in [(RisamConfig::clip_b16(), [768; 3]), (RisamConfig::swin_b(), [256, 512, 1024])] {
            config.validate().unwrap();
            assert_eq!((config.grid(), config.stride(), config.tap_widths()), (30, 16, widths));
        }
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let base = RisamConfig::default;
        let wrong = [
            (RisamConfig { taps: [15, 15, 31], ..base() }, "taps"),
            (RisamConfig { taps: [15, 23, 32], ..base() }, "taps"),
            (RisamConfig { heads: 7, ..base() }, "width"),
            (RisamConfig { tau: 1.0, ..base() }, "tau"),
            (RisamConfig { threshold: f64::NAN, ..base() }, "threshold"),
            (RisamConfig { words: 2, ..base() }, "words"),
            (RisamConfig { words: 76, words_exclude_special: true, ..base() }, "words"),
            (RisamConfig { decoder_blocks: 0, ..base() }, "decoder_blocks"),
            (RisamConfig { up_channels: [64, 0], ..base() }, "up_channels"),
            (RisamConfig { width: 128, decoder: Decoder::Sam, ..base() }, "width"),
            (RisamConfig { vlt_head: true, ..base() }, "vlt_head"),
            (RisamConfig { input_size: 1000, ..base() }, "input_size"),
            (RisamConfig { dice_smooth: -1.0, ..base() }, "dice_smooth"),
            (RisamConfig { input_size: 488, ..RisamConfig::swin_b() }, "input_size"),
            (RisamConfig { taps: [2, 3, 4], ..RisamConfig::swin_b() }, "taps"),
            (RisamConfig { taps: [8, 11, 12], ..RisamConfig::clip_b16() }, "taps"),
            (RisamConfig { baseline: true, ..RisamConfig::clip_b16() }, "baseline"),
            (RisamConfig { swin: SwinConfig { window: 0, ..SwinConfig::default() }, ..RisamConfig::swin_b() }, "swin.window"),
        ];
        for (config, field) in wrong {
            let error = config.validate().unwrap_err();
            assert_eq!(error.key, field, "{error}");
        }
    }

    #[test]
    fn names_say_what_is_trained() {
        let config = RisamConfig::default();
        for (name, trained) in [
            ("image_encoder.blocks.0.norm1.weight", false),
            ("text_encoder.text_model.final_layer_norm.weight", false),
            ("prompt_encoder.no_mask_embed.weight", false),
            ("fe.cba1.norm.running_var", false),
            ("fe.cba1.norm.weight", true),
            ("query", true),
            ("mask_decoder.iou_token.weight", true),
        ] {
            assert_eq!(config.trains(name), trained, "{name}");
        }
        assert!(RisamConfig { text_frozen: false, ..config }.trains("text_encoder.text_model.final_layer_norm.weight"));
    }

    #[test]
    fn recipes_name_options_and_typos_are_errors() {
        let config: RisamConfig =
            toml::from_str("interaction = \"bcm\"\nlinguistic_position = \"decoder\"\nnorm = \"pre\"").unwrap();
        assert_eq!((config.interaction, config.norm), (Interaction::Serial, NormPlacement::Pre));
        assert!(toml::from_str::<RisamConfig>("interacton = \"conv\"").is_err());
    }
}
