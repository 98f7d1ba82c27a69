//! Goldens of kind `dit`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use burn::tensor::DType;
use fusion_dit::{DitConfig, Variant, loss, released_names};
use sam_vit::{ImageEncoderConfig, SamConfig};
use serde::Deserialize;

use super::golden::Golden;

#[derive(Deserialize)]
struct Case {
    variant: String,
    img: usize,
    input: usize,
    patch: usize,
    embed: usize,
    depth: usize,
    heads: usize,
    mlp_ratio: f64,
    win: usize,
    glob: Vec<usize>,
    out_chans: usize,
    decoder_depth: usize,
    text_len: usize,
    text_dim: usize,
    parameters: usize,
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let cases: BTreeMap<String, Case> = golden.meta("cases")?;
    for (name, case) in cases {
        let (variant, text_transform) = variant(&case.variant)?;
        let config = DitConfig {
            variant,
            sam: SamConfig {
                image_encoder: ImageEncoderConfig {
                    image_size: case.img,
                    patch_size: case.patch,
                    embed_dim: case.embed,
                    depth: case.depth,
                    heads: case.heads,
                    mlp_ratio: case.mlp_ratio,
                    out_channels: case.out_chans,
                    window_size: case.win,
                    global_blocks: case.glob,
                },
                decoder_depth: case.decoder_depth,
                ..SamConfig::default()
            },
            input_size: case.input,
            text_dim: case.text_dim,
            text_tokens: case.text_len,
            text_transform,
            ..DitConfig::default()
        };
        config.validate().map_err(|e| anyhow!("case {name}: {e}"))?;
        let (net, count) = golden.model(config.init_net(&golden.device), &released_names())?;
        golden.compare_count(&format!("{name}.parameters"), count, case.parameters);
        let out = net.forward(&config, golden.input("in.image")?, golden.features("in.text")?);
        golden.compare(&format!("{name}.image_embedding"), out.image_embedding);
        golden.compare(&format!("{name}.low_res_masks"), out.low_res);
        golden.compare(&format!("{name}.iou"), out.iou);
        golden.compare(&format!("{name}.logits"), out.logits.clone());
        golden.compare(&format!("{name}.loss"), loss(out.logits.cast(DType::F32), golden.input("in.mask")?));
    }
    Ok(())
}

/// The variants by the names of the released configuration files.
fn variant(name: &str) -> Result<(Variant, bool)> {
    Ok(match name {
        "layer_wise" | "layer_wise_freeze" => (Variant::LayerWise, false),
        "layer_wise_vith" => (Variant::LayerWise, true),
        "e2e" => (Variant::E2e, false),
        "e2e_token" => (Variant::E2eToken, false),
        "token_layer_wise" => (Variant::TokenLayerWise, false),
        "cross_attention" => (Variant::CrossAttention, false),
        "cross_attention_ffn" => (Variant::CrossAttentionFfn, false),
        "default_sam" | "default_sam_add_2" | "default_sam_add_4" => (Variant::DefaultSam, false),
        other => return Err(anyhow!("unknown variant `{other}`")),
    })
}
