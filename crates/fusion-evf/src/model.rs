//! EVF-SAM with its multimodal encoder: images and sentences in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, freeze_unless, load};
use sam_vit::{Naming, load_facebook, load_hugging_face};
use text_encoders::{Padding, TextBatch, TextTokenizer};

use crate::config::{Encoder, EvfConfig};
use crate::encoder::MultimodalEncoder;
use crate::error::EvfError;
use crate::images::EvfImages;
use crate::net::{EvfNet, EvfOutput, check_rows, net_names};

/// All parameters of an EVF-SAM.
#[derive(Module, Debug)]
pub struct EvfModel {
    /// SAM and the projector.
    pub net: EvfNet,
    /// The multimodal encoder.
    pub mm_extractor: MultimodalEncoder,
}

impl EvfConfig {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`EvfError::Config`] when the settings contradict each other.
    pub fn init(&self, device: &Device) -> Result<EvfModel, EvfError> {
        self.validate().map_err(EvfError::Config)?;
        Ok(EvfModel { net: self.init_net(device), mm_extractor: MultimodalEncoder::new(self, device) })
    }
}

impl EvfModel {
    /// From module paths to the keys of the released checkpoints: `visual_model.*`, `mm_extractor.beit3.*`,
    /// `text_hidden_fcs.0.{0,2}.*`.
    pub fn names(encoder: Encoder) -> KeyMap {
        KeyMap::new(&[("^net.", "")]).and(net_names()).and(MultimodalEncoder::names(encoder))
    }

    /// Stops the gradients of what the configuration does not train.
    pub fn freeze(self, config: &EvfConfig) -> Self {
        freeze_unless(self, &Self::names(config.encoder), |name| config.trains(name))
    }

    /// Fills the model from a released EVF-SAM checkpoint or one of ours.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, config: &EvfConfig, checkpoint: &StateDict) -> Result<(Self, LoadReport), EvfError> {
        Ok(load(self, checkpoint, &Self::names(config.encoder), &Allow::default())?)
    }

    /// Starts from SAM's weights, in either naming.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load_sam(mut self, checkpoint: &StateDict) -> Result<(Self, LoadReport), EvfError> {
        let sam = self.net.visual_model;
        let (sam, report) = match Naming::of(checkpoint)? {
            Naming::Facebook => load_facebook(sam, checkpoint)?,
            Naming::HuggingFace => load_hugging_face(sam, checkpoint)?,
        };
        self.net.visual_model = sam;
        Ok((self, report))
    }

    /// Starts from the weights of the chosen encoder: BEiT-3's pretraining file (its tensors lie under `model`), CLIP's or
    /// ViLT's.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load_encoder(
        mut self,
        config: &EvfConfig,
        checkpoint: &StateDict,
        device: &Device,
    ) -> Result<(Self, LoadReport), EvfError> {
        let encoder = &mut self.mm_extractor;
        let mut reports = Vec::new();
        if encoder.beit3.is_some() {
            let (beit3, report) = config.beit3.load(checkpoint, device)?;
            encoder.beit3 = Some(beit3);
            reports.push(report);
        }
        if encoder.vilt.is_some() {
            let (vilt, report) = config.vilt.load(checkpoint.clone(), device)?;
            encoder.vilt = Some(vilt);
            reports.push(report);
        }
        if encoder.clip_text.is_some() {
            let (text, report) = config.clip_text.load(checkpoint.clone(), device)?;
            encoder.clip_text = Some(text);
            reports.push(report);
        }
        if encoder.clip_vision.is_some() {
            let (vision, report) = config.clip_vision.load(checkpoint.clone(), device)?;
            encoder.clip_vision = Some(vision);
            reports.push(report);
        }
        let mut all = LoadReport::default();
        for report in reports {
            all.matched.extend(report.matched);
            all.missing.extend(report.missing);
            all.unused.extend(report.unused);
        }
        all.unused.retain(|name| !all.matched.contains(name));
        Ok((self, all))
    }

    /// Token ids of sentences, padded to the longest. Case is kept; evaluation lowers it first.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn tokens(&self, config: &EvfConfig, tokenizer: &dyn TextTokenizer, sentences: &[&str]) -> Result<TextBatch, EvfError> {
        let most = self.mm_extractor.text().map_or(config.max_tokens, |e| e.max_len().min(config.max_tokens));
        Ok(tokenizer.encode_batch(sentences, most, Padding::Longest)?)
    }

    /// The vector of each sentence about its image; without a graph where the encoder is not trained.
    ///
    /// # Shapes
    /// `multimodal`: [B, 3, s, s]; output: [Q, D]
    ///
    /// # Errors
    /// Shapes and ids that do not fit.
    pub fn extract(
        &self,
        config: &EvfConfig,
        multimodal: Tensor<4>,
        batch: &TextBatch,
        image_of: &[usize],
    ) -> Result<Tensor<2>, EvfError> {
        check_rows(multimodal.dims()[0], batch.rows(), image_of)?;
        if config.train_encoder || !multimodal.device().is_autodiff() {
            return self.mm_extractor.forward(config, multimodal, batch, image_of);
        }
        self.mm_extractor.valid().forward(config, multimodal.inner(), batch, image_of)
    }

    /// Mask logits of each sentence. `image_of[q]` is the image that sentence q speaks about; an image's embedding is made
    /// once and shared by its sentences.
    ///
    /// # Shapes
    /// See [`EvfImages`] and [`EvfOutput`].
    ///
    /// # Errors
    /// A sentence without words, or numbers that do not fit.
    pub fn forward(
        &self,
        config: &EvfConfig,
        tokenizer: &dyn TextTokenizer,
        images: &EvfImages,
        sentences: &[&str],
        image_of: &[usize],
    ) -> Result<EvfOutput, EvfError> {
        let batch = self.tokens(config, tokenizer, sentences)?;
        let feature = self.extract(config, images.multimodal.clone(), &batch, image_of)?;
        self.net.forward(config, self.net.embed(config, images.sam.clone()), feature, image_of)
    }
}
