//! Behaviour of the whole network, in every form it can take.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use common::{GRID, Letters, assert_near, features, forms, fusion, net, own, reached, tensor, toy, values, words};
use fusion_risam::{
    Enhancement, EnhancementForm, Fusion, Interaction, InteractionBlocks, MaskHead, NormPlacement, RisamConfig, RisamFeatures,
    RisamForm, RisamNet, loss,
};
use nn_ops::weights::{export, parameters, trained};

#[test]
fn sentences_do_not_see_padding_or_each_other() {
    let device = Device::flex();
    for (name, config) in forms() {
        let net = net(&config, &device);
        let run = |images: &[&str], sentences: &[&str], length: usize, lengths: &[usize]| {
            let image_of: Vec<usize> = (0..sentences.len()).map(|row| if images.len() == 1 { 0 } else { row }).collect();
            let (images, words) = (features(&config, images, &device), words(&config, sentences, length, &device));
            let out = net.forward(&images, &image_of, words, lengths).unwrap();
            assert_eq!(out.low_res.dims(), [sentences.len(), 1, 4 * GRID.0, 4 * GRID.1], "{name}");
            assert_eq!(out.logits.dims(), [sentences.len(), 1, 64, 64], "{name}");
            out.low_res
        };
        let alone = run(&["a"], &["one"], 3, &[3]);
        assert!(values(alone.clone()).iter().all(|v| v.is_finite()), "{name}");
        assert_near(run(&["a"], &["one"], 6, &[3]), alone.clone(), 2e-5, &format!("{name}: padding"));
        let three = run(&["b", "a", "c"], &["two", "one", "three"], 5, &[5, 3, 4]);
        assert_near(three.narrow(0, 1, 1), alone.clone(), 2e-5, &format!("{name}: batch"));
        let shared = run(&["a"], &["two", "one"], 5, &[5, 3]);
        assert_near(shared.clone().narrow(0, 1, 1), alone.clone(), 2e-5, &format!("{name}: one image for two sentences"));
        let other = (shared.narrow(0, 0, 1) - alone).abs().max().into_scalar::<f32>();
        assert!(other > 1e-3, "{name}: the sentence makes no difference ({other})");
    }
}

#[test]
fn every_trained_parameter_gets_a_gradient() {
    let device = Device::flex().autodiff();
    for (name, config) in forms() {
        let net = net(&config, &device);
        let image = features(&config, &["a", "b"], &device);
        let out = net.forward(&image, &[0, 1], words(&config, &["one", "two"], 5, &device), &[5, 4]).unwrap();
        let targets = tensor("mask", [2, 1, 64, 64], &device);
        let grads = loss(&config, out.logits, targets, None).total.backward();
        let reached = reached(&net, &GradientsParams::from_grads(grads, &net));
        let missing: Vec<String> = trained(&net, &RisamNet::names())
            .into_iter()
            .filter(|p| !reached.contains(&p.id))
            .map(|p| p.name)
            // SAM's decoder has mask tokens and a quality head that the single mask does not use; words that the last
            // interaction puts out are not used without them in the decoder, nor are positions of places not reached.
            .filter(|n| {
                !n.starts_with("mask_decoder.output_hypernetworks_mlps.") && !n.starts_with("mask_decoder.iou_prediction_head.")
            })
            .filter(|n| config.language_in_decoder || !n.contains("norm_l.") && !n.contains("w_l."))
            .collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn the_paper_has_six_million_parameters() {
    let device = Device::flex();
    let count = |config: &RisamConfig, part: &str| -> usize {
        let all = parameters(&config.init_net(&device), &RisamNet::names());
        let chosen = all.iter().filter(|p| p.name.starts_with(part) && config.trains(&p.name));
        chosen.map(|p| p.shape.iter().product::<usize>()).sum()
    };
    let paper = RisamConfig::vit_h();
    for (part, want) in [
        ("", 5_795_904),
        ("fe.", 3_673_088),
        ("ma.", 329_728),
        ("decoder.0.", 789_504),
        ("decoder.1.", 789_504),
        ("query", 256),
        ("up", 74_016),
        ("mask_mlp.", 139_808),
    ] {
        assert_eq!(count(&paper, part), want, "{part}");
    }
    let wide = RisamConfig { clip: text_encoders::clip::ClipTextConfig::openai_l14(), ..paper.clone() };
    assert_eq!(count(&wide, ""), 5_861_440);
    assert_eq!(count(&RisamConfig { single_linear: true, ..paper.clone() }, ""), 5_532_736);
    // "+1.5k a set": three norms in each of two blocks.
    assert_eq!(count(&RisamConfig { norm: NormPlacement::Pre, ..paper.clone() }, "") - 5_795_904, 2 * 3 * 512);
    assert_eq!(count(&RisamConfig { decoder_blocks: 3, ..paper.clone() }, ""), 5_795_904 + 789_504);
    // Tab. 11 trains a linear map and SAM's decoder.
    let baseline = RisamConfig { baseline: true, ..paper.clone() };
    assert_eq!(count(&baseline, "text_proj."), 512 * 256 + 256);

    let model = parameters(&paper.init(&device).unwrap(), &paper.names());
    let total = |trained: bool| -> usize {
        let chosen = model
            .iter()
            .filter(|p| !p.name.contains(".running_") && !p.name.contains("_norm.running_") && paper.trains(&p.name) == trained);
        chosen.map(|p| p.shape.iter().product::<usize>()).sum()
    };
    assert_eq!(total(true), 5_795_904);
    assert!(total(true) * 100 < total(false), "{} of {}", total(true), total(false));
}

#[test]
fn frozen_encoders_get_no_gradient_and_text_does_when_it_is_trained() {
    let device = Device::flex().autodiff();
    for (config, text) in [(toy(), false), (RisamConfig { text_frozen: false, ..toy() }, true)] {
        let model = config.init(&device).unwrap();
        let out = model
            .forward(tensor("image", [2, 3, 64, 64], &device), &model.tokens(&Letters, &["abc", "de"]).unwrap(), &[0, 1])
            .unwrap();
        let grads = out.logits.powf_scalar(2.0).mean().backward();
        let reached = reached(&model, &GradientsParams::from_grads(grads, &model));
        let with = |prefix: &str| {
            trained(&model, &config.names()).iter().filter(|p| p.name.starts_with(prefix) && reached.contains(&p.id)).count()
        };
        assert_eq!(with("image_encoder."), 0);
        assert_eq!(with("text_encoder.") > 0, text);
        assert!(with("fe.") > 10);
        let frozen = trained(&model.freeze(), &config.names());
        assert!(!frozen.is_empty() && frozen.iter().all(|p| config.trains(&p.name)));
    }
}

#[test]
fn batch_norm_uses_the_batch_in_training_and_its_own_statistics_after() {
    let graph = Device::flex().autodiff();
    let config = toy();
    let net = net(&config, &graph);
    let statistics = |net: &RisamNet| values(own(net.clone()).head.up1_norm.running_mean.value_sync());
    let before = statistics(&net);
    let image = features(&config, &["a", "b"], &graph);
    let run = |net: &RisamNet, device: &Device| {
        let image = features(&config, &["a", "b"], device);
        net.forward(&image, &[0, 1], words(&config, &["one", "two"], 4, device), &[4, 4]).unwrap().low_res
    };
    // In evaluation nothing moves, and one sample does not see another (checked above).
    let valid = net.valid();
    let first = values(run(&valid, &Device::flex()));
    assert_eq!(values(run(&valid, &Device::flex())), first);
    assert_eq!(statistics(&net), before);
    // In training the batch counts: the map behind a norm has mean beta and deviation gamma in each channel.
    let trained = run(&net, &graph);
    assert_ne!(values(trained), first);
    let EnhancementForm::Full(form) = fusion(net.clone()).fe.form else { panic!("the paper's form") };
    let norm = &form.cba1;
    let RisamFeatures::Taps(taps) = &image else { panic!("taps") };
    let map =
        norm.norm.forward(norm.conv.forward(
            Tensor::cat(vec![taps[0].clone().narrow(3, 0, 16), taps[1].clone().narrow(3, 0, 16)], 3).permute([0, 3, 1, 2]),
        ));
    let mean = values(map.mean_dim(0).mean_dim(2).mean_dim(3));
    let beta = values(norm.norm.beta.val());
    assert!(mean.iter().zip(&beta).all(|(m, b)| (m - b).abs() < 1e-5));
    // The running mean moves by a tenth of the way, once a pass.
    let moved = statistics(&net);
    assert_ne!(moved, before);
    // What was made by `valid` before has statistics of its own.
    assert_eq!(statistics(&valid), before);
    assert_eq!(values(run(&valid, &Device::flex())), first);
}

/// A pass leaves its update pending; `valid` writes it down, so that a file saved afterwards has it.
#[test]
fn running_statistics_are_written_after_valid() {
    let graph = Device::flex().autodiff();
    let config = toy();
    let net = net(&config, &graph);
    let name = "up1_norm.running_mean";
    let saved = |net: &RisamNet| export(net, &RisamNet::names(), "toy").read(name).unwrap();
    let before = saved(&net);
    let image = features(&config, &["a"], &graph);
    net.forward(&image, &[0], words(&config, &["one"], 4, &graph), &[4]).unwrap();
    let _ = net.valid();
    let after = saved(&net);
    assert_ne!(after, before);
    assert_eq!(saved(&net.valid()), after);
}

#[test]
fn wrong_shapes_are_errors() {
    let device = Device::flex();
    let config = toy();
    let net = net(&config, &device);
    let text = words(&config, &["one", "two"], 4, &device);
    let two = features(&config, &["a", "b"], &device);
    assert!(net.forward(&two, &[0, 1], text.clone(), &[4, 4]).is_ok());
    assert!(net.forward(&two, &[0, 1], text.clone(), &[4, 5]).is_err());
    assert!(net.forward(&two, &[0, 1], text.clone(), &[4, 0]).is_err());
    assert!(net.forward(&two, &[0, 1], text.clone(), &[4]).is_err());
    assert!(net.forward(&two, &[0, 2], text.clone(), &[4, 4]).is_err());
    assert!(net.forward(&two, &[0], text.clone(), &[4, 4]).is_err());
    assert!(net.forward(&two, &[0, 1], text.narrow(2, 0, 5), &[4, 4]).is_err());
    let baseline = RisamConfig { baseline: true, ..toy() };
    let text = words(&config, &["one", "two"], 4, &device);
    assert!(common::net(&baseline, &device).forward(&two, &[0, 1], text.clone(), &[4, 4]).is_err());
    let embedding = features(&baseline, &["a", "b"], &device);
    assert!(net.forward(&embedding, &[0, 1], text, &[4, 4]).is_err());
    let kept = two.clone().into_tensors();
    assert!(matches!(RisamFeatures::from_tensors(kept.clone()), Ok(RisamFeatures::Taps(_))));
    assert!(matches!(RisamFeatures::from_tensors(kept[..1].to_vec()), Ok(RisamFeatures::Embedding(_))));
    assert!(RisamFeatures::from_tensors(kept[..2].to_vec()).is_err());
}

/// Feature Enhancement runs once per image: its norms see neither copies nor their number.
#[test]
fn an_image_is_enhanced_once() {
    let graph = Device::flex().autodiff();
    let config = toy();
    let seen = |image_of: &[usize]| {
        let (net, image) = (net(&config, &graph), features(&config, &["a", "b"], &graph));
        let sentences = &["one", "two", "three"][..image_of.len()];
        let text = words(&config, sentences, 4, &graph);
        net.forward(&image, image_of, text, &vec![4; image_of.len()]).unwrap();
        let EnhancementForm::Full(form) = fusion(net.valid()).fe.form else { panic!("the paper's form") };
        values(form.cba1.norm.running_mean.value_sync())
    };
    assert_eq!(seen(&[0, 0, 1]), seen(&[0, 1]));
}

/// The maps are asked for apart from a prediction and say what the blocks do.
#[test]
fn maps_of_words_and_regions() {
    let device = Device::flex();
    let config = RisamConfig { interaction_blocks: 3, tau: 0.5, ..toy() };
    let net = net(&config, &device);
    let image = features(&config, &["a"], &device);
    let text = words(&config, &["one", "two"], 5, &device);
    let maps = net.attention(&image, &[0, 0], text.clone(), &[5, 3]).unwrap();
    assert_eq!(maps.len(), 3);
    for (block, maps) in maps.iter().enumerate() {
        assert_eq!((maps.words.dims(), maps.regions.dims()), ([2, 16, 5], [2, 5, 16]));
        assert_near(maps.words.clone().sum_dim(2), Tensor::ones([2, 16, 1], &device), 1e-6, &format!("block {block}"));
        let padding = maps.words.clone().narrow(0, 1, 1).narrow(2, 3, 2).sum().into_scalar::<f32>();
        assert_eq!(padding, 0.0, "block {block}");
        assert_near(maps.regions.clone(), maps.words.clone().swap_dims(1, 2), 0.0, "both directions are one map");
        let weights = values(maps.words.clone());
        assert!(weights.iter().filter(|w| **w == 0.0).count() > 32, "block {block}: nothing but padding is removed");
    }
    let last = net.forward(&image, &[0, 0], text.clone(), &[5, 3]).unwrap().attention.unwrap();
    assert_near(maps[2].words.clone(), last, 0.0, "the last block");
    assert_ne!(values(maps[0].words.clone()), values(maps[2].words.clone()));
    let other = RisamConfig { interaction: Interaction::Conv, ..toy() };
    assert!(common::net(&other, &device).attention(&image, &[0, 0], text.clone(), &[5, 3]).unwrap().is_empty());
    assert!(net.attention(&image, &[0, 0], text, &[5, 0]).is_err());
}

/// What is removed must not come back as a number that is none, in either direction.
#[test]
fn finite_where_nothing_is_relevant() {
    let device = Device::flex().autodiff();
    for (name, config) in forms() {
        let config = RisamConfig { tau: 1.0 - 1e-12, ..config };
        let net = net(&config, &device);
        let image = features(&config, &["a"], &device);
        let out = net.forward(&image, &[0, 0], words(&config, &["one", "two"], 5, &device), &[1, 5]).unwrap();
        assert!(values(out.logits.clone()).iter().all(|v| v.is_finite()), "{name}");
        let grads = loss(&config, out.logits, tensor("mask", [2, 1, 64, 64], &device), None).total.backward();
        let grads = GradientsParams::from_grads(grads, &net);
        assert!(common::finite(&net, &grads), "{name}: gradients");
    }
}

/// Tab. 5 #9: with an output projection of zeros the added layer adds nothing, and otherwise it does.
#[test]
fn tokens_look_at_the_image_between_the_other_layers() {
    let device = Device::flex();
    let config = RisamConfig { token_to_image: true, ..toy() };
    let mut with = net(&config, &device);
    let without = net(&toy(), &device);
    let run = |net: &RisamNet, config: &RisamConfig| {
        let image = features(config, &["a"], &device);
        net.forward(&image, &[0], words(config, &["one"], 5, &device), &[5]).unwrap().low_res
    };
    let plain = run(&without, &toy());
    assert!((run(&with, &config) - plain.clone()).abs().max().into_scalar::<f32>() > 1e-3);
    let RisamForm::Fusion(Fusion { decoder: MaskHead::Own(decoder), .. }) = &mut with.form else { panic!("own decoder") };
    for block in &mut decoder.blocks {
        let out = &mut block.token_to_image.as_mut().unwrap().out;
        out.weight = out.weight.clone().map(|w| w * 0.0);
        out.bias = out.bias.clone().map(|b| b.map(|b| b * 0.0));
    }
    assert_near(run(&with, &config), plain, 1e-6, "silenced");
}

/// Tab. 6 #1: the last tap alone; Tab. 5 #10: the query alone.
#[test]
fn what_an_ablation_leaves_out_has_no_influence() {
    let device = Device::flex();
    let run = |config: &RisamConfig, change: usize| {
        let mut taps = features(config, &["a"], &device).into_tensors();
        if change < 3 {
            taps[change] = features(config, &["b"], &device).into_tensors()[change].clone();
        }
        values(net(config, &device).enhance(&RisamFeatures::from_tensors(taps).unwrap()).unwrap())
    };
    for (enhancement, used) in [
        (Enhancement::Full, [true, true, true]),
        (Enhancement::None, [false, false, true]),
        (Enhancement::VitDet, [false, false, true]),
    ] {
        let config = RisamConfig { enhancement, ..toy() };
        let plain = run(&config, 3);
        for (tap, used) in used.into_iter().enumerate() {
            assert_eq!(run(&config, tap) != plain, used, "{enhancement:?}, tap {tap}");
        }
    }
    for language_in_decoder in [true, false] {
        let config = RisamConfig { language_in_decoder, ..toy() };
        let decoder = own(net(&config, &device));
        let decode = |words: &str| {
            let pair = fusion_risam::Pair {
                visual: tensor("v", [1, 16, config.width], &device),
                language: tensor(words, [1, 5, config.width], &device),
                attention: None,
            };
            let state = decoder.decode(&pair, &[5], GRID);
            assert_eq!(state.tokens.dims()[1], if language_in_decoder { 6 } else { 1 });
            values(state.visual)
        };
        assert_eq!(decode("one") != decode("two"), language_in_decoder);
    }
}

/// Tab. 3 #5 to #7 and Tab. 2 #2: which results know of the other side.
#[test]
fn interactions_mix_what_they_should() {
    let device = Device::flex();
    for (interaction, language_sees_image) in [
        (Interaction::Mutual, true),
        (Interaction::VisionGuided, false),
        (Interaction::Serial, false),
        (Interaction::Transformer, true),
        (Interaction::Conv, false),
    ] {
        let config = RisamConfig { interaction, interaction_blocks: 1, ..toy() };
        let fusion = fusion(net(&config, &device));
        let run = |map: &str, text: &str| {
            let map = tensor(map, [1, config.width, GRID.0, GRID.1], &device);
            fusion.interact(map, words(&config, &[text], 5, &device), &[5]).pop().unwrap()
        };
        let (one, image, text) = (run("map", "one"), run("other", "one"), run("map", "two"));
        assert_ne!(values(one.visual), values(text.visual), "{interaction:?}");
        assert_eq!(values(one.language) != values(image.language), language_sees_image, "{interaction:?}");
    }
}

/// The transformer in place of mutual-aware attention (Fig. 6): its first layer's maps by hand, and no attention to padding.
#[test]
fn the_transformers_maps_are_its_attention() {
    let device = Device::flex();
    let config = RisamConfig { interaction: Interaction::Transformer, ..toy() };
    let (regions, length, width) = (6, 4, config.width);
    let InteractionBlocks::Transformer(transformer) = fusion(net(&config, &device)).interaction else { panic!("a transformer") };
    let visual = tensor("visual", [1, regions, width], &device);
    let text = tensor("text", [1, length, config.text_width()], &device);
    let hidden = Tensor::from_data([[false, false, false, true]], &device);
    let maps = transformer.attend(visual.clone(), text.clone(), hidden);
    assert_eq!(maps.len(), transformer.layers.len());
    for map in &maps {
        assert_eq!((map.words.dims(), map.regions.dims()), ([1, regions, length], [1, length, regions]));
        assert!(values(map.words.clone().narrow(2, 3, 1)).iter().all(|v| *v == 0.0), "padding is not seen");
    }
    let layer = &transformer.layers[0];
    let joint = layer.norm1.forward(Tensor::cat(vec![visual, transformer.w_l.forward(text)], 1));
    let heads = config.heads;
    let split = |x: Tensor<3>| x.reshape([1, regions + length, heads, width / heads]).swap_dims(1, 2);
    let (q, k) = (split(layer.attn.q.forward(joint.clone())), split(layer.attn.k.forward(joint)));
    // The last word is no key.
    let logits = q.matmul(k.narrow(2, 0, regions + 3).swap_dims(2, 3)) / ((width / heads) as f64).sqrt();
    let want = softmax(logits, 3).mean_dim(1).reshape([1, regions + length, regions + 3]);
    assert_near(maps[0].words.clone().narrow(2, 0, 3), want.clone().narrow(1, 0, regions).narrow(2, regions, 3), 1e-5, "words");
    assert_near(maps[0].regions.clone(), want.narrow(1, regions, length).narrow(2, 0, regions), 1e-5, "regions");
}
