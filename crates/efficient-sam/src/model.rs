//! The whole model, tensors in and tensors out.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use nn_ops::rows::select_rows;
use sam_vit::{MaskDecoder, Output, SamError};

use crate::config::EfficientSamConfig;
use crate::image_encoder::ImageEncoder;
use crate::prompt_encoder::PromptEncoder;

/// EfficientSAM: image encoder, prompt encoder, mask decoder.
#[derive(Module, Debug)]
pub struct EfficientSam {
    /// Image encoder.
    pub image_encoder: ImageEncoder,
    /// Prompt encoder.
    pub prompt_encoder: PromptEncoder,
    /// SAM's mask decoder, as EfficientSAM changed it.
    pub mask_decoder: MaskDecoder,
    image_size: usize,
    max_points: usize,
}

impl EfficientSamConfig {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`SamError::Config`] for sizes that contradict each other.
    pub fn init(&self, device: &Device) -> Result<EfficientSam, SamError> {
        self.validate()?;
        Ok(EfficientSam {
            image_encoder: ImageEncoder::new(self, device),
            prompt_encoder: PromptEncoder::new(self, device),
            mask_decoder: MaskDecoder::from_config(&self.decoder(), device),
            image_size: self.image_size,
            max_points: self.max_points,
        })
    }
}

impl EfficientSam {
    /// Side of the input, in pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// Points per query.
    pub fn max_points(&self) -> usize {
        self.max_points
    }

    /// Side of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        let [.., patch] = self.image_encoder.patch_embed.proj.weight.lazy_shape().dims::<4>();
        patch
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.image_encoder.pos_embed.lazy_device()
    }

    /// Masks for tokens that stand for prompts: those of [`PromptEncoder::forward`], or a text model's own. Each row of tokens
    /// is a query of its own. Nothing is padded, and masks are in the decoder's order.
    ///
    /// # Shapes
    /// `embedding`: [1 or N, C, h, w]; `tokens`: [N, T, C]; outputs: low-resolution logits [N, M, 4h, 4w] and predicted IoU
    /// [N, M], M = 1 or 3
    pub fn decode_tokens(&self, embedding: Tensor<4>, tokens: Tensor<3>, output: Output) -> (Tensor<4>, Tensor<2>) {
        let [_, channels, height, width] = embedding.dims();
        let positions = self.prompt_encoder.pe_layer.dense(height, width);
        let nothing = Tensor::zeros([1, channels, 1, 1], (&embedding.device(), embedding.dtype()));
        self.mask_decoder.forward(embedding, positions, tokens, nothing, output)
    }

    /// Masks for points in pixels of the network's input. Give as many per query as the model was trained with, as
    /// [`prepare_points`](crate::prepare_points) does.
    ///
    /// # Shapes
    /// `embedding`: [1 or N, C, h, w]; `points`: [N, P, 2] as (x, y); `labels`: [N, P]; outputs as
    /// [`EfficientSam::decode_tokens`]
    pub fn decode_points(
        &self,
        embedding: Tensor<4>,
        points: Tensor<3>,
        labels: Tensor<2, Int>,
        output: Output,
    ) -> (Tensor<4>, Tensor<2>) {
        let [.., height, width] = embedding.dims();
        let patch = self.patch_size();
        let tokens = self.prompt_encoder.forward(points, labels, (height * patch, width * patch));
        self.decode_tokens(embedding, tokens, output)
    }
}

/// Masks of each query in the order of falling predicted IoU; of equals the earlier first. An IoU that is no number counts as
/// the lowest.
///
/// # Shapes
/// [N, M, h, w] and [N, M] -> the same
///
/// # Errors
/// [`SamError::Device`] when the IoU cannot be read.
pub fn sort_by_iou(masks: Tensor<4>, iou: Tensor<2>) -> Result<(Tensor<4>, Tensor<2>), SamError> {
    let [count, number, height, width] = masks.dims();
    let values = sam_vit::read_back(iou.clone())?;
    let rows: Vec<usize> = values.chunks(number.max(1)).enumerate().flat_map(|(row, iou)| by_iou(iou, row * number)).collect();
    let order = TensorData::new(rows.iter().map(|row| *row as i64).collect::<Vec<_>>(), [rows.len()]);
    let iou = iou.reshape([count * number]).select(0, Tensor::from_data(order, &masks.device())).reshape([count, number]);
    Ok((select_rows(masks.reshape([count * number, 1, height, width]), &rows).reshape([count, number, height, width]), iou))
}

/// Indices from `first` on in the order of falling IoU.
pub(crate) fn by_iou(iou: &[f32], first: usize) -> Vec<usize> {
    let key = |i: &usize| if iou[*i].is_nan() { f32::NEG_INFINITY } else { iou[*i] };
    let mut order: Vec<usize> = (0..iou.len()).collect();
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    order.into_iter().map(|i| first + i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_follow_their_iou() {
        let device = Device::flex();
        let iou = Tensor::<2>::from_floats([[0.1, 0.9, 0.5], [0.7, -0.2, 0.7]], &device);
        let masks = Tensor::<1, Int>::arange(0..6, &device).float().reshape([2, 3, 1, 1]).expand([2, 3, 2, 2]);
        let (masks, iou) = sort_by_iou(masks, iou).unwrap();
        assert_eq!(iou.into_data().iter::<f32>().collect::<Vec<_>>(), [0.9, 0.5, 0.1, 0.7, 0.7, -0.2]);
        let first: Vec<f32> = masks.narrow(2, 0, 1).narrow(3, 0, 1).into_data().iter::<f32>().collect();
        assert_eq!(first, [1.0, 2.0, 0.0, 3.0, 5.0, 4.0]);
        assert_eq!(by_iou(&[f32::NAN, -5.0, f32::INFINITY], 3), [5, 4, 3]);
    }
}
