//! Formula tensors: weights and inputs that any language can regenerate bit for bit.
//!
//! A golden file stores outputs only. The numbers behind them come from `(seed, name, shape)`:
//! FNV-1a of `seed:name` seeds a splitmix64 stream, each draw gives a value in [-1, 1) of 24 bits.

/// `count` values in [-1, 1).
pub fn uniform(seed: &str, name: &str, count: usize) -> impl Iterator<Item = f64> {
    let state = format!("{seed}:{name}")
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3));
    (1..=count as u64).map(move |i| {
        let mut z = state.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

/// An input: `center + amp * u`, row-major.
pub fn tensor(seed: &str, name: &str, shape: &[usize], center: f64, amp: f64) -> Vec<f32> {
    uniform(seed, name, shape.iter().product()).map(|u| (center + amp * u) as f32).collect()
}

/// A weight. One-dimensional ones have amplitude 0.1, about 1 for gains and running variances and about 0
/// otherwise; the others have variance 1 / fan-in.
pub fn weight(seed: &str, name: &str, shape: &[usize]) -> Vec<f32> {
    if shape.len() <= 1 {
        let center = if name.ends_with("weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
        return tensor(seed, name, shape, center, 0.1);
    }
    let fan = shape.iter().product::<usize>() / shape[0].max(1);
    tensor(seed, name, shape, 0.0, (3.0 / fan as f64).sqrt())
}

#[cfg(test)]
#[allow(clippy::excessive_precision, reason = "as the reference prints them")]
mod tests {
    use super::*;

    /// Values printed by the reference `formula.py`.
    #[test]
    fn equals_the_reference() {
        let got = tensor("dev", "in.image", &[4], 0.0, 1.0);
        assert_eq!(got, REFERENCE_TENSOR);
        assert_eq!(weight("dev", "a.weight", &[2, 3]), REFERENCE_WEIGHT);
        assert_eq!(weight("dev", "norm.weight", &[3]), REFERENCE_GAIN);
    }

    const REFERENCE_TENSOR: [f32; 4] = [-0.5352253913879395, -0.7711712121963501, 0.33659863471984863, -0.5184046030044556];
    const REFERENCE_WEIGHT: [f32; 6] = [
        0.38779449462890625,
        -0.8438320159912109,
        0.25964879989624023,
        -0.40808260440826416,
        -0.4839874505996704,
        0.6051317453384399,
    ];
    const REFERENCE_GAIN: [f32; 3] = [1.0059633255004883, 1.028016448020935, 0.998197078704834];
}
