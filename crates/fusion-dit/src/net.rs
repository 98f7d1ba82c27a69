//! `DitNet`: DIT from text features to mask logits.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::linear::linear;
use nn_ops::loss::bce_with_logits;
use nn_ops::precision::to_f32;
use nn_ops::recompute::cut;
use nn_ops::resize::Resize;
use nn_ops::weights::KeyMap;
use sam_vit::{ImageEncoder, MaskDecoder, Output, PromptEncoder, Prompts};

use crate::config::{DitConfig, PromptMask};
use crate::instruction::{FORM_NAMES, Instruction};

/// DIT without its text encoder: SAM whose image encoder also carries text slots.
#[derive(Module, Debug)]
pub struct DitNet {
    /// SAM's image encoder; [`EncoderAttention`](crate::EncoderAttention) says whether its windows are used.
    pub visual_encoder: ImageEncoder,
    /// What fills the text slots; absent for a variant that keeps text out of the encoder.
    pub instruction: Option<Instruction>,
    /// SAM's prompt encoder.
    pub prompt_encoder: PromptEncoder,
    /// SAM's mask decoder.
    pub mask_decoder: MaskDecoder,
    /// Text features to prompt tokens.
    pub text_proj: Linear,
    #[module(skip)]
    pub(crate) config: DitConfig,
}

/// What a forward pass puts out, one row per sentence.
#[derive(Debug, Clone)]
pub struct DitOutput {
    /// Image embedding, [Q, 256, h, w], or [1, 256, h, w] where all sentences share it.
    pub image_embedding: Tensor<4>,
    /// Low-resolution mask logits, [Q, 1, 4h, 4w].
    pub low_res: Tensor<4>,
    /// Predicted IoU, [Q, 1]; the paper neither trains nor uses it.
    pub iou: Tensor<2>,
    /// Mask logits at the network's input size, [Q, 1, H, W], with corners aligned.
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
            config: self.clone(),
        }
    }
}

impl DitNet {
    /// What it was built from.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// From module paths to the keys of the released checkpoints (without `module.`).
    pub fn names() -> KeyMap {
        sam_vit::facebook_names().then(FORM_NAMES).then(&[
            ("instruction.guided.", "instruction.cross."),
            (".ffn_in.", ".ffn.mlp.fc.linear."),
            (".ffn_out.", ".ffn.mlp.linear."),
            ("instruction.prob.", "instruction.probs."),
            ("instruction.norms.", "instruction.ln."),
            ("instruction.", "visual_encoder."),
        ])
    }

    /// Mask logits of each image under its own text.
    ///
    /// # Shapes
    /// `image`: [B, 3, H, W]; `text`: [B, L, text_dim], padding included: the decoder sees every position.
    pub fn forward(&self, image: Tensor<4>, text: Tensor<3>) -> DitOutput {
        // It goes into the encoder's blocks and past them.
        let text = cut(text);
        let prompts = self.text_prompts(text.clone());
        self.decode(self.encode(image, Some(text)), prompts)
    }

    /// The text as SAM's prompts.
    ///
    /// # Shapes
    /// `text`: [B, L, text_dim]
    pub fn text_prompts(&self, text: Tensor<3>) -> Prompts {
        Prompts { tokens: Some(linear(&self.text_proj, text)), ..Prompts::default() }
    }

    /// Mask logits of an image embedding under any of SAM's prompts.
    ///
    /// # Shapes
    /// `embedding`: [1 or Q, 256, h, w]; `prompts`: Q, in pixels of the network's input
    pub fn decode(&self, embedding: Tensor<4>, prompts: Prompts) -> DitOutput {
        self.decode_by(embedding, prompts, PromptMask::First)
    }

    /// As [`DitNet::decode`], with the mask that answers points and boxes.
    ///
    /// # Shapes
    /// As there.
    pub fn decode_by(&self, embedding: Tensor<4>, prompts: Prompts, mask: PromptMask) -> DitOutput {
        let [_, _, rows, columns] = embedding.dims();
        let patch = self.config.sam.image_encoder.patch_size;
        let (height, width) = (rows * patch, columns * patch);
        let positions = self.prompt_encoder.pe_layer.dense(rows, columns);
        let (sparse, dense) = self.prompt_encoder.forward(prompts, (height, width));
        let (output, resize) = match mask {
            PromptMask::First => (Output::Single, Resize::BILINEAR_ALIGNED),
            PromptMask::BestOfThree => (Output::Multi, Resize::BILINEAR),
        };
        let (low_res, iou) = self.mask_decoder.forward(embedding.clone(), positions, sparse, dense, output);
        // Masks and scores leave in single precision.
        let (low_res, iou) = best(to_f32(low_res), to_f32(iou));
        let logits = resize.forward(low_res.clone(), [height, width]);
        DitOutput { image_embedding: embedding, low_res, iou, logits }
    }
}

/// Of each row's masks the one with the best predicted IoU, the first of equals.
///
/// # Shapes
/// [Q, M, h, w] and [Q, M] -> [Q, 1, h, w] and [Q, 1]
fn best(masks: Tensor<4>, iou: Tensor<2>) -> (Tensor<4>, Tensor<2>) {
    let [rows, count, height, width] = masks.dims();
    if count == 1 {
        return (masks, iou);
    }
    let at = iou.clone().argmax(1);
    let chosen = at.clone().reshape([rows, 1, 1, 1]).expand([rows, 1, height, width]);
    (masks.gather(1, chosen), iou.gather(1, at))
}

/// The paper's binary cross entropy as the released code takes it: the mean over every pixel of the input, padding included.
///
/// # Shapes
/// `logits`, `targets` (0 to 1, soft edges): [Q, 1, H, W]; output: \[1\]
pub fn loss(logits: Tensor<4>, targets: Tensor<4>) -> Tensor<1> {
    bce_with_logits(logits, targets).mean()
}
