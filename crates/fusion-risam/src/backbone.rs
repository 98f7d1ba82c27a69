//! `ImageBackbone`: the image encoders RISAM can start from (Tab. 7), their taps, grids, inputs and weights.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::ConfigError;
use nn_ops::config::{check_multiple, quoted};
use nn_ops::weights::{LoadReport, StateDict};
use pil_ops::{Fit, Image, Letterbox, Normalisation};
use sam_vit::{ImageEncoder, SamError};
use swin::Swin;
use text_encoders::clip::ClipVision;

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::features::RisamFeatures;
use crate::model::RisamModel;
use crate::net::RisamOutput;
use crate::options::{Backbone, Decoder, VisualPosition};

/// The network that sees the image; a variant per [`Backbone`].
#[derive(Module, Debug)]
pub enum ImageBackbone {
    /// SAM's image encoder.
    Sam(ImageEncoder),
    /// CLIP's image tower.
    Clip(ClipVision),
    /// A Swin Transformer.
    Swin(Swin),
}

impl ImageBackbone {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Result<Self, RisamError> {
        Ok(match config.backbone {
            Backbone::Sam => Self::Sam(ImageEncoder::new(&config.sam.image_encoder, device)),
            Backbone::Clip => Self::Clip(config.clip_vision.init(device)),
            Backbone::Swin => Self::Swin(config.swin.init(device)?),
        })
    }
}

impl RisamConfig {
    /// Channels of F_v1, F_v2 and F_v3.
    pub fn tap_widths(&self) -> [usize; 3] {
        match self.backbone {
            Backbone::Sam => [self.sam.image_encoder.embed_dim; 3],
            Backbone::Clip => [self.clip_vision.width; 3],
            Backbone::Swin => self.taps.map(|stage| self.swin.width(stage)),
        }
    }

    /// Pixels of the input per region, along one side.
    pub fn stride(&self) -> usize {
        match self.backbone {
            Backbone::Sam => self.sam.image_encoder.patch_size,
            Backbone::Clip => self.clip_vision.patch_size,
            Backbone::Swin => self.swin.stride(self.taps[1]),
        }
    }

    /// Side of the grid of regions.
    pub fn grid(&self) -> usize {
        self.input_size / self.stride().max(1)
    }

    /// How an image lies in the input. SAM's is padded; CLIP's (bicubic) and Swin's (bilinear) are stretched to the square, as
    /// referring segmenters on these backbones do.
    pub fn fit(&self) -> Fit {
        match self.backbone {
            Backbone::Sam => Fit::TopLeft,
            Backbone::Clip => Fit::StretchedBicubic,
            Backbone::Swin => Fit::Stretched,
        }
    }

    /// Mean and deviation of the backbone's input.
    pub fn normalisation(&self) -> Normalisation {
        match self.backbone {
            Backbone::Sam | Backbone::Swin => Normalisation::IMAGENET,
            Backbone::Clip => {
                let [mean, std] = [self.clip_vision.mean, self.clip_vision.std].map(|values| values.map(|v| 255.0 * v));
                Normalisation { mean, std }
            }
        }
    }

    /// Whether any part of the model has SAM's weights.
    pub fn uses_sam(&self) -> bool {
        self.backbone == Backbone::Sam || self.decoder == Decoder::Sam || self.visual_position == VisualPosition::SamDense
    }

    pub(crate) fn validate_backbone(&self) -> Result<(), ConfigError> {
        let (depth, what) = match self.backbone {
            Backbone::Sam => (self.sam.image_encoder.depth, "the encoder's depth"),
            Backbone::Clip => {
                self.clip_vision.validate().map_err(|e| e.below("clip_vision"))?;
                (self.clip_vision.layers, "the encoder's depth")
            }
            Backbone::Swin => {
                self.swin.validate().map_err(|e| e.below("swin"))?;
                (self.swin.stages(), "the number of stages")
            }
        };
        let [a, b, c] = self.taps;
        if a >= b || b >= c || c >= depth {
            let expected = format!("three rising numbers below {what}, {depth}");
            return Err(ConfigError::new("taps", format!("{:?}", self.taps), expected));
        }
        check_multiple(("input_size", self.input_size), ("the pixels per region", self.stride()))?;
        if self.baseline && self.backbone != Backbone::Sam {
            return Err(ConfigError::new("baseline", true, "false unless backbone is \"sam\", for it is SAM itself"));
        }
        Ok(())
    }

    /// The network's input for an image, resized by Pillow's rules, and where the image lies in it.
    ///
    /// # Shapes
    /// output: `3 * S * S` values, [3, S, S]
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn preprocess(&self, image: &Image) -> Result<(Vec<f32>, Letterbox), RisamError> {
        let fit = self.fit();
        let letterbox = Letterbox::new(image.height(), image.width(), self.input_size, fit).map_err(SamError::from)?;
        let small = letterbox.resize_with(image, fit.filter()).map_err(SamError::from)?;
        let values = letterbox.normalise(&small, self.normalisation()).map_err(SamError::from)?;
        Ok((values, letterbox))
    }

    /// The logits that go to the image's own size: those of the input's size, whose padding is cut first; of stretched images,
    /// which have none, the low-resolution ones.
    ///
    /// # Shapes
    /// output: [Q, 1, s, s]; [`Letterbox::rescaled`] to `s` says where the image lies in it
    pub fn answer(&self, output: RisamOutput) -> Tensor<4> {
        if self.fit().is_stretched() { output.low_res } else { output.logits }
    }
}

impl RisamModel {
    /// Starts from Swin's weights: Microsoft's, Hugging Face's or timm's names.
    ///
    /// # Errors
    /// A model on another backbone; a tensor that is missing, superfluous or of another shape.
    pub fn load_swin(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), RisamError> {
        let config = self.config();
        if config.backbone != Backbone::Swin {
            return Err(ConfigError::new("backbone", quoted(&config.backbone), "\"swin\" for Swin's weights").into());
        }
        let (swin, report) = config.swin.load(state_dict, &self.device())?;
        self.image_encoder = ImageBackbone::Swin(swin);
        Ok((self, report))
    }

    /// What the image encoder gives: constants for everything behind unless `train_image_encoder` is set.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S], as [`RisamConfig::preprocess`] makes them
    ///
    /// # Errors
    /// Taps that the encoder does not have, or images of another shape.
    pub fn encode_images(&self, images: Tensor<4>) -> Result<RisamFeatures, RisamError> {
        let config = self.config();
        let frozen = images.device().is_autodiff() && !config.train_image_encoder;
        let images = if frozen { images.inner() } else { images };
        let taps: Vec<Tensor<4>> = match &self.image_encoder {
            ImageBackbone::Sam(sam) => {
                let (embedding, taps) = run(sam, frozen, |sam| sam.forward_taps(images, &config.taps));
                if config.baseline {
                    return Ok(RisamFeatures::Embedding(embedding));
                }
                taps
            }
            ImageBackbone::Clip(clip) => run(clip, frozen, |clip| clip.taps(images, &config.taps))?,
            ImageBackbone::Swin(swin) => {
                let maps = run(swin, frozen, |swin| swin.forward(images))?;
                maps.into_iter().enumerate().filter(|(stage, _)| config.taps.contains(stage)).map(|(_, map)| map).collect()
            }
        };
        let wrong = |t: Vec<_>| {
            ConfigError::new("taps", format!("{:?}", config.taps), format!("3 outputs of the encoder, not {}", t.len()))
        };
        Ok(RisamFeatures::Taps(taps.try_into().map_err(wrong)?))
    }
}

/// Runs an encoder, without gradients where it is frozen.
fn run<M: Module, T>(encoder: &M, frozen: bool, forward: impl FnOnce(&M) -> T) -> T {
    if frozen { forward(&encoder.valid()) } else { forward(encoder) }
}
