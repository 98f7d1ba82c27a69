//! `Visual`: the image model that a sentence's vector prompts, which is SAM, EfficientSAM or SAM-2 (EVF-SAM Tab. 6).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use efficient_sam::{EfficientSam, efficient_sam_names, prepare_points};
use nn_ops::rows::select_rows;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, load};
use pil_ops::Fit;
use sam_vit::{Output, Prompts, Sam, SamError, load_facebook, load_hugging_face};
use sam2::{Answer, Features, Resampling, Sam2};
use serde::{Deserialize, Serialize};

use crate::config::EvfConfig;
use crate::error::EvfError;

/// Which image model is prompted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisualKind {
    /// Segment Anything.
    #[default]
    Sam,
    /// EfficientSAM.
    EfficientSam,
    /// Segment Anything 2.
    Sam2,
}

/// Which released code a checkpoint belongs to. The two differ on EfficientSAM and SAM-2 in how photographs become inputs,
/// and on SAM-2 in which mask answers and in the prompt of a video's first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Until September 2024: `evf-sam2`.
    First,
    /// Since then: `evf-sam2-multitask`.
    #[default]
    Second,
}

/// How a photograph becomes the image model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Long side to the input's, padded right and below: SAM.
    LongSidePadded,
    /// Straight to the square by Pillow's antialiased bilinear filter: training and evaluation of the second generation.
    Stretched,
    /// Straight to the square by PyTorch's bilinear resize of bytes, without antialiasing: its inference scripts.
    StretchedBytes,
    /// Long side to the input's, then without antialiasing to the square: the first generation.
    LongSideThenStretched,
}

impl Input {
    /// Whether the image fills the square.
    pub fn is_stretched(self) -> bool {
        self != Self::LongSidePadded
    }

    /// The same among SAM-2's ways of resizing; none for SAM's.
    pub fn resampling(self) -> Option<Resampling> {
        match self {
            Self::LongSidePadded => None,
            Self::Stretched => Some(Resampling::PilBilinear),
            Self::StretchedBytes => Some(Resampling::TorchU8Bilinear),
            Self::LongSideThenStretched => Some(Resampling::LongSideStretch),
        }
    }
}

impl EvfConfig {
    /// How photographs become the image model's input: what the field of this name says, else as the generation was trained
    /// and judged.
    pub fn input(&self) -> Input {
        self.input.unwrap_or(match (self.visual, self.generation) {
            (VisualKind::Sam, _) => Input::LongSidePadded,
            (_, Generation::First) => Input::LongSideThenStretched,
            (_, Generation::Second) => Input::Stretched,
        })
    }

    /// Where photographs lie in the input.
    pub fn fit(&self) -> Fit {
        if self.input().is_stretched() { Fit::Stretched } else { Fit::TopLeft }
    }

    /// Which mask answers a sentence about an image, in training or outside of it. SAM and EfficientSAM have one to choose from.
    pub fn answer(&self, training: bool) -> Answer {
        match (self.visual, self.generation) {
            (VisualKind::Sam2, Generation::Second) => Answer::BestOfThree,
            (VisualKind::Sam2, Generation::First) if !training => Answer::StableElseBest,
            _ => Answer::First,
        }
    }
}

/// The image model; a variant per [`VisualKind`].
#[derive(Module, Debug)]
pub enum Visual {
    /// Segment Anything.
    Sam(Sam),
    /// EfficientSAM.
    Efficient(EfficientSam),
    /// Segment Anything 2.
    Sam2(Sam2),
}

impl Visual {
    pub(crate) fn new(config: &EvfConfig, device: &Device) -> Result<Self, EvfError> {
        Ok(match config.visual {
            VisualKind::Sam => Self::Sam(config.sam.init(device)),
            VisualKind::EfficientSam => Self::Efficient(config.efficient_sam.init(device)?),
            VisualKind::Sam2 => Self::Sam2(config.sam2.init(device)),
        })
    }

    /// From module paths below `visual_model` to the keys of the released checkpoints.
    pub(crate) fn names(kind: VisualKind) -> KeyMap {
        let (variant, inner) = match kind {
            VisualKind::Sam => ("Sam.", sam_vit::facebook_names()),
            VisualKind::EfficientSam => ("Efficient.", efficient_sam_names()),
            VisualKind::Sam2 => ("Sam2.", sam2::Naming::RenamedScale.names()),
        };
        KeyMap::new(&[(&format!("^visual_model.{variant}"), "visual_model.")]).and(inner)
    }

    /// The model with the weights of its own published file, in any naming that its crate knows.
    pub(crate) fn load(self, state_dict: &StateDict) -> Result<(Self, LoadReport), EvfError> {
        Ok(match self {
            Self::Sam(sam) => {
                let (sam, report) = match sam_vit::Naming::of(state_dict)? {
                    sam_vit::Naming::Facebook => load_facebook(sam, state_dict)?,
                    sam_vit::Naming::HuggingFace => load_hugging_face(sam, state_dict)?,
                };
                (Self::Sam(sam), report)
            }
            Self::Efficient(sam) => {
                let allow = Allow { missing: &[], unused: &["pixel_mean", "pixel_std"] };
                let (sam, report) = load(sam, state_dict, &efficient_sam_names(), &allow)?;
                (Self::Efficient(sam), report)
            }
            Self::Sam2(sam2) => sam2.load(state_dict).map(|(sam2, report)| (Self::Sam2(sam2), report))?,
        })
    }

    /// The SAM-2, where it is one.
    pub fn sam2(&self) -> Option<&Sam2> {
        match self {
            Self::Sam2(sam2) => Some(sam2),
            Self::Sam(_) | Self::Efficient(_) => None,
        }
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        match self {
            Self::Sam(sam) => sam.image_encoder.pos_embed.lazy_device(),
            Self::Efficient(sam) => sam.device(),
            Self::Sam2(sam2) => sam2.device(),
        }
    }

    /// What of images no prompt changes: one map of SAM and EfficientSAM; of SAM-2 the map that prompts meet, then the two finer
    /// ones.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S], normalised; output: [B, 256, S / 16, S / 16]; of SAM-2 also [B, 64, S / 8, S / 8] and
    /// [B, 32, S / 4, S / 4]
    pub fn features(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        match self {
            Self::Sam(sam) => vec![sam.image_encoder.forward(images)],
            Self::Efficient(sam) => vec![sam.image_encoder.forward(images)],
            Self::Sam2(sam2) => sam2.features(images),
        }
    }

    /// The mask that answers each row of prompt tokens, and its predicted IoU. The tokens are the only sparse prompt, without a
    /// padding point; the dense one is "no mask". [`Answer`] counts for SAM-2 alone; of SAM's and EfficientSAM's masks the first
    /// answers.
    ///
    /// # Shapes
    /// `features`: as [`Visual::features`] of B images; `image_of`: Q numbers below B; `tokens`: [Q, T, 256]; outputs:
    /// [Q, 1, S / 4, S / 4] and [Q, 1]
    ///
    /// # Errors
    /// Another number of maps, or maps that do not fit together.
    pub fn answer(
        &self,
        features: Vec<Tensor<4>>,
        image_of: &[usize],
        tokens: Tensor<3>,
        answer: Answer,
    ) -> Result<(Tensor<4>, Tensor<2>), EvfError> {
        self.answer_prompts(features, image_of, Prompts { tokens: Some(tokens), ..Prompts::default() }, answer)
    }

    /// As [`Visual::answer`] for any prompts, in pixels of the image model's input; the text's tokens come behind the others.
    /// SAM-2 and EfficientSAM take a box as two points.
    ///
    /// # Errors
    /// As [`Visual::answer`], or what EfficientSAM does not take: masks, and no prompt at all.
    pub fn answer_prompts(
        &self,
        features: Vec<Tensor<4>>,
        image_of: &[usize],
        prompts: Prompts,
        answer: Answer,
    ) -> Result<(Tensor<4>, Tensor<2>), EvfError> {
        // Kept features come in single precision.
        let features = match &prompts.tokens {
            Some(tokens) => features.into_iter().map(|map| map.cast(tokens.dtype())).collect(),
            None => features,
        };
        match self {
            Self::Sam(sam) => {
                let embedding = embedding(features, image_of)?;
                let [_, _, height, width] = embedding.dims();
                let [.., patch] = sam.image_encoder.patch_embed.proj.weight.lazy_shape().dims::<4>();
                Ok(sam.decode(embedding, prompts, (height * patch, width * patch), Output::Single))
            }
            Self::Efficient(sam) => {
                let tokens = efficient_tokens(sam, prompts)?;
                Ok(sam.decode_tokens(embedding(features, image_of)?, tokens, Output::Single))
            }
            Self::Sam2(sam2) => Ok(sam2.decode(&Features::new(features)?, image_of, prompts)?.answer(answer)),
        }
    }
}

/// EfficientSAM's tokens of points, as many as it was trained with, and behind them the text's.
///
/// # Shapes
/// output: [Q, T, C]
fn efficient_tokens(sam: &EfficientSam, prompts: Prompts) -> Result<Tensor<3>, EvfError> {
    let refuse = |what: &str| EvfError::Sam(SamError::Prompt { index: 0, what: what.into() });
    if prompts.masks.is_some() || prompts.boxes.is_some() {
        return Err(refuse("a mask or a box as such: EfficientSAM takes points, of which two are a box's corners"));
    }
    let side = (sam.image_size(), sam.image_size());
    let points = prompts.points.map(|(points, labels)| {
        let (points, labels) = prepare_points(points, labels, sam.max_points(), side, side);
        sam.prompt_encoder.forward(points, labels, side)
    });
    match (points, prompts.tokens) {
        (Some(points), Some(tokens)) => Ok(Tensor::cat(vec![points.cast(tokens.dtype()), tokens], 1)),
        (Some(tokens), None) | (None, Some(tokens)) => Ok(tokens),
        (None, None) => Err(refuse("is empty; give a sentence, a point or a box")),
    }
}

/// The one map of an image model, repeated for each sentence.
fn embedding(features: Vec<Tensor<4>>, image_of: &[usize]) -> Result<Tensor<4>, EvfError> {
    let count = features.len();
    let [map] = <[Tensor<4>; 1]>::try_from(features).map_err(|_| EvfError::Shape {
        what: "maps of features",
        found: vec![count],
        expected: "one, which SAM and EfficientSAM make".into(),
    })?;
    // Broadcasting repeats one image.
    Ok(if map.dims()[0] == 1 { map } else { select_rows(map, image_of) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_decides() {
        use Generation::{First, Second};
        let of = |visual, generation| EvfConfig { visual, generation, ..EvfConfig::default() };
        for (visual, generation, input, judged, trained) in [
            (VisualKind::Sam, First, Input::LongSidePadded, Answer::First, Answer::First),
            (VisualKind::Sam, Second, Input::LongSidePadded, Answer::First, Answer::First),
            (VisualKind::EfficientSam, First, Input::LongSideThenStretched, Answer::First, Answer::First),
            (VisualKind::EfficientSam, Second, Input::Stretched, Answer::First, Answer::First),
            (VisualKind::Sam2, First, Input::LongSideThenStretched, Answer::StableElseBest, Answer::First),
            (VisualKind::Sam2, Second, Input::Stretched, Answer::BestOfThree, Answer::BestOfThree),
        ] {
            let config = of(visual, generation);
            let found = (config.input(), config.answer(false), config.answer(true));
            assert_eq!(found, (input, judged, trained), "{visual:?} {generation:?}");
            assert_eq!(config.fit() == Fit::TopLeft, visual == VisualKind::Sam);
        }
        let bytes = EvfConfig { input: Some(Input::StretchedBytes), ..of(VisualKind::Sam2, First) };
        assert_eq!((bytes.input(), bytes.answer(false)), (Input::StretchedBytes, Answer::StableElseBest));
    }
}
