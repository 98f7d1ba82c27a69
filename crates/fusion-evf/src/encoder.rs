//! The multimodal encoder: one vector for a sentence about an image (EVF-SAM sec. 3.2).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::rows::select_rows;
use nn_ops::weights::KeyMap;
use text_encoders::beit3::{Beit3, Beit3Features};
use text_encoders::clip::{ClipText, ClipVision};
use text_encoders::vilt::Vilt;
use text_encoders::{TextBatch, TextEncoder};

use crate::config::{Encoder, EvfConfig, PromptFeature};
use crate::error::EvfError;

/// The chosen encoder; the others are absent.
#[derive(Module, Debug)]
pub struct MultimodalEncoder {
    /// BEiT-3.
    pub beit3: Option<Beit3>,
    /// CLIP's text tower.
    pub clip_text: Option<ClipText>,
    /// CLIP's image tower.
    pub clip_vision: Option<ClipVision>,
    /// ViLT.
    pub vilt: Option<Vilt>,
}

impl MultimodalEncoder {
    pub(crate) fn new(config: &EvfConfig, device: &Device) -> Self {
        use Encoder::{Beit3Early, Beit3Late, Beit3Text, ClipLate, ClipText, ViltEarly, ViltLate, ViltText};
        let encoder = config.encoder;
        Self {
            beit3: matches!(encoder, Beit3Text | Beit3Late | Beit3Early).then(|| config.beit3.init(device)),
            clip_text: matches!(encoder, ClipText | ClipLate).then(|| config.clip_text.init(device)),
            clip_vision: (encoder == ClipLate).then(|| config.clip_vision.init(device)),
            vilt: matches!(encoder, ViltText | ViltLate | ViltEarly).then(|| config.vilt.init(device)),
        }
    }

    /// From module paths to published names, behind the encoder's own name. CLIP and ViLT have Hugging Face names: there is
    /// no published EVF-SAM with them.
    pub(crate) fn names(encoder: Encoder) -> KeyMap {
        match encoder {
            Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => Beit3::names(),
            Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => Vilt::names(),
            // The image tower's own rules for positions would hit the text tower's a second time.
            Encoder::ClipText | Encoder::ClipLate => ClipText::names().then(&[
                ("class_embedding", "embeddings.class_embedding"),
                ("patch_embedding", "embeddings.patch_embedding"),
                ("pre_layer_norm", "pre_layrnorm"),
                ("post_layer_norm", "post_layernorm"),
                ("vision_model.layers", "vision_model.encoder.layers"),
            ]),
        }
    }

    /// The text side, as what checks tokenizers and knows the longest sentence.
    pub fn text(&self) -> Option<&dyn TextEncoder> {
        let beit3 = self.beit3.as_ref().map(|e| e as &dyn TextEncoder);
        beit3.or(self.clip_text.as_ref().map(|e| e as &dyn TextEncoder)).or(self.vilt.as_ref().map(|e| e as &dyn TextEncoder))
    }

    /// The vector of each sentence. `image_of[q]` is the image that sentence q speaks about.
    ///
    /// # Shapes
    /// `images`: [B, 3, s, s] as [`crate::EvfImages`] has them; `batch`: [Q, T]; output: [Q, feature width]
    ///
    /// # Errors
    /// Shapes and ids that do not fit.
    pub fn forward(
        &self,
        config: &EvfConfig,
        images: Tensor<4>,
        batch: &TextBatch,
        image_of: &[usize],
    ) -> Result<Tensor<2>, EvfError> {
        let beside = |a: Tensor<2>, b: Tensor<2>| Tensor::cat(vec![a, b], 1);
        match (config.encoder, &self.beit3, &self.vilt, &self.clip_text, &self.clip_vision) {
            (Encoder::ClipText, _, _, Some(text), _) => Ok(text.encode(batch)?.pooled),
            (Encoder::ClipLate, _, _, Some(text), Some(vision)) => {
                let seen = vision.pool(vision.tokens(images)?);
                Ok(beside(text.encode(batch)?.pooled, select_rows(seen, image_of)))
            }
            (Encoder::ViltText, _, Some(vilt), _, _) => Ok(vilt.encode(batch)?.pooled),
            (Encoder::ViltLate, _, Some(vilt), _, _) => {
                let seen = vilt.image_only(images)?.narrow(1, 0, 1).squeeze_dim::<2>(1);
                Ok(beside(vilt.encode(batch)?.pooled, select_rows(seen, image_of)))
            }
            (Encoder::ViltEarly, _, Some(vilt), _, _) => Ok(vilt.joint(select_rows(images, image_of), batch)?.cls()),
            (Encoder::Beit3Text, Some(beit3), _, _, _) => Ok(beit3.encode(batch)?.pooled),
            (Encoder::Beit3Late, Some(beit3), _, _, _) => {
                let seen = beit3.vision_only(images)?.image_cls().ok_or_else(absent)?;
                Ok(beside(select_rows(seen, image_of), beit3.encode(batch)?.pooled))
            }
            (Encoder::Beit3Early, Some(beit3), _, _, _) => {
                chosen(config.feature, &beit3.joint(images, batch, image_of)?).ok_or_else(absent)
            }
            _ => Err(absent()),
        }
    }
}

/// The feature of a joint pass.
fn chosen(feature: PromptFeature, features: &Beit3Features) -> Option<Tensor<2>> {
    match feature {
        PromptFeature::ImageCls => features.image_cls(),
        PromptFeature::TextCls => features.text_cls(),
        PromptFeature::AvgPool => {
            let vision = features.vision.clone()?;
            let patches = vision.dims()[1] - 1;
            Some(vision.narrow(1, 1, patches).mean_dim(1).squeeze_dim::<2>(1))
        }
        PromptFeature::Concat => Some(Tensor::cat(vec![features.image_cls()?, features.text_cls()?], 1)),
    }
}

fn absent() -> EvfError {
    EvfError::Config("the model was built for another encoder than the configuration names".into())
}
