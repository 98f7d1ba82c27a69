//! Sine and cosine positions of words.

use burn::tensor::{Device, Tensor, TensorData};

/// Interleaved sine and cosine, base 10000: channel 2k of place p is `sin(p / 10000^(2k / C))`, channel 2k + 1 its cosine.
///
/// # Shapes
/// output: [1, length, width]
pub fn sine(length: usize, width: usize, device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..length * width)
        .map(|i| {
            let (place, channel) = (i / width, i % width);
            let angle = place as f64 / 10000f64.powf((channel - channel % 2) as f64 / width as f64);
            (if channel % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, length, width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_share_a_frequency() {
        let got = sine(2, 4, &Device::flex()).into_data().try_to_vec::<f32>().unwrap();
        let want = [0.0, 1.0, 0.0, 1.0, 1f32.sin(), 1f32.cos(), 0.01f32.sin(), 0.01f32.cos()];
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?}");
    }
}
