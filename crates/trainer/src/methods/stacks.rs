//! The parts of each method's network that a training step needs memory for.

use fusion_dit::{DitConfig, TextKind, Variant};
use fusion_evf::{Encoder, EvfConfig, VisualKind};
use fusion_risam::{Backbone, RisamConfig};
use sam_vit::{ImageEncoderConfig, SamConfig};
use text_encoders::clip::ClipTextConfig;

use crate::memory::{Rows, Stack, blocks, mask_decoder};

/// Tokens of a sentence where it is padded to the longest of its batch.
const SENTENCE: usize = 24;

/// What any trained parameter's gradient needs.
const ANY: [&str; 1] = [""];

fn side(pixels: usize, patch: usize) -> usize {
    pixels / patch.max(1)
}

fn vit(config: &ImageEncoderConfig, grid: usize, more_tokens: usize, rows: Rows) -> Stack {
    let all = blocks(config.depth, grid * grid + more_tokens, config.embed_dim, config.mlp_dim(), rows);
    Stack { recomputed: true, ..all }
}

fn sam_decoder(sam: &SamConfig, grid: usize, pixels: usize) -> [Stack; 2] {
    mask_decoder(sam.decoder_depth, grid, sam.prompt_dim(), pixels).map(|stack| Stack { reached_by: ANY.into(), ..stack })
}

fn clip(config: &ClipTextConfig, tokens: usize, reached_by: &'static str) -> Stack {
    let all = blocks(config.layers, tokens, config.width, config.ffn, Rows::Sentences);
    Stack { reached_by: vec![reached_by], ..all }
}

pub(super) fn dit(config: &DitConfig) -> Vec<Stack> {
    const TEXT: &str = "lang_encoder.";
    let text = match config.text_encoder {
        TextKind::Bert => {
            let layers = config.bert.output_layer.unwrap_or(config.bert.layers);
            let all = blocks(layers, config.text_tokens, config.bert.hidden, config.bert.ffn, Rows::Sentences);
            Stack { reached_by: vec![TEXT], ..all }
        }
        TextKind::Clip => clip(&config.clip, config.text_tokens, TEXT),
    };
    let image = match config.variant {
        Variant::DefaultSam => {
            let alone = vit(&config.sam.image_encoder, config.grid(), 0, Rows::Images);
            Stack { reached_by: vec!["visual_encoder."], ..alone }
        }
        // Text is in the image encoder, which therefore sees each sentence's own image.
        _ => {
            let joint = vit(&config.sam.image_encoder, config.grid(), config.text_tokens, Rows::Sentences);
            Stack { reached_by: vec!["visual_encoder.", TEXT], ..joint }
        }
    };
    [vec![text, image], sam_decoder(&config.sam, config.grid(), config.input_size).into()].concat()
}

/// A hierarchical encoder: per stage its blocks, grid's side and width; hidden layers are four times as wide.
fn stages(of: impl Iterator<Item = (usize, usize, usize)>, reached_by: &'static str) -> Vec<Stack> {
    let stage = |(pieces, grid, width): (usize, usize, usize)| Stack {
        reached_by: vec![reached_by],
        cached: true,
        ..blocks(pieces, grid * grid, width, 4 * width, Rows::Images)
    };
    of.map(stage).collect()
}

pub(super) fn evf(config: &EvfConfig) -> Vec<Stack> {
    const IMAGE: &str = "visual_model.image_encoder.";
    const TEXT: [&str; 1] = ["mm_extractor."];
    let pixels = config.input_size();
    let (image, grid, layers) = match config.visual {
        VisualKind::Sam => {
            let encoder = &config.sam.image_encoder;
            let grid = side(pixels, encoder.patch_size);
            let alone = Stack { reached_by: vec![IMAGE], cached: true, ..vit(encoder, grid, 0, Rows::Images) };
            (vec![alone], grid, config.sam.decoder_depth)
        }
        VisualKind::EfficientSam => {
            let sizes = &config.efficient_sam;
            let grid = side(pixels, sizes.patch_size);
            (stages(std::iter::once((sizes.depth, grid, sizes.embed_dim)), IMAGE), grid, sizes.decoder_depth)
        }
        VisualKind::Sam2 => {
            let trunk = &config.sam2.image_encoder;
            let of = trunk.stages.iter().enumerate().map(|(i, count)| (*count, pixels / (4 << i), trunk.embed_dim << i));
            (stages(of, IMAGE), pixels / 16, config.sam2.decoder_depth)
        }
    };
    let joint = match config.encoder {
        Encoder::ClipText | Encoder::ClipLate => Stack { reached_by: TEXT.into(), ..clip(&config.clip_text, SENTENCE, TEXT[0]) },
        Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => {
            let sizes = &config.vilt;
            let patches = side(sizes.image_size, sizes.patch_size).pow(2);
            Stack {
                reached_by: TEXT.into(),
                ..blocks(sizes.layers, patches + SENTENCE, sizes.hidden, sizes.ffn, Rows::Sentences)
            }
        }
        Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => {
            let sizes = &config.beit3;
            let tokens = if config.encoder.sees() { sizes.patches() + 1 + SENTENCE } else { SENTENCE };
            let all = blocks(sizes.layers, tokens, sizes.dim, sizes.ffn, Rows::Sentences);
            Stack { reached_by: TEXT.into(), recomputed: true, ..all }
        }
    };
    let decoder = mask_decoder(layers, grid, config.prompt_dim(), pixels).map(|stack| Stack { reached_by: ANY.into(), ..stack });
    [image, vec![joint], decoder.into()].concat()
}

pub(super) fn risam(config: &RisamConfig) -> Vec<Stack> {
    const IMAGE: &str = "image_encoder.";
    let image = match config.backbone {
        Backbone::Sam => {
            let encoder = &config.sam.image_encoder;
            let alone = vit(encoder, side(config.input_size, encoder.patch_size), 0, Rows::Images);
            vec![Stack { reached_by: vec![IMAGE], cached: true, ..alone }]
        }
        Backbone::Clip => {
            let sizes = &config.clip_vision;
            let grid = side(config.input_size, sizes.patch_size);
            let alone = blocks(sizes.layers, grid * grid + 1, sizes.width, sizes.ffn, Rows::Images);
            vec![Stack { reached_by: vec![IMAGE], cached: true, recomputed: true, ..alone }]
        }
        Backbone::Swin => {
            let sizes = &config.swin;
            let grid = side(config.input_size, sizes.patch_size);
            stages(sizes.depths.iter().enumerate().map(|(i, count)| (*count, grid >> i, sizes.embed_dim << i)), IMAGE)
        }
    };
    let text = clip(&config.clip, config.words, "text_encoder.");
    let (grid, width) = (config.grid(), config.width);
    // Enhancement, interaction and decoder, then the head.
    let own = blocks(2 + config.interaction_blocks + config.decoder_blocks, grid * grid, width, config.ffn, Rows::Sentences);
    let [_, head] = mask_decoder(0, grid, width, config.input_size);
    let own = [own, head].map(|stack| Stack { reached_by: ANY.into(), ..stack });
    [image, vec![text], own.into()].concat()
}
