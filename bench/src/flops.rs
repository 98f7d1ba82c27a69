//! Work of the image encoders, counted: products of matrices only, 2 operations a multiplication with its addition.

use anyhow::Result;
use fusion_dit::{DitConfig, EncoderAttention};
use fusion_evf::{Encoder, EvfConfig, VisualKind};
use fusion_risam::{Backbone, RisamConfig};
use run_config::{Method, RunConfig};
use sam_vit::ImageEncoderConfig;
use swin::SwinConfig;

/// Operations that a method's image encoders need for one image: forward, and in a training step, where a trained encoder
/// needs twice as many again for its gradients. Text encoders, fusion and decoder are left out, so a share of a device's peak
/// that is made of these numbers is a lower bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Work {
    /// Forward.
    pub forward: f64,
    /// Forward and backward.
    pub step: f64,
}

/// The work of the config's model.
pub(crate) fn work(run_config: &RunConfig) -> Result<Work> {
    let step = |forward: f64, trained: bool| forward * if trained { 3.0 } else { 1.0 };
    Ok(match run_config.model.method {
        Method::Dit => {
            let config: DitConfig = run_config.method_section()?;
            let windows = config.attention != EncoderAttention::Global;
            let forward = encoder(&config.sam.image_encoder, run_config.data.image_size as usize, windows);
            Work { forward, step: step(forward, run_config.model.trains("visual_encoder.blocks.0.attn.qkv.weight")) }
        }
        Method::Evf => {
            let config: EvfConfig = run_config.method_section()?;
            let sam = match config.visual {
                VisualKind::Sam => encoder(&config.sam.image_encoder, config.input_size(), true),
                // No bench asks for them; a bound of nothing is a lower bound, too.
                VisualKind::EfficientSam | VisualKind::Sam2 => 0.0,
            };
            let joint = match config.encoder {
                Encoder::Beit3Early | Encoder::Beit3Late => {
                    let b = &config.beit3;
                    let tokens = (b.image_size / b.patch_size).pow(2) + 1;
                    b.layers as f64 * block(tokens, tokens, b.dim, b.ffn, tokens)
                }
                // Encoders of text alone, and towers that only some rows of one table use.
                _ => 0.0,
            };
            Work { forward: sam + joint, step: step(sam, config.train_image_encoder) + step(joint, config.train_encoder) }
        }
        Method::Risam => {
            let config: RisamConfig = run_config.method_section()?;
            let side = run_config.data.image_size as usize;
            let forward = match config.backbone {
                Backbone::Sam => encoder(&config.sam.image_encoder, side, true),
                Backbone::Clip => {
                    let clip = &config.clip_vision;
                    let tokens = (side / clip.patch_size).pow(2) + 1;
                    clip.layers as f64 * block(tokens, tokens, clip.width, clip.ffn, tokens)
                }
                Backbone::Swin => stages(&config.swin, side),
            };
            Work { forward, step: step(forward, config.train_image_encoder) }
        }
    })
}

/// The blocks of a Swin Transformer at an input side.
fn stages(config: &SwinConfig, side: usize) -> f64 {
    let stage = |(stage, depth): (usize, &usize)| {
        let (rows, _) = config.grid(stage, (side, side));
        let (width, padded) = (config.width(stage), rows.next_multiple_of(config.window));
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        *depth as f64 * block(padded.pow(2), rows.pow(2), width, hidden, config.window.pow(2))
    };
    config.depths.iter().enumerate().map(stage).sum()
}

/// One block: `tokens` go through attention (padding of windows included), `real` through the MLP, each looks at `seen`.
fn block(tokens: usize, real: usize, width: usize, hidden: usize, seen: usize) -> f64 {
    let [tokens, real, width, hidden, seen] = [tokens, real, width, hidden, seen].map(|n| n as f64);
    2.0 * (4.0 * tokens * width * width + 2.0 * tokens * seen * width + 2.0 * real * width * hidden)
}

/// SAM's image encoder at an input side.
pub(crate) fn encoder(config: &ImageEncoderConfig, side: usize, windows: bool) -> f64 {
    let grid = side / config.patch_size;
    let (tokens, width) = (grid * grid, config.embed_dim);
    let hidden = (config.mlp_ratio * width as f64) as usize;
    let window = config.window_size;
    let mut sum = 2.0 * (tokens * width * 3 * config.patch_size.pow(2)) as f64;
    for index in 0..config.depth {
        let whole = !windows || window == 0 || config.global_blocks.contains(&index);
        let padded = if whole { tokens } else { (grid.div_ceil(window) * window).pow(2) };
        sum += block(padded, tokens, width, hidden, if whole { tokens } else { window * window });
    }
    let out = config.out_channels;
    sum + 2.0 * (tokens * (width * out + 9 * out * out)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use sam_vit::SamConfig;

    /// ViT-B at 1024, its 4096 tokens counted by hand: patches, four blocks in which a token sees all others, eight with 25
    /// windows of 196 tokens (padding included), the neck.
    #[test]
    fn segment_anything_has_its_work() {
        let giga = |n: usize| 2.0 * n as f64 / 1e9;
        let mlp = giga(4096 * 768 * 3072 * 2);
        let whole = giga(4096 * 4 * 768 * 768) + giga(2 * 4096 * 4096 * 768) + mlp;
        let window = giga(25 * 196 * 4 * 768 * 768) + giga(2 * 25 * 196 * 196 * 768) + mlp;
        let ends = giga(4096 * 768 * 768) + giga(4096 * (768 * 256 + 9 * 256 * 256));
        let want = 4.0 * whole + 8.0 * window + ends;
        let got = encoder(&SamConfig::vit_b().image_encoder, 1024, true) / 1e9;
        assert!((got - want).abs() < 1e-6 && (960.0..975.0).contains(&got), "{got} instead of {want}");
        let config = SamConfig::vit_b().image_encoder;
        assert!(encoder(&config, 1024, false) > encoder(&config, 1024, true), "global attention costs more");
    }
}
