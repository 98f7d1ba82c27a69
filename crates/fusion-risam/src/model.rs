//! RISAM with its encoders: images and sentences in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::{Allow, Checkpoint, LoadReport, Names, freeze_unless, load};
use sam_vit::ImageEncoder;
use swin::Swin;
use text_encoders::clip::{ClipText, ClipVision};
use text_encoders::{Padding, TextBatch, TextEncoder, TextTokenizer};

use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::net::{RisamNet, RisamOutput, net_names};
use crate::options::Backbone;

/// All parameters of a RISAM.
#[derive(Module, Debug)]
pub struct RisamModel {
    /// SAM's image encoder. It, or what stands for it with another backbone, is frozen unless `train_image_encoder = true`.
    pub image_encoder: Option<ImageEncoder>,
    /// CLIP's image tower, with `backbone = "clip"`.
    pub clip_vision: Option<ClipVision>,
    /// The Swin Transformer, with `backbone = "swin"`.
    pub swin: Option<Swin>,
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
        let swin = (self.backbone == Backbone::Swin).then(|| self.swin.init(device)).transpose()?;
        Ok(RisamModel {
            image_encoder: (self.backbone == Backbone::Sam).then(|| ImageEncoder::new(&self.sam.image_encoder, device)),
            clip_vision: (self.backbone == Backbone::Clip).then(|| self.clip_vision.init(device)),
            swin,
            text_encoder: self.clip.init(device),
            net: self.init_net(device),
        })
    }
}

impl RisamModel {
    /// From module paths to the names of our checkpoints: the encoder's own (SAM's, CLIP's at Hugging Face, Microsoft's Swin)
    /// behind `image_encoder.`, CLIP's Hugging Face names behind `text_encoder.`, [`net_names`] for the rest.
    pub fn names() -> Names {
        Names::new(&[
            ("^net.", ""),
            ("^clip_vision.", "image_encoder."),
            ("^swin.norms.", "image_encoder.norm"),
            ("^swin.", "image_encoder."),
        ])
        .and(net_names())
        .and(ClipText::names())
        .and(ClipVision::names())
    }

    /// Stops the gradients of what the configuration does not train.
    pub fn freeze(self, config: &RisamConfig) -> Self {
        freeze_unless(self, &Self::names(), |name| config.trains(name))
    }

    /// Fills the model from one of our checkpoints.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, checkpoint: &Checkpoint) -> Result<(Self, LoadReport), RisamError> {
        Ok(load(self, checkpoint, &Self::names(), &Allow::default())?)
    }

    /// Starts from SAM's weights (the authors' naming): the image encoder unless the backbone is another, and what a choice
    /// takes of prompt encoder and mask decoder.
    ///
    /// # Errors
    /// When a tensor of SAM is missing, superfluous or of another shape.
    pub fn load_sam(mut self, checkpoint: &Checkpoint) -> Result<(Self, LoadReport), RisamError> {
        let mut report = LoadReport::default();
        if let Some(encoder) = self.image_encoder {
            let names = sam_vit::facebook_names().with_prefix("image_encoder.");
            let (encoder, found) = load(encoder, checkpoint, &names, &Allow { missing: &[], unused: &UNUSED[1..] })?;
            (self.image_encoder, report) = (Some(encoder), found);
        }
        let (net, rest) = load(self.net, checkpoint, &net_names(), &Allow { missing: OURS, unused: UNUSED })?;
        self.net = net;
        report.matched.extend(rest.matched);
        report.missing = rest.missing;
        report.unused = rest.unused;
        report.unused.retain(|name| !report.matched.contains(name));
        Ok((self, report))
    }

    /// Starts from CLIP's weights: Hugging Face, OpenAI or OpenCLIP names. With `backbone = "clip"` the file's image tower is
    /// taken, too.
    ///
    /// # Errors
    /// When a tensor of a tower is missing, superfluous or of another shape.
    pub fn load_clip(
        mut self,
        config: &RisamConfig,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<(Self, LoadReport), RisamError> {
        let (text_encoder, mut report) = config.clip.load(checkpoint.clone(), device)?;
        self.text_encoder = text_encoder;
        if self.clip_vision.is_some() {
            let (tower, seen) = config.clip_vision.load_taps(checkpoint, device)?;
            self.clip_vision = Some(tower);
            report.missing.extend(seen.missing);
            report.unused.retain(|name| seen.unused.contains(name));
            report.matched.extend(seen.matched);
        }
        Ok((self, report))
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
