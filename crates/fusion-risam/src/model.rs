//! RISAM with its encoders: images and sentences in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, freeze_unless, load};
use sam_vit::ImageEncoder;
use text_encoders::clip::ClipText;
use text_encoders::{Padding, TextBatch, TextEncoder, TextTokenizer};

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::net::{ImageFeatures, RisamNet, RisamOutput, net_names};

/// All parameters of a RISAM.
#[derive(Module, Debug)]
pub struct RisamModel {
    /// SAM's image encoder; frozen unless `train_image_encoder = true`.
    pub image_encoder: ImageEncoder,
    /// CLIP's text tower; frozen unless `text_frozen = false`.
    pub text_encoder: ClipText,
    /// What is trained.
    pub net: RisamNet,
}

/// What SAM's files do not hold.
const OURS: &[&str] = &[
    "linguistic_position",
    "fe.*",
    "ma.*",
    "ma_conv.*",
    "ma_te.*",
    "query",
    "decoder.*",
    "up1*",
    "up2*",
    "mask_mlp.*",
    "vlt.*",
    "text_proj.*",
];
/// What of SAM's files RISAM may leave unused.
const UNUSED: &[&str] = &["image_encoder.*", "prompt_encoder.*", "mask_decoder.*", "pixel_mean", "pixel_std"];

impl RisamConfig {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`RisamError::Config`] when the settings contradict each other.
    pub fn init(&self, device: &Device) -> Result<RisamModel, RisamError> {
        self.validate().map_err(RisamError::Config)?;
        Ok(RisamModel {
            image_encoder: ImageEncoder::new(&self.sam.image_encoder, device),
            text_encoder: self.clip.init(device),
            net: self.init_net(device),
        })
    }
}

impl RisamModel {
    /// From module paths to the names of our checkpoints: SAM's for its encoder, CLIP's Hugging Face names behind
    /// `text_encoder.`, [`net_names`] for the rest.
    pub fn names() -> KeyMap {
        KeyMap::new(&[("^net.", "")]).and(net_names()).and(ClipText::names())
    }

    /// Stops the gradients of what the configuration does not train.
    pub fn freeze(self, config: &RisamConfig) -> Self {
        freeze_unless(self, &Self::names(), |name| config.trains(name))
    }

    /// Fills the model from one of our checkpoints.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, checkpoint: &StateDict) -> Result<(Self, LoadReport), RisamError> {
        Ok(load(self, checkpoint, &Self::names(), &Allow::default())?)
    }

    /// Starts from SAM's weights (the authors' naming): the image encoder, and what a choice takes of prompt encoder and
    /// mask decoder.
    ///
    /// # Errors
    /// When a tensor of SAM is missing, superfluous or of another shape.
    pub fn load_sam(mut self, checkpoint: &StateDict) -> Result<(Self, LoadReport), RisamError> {
        let encoder = sam_vit::facebook_names().with_prefix("image_encoder.");
        let (image_encoder, mut report) =
            load(self.image_encoder, checkpoint, &encoder, &Allow { missing: &[], unused: &UNUSED[1..] })?;
        let (net, rest) = load(self.net, checkpoint, &net_names(), &Allow { missing: OURS, unused: UNUSED })?;
        (self.image_encoder, self.net) = (image_encoder, net);
        report.matched.extend(rest.matched);
        report.missing = rest.missing;
        report.unused.retain(|name| !report.matched.contains(name));
        Ok((self, report))
    }

    /// Starts from CLIP's weights: Hugging Face, OpenAI or OpenCLIP names.
    ///
    /// # Errors
    /// When a tensor of the text tower is missing, superfluous or of another shape.
    pub fn load_clip(
        mut self,
        config: &RisamConfig,
        checkpoint: StateDict,
        device: &Device,
    ) -> Result<(Self, LoadReport), RisamError> {
        let report;
        (self.text_encoder, report) = config.clip.load(checkpoint, device)?;
        Ok((self, report))
    }

    /// What the image encoder gives: constants for everything behind unless `train_image_encoder` is set.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S], normalised and padded
    ///
    /// # Errors
    /// Taps that the encoder does not have.
    pub fn encode_images(&self, config: &RisamConfig, images: Tensor<4>) -> Result<ImageFeatures, RisamError> {
        let (embedding, taps) = if images.device().is_autodiff() && !config.train_image_encoder {
            self.image_encoder.valid().forward_taps(images.inner(), &config.taps)
        } else {
            self.image_encoder.forward_taps(images, &config.taps)
        };
        let taps = taps.try_into().map_err(|t: Vec<_>| {
            RisamError::Config(format!("taps {:?} name {} blocks of the encoder, not 3", config.taps, t.len()))
        })?;
        Ok(ImageFeatures { taps, embedding: config.baseline.then_some(embedding) })
    }

    /// F_l: each word after the last norm of the text encoder, before any projection unless `clip.project_tokens`. CRIS
    /// takes words so; the projection is trained on the end-of-text vector only.
    ///
    /// # Shapes
    /// output: [Q, L, text width]
    ///
    /// # Errors
    /// Ids that the table lacks.
    pub fn encode_text(&self, config: &RisamConfig, batch: &TextBatch) -> Result<Tensor<3>, RisamError> {
        let features = if config.text_frozen { self.text_encoder.valid().encode(batch) } else { self.text_encoder.encode(batch) };
        Ok(features?.tokens)
    }

    /// Token ids of sentences, cut to the configuration's number and padded to it. Attention is causal, so features do not
    /// depend on the length of the row.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn tokens(config: &RisamConfig, tokenizer: &dyn TextTokenizer, sentences: &[&str]) -> Result<TextBatch, RisamError> {
        Ok(tokenizer.encode_batch(sentences, config.max_tokens(), Padding::Max)?)
    }

    /// Mask logits of each sentence: Q sentences on one image or on Q.
    ///
    /// # Shapes
    /// `images`: [1 or Q, 3, S, S], normalised and padded; output: see [`RisamOutput`]
    ///
    /// # Errors
    /// A sentence without words, or numbers that do not fit.
    pub fn forward(
        &self,
        config: &RisamConfig,
        tokenizer: &dyn TextTokenizer,
        images: Tensor<4>,
        sentences: &[&str],
    ) -> Result<RisamOutput, RisamError> {
        let batch = Self::tokens(config, tokenizer, sentences)?;
        let text = self.encode_text(config, &batch)?;
        let image = self.encode_images(config, images)?;
        let shared = image.taps[2].dims()[0] == 1;
        let image_of: Vec<usize> = (0..sentences.len()).map(|row| if shared { 0 } else { row }).collect();
        self.net.forward(config, &image, &image_of, text, batch.lengths())
    }
}
