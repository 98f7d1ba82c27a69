//! Behaviour of the whole network, in every form it can take.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use common::{GRID, Letters, assert_near, features, net, reached, tensor, toy, values, words};
use fusion_risam::{
    Decoder, Enhancement, Interaction, LanguageSoftmax, LinguisticPosition, NormPlacement, Risam, RisamConfig, RisamError,
    RisamModel, Upsampling, VisualPosition, loss, net_names,
};
use nn_ops::weights::{Checkpoint, export, load_formula, parameters, trained};
use pil_ops::Image;

/// Every ablation of the paper's tables that needs no other backbone, and every choice it leaves open.
fn forms() -> Vec<(&'static str, RisamConfig)> {
    vec![
        ("paper", toy()),
        ("fe none", RisamConfig { enhancement: Enhancement::None, ..toy() }),
        ("fe vit_det", RisamConfig { enhancement: Enhancement::VitDet, tap_layer_norm: true, ..toy() }),
        ("single linear, tap norm", RisamConfig { single_linear: true, tap_layer_norm: true, ..toy() }),
        ("ma conv", RisamConfig { interaction: Interaction::Conv, ..toy() }),
        ("ma te", RisamConfig { interaction: Interaction::Transformer, ..toy() }),
        ("ma sdf", RisamConfig { interaction: Interaction::VisionGuided, ..toy() }),
        ("ma bcm", RisamConfig { interaction: Interaction::Serial, ..toy() }),
        ("no mask", RisamConfig { relevance_mask: false, ..toy() }),
        ("three blocks", RisamConfig { interaction_blocks: 3, decoder_blocks: 3, ..toy() }),
        ("one block", RisamConfig { interaction_blocks: 1, decoder_blocks: 1, ..toy() }),
        ("regions", RisamConfig { language_softmax: LanguageSoftmax::Regions, ..toy() }),
        ("no position", RisamConfig { linguistic_position: LinguisticPosition::None, ..toy() }),
        ("learned position", RisamConfig { linguistic_position: LinguisticPosition::Learned, ..toy() }),
        ("decoder position", RisamConfig { linguistic_position: LinguisticPosition::Decoder, ..toy() }),
        ("visual position", RisamConfig { visual_position: VisualPosition::SamDense, ..toy() }),
        ("toi", RisamConfig { token_to_image: true, norm: NormPlacement::Pre, ..toy() }),
        ("norms", RisamConfig { token_to_image: true, norm: NormPlacement::Post, ffn: 20, ..toy() }),
        ("no elg", RisamConfig { language_in_decoder: false, ..toy() }),
        ("vlt head", RisamConfig { language_in_decoder: false, vlt_head: true, ..toy() }),
        ("decoder sam", RisamConfig { decoder: Decoder::Sam, ..toy() }),
        ("gelu", RisamConfig { upsampling: Upsampling::Both, ..toy() }),
        ("baseline", RisamConfig { baseline: true, ..toy() }),
    ]
}

#[test]
fn sentences_do_not_see_padding_or_each_other() {
    let device = Device::flex();
    for (name, config) in forms() {
        let net = net(&config, &device);
        let run = |images: &[&str], sentences: &[&str], length: usize, lengths: &[usize]| {
            let out = net
                .forward(&config, &features(&config, images, &device), words(&config, sentences, length, &device), lengths)
                .unwrap();
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
        let out = net.forward(&config, &image, words(&config, &["one", "two"], 5, &device), &[5, 4]).unwrap();
        let targets = tensor("mask", [2, 1, 64, 64], &device);
        let grads = loss(&config, out.logits, targets, None).total.backward();
        let reached = reached(&net, &GradientsParams::from_grads(grads, &net));
        let missing: Vec<String> = trained(&net, &net_names())
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
fn the_paper_has_as_many_parameters_as_the_sheet() {
    let device = Device::flex();
    let count = |config: &RisamConfig, part: &str| -> usize {
        let all = parameters(&config.init_net(&device), &net_names());
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

    let model = parameters(&paper.init(&device).unwrap(), &RisamModel::names());
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
        let out = model.forward(&config, &Letters, tensor("image", [2, 3, 64, 64], &device), &["abc", "de"]).unwrap();
        let grads = out.logits.powf_scalar(2.0).mean().backward();
        let reached = reached(&model, &GradientsParams::from_grads(grads, &model));
        let with = |prefix: &str| {
            trained(&model, &RisamModel::names()).iter().filter(|p| p.name.starts_with(prefix) && reached.contains(&p.id)).count()
        };
        assert_eq!(with("image_encoder."), 0);
        assert_eq!(with("text_encoder.") > 0, text);
        assert!(with("fe.") > 10);
        let frozen = trained(&model.freeze(&config), &RisamModel::names());
        assert!(!frozen.is_empty() && frozen.iter().all(|p| config.trains(&p.name)));
    }
}

#[test]
fn batch_norm_uses_the_batch_in_training_and_its_own_statistics_after() {
    let graph = Device::flex().autodiff();
    let config = toy();
    let net = net(&config, &graph);
    let statistics = |net: &fusion_risam::RisamNet| values(net.head.as_ref().unwrap().up1_norm.running_mean.value_sync());
    let before = statistics(&net);
    let image = features(&config, &["a", "b"], &graph);
    let run = |net: &fusion_risam::RisamNet, device: &Device| {
        let image = features(&config, &["a", "b"], device);
        net.forward(&config, &image, words(&config, &["one", "two"], 4, device), &[4, 4]).unwrap().low_res
    };
    // In evaluation nothing moves, and one sample does not see another (checked above).
    let valid = net.valid();
    let first = values(run(&valid, &Device::flex()));
    assert_eq!(values(run(&valid, &Device::flex())), first);
    assert_eq!(statistics(&net), before);
    // In training the batch counts: the map behind a norm has mean beta and deviation gamma in each channel.
    let trained = run(&net, &graph);
    assert_ne!(values(trained), first);
    let norm = &net.fe.as_ref().unwrap().cba1.as_ref().unwrap();
    let map = norm.norm.forward(
        norm.conv.forward(
            Tensor::cat(vec![image.taps[0].clone().narrow(3, 0, 16), image.taps[1].clone().narrow(3, 0, 16)], 3)
                .permute([0, 3, 1, 2]),
        ),
    );
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
    let saved = |net: &fusion_risam::RisamNet| export(net, &net_names(), "toy").read(name).unwrap();
    let before = saved(&net);
    let image = features(&config, &["a"], &graph);
    net.forward(&config, &image, words(&config, &["one"], 4, &graph), &[4]).unwrap();
    let _ = net.valid();
    let after = saved(&net);
    assert_ne!(after, before);
    assert_eq!(saved(&net.valid()), after);
}

#[test]
fn checkpoints_come_back_whole() {
    let device = Device::flex();
    let config = toy();
    let model = load_formula(config.init(&device).unwrap(), "one", &RisamModel::names()).0;
    let file = export(&model, &RisamModel::names(), "toy");
    let names: Vec<&str> = file.names().collect();
    for name in [
        "fe.mlp1.0.weight",
        "fe.mlp4.2.bias",
        "fe.cba2.norm.running_var",
        "ma.1.w_l.weight",
        "query",
        "decoder.0.cross.out.bias",
        "up1.weight",
        "up2_norm.weight",
        "mask_mlp.2.bias",
        "image_encoder.neck.0.weight",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let (back, report) = config.init(&device).unwrap().load(&file).unwrap();
    assert_eq!(report.matched.len(), file.len());
    let again = export(&back, &RisamModel::names(), "toy");
    assert!(names.iter().all(|n| again.read(n).unwrap() == file.read(n).unwrap()));
}

#[test]
fn starts_from_the_weights_of_sam() {
    let device = Device::flex();
    let sam = load_formula(toy().sam.init(&device), "sam", &sam_vit::facebook_names()).0;
    let file: Checkpoint = export(&sam, &sam_vit::facebook_names(), "sam");
    for (name, config) in forms() {
        let (model, report) = config.init(&device).unwrap().load_sam(&file).unwrap();
        assert_near(model.image_encoder.pos_embed.val(), sam.image_encoder.pos_embed.val(), 0.0, name);
        if let Some(decoder) = &model.net.sam {
            assert_near(decoder.mask_decoder.iou_token.weight.val(), sam.mask_decoder.iou_token.weight.val(), 0.0, name);
            assert!(report.matched.iter().any(|n| n == "prompt_encoder.no_mask_embed.weight"), "{name}");
        }
    }
    let mut less = file.clone();
    less = less.rename(|n| (n != "image_encoder.pos_embed").then(|| n.to_owned())).unwrap();
    assert!(toy().init(&device).unwrap().load_sam(&less).is_err());
}

#[test]
fn predicts_at_the_images_own_size_whatever_the_batch() {
    let device = Device::flex();
    let config = toy();
    let risam = Risam::new(config.clone(), &config.init(&device).unwrap(), Arc::new(Letters)).unwrap();
    let pixels = (0..50 * 70 * 3).map(|i| (i * 31 % 251) as u8).collect();
    let image = Image::new(70, 50, 3, pixels).unwrap();
    let both = risam.predict(&image, &["ab", "cde"]).unwrap();
    assert_eq!((both[0].mask.height(), both[0].mask.width()), (50, 70));
    assert_eq!(risam.predict(&image, &["cde"]).unwrap()[0].mask, both[1].mask);
    let area = |threshold: f64| {
        let mut risam = risam.clone();
        risam.config.threshold = threshold;
        risam.predict(&image, &["cde"]).unwrap()[0].mask.area()
    };
    assert_eq!((area(1e-12), area(1.0 - 1e-12)), (50 * 70, 0));
    assert!(risam.predict(&image, &[]).unwrap().is_empty());
    assert!(matches!(risam.predict(&image, &["ab", ""]), Err(RisamError::Text(_))));
}

#[test]
fn wrong_shapes_are_errors() {
    let device = Device::flex();
    let config = toy();
    let net = net(&config, &device);
    let text = words(&config, &["one", "two"], 4, &device);
    let two = features(&config, &["a", "b"], &device);
    assert!(net.forward(&config, &two, text.clone(), &[4, 5]).is_err());
    assert!(net.forward(&config, &two, text.clone(), &[4, 0]).is_err());
    assert!(net.forward(&config, &two, text.clone(), &[4]).is_err());
    assert!(net.forward(&config, &features(&config, &["a", "b", "c"], &device), text.clone(), &[4, 4]).is_err());
    assert!(net.forward(&config, &two, text.narrow(2, 0, 5), &[4, 4]).is_err());
    let baseline = RisamConfig { baseline: true, ..toy() };
    let without = fusion_risam::ImageFeatures { embedding: None, ..two };
    assert!(
        common::net(&baseline, &device)
            .forward(&baseline, &without, words(&config, &["one", "two"], 4, &device), &[4, 4])
            .is_err()
    );
}
