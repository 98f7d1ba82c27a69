//! The loss (EVF-SAM sec. 3.4), with the constants of the released code.

use burn::tensor::Tensor;
use nn_ops::loss::{bce_with_logits, dice};

use crate::config::EvfConfig;

/// Added to numbers of masks before a division.
const COUNT_EPS: f64 = 1e-8;
/// Added to both parts of the dice fraction.
const DICE_EPS: f64 = 1e-6;
/// What sums over pixels are divided by in the dice fraction; it makes the epsilon above a thousand times larger.
const DICE_SCALE: f64 = 1000.0;

/// The loss and its two parts, each \[1\].
#[derive(Debug, Clone)]
pub struct EvfLoss {
    /// Binary cross entropy.
    pub bce: Tensor<1>,
    /// Dice loss.
    pub dice: Tensor<1>,
    /// Both, weighted.
    pub total: Tensor<1>,
}

/// The loss of a batch: one entry per image, with the masks of its sentences at the image's own size.
///
/// Each part is a mean over the pixels of a mask and then over all masks of the batch, whatever image they belong to: the
/// reference averages within an image, weights by its number of masks and divides by the number of all.
///
/// Targets above 1 (polygons that overlap) count as 1. The released code lets them through.
///
/// # Shapes
/// logits and targets of image i: [n_i, H_i, W_i]. Without any entry there is no loss.
pub fn loss(config: &EvfConfig, images: Vec<(Tensor<3>, Tensor<3>)>) -> Option<EvfLoss> {
    let masks: usize = images.iter().map(|(logits, _)| logits.dims()[0]).sum();
    let of = |(logits, targets): (Tensor<3>, Tensor<3>)| {
        let [count, height, width] = logits.dims();
        let flat = |x: Tensor<3>| x.reshape([count, height * width]);
        let (logits, targets) = (flat(logits), flat(targets).clamp_max(1.0));
        let bce = bce_with_logits(logits.clone(), targets.clone()).mean_dim(1).sum();
        (bce, dice(logits, targets, DICE_EPS, DICE_SCALE).sum(), count as f64)
    };
    let mean = |sum: Tensor<1>, count: f64| sum / (count + COUNT_EPS) * count;
    let (bce, dice) = images
        .into_iter()
        .map(of)
        .map(|(bce, dice, count)| (mean(bce, count), mean(dice, count)))
        .reduce(|a, b| (a.0 + b.0, a.1 + b.1))?;
    let (bce, dice) = (bce / (masks as f64 + COUNT_EPS), dice / (masks as f64 + COUNT_EPS));
    let total = bce.clone() * config.bce_weight + dice.clone() * config.dice_weight;
    Some(EvfLoss { bce, dice, total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn scalar(x: Tensor<1>) -> f32 {
        x.into_scalar::<f32>()
    }

    #[test]
    fn a_perfect_mask_of_a_thousand_pixels_costs_nothing() {
        let device = Device::flex();
        let (logits, targets) = (Tensor::full([1, 10, 100], 100.0, &device), Tensor::ones([1, 10, 100], &device));
        let got = loss(&EvfConfig::default(), vec![(logits, targets)]).unwrap();
        assert!(scalar(got.bce) < 1e-30);
        assert_eq!(scalar(got.dice), 0.0);
    }

    /// Half of everything where one pixel of four is right: 1 - (2 * 0.5 / 1000 + 1e-6) / (3 / 1000 + 1e-6).
    #[test]
    fn dice_divides_sums_by_a_thousand() {
        let device = Device::flex();
        let targets = Tensor::<3>::from_floats([[[1.0, 0.0], [0.0, 0.0]]], &device);
        let got = loss(&EvfConfig::default(), vec![(Tensor::zeros([1, 2, 2], &device), targets)]).unwrap();
        assert!((scalar(got.dice) - 0.666_444_5).abs() < 1e-6);
        assert!((scalar(got.bce) - std::f32::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn masks_count_alike_whatever_image_they_belong_to() {
        let device = Device::flex();
        let mask =
            |logit: f32, side: usize| (Tensor::full([1, side, side], logit, &device), Tensor::ones([1, side, side], &device));
        let bce = |x: f64| (1.0 + (-x).exp()).ln();
        // One image with two masks, another of another size with one.
        let two = (Tensor::cat(vec![mask(0.0, 4).0, mask(1.0, 4).0], 0), Tensor::ones([2, 4, 4], &device));
        let config = EvfConfig { bce_weight: 2.0, dice_weight: 0.5, ..EvfConfig::default() };
        let got = loss(&config, vec![two, mask(3.0, 7)]).unwrap();
        let want = (bce(0.0) + bce(1.0) + bce(3.0)) / 3.0;
        assert!((f64::from(scalar(got.bce.clone())) - want).abs() < 1e-6);
        let total = 2.0 * scalar(got.bce) + 0.5 * scalar(got.dice);
        assert!((scalar(got.total) - total).abs() < 1e-6);
        assert!(loss(&config, Vec::new()).is_none());
    }

    #[test]
    fn overlapping_polygons_count_once() {
        let device = Device::flex();
        let logits = Tensor::full([1, 2, 2], 0.5, &device);
        let of =
            |value: f32| loss(&EvfConfig::default(), vec![(logits.clone(), Tensor::full([1, 2, 2], value, &device))]).unwrap();
        assert_eq!(scalar(of(2.0).total), scalar(of(1.0).total));
    }
}
