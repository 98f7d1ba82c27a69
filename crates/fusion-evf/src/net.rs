//! `EvfNet`: EVF-SAM behind its multimodal encoder; a vector per sentence in, mask logits out.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use nn_ops::precision::to_f32;
use nn_ops::resize::Resize;
use nn_ops::weights::KeyMap;
use sam_vit::Prompts;
use sam2::Answer;

use crate::config::EvfConfig;
use crate::error::EvfError;
use crate::visual::{Visual, VisualKind};

/// From the encoder's vector to one sparse prompt: two linear layers with a ReLU between (EVF-SAM sec. 3.1).
#[derive(Module, Debug)]
pub struct Projector {
    /// D to D.
    pub first: Linear,
    /// D to the image model's prompt width.
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
    /// Mask logits at a quarter of the image model's input, [Q, 1, 256, 256].
    pub low_res: Tensor<4>,
    /// Predicted IoU, [Q, 1]; the paper neither trains nor uses it.
    pub iou: Tensor<2>,
    /// Mask logits of the whole input, [Q, 1, s, s]: a pixel stands for s / S of the input's side S. SAM's are at that side,
    /// 1024, from which the padding is cut; those of stretched inputs stay at a quarter, from where one bilinear step leads to
    /// the photograph.
    pub logits: Tensor<4>,
}

/// EVF-SAM without its multimodal encoder.
#[derive(Module, Debug)]
pub struct EvfNet {
    /// The image model.
    pub visual_model: Visual,
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
            second: LinearConfig::new(width, self.prompt_dim()).init(device),
        }
    }

    /// A network with fresh weights, without the multimodal encoder.
    ///
    /// # Errors
    /// Sizes that contradict each other.
    pub fn init_net(&self, device: &Device) -> Result<EvfNet, EvfError> {
        let visual_model = Visual::new(self, device)?;
        Ok(EvfNet { visual_model, text_hidden_fcs: self.init_projector(device), config: self.clone() })
    }
}

impl EvfNet {
    /// What it was built from.
    pub fn config(&self) -> &EvfConfig {
        &self.config
    }

    /// From module paths to the keys of the released checkpoints.
    pub fn names(visual: VisualKind) -> KeyMap {
        KeyMap::new(&[("^text_hidden_fcs.first.", "text_hidden_fcs.0.0."), ("^text_hidden_fcs.second.", "text_hidden_fcs.0.2.")])
            .and(Visual::names(visual))
    }

    /// Features of images, once per image however many sentences it has; constants for everything behind unless
    /// `train_image_encoder` is set.
    ///
    /// # Shapes
    /// [B, 3, S, S], normalised; output: see [`Visual::features`]
    pub fn encode(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        if images.device().is_autodiff() && !self.config.train_image_encoder {
            self.visual_model.valid().features(images.inner())
        } else {
            self.visual_model.features(images)
        }
    }

    /// The prompt token of each sentence.
    ///
    /// # Shapes
    /// `feature`: [Q, D]; output: [Q, 1, 256]
    ///
    /// # Errors
    /// No sentence, or vectors of another width.
    pub fn tokens(&self, feature: Tensor<2>) -> Result<Tensor<3>, EvfError> {
        let [sentences, features] = feature.dims();
        if sentences == 0 || features != self.config.feature_width() {
            let expected = format!("[Q, {}] with Q at least 1", self.config.feature_width());
            return Err(EvfError::Shape { what: "features of the sentences", found: vec![sentences, features], expected });
        }
        Ok(self.text_hidden_fcs.forward(feature).unsqueeze_dim::<3>(1))
    }

    /// Mask logits of each sentence, prompted by one sparse token. Which mask answers follows from the configuration, and from
    /// whether gradients are tracked ([`EvfConfig::answer`]).
    ///
    /// # Shapes
    /// `features`: of B images, as [`EvfNet::encode`] gives them; `feature`: [Q, D]; `image_of`: Q numbers below B
    ///
    /// # Errors
    /// Numbers that do not fit.
    pub fn forward(&self, features: Vec<Tensor<4>>, feature: Tensor<2>, image_of: &[usize]) -> Result<EvfOutput, EvfError> {
        let answer = self.config.answer(feature.device().is_autodiff());
        self.forward_answer(features, feature, image_of, answer)
    }

    /// As [`EvfNet::forward`], with the mask that `answer` says.
    ///
    /// # Errors
    /// As there.
    pub fn forward_answer(
        &self,
        features: Vec<Tensor<4>>,
        feature: Tensor<2>,
        image_of: &[usize],
        answer: Answer,
    ) -> Result<EvfOutput, EvfError> {
        let images = features.first().map_or(0, |map| map.dims()[0]);
        let tokens = self.tokens(feature)?;
        check_rows(images, tokens.dims()[0], image_of)?;
        self.forward_prompts(features, Prompts { tokens: Some(tokens), ..Prompts::default() }, image_of, answer)
    }

    /// Mask logits of any prompts, the sentences' tokens ([`EvfNet::tokens`]) among them.
    ///
    /// # Shapes
    /// `features`: of B images; `prompts`: Q, in pixels of the image model's input; `image_of`: Q numbers below B
    ///
    /// # Errors
    /// As [`Visual::answer_prompts`].
    pub fn forward_prompts(
        &self,
        features: Vec<Tensor<4>>,
        prompts: Prompts,
        image_of: &[usize],
        answer: Answer,
    ) -> Result<EvfOutput, EvfError> {
        let (low_res, iou) = self.visual_model.answer_prompts(features, image_of, prompts, answer)?;
        // Masks and scores leave in single precision.
        let (low_res, iou) = (to_f32(low_res), to_f32(iou));
        let logits = if self.config.input().is_stretched() {
            low_res.clone()
        } else {
            // Four pixels per token, of which each covers a patch.
            let [_, _, height, width] = low_res.dims();
            let patch = self.config.sam.image_encoder.patch_size;
            Resize::BILINEAR.forward(low_res.clone(), [height / 4 * patch, width / 4 * patch])
        };
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
