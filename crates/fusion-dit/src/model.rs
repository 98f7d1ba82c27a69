//! `DitModel`: DIT with its text encoder; images and token ids in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::rows::select_rows;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, freeze_unless, halve, load, load_halving};
use sam_vit::Weights;
use text_encoders::{Padding, TextBatch, TextEncoder, TextTokenizer};

use crate::config::{DitConfig, TextKind};
use crate::error::DitError;
use crate::net::{DitNet, DitOutput};
use crate::text::TextTower;

/// All parameters of a DIT.
#[derive(Module, Debug)]
pub struct DitModel {
    /// SAM with text slots; it holds the configuration.
    pub net: DitNet,
    /// The text encoder.
    pub lang_encoder: TextTower,
}

/// What of B images no sentence changes: [`DitModel::encode_images`].
#[derive(Debug, Clone)]
pub enum DitFeatures {
    /// Nothing but the input itself, [B, 3, H, W], where text runs through the image encoder.
    Input(Tensor<4>),
    /// SAM's image embedding, [B, 256, h, w], where it does not.
    Embedding(Tensor<4>),
}

impl DitFeatures {
    /// Number of images.
    pub fn images(&self) -> usize {
        match self {
            Self::Input(map) | Self::Embedding(map) => map.dims()[0],
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Input(map) | Self::Embedding(map) => map.device(),
        }
    }

    /// The image of each sentence.
    pub(crate) fn rows(&self, image_of: &[usize]) -> Self {
        match self {
            Self::Input(input) => Self::Input(select_rows(input.clone(), image_of)),
            // The decoder shares a single embedding between prompts.
            Self::Embedding(map) if map.dims()[0] == 1 => self.clone(),
            Self::Embedding(map) => Self::Embedding(select_rows(map.clone(), image_of)),
        }
    }
}

/// Parameters of the released files that no computation uses.
const UNUSED: &[&str] = &["query_embeddings", "self_attention.*"];

impl DitConfig {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`DitError::Config`] when the settings contradict each other.
    pub fn init(&self, device: &Device) -> Result<DitModel, DitError> {
        self.validate()?;
        Ok(DitModel { net: self.init_net(device), lang_encoder: TextTower::new(self, device) })
    }

    /// From module paths to the keys of the released checkpoints, without the `module.` of distributed training.
    pub fn names(&self) -> KeyMap {
        KeyMap::new(&[("^net.", "")]).and(DitNet::names()).and(TextTower::names(self.text_encoder))
    }
}

/// Whether a linear layer, by its module path, is one of the encoders' blocks, which hold nearly all of the model.
fn in_blocks(path: &str) -> bool {
    path.starts_with("net.visual_encoder.blocks.") || (path.starts_with("lang_encoder.") && path.contains("layers."))
}

impl DitModel {
    /// What the model was built from.
    pub fn config(&self) -> &DitConfig {
        self.net.config()
    }

    /// See [`DitConfig::names`].
    pub fn names(&self) -> KeyMap {
        self.config().names()
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.net.visual_encoder.pos_embed.lazy_device()
    }

    /// Stops the gradients of what the configuration does not train.
    pub fn freeze(self) -> Self {
        let config = self.config().clone();
        freeze_unless(self, &config.names(), |name| config.trains(name))
    }

    /// Fills the model from a released DIT checkpoint or one of ours.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, state_dict: &StateDict) -> Result<(Self, LoadReport), DitError> {
        self.load_as(state_dict, Weights::Single)
    }

    /// As [`DitModel::load`], with the matrices of the encoders' blocks kept as `weights` says: never all of them in f32.
    ///
    /// # Errors
    /// As there; with [`Weights::Half`] also a weight beyond 65504, or a device without f16.
    pub fn load_as(self, state_dict: &StateDict, weights: Weights) -> Result<(Self, LoadReport), DitError> {
        let state_dict = state_dict.clone().strip_prefix("state_dict.")?.strip_prefix("module.")?;
        let (names, halved) = (self.names(), |path: &str| weights == Weights::Half && in_blocks(path));
        Ok(load_halving(self, &state_dict, &names, &Allow { missing: &[], unused: UNUSED }, &halved)?)
    }

    /// The same model with the matrices of the encoders' blocks rounded to f16: about half the memory. It computes in single
    /// precision as before.
    ///
    /// # Errors
    /// A weight beyond 65504, or a device without f16.
    pub fn with_half_weights(self) -> Result<Self, DitError> {
        let names = self.names();
        Ok(halve(self, &names, in_blocks)?)
    }

    /// Starts from SAM's weights (the authors' naming); what DIT adds stays as initialised.
    ///
    /// # Errors
    /// When a tensor of SAM is missing, superfluous or of another shape.
    pub fn load_sam(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), DitError> {
        let state_dict = state_dict.clone().rename(|n| Some(n.replacen("image_encoder.", "visual_encoder.", 1)))?;
        let new = [
            "visual_encoder.probs.*",
            "visual_encoder.prob_text.*",
            "visual_encoder.tokens",
            "visual_encoder.cross.*",
            "visual_encoder.ln.*",
            "text_proj.*",
            "mask_decoder.transformer.layers.*",
        ];
        let (net, report) = load(self.net, &state_dict, &DitNet::names(), &Allow { missing: &new, unused: &[] })?;
        self.net = net;
        Ok((self, report))
    }

    /// Starts from the weights of the chosen text encoder: BERT's under Hugging Face names, or CLIP's under Hugging Face,
    /// OpenAI or OpenCLIP names.
    ///
    /// # Errors
    /// When a tensor of the text encoder is missing, superfluous or of another shape.
    pub fn load_encoder(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), DitError> {
        let (config, device) = (self.config(), self.device());
        let (encoder, report) = match config.text_encoder {
            TextKind::Bert => {
                let (bert, report) = config.bert.load(state_dict.clone(), &device)?;
                (TextTower::Bert(bert), report)
            }
            TextKind::Clip => {
                let (clip, report) = config.clip.load(state_dict.clone(), &device)?;
                (TextTower::Clip(clip), report)
            }
        };
        self.lang_encoder = encoder;
        Ok((self, report))
    }

    /// Token ids of sentences, cut to the configuration's number and padded to it.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn tokens(&self, tokenizer: &dyn TextTokenizer, sentences: &[&str]) -> Result<TextBatch, DitError> {
        Ok(tokenizer.encode_batch(sentences, self.max_tokens(), Padding::Max)?)
    }

    /// Most token ids of a sentence, special tokens included; what is beyond is not read.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.config().text_tokens
    }

    /// Text features, padding included.
    ///
    /// # Shapes
    /// output: [Q, L, text_dim]
    ///
    /// # Errors
    /// Ids that the table lacks.
    pub fn encode_text(&self, batch: &TextBatch) -> Result<Tensor<3>, DitError> {
        Ok(self.lang_encoder.encode(batch)?.tokens)
    }

    /// What of the images no sentence changes: SAM's embedding if text stays out of the image encoder, else the input.
    ///
    /// # Shapes
    /// `images`: [B, 3, H, W], normalised and padded
    pub fn encode_images(&self, images: Tensor<4>) -> DitFeatures {
        match self.net.instruction {
            Some(_) => DitFeatures::Input(images),
            None => DitFeatures::Embedding(self.net.encode(images, None)),
        }
    }

    /// Mask logits of each sentence. `image_of[q]` is the image that sentence q speaks about.
    ///
    /// # Shapes
    /// `images`: [B, 3, H, W], normalised and padded; `batch`: [Q, L]; output: see [`DitOutput`]
    ///
    /// # Errors
    /// Numbers or ids that do not fit.
    pub fn forward(&self, images: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<DitOutput, DitError> {
        check_rows(images.dims()[0], batch.rows(), image_of)?;
        self.forward_features(&self.encode_images(images), batch, image_of)
    }

    /// As [`DitModel::forward`], from what [`DitModel::encode_images`] gave.
    ///
    /// # Errors
    /// As [`DitModel::forward`].
    pub fn forward_features(&self, features: &DitFeatures, batch: &TextBatch, image_of: &[usize]) -> Result<DitOutput, DitError> {
        check_rows(features.images(), batch.rows(), image_of)?;
        let text = self.encode_text(batch)?;
        Ok(match features.rows(image_of) {
            DitFeatures::Input(images) => self.net.forward(images, text),
            DitFeatures::Embedding(map) => self.net.decode(map, self.net.text_prompts(text)),
        })
    }

    /// Where each token of the text attends in each block of the image encoder; see [`DitNet::attention`].
    ///
    /// # Shapes
    /// `images`: [Q, 3, H, W], normalised and padded; `batch`: [Q, L]; output: one [Q, L, h, w] per block
    ///
    /// # Errors
    /// As [`DitModel::forward`].
    pub fn attention(&self, images: Tensor<4>, batch: &TextBatch) -> Result<Vec<Tensor<4>>, DitError> {
        let image_of: Vec<usize> = (0..batch.rows()).collect();
        check_rows(images.dims()[0], batch.rows(), &image_of)?;
        Ok(self.net.attention(images, self.encode_text(batch)?))
    }
}

/// Fails unless `image_of` names an image for each sentence.
pub(crate) fn check_rows(images: usize, sentences: usize, image_of: &[usize]) -> Result<(), DitError> {
    if image_of.len() == sentences && image_of.iter().all(|i| *i < images) {
        return Ok(());
    }
    let expected = format!("{sentences} numbers below {images}");
    Err(DitError::Shape { what: "image_of", found: image_of.to_vec(), expected })
}
