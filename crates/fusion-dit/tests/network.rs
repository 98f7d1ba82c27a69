//! Options of the network against slow, direct computations.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::nn::Linear;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use common::{SENTENCES, input, model, toy, words};
use fusion_dit::{
    DitConfig, DitFeatures, DitModel, DitNet, EncoderAttention, InstructionForm, Prompt, PromptMask, TextKind, Variant,
};
use nn_ops::resize::Resize;
use nn_ops::weights::export;
use sam_vit::{Grid, Output, Prompts};
use text_encoders::tokenizer::ClipTokenizer;

fn probs(net: &DitNet) -> &[Linear] {
    match &net.instruction.as_ref().unwrap().form {
        InstructionForm::LayerWise(form) | InstructionForm::E2e(form) => &form.probs,
        other => panic!("{other:?}"),
    }
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
    close(net.encode(image.clone(), None), want.clone());
    close(net.encode(image.clone(), Some(input("text", [2, 8, 16]))), want.clone());
    differ(model(&toy(Variant::DefaultSam)).net.encode(image, None), want);
}

/// Block 0 window by window with a copy of the slots each, cut by hand.
#[test]
fn windows_with_text_average_the_copies_of_a_slot() {
    let mut config = DitConfig { attention: EncoderAttention::Windowed, ..toy(Variant::E2e) };
    config.sam.image_encoder.window_size = 2;
    let net = model(&config).net;
    let device = Device::flex();
    let (image, text) = (input("image", [1, 3, 32, 32]), input("text", [1, 8, 16]));
    let got = net.encode(image.clone(), Some(text.clone()));

    let (blocks, probs) = (&net.visual_encoder.blocks, probs(&net));
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
    let maps = net.attention(image.clone(), text.clone());
    assert_eq!(maps.len(), 2);
    let block = &net.visual_encoder.blocks[0];
    let tokens = net.visual_encoder.embed(image.clone()).reshape([2, 16, 16]);
    let x = Tensor::cat(vec![probs(&net)[0].forward(text.clone()), tokens], 1);
    let [q, k, _] = block.attn.project(block.norm1.forward(x));
    let (q, k) = Grid::new(4, 4, 8, &device).widen(q, k, block.attn.rel_pos_h.val(), block.attn.rel_pos_w.val());
    let wide = q.dims()[3] as f64;
    let whole = softmax(q.matmul(k.swap_dims(2, 3)) / wide.sqrt(), 3).mean_dim(1).reshape([2, 24, 24]);
    close(maps[0].clone(), whole.narrow(1, 0, 8).narrow(2, 8, 16).reshape([2, 8, 4, 4]));

    let windowed = model(&DitConfig { attention: EncoderAttention::Windowed, ..config });
    let maps = windowed.net.attention(image.clone(), text.clone());
    assert_eq!(maps[0].dims(), [2, 8, 4, 4]);
    assert!(model(&toy(Variant::DefaultSam)).net.attention(image, text).is_empty());
}

#[test]
fn a_mixed_batch_is_its_members() {
    let words = words();
    let images = input("image", [3, 3, 32, 32]);
    let prompts = [
        Prompt::Box([4.0, 4.0, 20.0, 24.0]),
        Prompt::Text(SENTENCES[0].into()),
        Prompt::Points(vec![[5.0, 6.0], [9.0, 9.0]]),
        Prompt::Text(SENTENCES[1].into()),
        Prompt::Box([0.0, 0.0, 30.0, 30.0]),
    ];
    let image_of = [0, 1, 2, 0, 1];
    // Text that stays out of the encoder lets all prompts share an image.
    for variant in [Variant::LayerWise, Variant::DefaultSam] {
        let model = model(&toy(variant));
        let prompted = |images: Tensor<4>, prompts: &[Prompt], image_of: &[usize]| {
            model.forward_prompts(&words, &model.encode_images(images), prompts, image_of)
        };
        let got = prompted(images.clone(), &prompts, &image_of).unwrap();
        for (i, prompt) in prompts.iter().enumerate() {
            let image = images.clone().narrow(0, image_of[i], 1);
            let alone = prompted(image.clone(), std::slice::from_ref(prompt), &[0]).unwrap();
            close(got.clone().narrow(0, i, 1), alone.clone());
            if let Prompt::Text(text) = prompt {
                close(alone, model.forward(image, &model.tokens(&words, &[text]).unwrap(), &[0]).unwrap().logits);
            } else {
                let moved = prompt.moved([1.0, 1.0], [6.0, 0.0]);
                differ(alone, prompted(image, &[moved], &[0]).unwrap());
            }
        }
        let one = images.clone().narrow(0, 0, 1);
        let apart = prompted(one.clone().expand([5, 3, 32, 32]), &prompts, &[0, 1, 2, 3, 4]).unwrap();
        close(prompted(one.clone(), &prompts, &[0; 5]).unwrap(), apart);
        for wrong in [Prompt::Points(Vec::new()), Prompt::Box([9.0, 0.0, 3.0, 3.0]), Prompt::Points(vec![[f32::NAN, 0.0]])] {
            assert!(prompted(one.clone(), &[wrong], &[0]).is_err());
        }
        assert!(prompted(images.clone(), &prompts[..2], &[0]).is_err());
        assert!(prompted(images.clone(), &prompts[..2], &[0, 3]).is_err());
        assert!(prompted(one, &[], &[]).is_err());
    }
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
        let (again, report) = config.init(&Device::flex()).unwrap().load(&file).unwrap();
        assert!(report.missing.is_empty() && report.unused.is_empty());
        let clip = ClipTokenizer::train(SENTENCES, 60).unwrap();
        let words = words();
        let tokenizer: &dyn text_encoders::TextTokenizer = if text_encoder == TextKind::Clip { &clip } else { &words };
        let image = input("image", [2, 3, 32, 32]);
        let logits = |model: &DitModel, sentences: [&str; 2]| {
            model.forward(image.clone(), &model.tokens(tokenizer, &sentences).unwrap(), &[0, 1]).unwrap().logits
        };
        close(logits(&again, ["red", "left"]), logits(&ours, ["red", "left"]));
        differ(logits(&ours, ["left", "red"]), logits(&ours, ["red", "left"]));
    }
}

/// The compiled sibling of the cross-attention file: one projection of ones in front of block 0, later the norm of text
/// and attention.
#[test]
fn the_sibling_of_cross_attention_projects_once() {
    let config = toy(Variant::CrossAttentionOpp);
    let form = |net: DitNet| match net.instruction.unwrap().form {
        InstructionForm::CrossAttentionOpp(form) => form,
        other => panic!("{other:?}"),
    };
    let fresh = form(config.init(&Device::flex()).unwrap().net);
    assert_eq!(fresh.prob.weight.val().min().into_scalar::<f32>(), 1.0);
    assert_eq!((fresh.cross.len(), fresh.norms.len()), (1, 1));

    let net = model(&config).net;
    let device = Device::flex();
    let (image, text) = (input("image", [1, 3, 32, 32]), input("text", [1, 8, 16]));
    let grid = Grid::new(4, 4, 8, &device);
    let (blocks, form) = (&net.visual_encoder.blocks, form(net.clone()));
    let tokens = net.visual_encoder.embed(image.clone()).reshape([1, 16, 16]);
    let x = Tensor::cat(vec![form.prob.forward(text.clone()), tokens], 1);
    let x = blocks[0].forward_tokens(x, &grid);
    let attended = form.cross[0].forward(text.clone(), x.clone().narrow(1, 0, 8));
    let slots = form.norms[0].forward(text.clone() + attended);
    let x = blocks[1].forward_tokens(Tensor::cat(vec![slots, x.narrow(1, 8, 16)], 1), &grid);
    let want = net.visual_encoder.neck.forward(x.narrow(1, 8, 16).reshape([1, 4, 4, 16]));
    close(net.encode(image, Some(text)), want);
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

/// As SAM's own predictor: of masks 1 to 3 the one with the best predicted IoU, brought up by half-pixel centres. Sentences keep mask 0.
#[test]
fn points_and_boxes_may_be_answered_by_the_best_of_three() {
    let config = toy(Variant::DefaultSam);
    let first = model(&config);
    let best = model(&DitConfig { prompt_mask: PromptMask::BestOfThree, ..config });
    let features = first.encode_images(input("image", [2, 3, 32, 32]));
    let prompts = [
        Prompt::Points(vec![[4.0, 9.0], [20.0, 25.0]]),
        Prompt::Points(vec![[30.0, 2.0], [3.0, 3.0]]),
        Prompt::Box([2.0, 3.0, 20.0, 30.0]),
        Prompt::Text("left zebra".into()),
    ];
    let image_of = [0, 1, 1, 0];
    let ask = |model: &DitModel| model.forward_prompts(&words(), &features, &prompts, &image_of).unwrap();
    let (got, mask_0) = (ask(&best), ask(&first));
    close(got.clone().narrow(0, 3, 1), mask_0.clone().narrow(0, 3, 1));
    differ(got.clone().narrow(0, 0, 3), mask_0.narrow(0, 0, 3));
    let DitFeatures::Embedding(maps) = &features else { panic!("text stays out of this encoder") };
    let mut chosen = Vec::new();
    for (row, prompt) in prompts[..3].iter().enumerate() {
        let mut asked = Prompts::default();
        let numbers = |values: Vec<f32>, shape: [usize; 3]| Tensor::<1>::from_floats(&values[..], &Device::flex()).reshape(shape);
        match prompt {
            Prompt::Points(points) => {
                asked.points = Some((numbers(points.concat(), [1, 2, 2]), Tensor::ones([1, 2], &Device::flex())));
            }
            Prompt::Box(corners) => asked.boxes = Some(numbers(corners.to_vec(), [1, 4, 1]).reshape([1, 4])),
            Prompt::Text(_) => unreachable!(),
        }
        let net = &first.net;
        let positions = net.prompt_encoder.pe_layer.dense(4, 4);
        let (sparse, dense) = net.prompt_encoder.forward(asked, (32, 32));
        let embedding = maps.clone().narrow(0, image_of[row], 1);
        let (masks, iou) = net.mask_decoder.forward(embedding, positions, sparse, dense, Output::Multi);
        let iou = iou.into_data().try_to_vec::<f32>().unwrap();
        let at = (0..3).max_by(|a, b| iou[*a].total_cmp(&iou[*b])).unwrap();
        chosen.push(at);
        close(got.clone().narrow(0, row, 1), Resize::BILINEAR.forward(masks.narrow(1, at, 1), [32, 32]));
    }
    assert_eq!(chosen.len(), 3);
}

/// Of a global block by hand, and that a block's map is what its tokens attend with; windows see no further than themselves.
#[test]
fn the_image_attends_to_itself() {
    let net = model(&toy(Variant::DefaultSam)).net;
    let image = input("image", [1, 3, 32, 32]);
    let maps = net.image_attention(image.clone(), None, None);
    let of = |row: usize, column: usize| net.image_attention(image.clone(), None, Some([row, column]));
    assert_eq!((maps.len(), maps[0].dims()), (2, [1, 4, 4]));
    for map in &maps {
        assert!((map.clone().sum().into_scalar::<f32>() - 1.0).abs() < 1e-5);
    }
    // The mean over all regions is that of their single maps.
    let all = (0..16).map(|at| of(at / 4, at % 4).remove(1)).reduce(|a, b| a + b).unwrap() / 16.0;
    close(all, maps[1].clone());
    // By hand: the first block's tokens, widened by the block's tables.
    let block = &net.visual_encoder.blocks[0];
    let tokens = block.norm1.forward(net.visual_encoder.embed(image.clone()).reshape([1, 16, 16]));
    let [q, k, _] = block.attn.project(tokens);
    let grid = Grid::new(4, 4, 0, &Device::flex());
    let (q, k) = grid.widen(q, k, block.attn.rel_pos_h.val(), block.attn.rel_pos_w.val());
    let width = q.dims()[3] as f64;
    let want = softmax(q.matmul(k.swap_dims(2, 3)) / width.sqrt(), 3).mean_dim(1).narrow(2, 6, 1).reshape([1, 4, 4]);
    close(of(1, 2).remove(0), want);

    let mut config = DitConfig { attention: EncoderAttention::Windowed, ..toy(Variant::DefaultSam) };
    config.sam.image_encoder.window_size = 2;
    let map = model(&config).net.image_attention(image, None, Some([1, 2])).remove(0);
    let values = map.into_data().try_to_vec::<f32>().unwrap();
    let inside: f32 = [2, 3, 6, 7].map(|at| values[at]).iter().sum();
    assert!((inside - 1.0).abs() < 1e-5 && (values.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{values:?}");
}
