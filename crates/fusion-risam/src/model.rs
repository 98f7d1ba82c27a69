//! `RisamModel`: RISAM with its encoders; images and token ids in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, freeze_unless, halve, load, load_halving};
use sam_vit::Weights;
use text_encoders::clip::ClipText;
use text_encoders::{Padding, TextBatch, TextEncoder, TextTokenizer};

use crate::backbone::ImageBackbone;
use crate::config::RisamConfig;
use crate::error::RisamError;
use crate::features::RisamFeatures;
use crate::net::{RisamNet, RisamOutput};

/// All parameters of a RISAM.
#[derive(Module, Debug)]
pub struct RisamModel {
    /// The image encoder; frozen unless `train_image_encoder = true`.
    pub image_encoder: ImageBackbone,
    /// CLIP's text tower; frozen unless `text_frozen = false`.
    pub text_encoder: ClipText,
    /// What is trained; it holds the configuration.
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
        self.validate()?;
        Ok(RisamModel {
            image_encoder: ImageBackbone::new(self, device)?,
            text_encoder: self.clip.init(device),
            net: self.init_net(device),
        })
    }
}

/// Whether a linear layer, by its module path, is one of the encoders' blocks, which hold nearly all of the model.
fn in_blocks(path: &str) -> bool {
    let image = path.starts_with("image_encoder.") && (path.contains("blocks.") || path.contains("layers."));
    image || (path.starts_with("text_encoder.") && path.contains("layers."))
}

impl RisamModel {
    /// What the model was built from.
    pub fn config(&self) -> &RisamConfig {
        self.net.config()
    }

    /// See [`RisamConfig::names`].
    pub fn names(&self) -> KeyMap {
        self.config().names()
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.text_encoder.device()
    }

    /// Stops the gradients of what the configuration does not train.
    pub fn freeze(self) -> Self {
        let config = self.config().clone();
        freeze_unless(self, &config.names(), |name| config.trains(name))
    }

    /// Fills the model from one of our checkpoints.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, state_dict: &StateDict) -> Result<(Self, LoadReport), RisamError> {
        self.load_as(state_dict, Weights::Single)
    }

    /// As [`RisamModel::load`], with the matrices of the encoders' blocks kept as `weights` says: never all of them in f32.
    ///
    /// # Errors
    /// As there; with [`Weights::Half`] also a weight beyond 65504, or a device without f16.
    pub fn load_as(self, state_dict: &StateDict, weights: Weights) -> Result<(Self, LoadReport), RisamError> {
        let (names, halved) = (self.names(), |path: &str| weights == Weights::Half && in_blocks(path));
        Ok(load_halving(self, state_dict, &names, &Allow::default(), &halved)?)
    }

    /// The same model with the matrices of the encoders' blocks rounded to f16: about half the memory. It computes in single
    /// precision as before.
    ///
    /// # Errors
    /// A weight beyond 65504, or a device without f16.
    pub fn with_half_weights(self) -> Result<Self, RisamError> {
        let names = self.names();
        Ok(halve(self, &names, in_blocks)?)
    }

    /// Starts from SAM's weights (the authors' naming): the image encoder unless the backbone is another, and what a choice
    /// takes of prompt encoder and mask decoder.
    ///
    /// # Errors
    /// When a tensor of SAM is missing, superfluous or of another shape.
    pub fn load_sam(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), RisamError> {
        let mut report = LoadReport::default();
        self.image_encoder = match self.image_encoder {
            ImageBackbone::Sam(encoder) => {
                let names = sam_vit::facebook_names().with_prefix("image_encoder.");
                let (encoder, found) = load(encoder, state_dict, &names, &Allow { missing: &[], unused: &UNUSED[1..] })?;
                report = found;
                ImageBackbone::Sam(encoder)
            }
            other => other,
        };
        let (net, rest) = load(self.net, state_dict, &RisamNet::names(), &Allow { missing: OURS, unused: UNUSED })?;
        self.net = net;
        Ok((self, report.and(rest)))
    }

    /// Starts from CLIP's weights: Hugging Face, OpenAI or OpenCLIP names. With `backbone = "clip"` the file's image tower is
    /// taken, too.
    ///
    /// # Errors
    /// When a tensor of a tower is missing, superfluous or of another shape.
    pub fn load_encoder(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), RisamError> {
        let device = self.device();
        let (encoder, mut report) = self.config().clip.load(state_dict.clone(), &device)?;
        self.text_encoder = encoder;
        if matches!(self.image_encoder, ImageBackbone::Clip(_)) {
            let (tower, seen) = self.config().clip_vision.load_taps(state_dict.clone(), &device)?;
            self.image_encoder = ImageBackbone::Clip(tower);
            report = report.and(seen);
        }
        Ok((self, report))
    }

    /// Token ids of sentences, cut to the configuration's number and padded to it. Attention is causal, so features do not
    /// depend on the length of the row.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn tokens(&self, tokenizer: &dyn TextTokenizer, sentences: &[&str]) -> Result<TextBatch, RisamError> {
        Ok(tokenizer.encode_batch(sentences, self.max_tokens(), Padding::Max)?)
    }

    /// Most token ids of a sentence, special tokens included; what is beyond is not read.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.config().max_tokens()
    }

    /// F_l: each word after the last norm of the text encoder, before any projection unless `clip.project_tokens`. CRIS
    /// takes words so; the projection is trained on the end-of-text vector only.
    ///
    /// # Shapes
    /// output: [Q, L, text width]
    ///
    /// # Errors
    /// Ids that the table lacks.
    pub fn encode_text(&self, batch: &TextBatch) -> Result<Tensor<3>, RisamError> {
        let frozen = self.config().text_frozen;
        let features = if frozen { self.text_encoder.valid().encode(batch) } else { self.text_encoder.encode(batch) };
        Ok(features?.tokens)
    }

    /// Mask logits of each sentence. `image_of[q]` is the image that sentence q speaks about; an image is encoded and
    /// enhanced once.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S], as [`RisamConfig::preprocess`] makes them; `batch`: [Q, L]; output: see [`RisamOutput`]
    ///
    /// # Errors
    /// Numbers or ids that do not fit.
    pub fn forward(&self, images: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<RisamOutput, RisamError> {
        self.forward_features(&self.encode_images(images)?, batch, image_of)
    }

    /// As [`RisamModel::forward`], from what [`RisamModel::encode_images`] gave.
    ///
    /// # Errors
    /// As [`RisamModel::forward`].
    pub fn forward_features(
        &self,
        features: &RisamFeatures,
        batch: &TextBatch,
        image_of: &[usize],
    ) -> Result<RisamOutput, RisamError> {
        self.net.forward(features, image_of, self.encode_text(batch)?, batch.lengths())
    }
}
