//! Options of the network against slow, direct computations.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use fusion_dit::{Dit, DitConfig, DitModel, EncoderAttention, Prompt, TextKind, Variant};
use nn_ops::formula;
use nn_ops::weights::{export, load_formula};
use sam_vit::{Grid, ImageEncoderConfig, SamConfig};
use text_encoders::bert::BertConfig;
use text_encoders::clip::ClipTextConfig;
use text_encoders::tokenizer::{ClipTokenizer, WordPiece};

const SENTENCES: [&str; 3] = ["the man in red", "left zebra", "red"];

fn words() -> WordPiece {
    WordPiece::train(SENTENCES, 60).unwrap()
}

/// A token grid of 4 x 4, tables made for 8 x 8, windows of 3; block 1 is global.
fn toy(variant: Variant) -> DitConfig {
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
fn model(config: &DitConfig) -> DitModel {
    let device = Device::flex();
    load_formula(config.init(&device).unwrap(), "toy", &config.names()).0
}

fn input<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(formula::tensor("toy", name, &shape, 0.0, 1.0), shape), &Device::flex())
}

fn close<const D: usize>(got: Tensor<D>, want: Tensor<D>) {
    assert_eq!(got.dims(), want.dims());
    let worst = (got - want).abs().max().into_scalar::<f32>();
    assert!(worst < 2e-5, "largest difference {worst}");
}

fn differ<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
    assert!((a - b).abs().max().into_scalar::<f32>() > 1e-3);
}

#[test]
fn windows_without_text_are_sams_own() {
    let config = DitConfig { attention: EncoderAttention::Windowed, ..toy(Variant::DefaultSam) };
    let net = model(&config).net;
    let image = input("image", [2, 3, 32, 32]);
    let want = net.visual_encoder.forward(image.clone());
    close(net.encode(&config, image.clone(), None), want.clone());
    close(net.encode(&config, image.clone(), Some(input("text", [2, 8, 16]))), want.clone());
    differ(net.encode(&toy(Variant::DefaultSam), image, None), want);
}

/// Block 0 window by window with a copy of the slots each, cut by hand.
#[test]
fn windows_with_text_average_the_copies_of_a_slot() {
    let mut config = DitConfig { attention: EncoderAttention::Windowed, ..toy(Variant::E2e) };
    config.sam.image_encoder.window_size = 2;
    let net = model(&config).net;
    let device = Device::flex();
    let (image, text) = (input("image", [1, 3, 32, 32]), input("text", [1, 8, 16]));
    let got = net.encode(&config, image.clone(), Some(text.clone()));

    let (blocks, probs) = (&net.visual_encoder.blocks, &net.instruction.probs);
    let tokens = net.visual_encoder.embed(image).reshape([1, 16, 16]);
    let x = Tensor::cat(vec![probs[0].forward(text), tokens], 1);
    let normed = blocks[0].norm1.forward(x.clone());
    let mut slots = Tensor::<3>::zeros([1, 8, 16], &device);
    let mut attended: Vec<Option<Tensor<3>>> = vec![None; 16];
    for (top, left) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
        let places = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| (top + y) * 4 + left + x);
        let token = |i: usize| normed.clone().narrow(1, 8 + i, 1);
        let window = Tensor::cat([vec![normed.clone().narrow(1, 0, 8)], places.map(token).to_vec()].concat(), 1);
        let out = blocks[0].attn.forward(window, &Grid::new(2, 2, 8, &device));
        slots = slots + out.clone().narrow(1, 0, 8) / 4.0;
        for (k, place) in places.into_iter().enumerate() {
            attended[place] = Some(out.clone().narrow(1, 8 + k, 1));
        }
    }
    let attended: Vec<Tensor<3>> = std::iter::once(slots).chain(attended.into_iter().flatten()).collect();
    let x = x + Tensor::cat(attended, 1);
    let x = x.clone() + blocks[0].mlp.forward(blocks[0].norm2.forward(x));
    let x = Tensor::cat(vec![probs[1].forward(x.clone().narrow(1, 0, 8)), x.narrow(1, 8, 16)], 1);
    let x = blocks[1].forward_tokens(x, &Grid::new(4, 4, 8, &device));
    close(got, net.visual_encoder.neck.forward(x.narrow(1, 8, 16).reshape([1, 4, 4, 16])));
}

/// Against the whole logits with positions, as the block makes them.
#[test]
fn attention_of_words_is_what_the_block_uses() {
    let config = toy(Variant::LayerWise);
    let net = model(&config).net;
    let device = Device::flex();
    let (image, text) = (input("image", [2, 3, 32, 32]), input("text", [2, 8, 16]));
    let maps = net.attention(&config, image.clone(), text.clone());
    assert_eq!(maps.len(), 2);
    let block = &net.visual_encoder.blocks[0];
    let tokens = net.visual_encoder.embed(image.clone()).reshape([2, 16, 16]);
    let x = Tensor::cat(vec![net.instruction.probs[0].forward(text.clone()), tokens], 1);
    let [q, k, _] = block.attn.project(block.norm1.forward(x));
    let (q, k) = Grid::new(4, 4, 8, &device).widen(q, k, block.attn.rel_pos_h.val(), block.attn.rel_pos_w.val());
    let wide = q.dims()[3] as f64;
    let whole = softmax(q.matmul(k.swap_dims(2, 3)) / wide.sqrt(), 3).mean_dim(1).reshape([2, 24, 24]);
    close(maps[0].clone(), whole.narrow(1, 0, 8).narrow(2, 8, 16).reshape([2, 8, 4, 4]));

    let windowed = DitConfig { attention: EncoderAttention::Windowed, ..config };
    let maps = net.attention(&windowed, image.clone(), text.clone());
    assert_eq!(maps[0].dims(), [2, 8, 4, 4]);
    assert!(net.attention(&toy(Variant::DefaultSam), image, text).is_empty());
}

#[test]
fn a_mixed_batch_is_its_members() {
    let (config, words) = (toy(Variant::LayerWise), words());
    let model = model(&config);
    let images = input("image", [5, 3, 32, 32]);
    let prompts = [
        Prompt::Box([4.0, 4.0, 20.0, 24.0]),
        Prompt::Text(SENTENCES[0].into()),
        Prompt::Points(vec![[5.0, 6.0], [9.0, 9.0]]),
        Prompt::Text(SENTENCES[1].into()),
        Prompt::Box([0.0, 0.0, 30.0, 30.0]),
    ];
    let got = model.forward_prompts(&config, &words, images.clone(), &prompts).unwrap();
    for (i, prompt) in prompts.iter().enumerate() {
        let image = images.clone().narrow(0, i, 1);
        let alone = model.forward_prompts(&config, &words, image.clone(), std::slice::from_ref(prompt)).unwrap();
        close(got.clone().narrow(0, i, 1), alone.clone());
        if let Prompt::Text(text) = prompt {
            close(alone, model.forward(&config, &words, image, &[text]).unwrap().logits);
        } else {
            let moved = prompt.moved([1.0, 1.0], [6.0, 0.0]);
            differ(alone, model.forward_prompts(&config, &words, image, &[moved]).unwrap());
        }
    }
    // Text that stays out of the encoder lets all prompts share an image.
    let plain = toy(Variant::DefaultSam);
    let default = self::model(&plain);
    let one = images.clone().narrow(0, 0, 1);
    let apart = default.forward_prompts(&plain, &words, one.clone().expand([5, 3, 32, 32]), &prompts).unwrap();
    close(default.forward_prompts(&plain, &words, one.clone(), &prompts).unwrap(), apart);
    assert!(model.forward_prompts(&config, &words, one, &prompts).is_err());
    for wrong in [Prompt::Points(Vec::new()), Prompt::Box([9.0, 0.0, 3.0, 3.0]), Prompt::Points(vec![[f32::NAN, 0.0]])] {
        assert!(model.forward_prompts(&config, &words, images.clone().narrow(0, 0, 1), &[wrong]).is_err());
    }
    assert!(model.forward_prompts(&config, &words, images, &prompts[..2]).is_err());
}

#[test]
fn clip_reads_and_both_kinds_of_file_are_read_back() {
    for (text_encoder, variant) in [
        (TextKind::Clip, Variant::LayerWise),
        (TextKind::Bert, Variant::CrossAttentionOpp),
        (TextKind::Bert, Variant::CrossAttentionFfn),
    ] {
        let config = DitConfig { text_encoder, ..toy(variant) };
        let ours = model(&config);
        let file = export(&ours, &config.names(), "ours");
        let first = if text_encoder == TextKind::Clip { "lang_encoder.clip.text_model" } else { "lang_encoder.bert.embeddings" };
        assert!(file.names().any(|name| name.starts_with(first)));
        let (again, report) = config.init(&Device::flex()).unwrap().load(&config, file).unwrap();
        assert!(report.missing.is_empty() && report.unused.is_empty());
        let clip = ClipTokenizer::train(SENTENCES, 60).unwrap();
        let words = words();
        let tokenizer: &dyn text_encoders::TextTokenizer = if text_encoder == TextKind::Clip { &clip } else { &words };
        let image = input("image", [2, 3, 32, 32]);
        let logits = |model: &DitModel, said: [&str; 2]| model.forward(&config, tokenizer, image.clone(), &said).unwrap().logits;
        close(logits(&again, ["red", "left"]), logits(&ours, ["red", "left"]));
        differ(logits(&ours, ["left", "red"]), logits(&ours, ["red", "left"]));
    }
}

/// The compiled sibling of the cross-attention file: one projection of ones in front of block 0, later the norm of text
/// and attention (sheet sec. 10, row 12).
#[test]
fn the_sibling_of_cross_attention_projects_once() {
    let config = toy(Variant::CrossAttentionOpp);
    let fresh = config.init(&Device::flex()).unwrap().net.instruction;
    let ones = fresh.prob.as_ref().unwrap().weight.val();
    assert_eq!(ones.clone().min().into_scalar::<f32>(), 1.0);
    assert_eq!((fresh.probs.len(), fresh.cross.len(), fresh.norms.len(), fresh.ln.len()), (0, 1, 1, 0));

    let net = model(&config).net;
    let device = Device::flex();
    let (image, text) = (input("image", [1, 3, 32, 32]), input("text", [1, 8, 16]));
    let grid = Grid::new(4, 4, 8, &device);
    let (blocks, said) = (&net.visual_encoder.blocks, &net.instruction);
    let tokens = net.visual_encoder.embed(image.clone()).reshape([1, 16, 16]);
    let x = Tensor::cat(vec![said.prob.as_ref().unwrap().forward(text.clone()), tokens], 1);
    let x = blocks[0].forward_tokens(x, &grid);
    let looked = said.cross[0].forward(text.clone(), x.clone().narrow(1, 0, 8));
    let slots = said.norms[0].forward(text.clone() + looked);
    let x = blocks[1].forward_tokens(Tensor::cat(vec![slots, x.narrow(1, 8, 16)], 1), &grid);
    let want = net.visual_encoder.neck.forward(x.narrow(1, 8, 16).reshape([1, 4, 4, 16]));
    close(net.encode(&config, image, Some(text)), want);
}

#[test]
fn predictions_and_attention_in_the_pixels_of_the_image() {
    let config = toy(Variant::LayerWise);
    let dit = Dit::new(config.clone(), &model(&config).valid(), Arc::new(words())).unwrap();
    let pixels = formula::uniform("toy", "pixels", 64 * 40 * 3).map(|u| ((u + 1.0) * 127.0) as u8).collect();
    let image = pil_ops::Image::new(64, 40, 3, pixels).unwrap();
    let prompts = [Prompt::Box([10.0, 4.0, 40.0, 36.0]), Prompt::Text("red".into())];
    let found = dit.predict_prompts(&image, &prompts).unwrap();
    assert_eq!((found.len(), found[0].mask.height(), found[0].mask.width()), (2, 40, 64));
    assert_eq!(found[1], dit.predict(&image, &["red"]).unwrap()[0]);

    let seen = dit.attention(&image, "the man in red").unwrap();
    assert_eq!(seen.words, ["the", "man", "in", "red"]);
    // 32 x 20 of 32 x 32, centred.
    assert_eq!((seen.grid, seen.area), (4, [6.0 / 32.0, 0.0, 26.0 / 32.0, 1.0]));
    assert_eq!((seen.layers.len(), seen.layers[0].len(), seen.layers[0][0].len()), (2, 4, 16));
    let error = Dit::new(toy(Variant::DefaultSam), &model(&toy(Variant::DefaultSam)), Arc::new(words())).unwrap();
    assert!(error.attention(&image, "red").unwrap_err().to_string().contains("mask decoder only"));
}

#[test]
fn variants_and_sizes_are_read_off_a_file() {
    use Variant::*;
    for variant in [DefaultSam, LayerWise, E2eToken, TokenLayerWise, CrossAttention, CrossAttentionOpp, CrossAttentionFfn] {
        for (text_encoder, text_transform) in [(TextKind::Bert, false), (TextKind::Clip, variant != DefaultSam)] {
            let mut config = DitConfig { text_encoder, text_transform, input_size: 512, ..toy(variant) };
            config.sam.decoder_heads = 8;
            config.text_tokens = 20;
            config.bert.heads = 1;
            config.clip.heads = 1;
            let file = export(&config.init(&Device::flex()).unwrap(), &config.names(), "file");
            let released = file.rename(|name| Some(format!("module.{name}"))).unwrap();
            let found = DitConfig::detect(&released).unwrap();
            match text_encoder {
                TextKind::Bert => config.clip = found.clip.clone(),
                TextKind::Clip => config.bert = found.bert.clone(),
            }
            assert_eq!(found, config);
        }
    }
    let error = DitConfig::detect(&nn_ops::weights::StateDict::empty("a.pth")).unwrap_err().to_string();
    assert!(error.contains("a.pth") && error.contains("text_proj.weight"), "{error}");
}
