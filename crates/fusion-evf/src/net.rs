//! `EvfNet`: EVF-SAM behind its multimodal encoder; a vector per sentence in, mask logits out.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use nn_ops::precision::to_f32;
use nn_ops::resize::Resize;
use nn_ops::rows::select_rows;
use nn_ops::weights::KeyMap;
use sam_vit::{Output, Prompts, Sam};

use crate::config::EvfConfig;
use crate::error::EvfError;

/// From the encoder's vector to one sparse prompt: two linear layers with a ReLU between (EVF-SAM sec. 3.1).
#[derive(Module, Debug)]
pub struct Projector {
    /// D to D.
    pub first: Linear,
    /// D to SAM's prompt width.
    pub second: Linear,
}

impl Projector {
    /// # Shapes
    /// [Q, D] -> [Q, 256]
    pub fn forward(&self, feature: Tensor<2>) -> Tensor<2> {
        self.second.forward(relu(self.first.forward(feature)))
    }
}

/// What a forward pass puts out, one row per sentence.
#[derive(Debug, Clone)]
pub struct EvfOutput {
    /// Mask logits at a quarter of SAM's input, [Q, 1, 256, 256].
    pub low_res: Tensor<4>,
    /// Predicted IoU, [Q, 1]; the paper neither trains nor uses it.
    pub iou: Tensor<2>,
    /// Mask logits at SAM's input size, [Q, 1, 1024, 1024], bilinear.
    pub logits: Tensor<4>,
}

/// EVF-SAM without its multimodal encoder.
#[derive(Module, Debug)]
pub struct EvfNet {
    /// SAM.
    pub visual_model: Sam,
    /// The projector. Released files have a list of one.
    pub text_hidden_fcs: Projector,
    #[module(skip)]
    pub(crate) config: EvfConfig,
}

impl EvfConfig {
    /// A projector with fresh weights.
    pub fn init_projector(&self, device: &Device) -> Projector {
        let width = self.feature_width();
        Projector {
            first: LinearConfig::new(width, width).init(device),
            second: LinearConfig::new(width, self.sam.prompt_dim()).init(device),
        }
    }

    /// A network with fresh weights, without the multimodal encoder.
    pub fn init_net(&self, device: &Device) -> EvfNet {
        EvfNet { visual_model: self.sam.init(device), text_hidden_fcs: self.init_projector(device), config: self.clone() }
    }
}

impl EvfNet {
    /// What it was built from.
    pub fn config(&self) -> &EvfConfig {
        &self.config
    }

    /// From module paths to the keys of the released checkpoints.
    pub fn names() -> KeyMap {
        KeyMap::new(&[("^text_hidden_fcs.first.", "text_hidden_fcs.0.0."), ("^text_hidden_fcs.second.", "text_hidden_fcs.0.2.")])
            .and(sam_vit::facebook_names())
    }

    /// Image embeddings, once per image however many sentences it has; constants for everything behind unless
    /// `train_image_encoder` is set.
    ///
    /// # Shapes
    /// [B, 3, S, S], normalised and padded -> [B, 256, S / 16, S / 16]
    pub fn encode(&self, images: Tensor<4>) -> Tensor<4> {
        if images.device().is_autodiff() && !self.config.train_image_encoder {
            self.visual_model.image_encoder.valid().forward(images.inner())
        } else {
            self.visual_model.image_encoder.forward(images)
        }
    }

    /// Mask logits of each sentence. The prompt is one sparse token, with no padding point, and "no mask" as the dense one;
    /// mask token 0 answers.
    ///
    /// # Shapes
    /// `embeddings`: [B, 256, h, w]; `feature`: [Q, D]; `image_of`: Q numbers below B
    ///
    /// # Errors
    /// Numbers that do not fit.
    pub fn forward(&self, embeddings: Tensor<4>, feature: Tensor<2>, image_of: &[usize]) -> Result<EvfOutput, EvfError> {
        let [images, _, height, width] = embeddings.dims();
        let [sentences, features] = feature.dims();
        if sentences == 0 || features != self.config.feature_width() {
            let expected = format!("[Q, {}] with Q at least 1", self.config.feature_width());
            return Err(EvfError::Shape { what: "features of the sentences", found: vec![sentences, features], expected });
        }
        check_rows(images, sentences, image_of)?;
        let tokens = self.text_hidden_fcs.forward(feature).unsqueeze_dim::<3>(1);
        // Kept embeddings come in single precision.
        let embeddings = embeddings.cast(tokens.dtype());
        let embeddings = if images == 1 { embeddings } else { select_rows(embeddings, image_of) };
        let patch = self.config.sam.image_encoder.patch_size;
        let input = (height * patch, width * patch);
        let prompts = Prompts { tokens: Some(tokens), ..Prompts::default() };
        let (low_res, iou) = self.visual_model.decode(embeddings, prompts, input, Output::Single);
        // Masks and scores leave in single precision.
        let (low_res, iou) = (to_f32(low_res), to_f32(iou));
        let logits = Resize::BILINEAR.forward(low_res.clone(), [input.0, input.1]);
        Ok(EvfOutput { low_res, iou, logits })
    }
}

/// Fails unless `image_of` names an image for each sentence.
pub(crate) fn check_rows(images: usize, sentences: usize, image_of: &[usize]) -> Result<(), EvfError> {
    if image_of.len() == sentences && image_of.iter().all(|i| *i < images) {
        return Ok(());
    }
    let expected = format!("{sentences} numbers below {images}");
    Err(EvfError::Shape { what: "image_of", found: image_of.to_vec(), expected })
}
