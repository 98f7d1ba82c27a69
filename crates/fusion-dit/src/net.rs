//! DIT from text features to mask logits.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::loss::bce_with_logits;
use nn_ops::precision::to_f32;
use nn_ops::recompute::cut;
use nn_ops::resize::Resize;
use nn_ops::weights::KeyMap;
use sam_vit::{ImageEncoder, MaskDecoder, Output, PromptEncoder, Prompts};

use crate::config::DitConfig;
use crate::instruction::Instruction;

/// DIT without its text encoder: SAM whose image encoder also carries text slots.
#[derive(Module, Debug)]
pub struct DitNet {
    /// SAM's image encoder; [`EncoderAttention`](crate::EncoderAttention) says whether its windows are used.
    pub visual_encoder: ImageEncoder,
    /// What fills the text slots.
    pub instruction: Instruction,
    /// SAM's prompt encoder.
    pub prompt_encoder: PromptEncoder,
    /// SAM's mask decoder.
    pub mask_decoder: MaskDecoder,
    /// Text features to prompt tokens.
    pub text_proj: Linear,
}

/// What a forward pass puts out.
#[derive(Debug, Clone)]
pub struct DitOutput {
    /// Image embedding, [B, 256, h, w].
    pub image_embedding: Tensor<4>,
    /// Low-resolution mask logits, [B, 1, 4h, 4w].
    pub low_res: Tensor<4>,
    /// Predicted IoU, [B, 1]; the paper neither trains nor uses it.
    pub iou: Tensor<2>,
    /// Mask logits at the network's input size, [B, 1, H, W].
    pub logits: Tensor<4>,
}

impl DitConfig {
    /// A model with fresh weights, without text encoder.
    pub fn init_net(&self, device: &Device) -> DitNet {
        DitNet {
            visual_encoder: ImageEncoder::new(&self.sam.image_encoder, device),
            instruction: Instruction::new(self, device),
            prompt_encoder: PromptEncoder::new(&self.sam, device),
            mask_decoder: MaskDecoder::new(&self.sam, device),
            text_proj: LinearConfig::new(self.text_dim, self.sam.prompt_dim()).init(device),
        }
    }
}

impl DitNet {
    /// Mask logits of each image under its own text.
    ///
    /// # Shapes
    /// `image`: [B, 3, H, W]; `text`: [B, L, text_dim], padding included: the decoder sees every position.
    pub fn forward(&self, config: &DitConfig, image: Tensor<4>, text: Tensor<3>) -> DitOutput {
        // It goes into the encoder's blocks and past them.
        let text = cut(text);
        let prompts = Prompts { tokens: Some(self.text_proj.forward(text.clone())), ..Prompts::default() };
        self.forward_prompts(config, image, Some(text), prompts)
    }

    /// Mask logits under any of SAM's prompts, with `text` in the slots of the image encoder only.
    ///
    /// # Shapes
    /// `image`: [B, 3, H, W]; `text`: [B, L, text_dim]; `prompts`: one an image, in pixels of `image`
    pub fn forward_prompts(&self, config: &DitConfig, image: Tensor<4>, text: Option<Tensor<3>>, prompts: Prompts) -> DitOutput {
        let [_, _, height, width] = image.dims();
        let image_embedding = self.encode(config, image, text);
        let [_, _, rows, columns] = image_embedding.dims();
        let positions = self.prompt_encoder.pe_layer.dense(rows, columns);
        let (sparse, dense) = self.prompt_encoder.forward(prompts, (height, width));
        let (low_res, iou) = self.mask_decoder.forward(image_embedding.clone(), positions, sparse, dense, Output::Single);
        // Masks and scores leave in single precision.
        let (low_res, iou) = (to_f32(low_res), to_f32(iou));
        let logits = Resize::BILINEAR_ALIGNED.forward(low_res.clone(), [height, width]);
        DitOutput { image_embedding, low_res, iou, logits }
    }
}

/// The paper's loss: binary cross entropy, mean over every pixel of the padded input (sheet sec. 10, row 6).
///
/// # Shapes
/// `logits`, `targets` (0 to 1, soft edges): [B, 1, H, W]; output: \[1\]
pub fn loss(logits: Tensor<4>, targets: Tensor<4>) -> Tensor<1> {
    bce_with_logits(logits, targets).mean()
}

/// From the module paths of [`DitNet`] to the keys of the released checkpoints (without `module.`).
pub fn released_names() -> KeyMap {
    sam_vit::facebook_names().then(&[
        ("instruction.guided.", "instruction.cross."),
        (".ffn_in.", ".ffn.mlp.fc.linear."),
        (".ffn_out.", ".ffn.mlp.linear."),
        ("instruction.prob.", "instruction.probs."),
        ("instruction.norms.", "instruction.ln."),
        ("instruction.", "visual_encoder."),
    ])
}
