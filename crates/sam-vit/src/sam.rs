//! The whole SAM model: encoders, decoder, and low-resolution masks brought to the image's size.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::resize::Resize;
use nn_ops::weights::KeyMap;

use crate::config::SamConfig;
use crate::image_encoder::ImageEncoder;
use crate::mask_decoder::{MaskDecoder, Output};
use crate::prompt_encoder::{PromptEncoder, Prompts};

/// Segment Anything: image encoder, prompt encoder, mask decoder.
#[derive(Module, Debug)]
pub struct Sam {
    /// Image encoder.
    pub image_encoder: ImageEncoder,
    /// Prompt encoder.
    pub prompt_encoder: PromptEncoder,
    /// Mask decoder.
    pub mask_decoder: MaskDecoder,
}

impl SamConfig {
    /// A model with fresh weights.
    pub fn init(&self, device: &Device) -> Sam {
        Sam {
            image_encoder: ImageEncoder::new(&self.image_encoder, device),
            prompt_encoder: PromptEncoder::new(self, device),
            mask_decoder: MaskDecoder::new(self, device),
        }
    }
}

impl Sam {
    /// Masks for prompts on an image embedding.
    ///
    /// `input` is the network's input (height, width) in pixels, to which the prompts' coordinates refer.
    ///
    /// # Shapes
    /// `embedding`: [1 or N, C, h, w]; outputs: low-resolution logits [N, M, 4h, 4w] and predicted IoU [N, M]
    pub fn decode(
        &self,
        embedding: Tensor<4>,
        prompts: Prompts,
        input: (usize, usize),
        output: Output,
    ) -> (Tensor<4>, Tensor<2>) {
        let [_, _, height, width] = embedding.dims();
        let positions = self.prompt_encoder.pe_layer.dense(height, width);
        let (sparse, dense) = self.prompt_encoder.forward(prompts, input);
        self.mask_decoder.forward(embedding, positions, sparse, dense, output)
    }
}

/// From our module paths to the keys of `sam_vit_*.pth`.
pub fn facebook_names() -> KeyMap {
    KeyMap::new(&[
        ("neck.conv1.", "neck.0."),
        ("neck.norm1.", "neck.1."),
        ("neck.conv2.", "neck.2."),
        ("neck.norm2.", "neck.3."),
        ("mask_downscaling.conv1.", "mask_downscaling.0."),
        ("mask_downscaling.norm1.", "mask_downscaling.1."),
        ("mask_downscaling.conv2.", "mask_downscaling.3."),
        ("mask_downscaling.norm2.", "mask_downscaling.4."),
        ("mask_downscaling.conv3.", "mask_downscaling.6."),
        ("output_upscaling.conv1.", "output_upscaling.0."),
        ("output_upscaling.norm.", "output_upscaling.1."),
        ("output_upscaling.conv2.", "output_upscaling.3."),
    ])
}

/// Low-resolution logits brought to the original image: up to the network's input, padding cropped, then to the
/// original size; both resizes bilinear with half-pixel centres and no antialiasing.
///
/// # Shapes
/// [N, M, h, w] -> [N, M, original\[0\], original\[1\]]; `input` is the network's input, `valid` the part of it that
/// is not padding, all (height, width).
pub fn postprocess(low_res: Tensor<4>, input: (usize, usize), valid: (usize, usize), original: (usize, usize)) -> Tensor<4> {
    let full = Resize::BILINEAR.forward(low_res, [input.0, input.1]);
    let cropped = full.narrow(2, 0, valid.0).narrow(3, 0, valid.1);
    Resize::BILINEAR.forward(cropped, [original.0, original.1])
}
