//! A small model with formula weights, and helpers.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::weights::load_formula;
use pil_ops::Image;
use sam2::{HieraConfig, Naming, Sam2, Sam2Config};

/// Input 64; the map that prompts meet is 4 x 4. Two frames beside the prompted one, and three pointers.
pub(crate) fn config() -> Sam2Config {
    let image_encoder = HieraConfig {
        image_size: 64,
        embed_dim: 8,
        stages: [1, 1, 2, 1],
        global_blocks: vec![3],
        windows: [8, 4, 4, 2],
        ..HieraConfig::default()
    };
    Sam2Config {
        image_encoder,
        channels: 32,
        decoder_mlp_dim: 48,
        memory_channels: 16,
        memory_layers: 2,
        memory_mlp_dim: 48,
        memories: 3,
        pointers: 4,
        ..Sam2Config::default()
    }
}

pub(crate) fn sam2(config: &Sam2Config) -> Sam2 {
    load_formula(config.init(&Device::flex()), "toy", &Naming::Meta.names()).0
}

/// Bytes of a linear congruential generator.
pub(crate) fn test_image(seed: u32, height: usize, width: usize) -> Image {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Image::new(width, height, 3, (0..height * width * 3).map(|_| next()).collect()).unwrap()
}

pub(crate) fn formula<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(nn_ops::formula::tensor("toy", name, &shape, 0.0, 1.0), shape), &Device::flex())
}

pub(crate) fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.clone().try_into_vec_as::<f32>().unwrap()
}

/// Largest difference; infinite where a number is none.
pub(crate) fn distance<const D: usize>(got: &Tensor<D>, want: &Tensor<D>) -> f32 {
    assert_eq!(got.dims(), want.dims());
    values(got).iter().zip(values(want)).fold(0.0f32, |worst, (g, w)| {
        let difference = (g - w).abs();
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    })
}

#[track_caller]
pub(crate) fn assert_close<const D: usize>(got: &Tensor<D>, want: &Tensor<D>, tolerance: f32, stage: &str) {
    let worst = distance(got, want);
    assert!(worst <= tolerance, "{stage}: largest difference {worst} exceeds {tolerance}");
}
