//! RISAM on CLIP's image tower and on a Swin Transformer (Tab. 7).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use common::{Letters, assert_near, fusion, on_clip, on_swin, reached, tensor, toy, values, words};
use fusion_risam::{
    Enhancement, ImageBackbone, RisamConfig, RisamError, RisamFeatures, RisamModel, RisamNet, RisamPredictor, align_taps,
};
use nn_ops::resize::Resize;
use nn_ops::weights::{export, load_formula, parameters, trained};
use pil_ops::Image;
use swin::Swin;
use text_encoders::clip::{ClipText, ClipVision, ClipVisionConfig};

fn both() -> [RisamConfig; 2] {
    [on_clip(), on_swin()]
}

fn model(config: &RisamConfig, device: &Device) -> RisamModel {
    load_formula(config.init(device).unwrap(), "one", &config.names()).0
}

fn photo() -> Image {
    Image::new(70, 50, 3, (0..50 * 70 * 3).map(|i| (i * 31 % 251) as u8).collect()).unwrap()
}

#[test]
fn trained_parameters_are_as_many_as_widths_say() {
    let device = Device::flex();
    for (config, total, enhancement, frozen) in [
        (RisamConfig::clip_b16(), 5_402_688, 3_279_872, 85_799_424 + 768 * 512),
        (RisamConfig::swin_b(), 5_271_616, 3_148_800, 86_876_536 + 3_584),
    ] {
        let all = parameters(&config.init(&device).unwrap(), &config.names());
        let count = |kept: &dyn Fn(&str) -> bool| -> usize {
            all.iter().filter(|p| kept(&p.name)).map(|p| p.shape.iter().product::<usize>()).sum()
        };
        assert_eq!(count(&|name| config.trains(name)), total);
        assert_eq!(count(&|name| config.trains(name) && name.starts_with("fe.")), enhancement);
        assert_eq!(count(&|name| name.starts_with("image_encoder.")), frozen);
    }
}

/// Half the sides: the mean of each square. Twice the sides: three quarters and one, the border repeated.
#[test]
fn taps_meet_on_the_grid_of_the_second() {
    let device = Device::flex();
    let [fine, middle, coarse] = [4, 2, 1].map(|side| tensor("tap", [1, side, side, 3], &device));
    let [from_fine, same, from_coarse] = align_taps(&[fine.clone(), middle.clone(), coarse.clone()]);
    let mean = fine.reshape([1, 2, 2, 2, 2, 3]).mean_dim(2).mean_dim(4).reshape([1, 2, 2, 3]);
    assert_near(from_fine, mean, 1e-6, "from twice the sides");
    assert_near(same, middle, 0.0, "its own");
    assert_near(from_coarse, coarse.expand([1, 2, 2, 3]), 1e-6, "from one token");
    let rows = Tensor::<4>::from_floats([[[[0.0]], [[4.0]]]], &device).expand([1, 2, 2, 1]);
    let [grown, ..] = align_taps(&[rows.clone(), Tensor::zeros([1, 4, 4, 1], &device), rows]);
    assert_eq!(values(grown.narrow(2, 0, 1)), [0.0, 1.0, 3.0, 4.0]);
}

/// Taps of unlike grids and widths go through every form of Feature Enhancement; each that a form reads counts.
#[test]
fn enhancement_takes_any_grid() {
    let device = Device::flex();
    for (enhancement, read) in
        [(Enhancement::Full, [true; 3]), (Enhancement::None, [false, false, true]), (Enhancement::VitDet, [false, false, true])]
    {
        let config = RisamConfig { enhancement, ..on_swin() };
        let net = load_formula(config.init_net(&device), "toy", &RisamNet::names()).0;
        let run = |names: [&str; 3]| {
            let [one, two, three] = config.tap_widths();
            let shapes = [[1, 9, 7, one], [1, 5, 4, two], [1, 3, 2, three]];
            let taps = [0, 1, 2].map(|i| tensor(names[i], shapes[i], &device));
            values(fusion(net.clone()).fe.forward(&taps))
        };
        let plain = run(["a"; 3]);
        assert_eq!(plain.len(), config.width * 5 * 4);
        for (tap, read) in read.into_iter().enumerate() {
            let mut names = ["a"; 3];
            names[tap] = "b";
            assert_eq!(run(names) != plain, read, "{enhancement:?}, tap {tap}");
        }
    }
}

#[test]
fn the_backbone_is_frozen_unless_it_is_trained() {
    let device = Device::flex().autodiff();
    for config in both() {
        for train_image_encoder in [false, true] {
            let config = RisamConfig { train_image_encoder, ..config.clone() };
            let model = model(&config, &device).freeze();
            let out = model
                .forward(tensor("image", [2, 3, 64, 64], &device), &model.tokens(&Letters, &["abc", "de"]).unwrap(), &[0, 1])
                .unwrap();
            assert_eq!((out.low_res.dims(), out.logits.dims()), ([2, 1, 16, 16], [2, 1, 64, 64]));
            let grads = out.logits.powf_scalar(2.0).mean().backward();
            let reached = reached(&model, &GradientsParams::from_grads(grads, &model));
            let with = |prefix: &str| {
                let all = trained(&model, &config.names());
                all.iter().filter(|p| p.name.starts_with(prefix) && reached.contains(&p.id)).count()
            };
            assert_eq!(with("image_encoder.") > 20, train_image_encoder, "{:?}", config.backbone);
            assert!(with("fe.") > 10 && with("text_encoder.") == 0);
        }
    }
}

/// The taps are those of the encoders by themselves.
#[test]
fn taps_are_the_encoders_own() {
    let device = Device::flex();
    let image = tensor("image", [1, 3, 64, 64], &device);
    let clip = model(&on_clip(), &device);
    let taps = clip.encode_images(image.clone()).unwrap().into_tensors();
    let ImageBackbone::Clip(tower) = &clip.image_encoder else { panic!("CLIP's tower") };
    let want = tower.taps(image.clone(), &[0, 1, 2]).unwrap();
    for (got, want) in taps.into_iter().zip(want) {
        assert_eq!(got.dims(), [1, 4, 4, 24]);
        assert_near(got, want, 0.0, "clip");
    }
    let swin = model(&on_swin(), &device);
    let taps = swin.encode_images(image.clone()).unwrap().into_tensors();
    let ImageBackbone::Swin(backbone) = &swin.image_encoder else { panic!("a Swin Transformer") };
    let maps = backbone.forward(image).unwrap();
    for (stage, tap) in taps.iter().enumerate() {
        assert_near(tap.clone(), maps[stage + 1].clone(), 0.0, "swin");
    }
    assert_eq!(taps.iter().map(|tap| tap.dims()).collect::<Vec<_>>(), [[1, 8, 8, 16], [1, 4, 4, 32], [1, 2, 2, 64]]);
}

#[test]
fn checkpoints_have_the_encoders_names() {
    let device = Device::flex();
    for (config, expected) in [
        (
            on_clip(),
            [
                "image_encoder.vision_model.embeddings.class_embedding",
                "image_encoder.vision_model.embeddings.position_embedding.weight",
                "image_encoder.vision_model.encoder.layers.2.mlp.fc1.bias",
                "text_encoder.text_model.embeddings.position_embedding.weight",
            ],
        ),
        (
            on_swin(),
            [
                "image_encoder.patch_embed.norm.weight",
                "image_encoder.layers.1.blocks.1.attn.relative_position_bias_table",
                "image_encoder.layers.2.downsample.reduction.weight",
                "image_encoder.norm3.bias",
            ],
        ),
    ] {
        let file = export(&model(&config, &device), &config.names(), "toy");
        for name in expected {
            assert!(file.shape(name).is_some(), "{name} among {:?}", file.names().collect::<Vec<_>>());
        }
        let (back, report) = config.init(&device).unwrap().load(&file).unwrap();
        assert_eq!(report.matched.len(), file.len());
        let again = export(&back, &config.names(), "toy");
        assert!(file.names().all(|n| again.read(n).unwrap() == file.read(n).unwrap()));
    }
}

#[test]
fn starts_from_the_weights_of_the_encoders() {
    let device = Device::flex();
    // Swin's classifier lacks the norms of stages, which stay fresh.
    let config = on_swin();
    let ImageBackbone::Swin(swin) = model(&config, &device).image_encoder else { panic!("a Swin Transformer") };
    let file = export(&swin, &Swin::names(), "swin");
    let bare = file.clone().rename(|n| (!n.starts_with("norm")).then(|| n.to_owned())).unwrap();
    let (loaded, report) = config.init(&device).unwrap().load_swin(&bare).unwrap();
    assert_eq!((report.missing.len(), report.matched.len()), (6, bare.len()));
    let got = export(&loaded, &config.names(), "got");
    assert!(bare.names().all(|n| got.read(&format!("image_encoder.{n}")).unwrap() == bare.read(n).unwrap()));
    assert!(matches!(toy().init(&device).unwrap().load_swin(&bare), Err(RisamError::Config(_))));

    // A file of both towers fills both, its last norm and projection or not.
    let (whole, config) = (model(&on_clip(), &device), on_clip());
    let mut file = export(&whole.text_encoder, &ClipText::names(), "clip");
    let ImageBackbone::Clip(tower) = &whole.image_encoder else { panic!("CLIP's tower") };
    file.merge(export(tower, &ClipVision::names(), "clip"));
    for unused in [&["nothing"][..], &["visual_projection.weight", "vision_model.post_layernorm.weight"]] {
        let file = file.clone().rename(|n| (!unused.contains(&n)).then(|| n.to_owned())).unwrap();
        let (loaded, report) = config.init(&device).unwrap().load_encoder(&file).unwrap();
        assert_eq!((report.matched.len(), report.unused.len()), (file.len(), 0));
        let got = export(&loaded, &config.names(), "got");
        for name in file.names() {
            let tower = if name.starts_with("vis") { "image_encoder" } else { "text_encoder" };
            assert_eq!(got.read(&format!("{tower}.{name}")).unwrap(), file.read(name).unwrap(), "{name}");
        }
    }
    let text = export(&whole.text_encoder, &ClipText::names(), "clip");
    assert!(matches!(config.init(&device).unwrap().load_encoder(&text), Err(RisamError::Weights(_))));
}

/// The whole photo goes to the square, and logits go straight to the photo's size.
#[test]
fn photos_are_stretched() {
    let device = Device::flex();
    let photo = photo();
    for config in both() {
        let (values_of, place) = config.preprocess(&photo).unwrap();
        assert_eq!((values_of.len(), place.original, place.area()), (3 * 64 * 64, (50, 70), (0, 0, 64, 64)));
        let input = Tensor::from_data(TensorData::new(values_of, [1, 3, 64, 64]), &device);
        let risam = RisamPredictor::new(&model(&config, &device), Arc::new(Letters)).unwrap();
        let found = risam.predict(&photo, &["ab", "cde"]).unwrap();
        assert_eq!((found.len(), found[0].mask.height(), found[0].mask.width()), (2, 50, 70));
        let out = risam.model().forward(input, &risam.model().tokens(&Letters, &["cde"]).unwrap(), &[0]).unwrap();
        assert_eq!(out.low_res.dims(), [1, 1, 16, 16]);
        // Rounding differs between the two resizes: a pixel whose logit is next to the threshold may fall on either side.
        let logits = values(Resize::BILINEAR.forward(out.low_res, [50, 70]));
        let threshold = config.threshold_logit() as f32;
        let got = found[1].mask.to_row_major();
        for (logit, got) in logits.into_iter().zip(got) {
            assert!((logit - threshold).abs() < 1e-4 || got == u8::from(logit > threshold), "{logit}");
        }
        assert_eq!(risam.attention(&photo, "ab").unwrap().area, [0.0, 0.0, 1.0, 1.0]);
    }
    // Pillow's bicubic for CLIP, bilinear for Swin, in their own means and deviations.
    let (clip, _) = on_clip().preprocess(&photo).unwrap();
    let small = pil_ops::resize(&photo, 64, 64, pil_ops::Filter::Bicubic).unwrap();
    let want = (f32::from(small.data()[64 * 3 + 1]) / 255.0 - ClipVisionConfig::MEAN[1]) / ClipVisionConfig::STD[1];
    assert!((clip[64 * 64 + 64] - want).abs() < 1e-5);
    let (swin, _) = on_swin().preprocess(&photo).unwrap();
    assert_eq!(swin, values(swin::preprocess(&photo, (64, 64), &device).unwrap()));
}

#[test]
fn taps_of_other_widths_are_refused() {
    let device = Device::flex();
    let config = on_swin();
    let net = load_formula(config.init_net(&device), "toy", &RisamNet::names()).0;
    let text = || words(&config, &["one"], 4, &device);
    let taps = |widths: [usize; 3], rows: usize| {
        let map = |i: usize, side: usize| tensor("tap", [if i == 0 { rows } else { 1 }, side, side, widths[i]], &device);
        RisamFeatures::Taps([map(0, 8), map(1, 4), map(2, 2)])
    };
    assert!(net.forward(&taps(config.tap_widths(), 1), &[0], text(), &[4]).is_ok());
    let [one, two, three] = config.tap_widths();
    for wrong in [taps([two, two, three], 1), taps([one, two, two], 1), taps([one, two, three], 2)] {
        let error = net.forward(&wrong, &[0], text(), &[4]).unwrap_err();
        assert!(matches!(&error, RisamError::Shape { what: "features of the image encoder", .. }), "{error}");
    }
}
