//! The loss (RISAM sec. 3.5, eq. 10 to 12).

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::loss::{dice, focal};

use crate::config::RisamConfig;

/// Focusing exponent of the focal loss.
const GAMMA: f64 = 2.0;
/// Share of each of the two losses.
const SHARE: f64 = 0.5;
/// A logit whose probability is 0.
const NOWHERE: f32 = -1e4;

/// The loss and its two parts, each \[1\].
#[derive(Debug, Clone)]
pub struct RisamLoss {
    /// Focal loss. Eq. 10 lacks p_t, without which it would push every pixel to the foreground.
    pub focal: Tensor<1>,
    /// Dice loss.
    pub dice: Tensor<1>,
    /// Half of each.
    pub total: Tensor<1>,
}

/// The loss of a batch: over the pixels of each mask, then over masks.
///
/// The paper does not say at which size it is taken. The logits of the network's input size are meant, against masks put
/// there as the image was; `valid` leaves the padding out, because inference does, too.
///
/// # Shapes
/// `logits`, `targets`: [Q, 1, H, W], targets above 0.5 being foreground; `valid`: the same shape, 1 on the image and 0 on
/// padding
pub fn loss(config: &RisamConfig, logits: Tensor<4>, targets: Tensor<4>, valid: Option<Tensor<4>>) -> RisamLoss {
    let [rows, _, height, width] = logits.dims();
    let flat = |x: Tensor<4>| x.reshape([rows, height * width]);
    let (logits, targets) = (flat(logits), flat(targets).greater_elem(0.5).float());
    let pixels = focal(logits.clone(), targets.clone(), GAMMA, config.focal_alpha);
    let (focal, logits, targets) = match valid.map(flat) {
        None => (pixels.mean(), logits, targets),
        Some(valid) => {
            let area = valid.clone().sum_dim(1).clamp_min(1.0);
            let each = (pixels * valid.clone()).sum_dim(1) / area;
            (each.mean(), logits.mask_fill(valid.clone().lower_elem(0.5), NOWHERE), targets * valid)
        }
    };
    let dice = dice(logits, targets, config.dice_smooth, 1.0).mean();
    let total = focal.clone() * SHARE + dice.clone() * SHARE;
    RisamLoss { focal, dice, total }
}

/// The `valid` of [`loss`] from where each image lies in its input: (top, left, height, width).
///
/// # Shapes
/// output: [Q, 1, H, W] for `size` = [H, W]
pub fn valid_areas(areas: &[(usize, usize, usize, usize)], size: [usize; 2], device: &Device) -> Tensor<4> {
    let [rows, columns] = size;
    let inside = |at: usize, from: usize, count: usize| at >= from && at - from < count;
    let values: Vec<f32> = areas
        .iter()
        .flat_map(|&(top, left, height, width)| {
            (0..rows * columns).map(move |i| f32::from(inside(i / columns, top, height) && inside(i % columns, left, width)))
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [areas.len(), 1, rows, columns]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: [f32; 4], device: &Device) -> Tensor<4> {
        Tensor::<1>::from_floats(values, device).reshape([1, 1, 2, 2])
    }

    fn near(got: Tensor<1>, want: f32) {
        let got = got.into_scalar::<f32>();
        assert!((got - want).abs() < 1e-6, "{got} against {want}");
    }

    /// Four pixels, computed by hand from eq. 10 and 11.
    #[test]
    fn equals_the_fixture() {
        let device = Device::flex();
        let config = RisamConfig::default();
        let (x, t) = (map([2.0, -1.0, 0.0, -3.0], &device), map([1.0, 0.0, 1.0, 0.0], &device));
        let got = loss(&config, x.clone(), t.clone(), None);
        near(got.focal, 0.049_464_4);
        near(got.dice, 0.199_177_7);
        near(got.total, 0.124_321);
        near(loss(&RisamConfig { dice_smooth: 0.0, ..config }, x, t, None).dice, 0.253_050_7);
    }

    #[test]
    fn padding_does_not_count() {
        let device = Device::flex();
        let config = RisamConfig::default();
        let (x, t) = (map([2.0, -1.0, 0.0, -3.0], &device), map([1.0, 0.0, 1.0, 0.0], &device));
        let want = loss(&config, x.clone(), t.clone(), None);
        // The same four pixels with a column of nonsense beside them.
        let wide = |x: Tensor<4>, value: f32| Tensor::cat(vec![x, Tensor::full([1, 1, 2, 1], value, &device)], 3);
        let valid = valid_areas(&[(0, 0, 2, 2)], [2, 3], &device);
        let got = loss(&config, wide(x, 9.0), wide(t, 1.0), Some(valid));
        near(got.focal, want.focal.into_scalar::<f32>());
        near(got.dice, want.dice.into_scalar::<f32>());
    }
}
