//! A small model with formula weights, and helpers.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::weights::load_formula;
use pil_ops::Image;
use sam_vit::{ImageEncoderConfig, Sam, SamConfig, facebook_names};

/// Input 64, grid 4 x 4; windows of 3 need padding.
pub(crate) fn config() -> SamConfig {
    let image_encoder = ImageEncoderConfig {
        image_size: 64,
        embed_dim: 32,
        depth: 3,
        heads: 2,
        out_channels: 32,
        window_size: 3,
        global_blocks: vec![1],
        ..Default::default()
    };
    SamConfig { image_encoder, decoder_mlp_dim: 48, ..Default::default() }
}

pub(crate) fn sam(config: &SamConfig, device: &Device) -> Sam {
    load_formula(config.init(device), "toy", &facebook_names()).0
}

/// Bytes of a linear congruential generator, the same as in `fixtures/make_preprocess.py`.
pub(crate) fn test_image(height: usize, width: usize) -> Image {
    let mut state = (height * 65536 + width) as u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Image::new(width, height, 3, (0..height * width * 3).map(|_| next()).collect()).unwrap()
}

pub(crate) fn formula<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(nn_ops::formula::tensor("toy", name, &shape, 0.0, 1.0), shape), device)
}

pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

#[track_caller]
pub(crate) fn assert_close<const D: usize>(got: Tensor<D>, want: Tensor<D>, tolerance: f32, stage: &str) {
    assert_eq!(got.dims(), want.dims(), "{stage}");
    let worst = values(got).iter().zip(values(want)).fold(0.0f32, |worst, (g, w)| {
        let difference = (g - w).abs();
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    });
    assert!(worst <= tolerance, "{stage}: largest difference {worst} exceeds {tolerance}");
}
