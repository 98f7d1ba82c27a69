//! `MultimodalEncoder`: one vector for a sentence about an image, by BEiT-3, CLIP or ViLT (EVF-SAM sec. 3.2).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::rows::select_rows;
use nn_ops::weights::{KeyMap, LoadReport, StateDict};
use text_encoders::beit3::{Beit3, Beit3Features};
use text_encoders::clip::{ClipText, ClipVision};
use text_encoders::vilt::Vilt;
use text_encoders::{TextBatch, TextEncoder, TextError};

use crate::config::{Encoder, EvfConfig, PromptFeature};
use crate::error::EvfError;

/// The encoder that prompts SAM; a variant per [`Encoder`].
#[derive(Module, Debug)]
pub enum MultimodalEncoder {
    /// CLIP's text tower.
    ClipText(ClipText),
    /// CLIP's two towers.
    ClipLate(ClipTowers),
    /// ViLT on text alone.
    ViltText(Vilt),
    /// ViLT on text and on the image apart.
    ViltLate(Vilt),
    /// ViLT on both together.
    ViltEarly(Vilt),
    /// BEiT-3 on text alone.
    Beit3Text(Beit3),
    /// BEiT-3 on text and on the image apart.
    Beit3Late(Beit3),
    /// BEiT-3 on both together.
    Beit3Early(JointBeit3),
}

/// CLIP's two towers.
#[derive(Module, Debug)]
pub struct ClipTowers {
    /// Text.
    pub clip_text: ClipText,
    /// Image.
    pub clip_vision: ClipVision,
}

/// BEiT-3, and what of its joint pass is taken.
#[derive(Module, Debug)]
pub struct JointBeit3 {
    /// BEiT-3.
    pub beit3: Beit3,
    #[module(skip)]
    feature: PromptFeature,
}

impl MultimodalEncoder {
    pub(crate) fn new(config: &EvfConfig, device: &Device) -> Self {
        match config.encoder {
            Encoder::ClipText => Self::ClipText(config.clip_text.init(device)),
            Encoder::ClipLate => Self::ClipLate(ClipTowers {
                clip_text: config.clip_text.init(device),
                clip_vision: config.clip_vision.init(device),
            }),
            Encoder::ViltText => Self::ViltText(config.vilt.init(device)),
            Encoder::ViltLate => Self::ViltLate(config.vilt.init(device)),
            Encoder::ViltEarly => Self::ViltEarly(config.vilt.init(device)),
            Encoder::Beit3Text => Self::Beit3Text(config.beit3.init(device)),
            Encoder::Beit3Late => Self::Beit3Late(config.beit3.init(device)),
            Encoder::Beit3Early => Self::Beit3Early(JointBeit3 { beit3: config.beit3.init(device), feature: config.feature }),
        }
    }

    /// An encoder with the weights of its own published file.
    pub(crate) fn load(config: &EvfConfig, state_dict: &StateDict, device: &Device) -> Result<(Self, LoadReport), EvfError> {
        let clip = || config.clip_text.load(state_dict.clone(), device);
        let vilt = || config.vilt.load(state_dict.clone(), device);
        let beit3 = || config.beit3.load(state_dict, device);
        Ok(match config.encoder {
            Encoder::ClipText => clip().map(|(clip, report)| (Self::ClipText(clip), report))?,
            Encoder::ClipLate => {
                let (clip_text, text) = clip()?;
                let (clip_vision, vision) = config.clip_vision.load(state_dict.clone(), device)?;
                (Self::ClipLate(ClipTowers { clip_text, clip_vision }), text.and(vision))
            }
            Encoder::ViltText => vilt().map(|(vilt, report)| (Self::ViltText(vilt), report))?,
            Encoder::ViltLate => vilt().map(|(vilt, report)| (Self::ViltLate(vilt), report))?,
            Encoder::ViltEarly => vilt().map(|(vilt, report)| (Self::ViltEarly(vilt), report))?,
            Encoder::Beit3Text => beit3().map(|(beit3, report)| (Self::Beit3Text(beit3), report))?,
            Encoder::Beit3Late => beit3().map(|(beit3, report)| (Self::Beit3Late(beit3), report))?,
            Encoder::Beit3Early => {
                let (beit3, report) = beit3()?;
                (Self::Beit3Early(JointBeit3 { beit3, feature: config.feature }), report)
            }
        })
    }

    /// From module paths below `mm_extractor` to published names. CLIP and ViLT have Hugging Face names behind the
    /// encoder's own: there is no published EVF-SAM with them.
    pub(crate) fn names(encoder: Encoder) -> KeyMap {
        let (variant, name, inner) = match encoder {
            Encoder::ClipText => ("ClipText.", "clip_text.", ClipText::names()),
            Encoder::ClipLate => ("ClipLate.", "", ClipText::names().and(ClipVision::names())),
            Encoder::ViltText => ("ViltText.", "vilt.", Vilt::names()),
            Encoder::ViltLate => ("ViltLate.", "vilt.", Vilt::names()),
            Encoder::ViltEarly => ("ViltEarly.", "vilt.", Vilt::names()),
            Encoder::Beit3Text => ("Beit3Text.", "beit3.", Beit3::names()),
            Encoder::Beit3Late => ("Beit3Late.", "beit3.", Beit3::names()),
            Encoder::Beit3Early => ("Beit3Early.", "", Beit3::names()),
        };
        let (variant, name) = (format!("^mm_extractor.{variant}"), format!("mm_extractor.{name}"));
        KeyMap::new(&[(&variant, &name)]).and(inner)
    }

    /// The text side, as what checks tokenizers and knows the longest sentence.
    pub fn text(&self) -> &dyn TextEncoder {
        match self {
            Self::ClipText(clip) => clip,
            Self::ClipLate(towers) => &towers.clip_text,
            Self::ViltText(vilt) | Self::ViltLate(vilt) | Self::ViltEarly(vilt) => vilt,
            Self::Beit3Text(beit3) | Self::Beit3Late(beit3) => beit3,
            Self::Beit3Early(joint) => &joint.beit3,
        }
    }

    /// The vector of each sentence. `image_of[q]` is the image that sentence q speaks about.
    ///
    /// # Shapes
    /// `images`: [B, 3, s, s] as [`crate::EvfImages`] has them; `batch`: [Q, T]; output: [Q, feature width]
    ///
    /// # Errors
    /// Shapes and ids that do not fit.
    pub fn forward(&self, images: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<Tensor<2>, EvfError> {
        let beside = |a: Tensor<2>, b: Tensor<2>| Tensor::cat(vec![a, b], 1);
        Ok(match self {
            Self::ClipText(clip) => clip.encode(batch)?.pooled,
            Self::ClipLate(ClipTowers { clip_text, clip_vision }) => {
                let of_images = clip_vision.pool(clip_vision.tokens(images)?);
                beside(clip_text.encode(batch)?.pooled, select_rows(of_images, image_of))
            }
            Self::ViltText(vilt) => vilt.encode(batch)?.pooled,
            Self::ViltLate(vilt) => {
                let of_images = vilt.image_only(images)?.narrow(1, 0, 1).squeeze_dim::<2>(1);
                beside(vilt.encode(batch)?.pooled, select_rows(of_images, image_of))
            }
            Self::ViltEarly(vilt) => vilt.joint(select_rows(images, image_of), batch)?.cls(),
            Self::Beit3Text(beit3) => beit3.encode(batch)?.pooled,
            Self::Beit3Late(beit3) => {
                let of_images = beit3.vision_only(images)?.image_cls().ok_or_else(absent)?;
                beside(select_rows(of_images, image_of), beit3.encode(batch)?.pooled)
            }
            Self::Beit3Early(JointBeit3 { beit3, feature }) => {
                prompt_feature(*feature, &beit3.joint(images, batch, image_of)?).ok_or_else(absent)?
            }
        })
    }
}

/// The feature of a joint pass.
fn prompt_feature(feature: PromptFeature, features: &Beit3Features) -> Option<Tensor<2>> {
    match feature {
        PromptFeature::ImageCls => features.image_cls(),
        PromptFeature::TextCls => features.text_cls(),
        PromptFeature::AvgPool => {
            let vision = features.vision.clone()?;
            let patches = vision.dims()[1] - 1;
            Some(vision.narrow(1, 1, patches).mean_dim(1).squeeze_dim::<2>(1))
        }
        PromptFeature::Concat => Some(Tensor::cat(vec![features.image_cls()?, features.text_cls()?], 1)),
    }
}

/// A pass over an image has image features, one over text has text features: this cannot happen.
fn absent() -> EvfError {
    TextError::Shape { what: "features of BEiT-3's pass", found: Vec::new(), expected: "those of its input".into() }.into()
}
