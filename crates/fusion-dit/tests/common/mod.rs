//! A toy that the integration tests share.
#![allow(dead_code, reason = "each test file uses its part")]

use burn::tensor::{Device, Tensor, TensorData};
use fusion_dit::{DitConfig, DitModel, Variant};
use nn_ops::formula;
use nn_ops::weights::load_formula;
use sam_vit::{ImageEncoderConfig, SamConfig};
use text_encoders::bert::BertConfig;
use text_encoders::clip::ClipTextConfig;
use text_encoders::tokenizer::WordPiece;

pub(crate) const SENTENCES: [&str; 3] = ["the man in red", "left zebra", "red"];

pub(crate) fn words() -> WordPiece {
    WordPiece::train(SENTENCES, 60).unwrap()
}

/// A token grid of 4 x 4, tables made for 8 x 8, windows of 3; block 1 is global.
pub(crate) fn toy(variant: Variant) -> DitConfig {
    let image_encoder = ImageEncoderConfig {
        image_size: 64,
        patch_size: 8,
        embed_dim: 16,
        depth: 2,
        heads: 2,
        mlp_ratio: 2.0,
        out_channels: 16,
        window_size: 3,
        global_blocks: vec![1],
    };
    DitConfig {
        variant,
        sam: SamConfig { image_encoder, decoder_heads: 2, decoder_mlp_dim: 16, ..Default::default() },
        input_size: 32,
        text_dim: 16,
        text_tokens: 8,
        bert: BertConfig {
            vocab_size: 200,
            hidden: 16,
            layers: 2,
            heads: 2,
            ffn: 32,
            output_layer: Some(1),
            ..Default::default()
        },
        clip: ClipTextConfig {
            vocab_size: 600,
            width: 16,
            layers: 2,
            heads: 2,
            ffn: 32,
            projection_dim: 8,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Nothing is zero, so that every path shows.
pub(crate) fn model(config: &DitConfig) -> DitModel {
    let device = Device::flex();
    load_formula(config.init(&device).unwrap(), "toy", &config.names()).0
}

pub(crate) fn input<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(formula::tensor("toy", name, &shape, 0.0, 1.0), shape), &Device::flex())
}
