//! Checkpoints written and read back, and SAM's weights as a start.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use burn::tensor::Device;
use common::{assert_near, forms, model, toy};
use fusion_risam::{ImageBackbone, MaskHead, RisamForm};
use nn_ops::weights::{StateDict, export, load_formula};

#[test]
fn checkpoints_come_back_whole() {
    let device = Device::flex();
    let config = toy();
    let model = model(&config, &device);
    let file = export(&model, &config.names(), "toy");
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
    let again = export(&back, &config.names(), "toy");
    assert!(names.iter().all(|n| again.read(n).unwrap() == file.read(n).unwrap()));
}

#[test]
fn starts_from_the_weights_of_sam() {
    let device = Device::flex();
    let sam = load_formula(toy().sam.init(&device), "sam", &sam_vit::facebook_names()).0;
    let file: StateDict = export(&sam, &sam_vit::facebook_names(), "sam");
    for (name, config) in forms() {
        let (model, report) = config.init(&device).unwrap().load_sam(&file).unwrap();
        if let ImageBackbone::Sam(encoder) = &model.image_encoder {
            assert_near(encoder.pos_embed.val(), sam.image_encoder.pos_embed.val(), 0.0, name);
        }
        let decoder = match &model.net.form {
            RisamForm::Baseline(baseline) => Some(&baseline.sam),
            RisamForm::Fusion(fusion) => match &fusion.decoder {
                MaskHead::Sam(sam) => Some(sam),
                _ => None,
            },
        };
        if let Some(decoder) = decoder {
            assert_near(decoder.mask_decoder.iou_token.weight.val(), sam.mask_decoder.iou_token.weight.val(), 0.0, name);
            assert!(report.matched.iter().any(|n| n == "prompt_encoder.no_mask_embed.weight"), "{name}");
        }
    }
    let mut less = file.clone();
    less = less.rename(|n| (n != "image_encoder.pos_embed").then(|| n.to_owned())).unwrap();
    assert!(toy().init(&device).unwrap().load_sam(&less).is_err());
}
