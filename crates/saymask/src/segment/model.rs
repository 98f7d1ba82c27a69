//! The models that `segment` and `data masks` ask: SAM, EfficientSAM and SAM-2, told apart by their weights.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use efficient_sam::{EfficientSam, EfficientSamConfig};
use nn_ops::weights::StateDict;
use pil_ops::Image;
use sam_vit::{AutomaticConfig, MaskPrediction, Output, PromptSet, Region, Sam, SamConfig, Weights};
use sam2::{Answer, Sam2, Sam2Config};

use crate::device;

/// Which model, from which weights, on which device.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Weights: sam_vit_*.pth, efficient_sam_vit*.pt, sam2*_hiera_*.pt, or the safetensors of the Hugging Face ports.
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: PathBuf,
    /// The model that the weights must be of; `auto` reads it off them.
    #[arg(long, value_enum, default_value_t)]
    model: ModelName,
    /// Keep the encoder's matrices in half precision: half the memory; arithmetic stays in single.
    #[arg(long)]
    pub(crate) half_weights: bool,
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help = device::HELP)]
    device: String,
}

impl ModelArgs {
    /// The model with its weights on the device.
    pub(crate) fn open(&self) -> Result<Segmenter> {
        let device = device::open(&self.device)?;
        let weights = if self.half_weights { Weights::Half } else { Weights::Single };
        Segmenter::open(&StateDict::open_model(&self.weights)?, self.model, weights, &device)
    }
}

/// Which model, and its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ModelName {
    /// Whatever the weights are.
    #[default]
    Auto,
    /// Segment Anything, ViT-B.
    #[value(alias = "b")]
    SamVitB,
    /// Segment Anything, ViT-L.
    #[value(alias = "l")]
    SamVitL,
    /// Segment Anything, ViT-H.
    #[value(alias = "h")]
    SamVitH,
    /// EfficientSAM-T.
    EfficientSamT,
    /// EfficientSAM-S.
    EfficientSamS,
    /// Segment Anything 2 or 2.1, Hiera tiny.
    #[value(name = "sam2-tiny")]
    Sam2Tiny,
    /// Hiera small.
    #[value(name = "sam2-small")]
    Sam2Small,
    /// Hiera base+.
    #[value(name = "sam2-base-plus")]
    Sam2BasePlus,
    /// Hiera large.
    #[value(name = "sam2-large")]
    Sam2Large,
}

/// A kind of model with its sizes.
#[derive(Debug, Clone, PartialEq)]
enum Sizes {
    Sam(SamConfig),
    Efficient(EfficientSamConfig),
    Sam2(Sam2Config),
}

impl Sizes {
    /// Those of a weight file, whose keys say which model it is.
    fn detect(state_dict: &StateDict) -> Result<Self> {
        let begins = |prefix: &str| state_dict.names().any(|name| name.starts_with(prefix));
        Ok(if begins("image_encoder.trunk.") || begins("vision_encoder.backbone.") {
            Self::Sam2(Sam2Config::detect(state_dict)?)
        } else if begins("prompt_encoder.invalid_points.") {
            Self::Efficient(EfficientSamConfig::detect(state_dict)?)
        } else {
            Self::Sam(SamConfig::detect(state_dict)?)
        })
    }

    /// Those of a published model.
    fn named(name: ModelName) -> Option<Self> {
        Some(match name {
            ModelName::Auto => return None,
            ModelName::SamVitB => Self::Sam(SamConfig::vit_b()),
            ModelName::SamVitL => Self::Sam(SamConfig::vit_l()),
            ModelName::SamVitH => Self::Sam(SamConfig::vit_h()),
            ModelName::EfficientSamT => Self::Efficient(EfficientSamConfig::tiny()),
            ModelName::EfficientSamS => Self::Efficient(EfficientSamConfig::small()),
            ModelName::Sam2Tiny => Self::Sam2(Sam2Config::hiera_tiny()),
            ModelName::Sam2Small => Self::Sam2(Sam2Config::hiera_small()),
            ModelName::Sam2BasePlus => Self::Sam2(Sam2Config::hiera_base_plus()),
            ModelName::Sam2Large => Self::Sam2(Sam2Config::hiera_large()),
        })
    }

    /// The model, the width of its tokens and the number of its blocks, by which sizes differ.
    fn key(&self) -> (&'static str, usize, usize) {
        match self {
            Self::Sam(config) => ("SAM", config.image_encoder.embed_dim, config.image_encoder.depth),
            Self::Efficient(config) => ("EfficientSAM", config.embed_dim, config.depth),
            Self::Sam2(config) => ("SAM-2", config.image_encoder.embed_dim, config.image_encoder.depth()),
        }
    }
}

/// A model with its weights.
pub(crate) enum Segmenter {
    Sam(Box<Sam>),
    Efficient(Box<EfficientSam>),
    Sam2(Box<Sam2>),
}

impl Segmenter {
    /// The model of a weight file, which must be the named one.
    pub(crate) fn open(state_dict: &StateDict, name: ModelName, weights: Weights, device: &Device) -> Result<Self> {
        let found = Sizes::detect(state_dict)?;
        if let Some(want) = Sizes::named(name)
            && want.key() != found.key()
        {
            let ((model, width, blocks), (named, wanted, deep)) = (found.key(), want.key());
            let name = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let file = state_dict.path().display();
            bail!(
                "{file}: {model} with tokens of {width} in {blocks} blocks, but --model {name} is {named} with {wanted} in {deep}; \
                 --model auto takes the file as it is"
            );
        }
        Ok(match found {
            Sizes::Sam(_) => Self::Sam(Box::new(Sam::from_state_dict(state_dict, weights, device)?)),
            Sizes::Efficient(_) if weights == Weights::Half => bail!("--half-weights is for SAM and SAM-2; leave it out"),
            Sizes::Efficient(config) => Self::Efficient(Box::new(config.load(state_dict, device)?.0)),
            Sizes::Sam2(_) => Self::Sam2(Box::new(Sam2::from_state_dict(state_dict, weights, device)?)),
        })
    }

    /// The best mask of each prompt. To a single click (`ambiguous`) the best of three answers; to others the single mask, of
    /// SAM-2 where it is stable. EfficientSAM's is always the best of three.
    pub(crate) fn best(&self, image: &Image, prompts: &[PromptSet], ambiguous: bool) -> Result<Vec<MaskPrediction>> {
        let answers = match self {
            Self::Sam(sam) => {
                sam.predict_batch(&sam.embed(image)?, prompts, if ambiguous { Output::Multi } else { Output::Single })?
            }
            Self::Efficient(sam) => sam.predict_batch(&sam.embed(image)?, prompts, Output::Multi)?,
            Self::Sam2(sam2) => {
                let answer = if ambiguous { Answer::BestOfThree } else { Answer::StableElseBest };
                sam2.predict_batch(&sam2.embed(image)?, prompts, answer)?
            }
        };
        let best = |masks: Vec<MaskPrediction>| {
            masks.into_iter().max_by(|a, b| a.iou.total_cmp(&b.iou)).context("the model gave no mask")
        };
        answers.into_iter().map(best).collect()
    }

    /// Masks all over the image.
    pub(super) fn everything(&self, image: &Image, config: &AutomaticConfig) -> Result<Vec<Region>> {
        Ok(match self {
            Self::Sam(sam) => config.segment_everything(sam.as_ref(), image)?,
            Self::Efficient(sam) => config.segment_everything(sam.as_ref(), image)?,
            Self::Sam2(sam2) => config.segment_everything(sam2.as_ref(), image)?,
        })
    }
}
