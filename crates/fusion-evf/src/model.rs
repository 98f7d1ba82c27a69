//! `EvfModel`: EVF-SAM with its multimodal encoder; images and token ids in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, freeze_unless, halve, load_halving};
use sam_vit::Weights;
use text_encoders::{Padding, TextBatch, TextTokenizer};

use crate::config::EvfConfig;
use crate::encoder::MultimodalEncoder;
use crate::error::EvfError;
use crate::images::EvfImages;
use crate::net::{EvfNet, EvfOutput, check_rows};

/// All parameters of an EVF-SAM.
#[derive(Module, Debug)]
pub struct EvfModel {
    /// The image model and the projector; it holds the configuration.
    pub net: EvfNet,
    /// The multimodal encoder.
    pub mm_extractor: MultimodalEncoder,
}

/// What of B images no sentence changes: [`EvfModel::encode_images`].
#[derive(Debug, Clone)]
pub struct EvfFeatures {
    /// The image model's features, each [B, ..]: see [`Visual::features`](crate::Visual::features).
    pub maps: Vec<Tensor<4>>,
    /// The multimodal encoder's input, [B, 3, s, s]; of size 0 for an encoder that reads text only.
    pub multimodal: Tensor<4>,
}

impl EvfConfig {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`EvfError::Config`] when the settings contradict each other.
    pub fn init(&self, device: &Device) -> Result<EvfModel, EvfError> {
        self.validate()?;
        Ok(EvfModel { net: self.init_net(device)?, mm_extractor: MultimodalEncoder::new(self, device) })
    }

    /// From module paths to the keys of the released checkpoints: `visual_model.*`, `mm_extractor.beit3.*`,
    /// `text_hidden_fcs.0.{0,2}.*`.
    pub fn names(&self) -> KeyMap {
        KeyMap::new(&[("^net.", "")]).and(EvfNet::names(self.visual)).and(MultimodalEncoder::names(self.encoder))
    }
}

/// Whether a linear layer, by its module path, is one of the encoders' blocks, which hold nearly all of the model.
fn in_blocks(path: &str) -> bool {
    let image = path.starts_with("net.visual_model.") && path.contains("image_encoder.") && path.contains("blocks.");
    image || (path.starts_with("mm_extractor.") && path.contains("layers."))
}

impl EvfModel {
    /// What the model was built from.
    pub fn config(&self) -> &EvfConfig {
        self.net.config()
    }

    /// See [`EvfConfig::names`].
    pub fn names(&self) -> KeyMap {
        self.config().names()
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.net.visual_model.device()
    }

    /// Stops the gradients of what the configuration does not train.
    pub fn freeze(self) -> Self {
        let config = self.config().clone();
        freeze_unless(self, &config.names(), |name| config.trains(name))
    }

    /// Fills the model from a released EVF-SAM checkpoint or one of ours.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, state_dict: &StateDict) -> Result<(Self, LoadReport), EvfError> {
        self.load_as(state_dict, Weights::Single)
    }

    /// As [`EvfModel::load`], with the matrices of the encoders' blocks kept as `weights` says: never all of them in f32.
    ///
    /// # Errors
    /// As there; with [`Weights::Half`] also a weight beyond 65504, or a device without f16.
    pub fn load_as(self, state_dict: &StateDict, weights: Weights) -> Result<(Self, LoadReport), EvfError> {
        let (names, halved) = (self.names(), |path: &str| weights == Weights::Half && in_blocks(path));
        Ok(load_halving(self, state_dict, &names, &Allow::default(), &halved)?)
    }

    /// The same model with the matrices of the encoders' blocks rounded to f16: about half the memory. It computes in single
    /// precision as before.
    ///
    /// # Errors
    /// A weight beyond 65504, or a device without f16.
    pub fn with_half_weights(self) -> Result<Self, EvfError> {
        let names = self.names();
        Ok(halve(self, &names, in_blocks)?)
    }

    /// Starts from the weights of SAM, EfficientSAM or SAM-2, in any naming that its crate knows.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load_sam(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), EvfError> {
        let (visual, report) = self.net.visual_model.load(state_dict)?;
        self.net.visual_model = visual;
        Ok((self, report))
    }

    /// Starts from the weights of the chosen encoder: BEiT-3's pretraining file (its tensors lie under `model`), CLIP's or
    /// ViLT's.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load_encoder(mut self, state_dict: &StateDict) -> Result<(Self, LoadReport), EvfError> {
        let (encoder, report) = MultimodalEncoder::load(self.config(), state_dict, &self.device())?;
        self.mm_extractor = encoder;
        Ok((self, report))
    }

    /// Token ids of sentences, padded to the longest. Case is kept; evaluation lowers it first.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn tokens(&self, tokenizer: &dyn TextTokenizer, sentences: &[&str]) -> Result<TextBatch, EvfError> {
        Ok(tokenizer.encode_batch(sentences, self.max_tokens(), Padding::Longest)?)
    }

    /// Most token ids of a sentence, special tokens included; what is beyond is not read.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.mm_extractor.text().max_len().min(self.config().max_tokens)
    }

    /// The vector of each sentence about its image; without a graph where the encoder is not trained.
    ///
    /// # Shapes
    /// `multimodal`: [B, 3, s, s]; output: [Q, D]
    ///
    /// # Errors
    /// Shapes and ids that do not fit.
    pub fn extract(&self, multimodal: Tensor<4>, batch: &TextBatch, image_of: &[usize]) -> Result<Tensor<2>, EvfError> {
        check_rows(multimodal.dims()[0], batch.rows(), image_of)?;
        if self.config().train_encoder || !multimodal.device().is_autodiff() {
            return self.mm_extractor.forward(multimodal, batch, image_of);
        }
        self.mm_extractor.valid().forward(multimodal.inner(), batch, image_of)
    }

    /// What of the images no sentence changes: the image model's features, beside the multimodal encoder's input as it is.
    ///
    /// # Shapes
    /// See [`EvfImages`] and [`EvfFeatures`].
    pub fn encode_images(&self, images: EvfImages) -> EvfFeatures {
        EvfFeatures { maps: self.net.encode(images.sam), multimodal: images.multimodal }
    }

    /// Mask logits of each sentence. `image_of[q]` is the image that sentence q speaks about; an image's features are made
    /// once and shared by its sentences.
    ///
    /// # Shapes
    /// `batch`: [Q, T]; see [`EvfImages`] and [`EvfOutput`].
    ///
    /// # Errors
    /// Numbers or ids that do not fit.
    pub fn forward(&self, images: EvfImages, batch: &TextBatch, image_of: &[usize]) -> Result<EvfOutput, EvfError> {
        check_rows(images.sam.dims()[0], batch.rows(), image_of)?;
        self.forward_features(&self.encode_images(images), batch, image_of)
    }

    /// As [`EvfModel::forward`], from what [`EvfModel::encode_images`] gave.
    ///
    /// # Errors
    /// As [`EvfModel::forward`].
    pub fn forward_features(&self, features: &EvfFeatures, batch: &TextBatch, image_of: &[usize]) -> Result<EvfOutput, EvfError> {
        let EvfFeatures { maps, multimodal } = features.clone();
        let feature = self.extract(multimodal, batch, image_of)?;
        self.net.forward(maps, feature, image_of)
    }
}
