//! The image encoders RISAM can start from (Tab. 7): their taps, grids, inputs and weights.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use nn_ops::weights::{Checkpoint, LoadReport};
use pil_ops::{Filter, Image, resize};
use sam_vit::{Placement, SamError, preprocess_batch};
use text_encoders::clip::ClipVisionConfig;

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::model::RisamModel;
use crate::net::ImageFeatures;
use crate::options::{Backbone, Decoder, VisualPosition};

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

    /// Whether images are stretched to the square input; else they keep their aspect and are padded, as SAM's are.
    pub fn stretches(&self) -> bool {
        self.backbone != Backbone::Sam
    }

    /// Whether any part of the model has SAM's weights.
    pub fn uses_sam(&self) -> bool {
        self.backbone == Backbone::Sam || self.decoder == Decoder::Sam || self.visual_position == VisualPosition::SamDense
    }

    pub(crate) fn validate_backbone(&self) -> Result<(), String> {
        let depth = match self.backbone {
            Backbone::Sam => self.sam.image_encoder.depth,
            Backbone::Clip => {
                self.clip_vision.validate().map_err(|e| format!("clip_vision: {e}"))?;
                self.clip_vision.layers
            }
            Backbone::Swin => {
                self.swin.validate().map_err(|e| format!("swin: {e}"))?;
                self.swin.stages()
            }
        };
        let [a, b, c] = self.taps;
        if a >= b || b >= c || c >= depth {
            let what = if self.backbone == Backbone::Swin { "number of stages" } else { "encoder's depth" };
            return Err(format!("taps {:?} must rise and be below the {what} {depth}", self.taps));
        }
        if self.input_size == 0 || !self.input_size.is_multiple_of(self.stride()) {
            return Err(format!("input_size {} is not a multiple of {}, the pixels per region", self.input_size, self.stride()));
        }
        if self.baseline && self.backbone != Backbone::Sam {
            return Err("baseline = true is SAM itself: it needs backbone = \"sam\"".into());
        }
        Ok(())
    }

    /// The network's input for an image, and where the image lies in it. SAM's is padded; for Swin (bilinear, ImageNet's mean
    /// and deviation) and CLIP (bicubic, CLIP's) Pillow stretches the image to the square, as referring segmenters on these
    /// backbones do.
    ///
    /// # Shapes
    /// output: [1, 3, S, S]
    ///
    /// # Errors
    /// An image that is inconsistent or too thin.
    pub fn preprocess(&self, image: &Image, device: &Device) -> Result<(Tensor<4>, Placement), RisamError> {
        let side = self.input_size;
        match self.backbone {
            Backbone::Sam => {
                let (input, placements) = preprocess_batch(std::slice::from_ref(image), side, device)?;
                let placement = placements.first().copied().ok_or_else(|| SamError::Device("no image was prepared".into()))?;
                Ok((input, placement))
            }
            Backbone::Clip => {
                let small = resize(image, side, side, Filter::Bicubic).map_err(SamError::from)?;
                let (mean, std) = (ClipVisionConfig::MEAN, ClipVisionConfig::STD);
                let values = small.planes(|c, v| (f32::from(v) / 255.0 - mean[c]) / std[c]).map_err(SamError::from)?;
                let input = Tensor::from_data(TensorData::new(values, [1, 3, side, side]), device);
                Ok((input, Placement::stretched(image.height, image.width, side)?))
            }
            Backbone::Swin => {
                let input = swin::preprocess(image, (side, side), device)?;
                Ok((input, Placement::stretched(image.height, image.width, side)?))
            }
        }
    }

    /// Brings low-resolution logits to the image's own size: by way of the input's where that has padding to cut (RISAM sec.
    /// 4.1; the two steps are SAM's), else straight; bilinear.
    ///
    /// # Shapes
    /// [Q, 1, 4h, 4w] -> [Q, 1, height, width]
    pub fn restore(&self, low_res: Tensor<4>, placement: &Placement) -> Tensor<4> {
        if self.stretches() {
            return Resize::BILINEAR.forward(low_res, [placement.original.0, placement.original.1]);
        }
        placement.restore(low_res)
    }
}

impl RisamModel {
    /// Starts from Swin's weights: Microsoft's, Hugging Face's or timm's names.
    ///
    /// # Errors
    /// A model on another backbone; a tensor that is missing, superfluous or of another shape.
    pub fn load_swin(
        mut self,
        config: &RisamConfig,
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<(Self, LoadReport), RisamError> {
        if self.swin.is_none() {
            return Err(RisamError::Config("Swin's weights belong to backbone = \"swin\"".into()));
        }
        let (swin, report) = config.swin.load(checkpoint, device)?;
        self.swin = Some(swin);
        Ok((self, report))
    }

    /// What the image encoder gives: constants for everything behind unless `train_image_encoder` is set.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S], normalised as [`RisamConfig::preprocess`] does
    ///
    /// # Errors
    /// Taps that the encoder does not have, or images of another shape.
    pub fn encode_images(&self, config: &RisamConfig, images: Tensor<4>) -> Result<ImageFeatures, RisamError> {
        let frozen = images.device().is_autodiff() && !config.train_image_encoder;
        let images = if frozen { images.inner() } else { images };
        let (taps, embedding) = match (&self.image_encoder, &self.clip_vision, &self.swin) {
            (Some(sam), ..) => {
                let (embedding, taps) = used(sam, frozen).forward_taps(images, &config.taps);
                (taps, config.baseline.then_some(embedding))
            }
            (_, Some(clip), _) => (used(clip, frozen).taps(images, &config.taps)?, None),
            (.., Some(swin)) => {
                let maps = used(swin, frozen).forward(images)?;
                (
                    maps.into_iter().enumerate().filter(|(stage, _)| config.taps.contains(stage)).map(|(_, map)| map).collect(),
                    None,
                )
            }
            _ => return Err(RisamError::Config("the model has no image encoder".into())),
        };
        let taps = taps.try_into().map_err(|t: Vec<_>| {
            RisamError::Config(format!("taps {:?} name {} outputs of the encoder, not 3", config.taps, t.len()))
        })?;
        Ok(ImageFeatures { taps, embedding })
    }
}

/// An encoder as it is used: without gradients where it is frozen.
fn used<M: Module>(encoder: &M, frozen: bool) -> M {
    if frozen { encoder.valid() } else { encoder.clone() }
}
