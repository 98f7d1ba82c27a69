//! SAM-2's mask decoder: SAM's, with features of two finer maps, a score of the object, and three ways to answer.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Int, Tensor, TensorData};
use nn_ops::activation::gelu;
use nn_ops::conv::{patch_conv, upscale_tokens};
use nn_ops::linear::Epilogue;
use nn_ops::rows::select_rows;
use sam_vit::{Mlp, OutputUpscaling};

use crate::config::Sam2Config;
use crate::features::Features;

/// Logits this far from 0, on either side, decide how stable a mask is.
const STABILITY_DELTA: f32 = 0.05;
/// Stability below which a single mask gives way to the best of three.
const STABILITY_THRESHOLD: f32 = 0.98;

/// Which masks answer a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// Mask 0.
    First,
    /// Of masks 1 to 3 that of the largest predicted IoU.
    BestOfThree,
    /// Mask 0 where it is stable, else as [`Answer::BestOfThree`]: what the released code answers to a box or several points
    /// in evaluation. Stable means that the area at logits above 0.05 is at least 0.98 of that above -0.05.
    #[default]
    StableElseBest,
    /// All of masks 1 to 3.
    Three,
}

/// What the decoder puts out, a row per prompt.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Logits of masks 0 to 3 at a quarter of the input, [N, 4, 4h, 4w].
    pub low_res: Tensor<4>,
    /// Their predicted IoU, in 0..1, [N, 4].
    pub iou: Tensor<2>,
    /// Their tokens behind the transformer, [N, 4, C].
    pub mask_tokens: Tensor<3>,
    /// Logit of the object being there at all, [N, 1].
    pub object_score: Tensor<2>,
}

impl Decoded {
    /// Stability of mask 0: how much of the area at logits above -0.05 is above 0.05, too; 1 where there is none.
    ///
    /// # Shapes
    /// output: [N, 1]
    pub fn stability(&self) -> Tensor<2> {
        let [count, _, height, width] = self.low_res.dims();
        let first = self.low_res.clone().narrow(1, 0, 1).reshape([count, height * width]).detach();
        // Counts beyond 2^24 would not be exact in f32; a mask has far fewer pixels.
        let area = |above: f32| first.clone().greater_elem(above).int().sum_dim(1).float();
        let (inner, outer) = (area(STABILITY_DELTA), area(-STABILITY_DELTA));
        let empty = outer.clone().equal_elem(0.0);
        (inner / outer.clamp_min(1.0)).mask_fill(empty, 1.0)
    }

    /// Number of the mask that answers each prompt, \[N\]; [`Answer::Three`] counts as the best of three.
    pub fn choice(&self, answer: Answer) -> Tensor<1, Int> {
        let [count, masks] = self.iou.dims();
        let best = self.iou.clone().detach().narrow(1, 1, masks - 1).argmax(1).reshape([count]) + 1;
        match answer {
            Answer::First => best.zeros_like(),
            Answer::BestOfThree | Answer::Three => best,
            Answer::StableElseBest => {
                let stable = self.stability().greater_equal_elem(STABILITY_THRESHOLD).reshape([count]);
                best.mask_fill(stable, 0)
            }
        }
    }

    /// Logits and predicted IoU of the masks that answer.
    ///
    /// # Shapes
    /// outputs: [N, M, 4h, 4w] and [N, M], with M = 3 for [`Answer::Three`], else 1
    pub fn answer(&self, answer: Answer) -> (Tensor<4>, Tensor<2>) {
        let masks = self.iou.dims()[1];
        match answer {
            Answer::First => (self.low_res.clone().narrow(1, 0, 1), self.iou.clone().narrow(1, 0, 1)),
            Answer::Three => (self.low_res.clone().narrow(1, 1, masks - 1), self.iou.clone().narrow(1, 1, masks - 1)),
            Answer::BestOfThree | Answer::StableElseBest => {
                let choice = self.choice(answer);
                (pick(self.low_res.clone(), choice.clone()), pick(self.iou.clone(), choice))
            }
        }
    }

    /// Token of the mask that answers each prompt. A mask that stands in for an unstable one keeps the token of mask 0, as
    /// in the reference.
    ///
    /// # Shapes
    /// output: [N, C]
    pub fn token(&self, answer: Answer) -> Tensor<2> {
        let choice = match answer {
            Answer::First | Answer::StableElseBest => self.choice(Answer::First),
            Answer::BestOfThree | Answer::Three => self.choice(Answer::BestOfThree),
        };
        pick(self.mask_tokens.clone(), choice).squeeze_dim(1)
    }
}

/// Of each row the entry of the given number.
///
/// # Shapes
/// [N, M, ..] and \[N\] -> [N, 1, ..]
fn pick<const D: usize>(x: Tensor<D>, choice: Tensor<1, Int>) -> Tensor<D> {
    let dims = x.dims();
    let (count, masks) = (dims[0], dims[1]);
    let rest = dims[2..].iter().product::<usize>();
    let first: Vec<i32> = (0..count).map(|row| (row * masks) as i32).collect();
    let first = Tensor::<1, Int>::from_data(TensorData::new(first, [count]), &choice.device());
    let mut shape = dims;
    shape[1] = 1;
    x.reshape([count * masks, rest]).select(0, choice + first).reshape(shape)
}

/// The mask decoder.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    /// SAM's decoder. Its own token order holds behind the object's token.
    pub base: sam_vit::MaskDecoder,
    /// Token of the object's score, [1, C].
    pub obj_score_token: Embedding,
    /// To the channels behind the first upscaling, 1 x 1; on the map at an 8th.
    pub conv_s1: Conv2d,
    /// To the channels behind the second upscaling, 1 x 1; on the map at a quarter.
    pub conv_s0: Conv2d,
    /// Score of the object.
    pub pred_obj_score_head: Mlp,
}

impl MaskDecoder {
    /// A decoder with fresh weights.
    pub fn new(config: &Sam2Config, device: &Device) -> Self {
        let c = config.channels;
        let conv = |to: usize| Conv2dConfig::new([c, to], [1, 1]).init(device);
        Self {
            base: sam_vit::MaskDecoder::new(&config.sam(), device),
            obj_score_token: EmbeddingConfig::new(1, c).init(device),
            conv_s1: conv(c / 4),
            conv_s0: conv(c / 8),
            pred_obj_score_head: Mlp::new(&[c, c, c, 1], device),
        }
    }

    /// What upscaling adds of the finer maps, once per image.
    ///
    /// # Shapes
    /// `f1`: [B, C, 2h, 2w]; `f0`: [B, C, 4h, 4w]; outputs: [B, C / 4, 2h, 2w], [B, C / 8, 4h, 4w]
    pub fn high_res(&self, f1: Tensor<4>, f0: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let first = |conv: &Conv2d, x: Tensor<4>| patch_conv(conv, x).permute([0, 3, 1, 2]);
        (first(&self.conv_s1, f1), first(&self.conv_s0, f0))
    }

    /// Masks of N prompts on B images; `image_of` names the image of each prompt. With one image it may be empty.
    ///
    /// # Shapes
    /// - `features`: of B images; `positions`: [1, C, h, w]
    /// - `sparse`: [N, T, C]; `dense`: [N, C, h, w], or [1, C, 1, 1] where it is the same everywhere
    pub fn forward(
        &self,
        features: &Features,
        image_of: &[usize],
        positions: Tensor<4>,
        sparse: Tensor<3>,
        dense: Tensor<4>,
    ) -> Decoded {
        let [images, _, height, width] = features.image.dims();
        let kind = sparse.dtype();
        // Broadcasting repeats one image.
        let rows = |x: Tensor<4>| if images == 1 { x.cast(kind) } else { select_rows(x.cast(kind), image_of) };
        let before = self.obj_score_token.weight.val();
        let image = rows(features.image.clone());
        let (tokens, keys) = self.base.attend(Some(before), image, positions, sparse, dense);
        let mask_tokens = tokens.clone().narrow(1, 2, self.base.mask_tokens.weight.dims()[0]);
        let token = |at: usize| tokens.clone().narrow(1, at, 1).squeeze_dim::<2>(1);
        let pixels = self.upscale(keys, rows(features.h1.clone()), rows(features.h0.clone()));
        let masks = pixels.matmul(self.base.mask_weights(mask_tokens.clone(), 0));
        Decoded {
            low_res: OutputUpscaling::place(masks, [height, width]),
            iou: sigmoid(self.base.iou_prediction_head.forward(token(1))),
            mask_tokens,
            object_score: self.pred_obj_score_head.forward(token(0)),
        }
    }

    /// The image's tokens upscaled by 4, with the finer maps added behind each of the two steps.
    ///
    /// # Shapes
    /// `x`: [N, h * w, C]; `h1`: [1 or N, C / 4, 2h, 2w]; `h0`: [1 or N, C / 8, 4h, 4w]; output: [N, h * w * 16, C / 8], a
    /// token's pixels side by side as in [`OutputUpscaling::forward`]
    fn upscale(&self, x: Tensor<3>, h1: Tensor<4>, h0: Tensor<4>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let up = &self.base.output_upscaling;
        let x = upscale_tokens(&up.conv1, x, Epilogue::None).reshape([batch, tokens * 4, width / 4]);
        let x = gelu(up.norm.forward_last(x + quarters(h1)));
        let x = upscale_tokens(&up.conv2, x, Epilogue::None).reshape([batch, tokens * 16, width / 8]);
        gelu(x + sixteenths(h0))
    }
}

/// The 4 pixels of each 2 x 2 square side by side.
///
/// # Shapes
/// [N, C, 2h, 2w] -> [N, h * w * 4, C]
fn quarters(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    // (row, column, channel) of a square; the last two stay side by side.
    let rows = x.permute([0, 2, 3, 1]).reshape([batch * height / 2, 2, width / 2, 2 * channels]);
    rows.permute([0, 2, 1, 3]).reshape([batch, height * width, channels])
}

/// The 16 pixels of each 4 x 4 square side by side, a quarter after the other.
///
/// # Shapes
/// [N, C, 4h, 4w] -> [N, h * w * 16, C]
fn sixteenths(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    let rows = x.permute([0, 2, 3, 1]).reshape([batch * height / 4, 2, 2, width / 4, 2, 2 * channels]);
    rows.permute([0, 3, 1, 4, 2, 5]).reshape([batch, height * width, channels])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both orders of pixels are those that [`OutputUpscaling::place`] undoes.
    #[test]
    fn pixels_of_a_token_lie_side_by_side() {
        let device = Device::flex();
        let map = Tensor::<1, Int>::arange(0..3 * 8 * 12, &device).float().reshape([1, 3, 8, 12]);
        let back = OutputUpscaling::place(sixteenths(map.clone()), [2, 3]);
        assert_eq!(back.into_data(), map.clone().into_data());
        let pairs = quarters(map).into_data().try_to_vec::<f32>().unwrap();
        let at = |y: usize, x: usize| (y * 12 + x) as f32;
        let first_channel: Vec<f32> = pairs.iter().step_by(3).take(8).copied().collect();
        assert_eq!(first_channel, [at(0, 0), at(0, 1), at(1, 0), at(1, 1), at(0, 2), at(0, 3), at(1, 2), at(1, 3)]);
    }

    fn decoded(low_res: [f32; 4], iou: [f32; 4]) -> Decoded {
        let device = Device::flex();
        Decoded {
            low_res: Tensor::<1>::from_floats(low_res, &device).reshape([1, 4, 1, 1]),
            iou: Tensor::<1>::from_floats(iou, &device).reshape([1, 4]),
            mask_tokens: Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0], &device).reshape([1, 4, 1]),
            object_score: Tensor::zeros([1, 1], &device),
        }
    }

    #[test]
    fn answers() {
        let of = |d: &Decoded, answer| {
            let (masks, iou) = d.answer(answer);
            (
                masks.into_data().try_to_vec::<f32>().unwrap(),
                iou.into_data().try_to_vec::<f32>().unwrap(),
                d.token(answer).into_scalar::<f32>(),
            )
        };
        let iou = [0.9, 0.1, 0.5, 0.5];
        let stable = decoded([1.0, 2.0, 3.0, 4.0], iou);
        assert_eq!(of(&stable, Answer::First), (vec![1.0], vec![0.9], 0.0));
        assert_eq!(of(&stable, Answer::BestOfThree), (vec![3.0], vec![0.5], 2.0), "the first of equals");
        assert_eq!(of(&stable, Answer::StableElseBest), (vec![1.0], vec![0.9], 0.0));
        assert_eq!(of(&stable, Answer::Three), (vec![2.0, 3.0, 4.0], vec![0.1, 0.5, 0.5], 2.0));
        // Between the two thresholds lies all of the area: stability 0.
        let unstable = decoded([0.04, 2.0, 3.0, 4.0], iou);
        assert_eq!(of(&unstable, Answer::StableElseBest), (vec![3.0], vec![0.5], 0.0));
        // No area at all is stable.
        let empty = decoded([-1.0, 2.0, 3.0, 4.0], iou);
        assert_eq!(of(&empty, Answer::StableElseBest).0, [-1.0]);
    }
}
