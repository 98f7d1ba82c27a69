//! DIT with its text encoder: sentences in, mask logits out.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, load};
use text_encoders::TextTokenizer;

use crate::config::DitConfig;
use crate::error::DitError;
use crate::net::{DitNet, DitOutput, released_names};
use crate::text::TextTower;

/// All parameters of a DIT.
#[derive(Module, Debug)]
pub struct DitModel {
    /// SAM with text slots.
    pub net: DitNet,
    /// The text encoder.
    pub lang_encoder: TextTower,
}

/// Parameters of the released files that no computation uses (sheet sec. 1).
const UNUSED: &[&str] = &["query_embeddings", "self_attention.*"];

impl DitConfig {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`DitError::Config`] when the sizes contradict each other.
    pub fn init(&self, device: &Device) -> Result<DitModel, DitError> {
        self.validate().map_err(DitError::Config)?;
        Ok(DitModel { net: self.init_net(device), lang_encoder: TextTower::new(self, device)? })
    }

    /// From module paths to the keys of the released checkpoints, without the `module.` of distributed training.
    pub fn names(&self) -> KeyMap {
        KeyMap::new(&[("^net.", "")]).and(released_names()).and(TextTower::names(self.text_encoder))
    }
}

impl DitModel {
    /// Fills the model from a released DIT checkpoint or one of ours.
    ///
    /// # Errors
    /// When any tensor is missing, superfluous or of another shape.
    pub fn load(self, config: &DitConfig, checkpoint: StateDict) -> Result<(Self, LoadReport), DitError> {
        let checkpoint = checkpoint.strip_prefix("state_dict.")?.strip_prefix("module.")?;
        Ok(load(self, &checkpoint, &config.names(), &Allow { missing: &[], unused: UNUSED })?)
    }

    /// Starts from SAM's weights; what DIT adds stays as initialised.
    ///
    /// # Errors
    /// When a tensor of SAM is missing, superfluous or of another shape.
    pub fn load_sam(mut self, checkpoint: StateDict) -> Result<(Self, LoadReport), DitError> {
        let checkpoint = checkpoint.rename(|n| Some(n.replacen("image_encoder.", "visual_encoder.", 1)))?;
        let new = [
            "visual_encoder.probs.*",
            "visual_encoder.prob_text.*",
            "visual_encoder.tokens",
            "visual_encoder.cross.*",
            "visual_encoder.ln.*",
            "text_proj.*",
            "mask_decoder.transformer.layers.*",
        ];
        let (net, report) = load(self.net, &checkpoint, &released_names(), &Allow { missing: &new, unused: &[] })?;
        self.net = net;
        Ok((self, report))
    }

    /// Mask logits of each image under its own sentence.
    ///
    /// # Shapes
    /// `images`: [B, 3, H, W], normalised and padded; output: see [`DitOutput`]
    ///
    /// # Errors
    /// A sentence without words, or a tokenizer that does not fit the text encoder.
    pub fn forward(
        &self,
        config: &DitConfig,
        tokenizer: &dyn TextTokenizer,
        images: Tensor<4>,
        sentences: &[&str],
    ) -> Result<DitOutput, DitError> {
        let text = self.lang_encoder.read(tokenizer, sentences, config.text_tokens)?;
        Ok(self.net.forward(config, images, text))
    }

    /// Where each token of the text looks in each block of the image encoder; see [`DitNet::attention`].
    ///
    /// # Shapes
    /// `images`: [B, 3, H, W], normalised and padded; output: a [B, L, h, w] a block
    ///
    /// # Errors
    /// As [`DitModel::forward`].
    pub fn attention(
        &self,
        config: &DitConfig,
        tokenizer: &dyn TextTokenizer,
        images: Tensor<4>,
        sentences: &[&str],
    ) -> Result<Vec<Tensor<4>>, DitError> {
        let text = self.lang_encoder.read(tokenizer, sentences, config.text_tokens)?;
        Ok(self.net.attention(config, images, text))
    }
}
