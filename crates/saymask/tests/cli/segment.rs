//! `segment` on a toy SAM with formula weights.

use burn::tensor::Device;
use coco_mask::Rle;
use image::RgbImage;
use nn_ops::weights::load_formula;
use sam_vit::{ImageEncoderConfig, Naming, Sam, SamConfig, facebook_names};
use serde_json::Value;

use test_support::{Session, json};

/// A SAM of toy size with formula weights.
pub(super) fn toy_sam() -> Sam {
    let image_encoder = ImageEncoderConfig {
        image_size: 64,
        embed_dim: 32,
        depth: 3,
        heads: 2,
        out_channels: 32,
        window_size: 3,
        global_blocks: vec![1],
        ..Default::default()
    };
    let config = SamConfig { image_encoder, decoder_mlp_dim: 48, ..Default::default() };
    load_formula(config.init(&Device::flex()), "toy", &facebook_names()).0
}

fn prepare() -> (Session, RgbImage) {
    let (s, sam) = (super::session(), toy_sam());
    for (naming, file) in [(Naming::Facebook, "toy.safetensors"), (Naming::HuggingFace, "port.safetensors")] {
        sam.export(naming).unwrap().save(s.path(file), &[]).unwrap();
    }
    let image = RgbImage::from_fn(90, 60, |x, y| {
        let inside = (20..50).contains(&x) && (15..45).contains(&y);
        image::Rgb(if inside { [210, 60, 50] } else { [(x * 2) as u8, (y * 3) as u8, 120] })
    });
    image.save(s.path("red.png")).unwrap();
    (s, image)
}

/// The masks of a report, each checked against what is said about it.
fn masks(report: &Value) -> Vec<Rle> {
    let check = |one: &Value| {
        let size = &one["segmentation"]["size"];
        assert_eq!((size[0].as_u64(), size[1].as_u64()), (Some(60), Some(90)));
        let mask = Rle::from_compressed(60, 90, one["segmentation"]["counts"].as_str().unwrap()).unwrap();
        assert_eq!(one["area"].as_u64(), Some(mask.area()));
        assert_eq!(one["bbox"], serde_json::json!(mask.bbox()));
        assert!(one["score"].is_f64());
        mask
    };
    report["masks"].as_array().unwrap().iter().map(check).collect()
}

#[test]
fn segment_with_prompts_and_everywhere() {
    let (s, image) = prepare();
    let run = |out: &str, weights: &str, more: &[&str]| {
        let said = s.ok(&[&["segment", "red.png", "--weights", weights, "--out", out], more].concat());
        let drawn = image::open(s.path(out).join("red.png")).unwrap().to_rgb8();
        assert_eq!(drawn.dimensions(), image.dimensions());
        (said, json(&s.path(out).join("red.json")), drawn)
    };
    let (said, report, drawn) = run("point", "toy.safetensors", &["--point", "35,30", "--point", "5,5,0"]);
    assert!(said.contains("red.png") && said.contains("score"), "{said}");
    let found = masks(&report);
    assert_eq!(found.len(), 1);
    assert_eq!(report["masks"][0]["prompt"]["points"], serde_json::json!([[35.0, 30.0, 1], [5.0, 5.0, 0]]));
    // Inside the mask every pixel is tinted or outlined; far from it none is touched.
    let bytes = found[0].to_row_major();
    assert!(found[0].area() > 0, "formula weights give some mask");
    let touched = |x: u32, y: u32| drawn.get_pixel(x, y) != image.get_pixel(x, y);
    for (x, y) in (0..60).flat_map(|y| (0..90).map(move |x| (x, y))) {
        let inside = bytes[(y * 90 + x) as usize] != 0;
        let near = (0..60 * 90).any(|i| bytes[i as usize] != 0 && (i % 90u32).abs_diff(x) + (i / 90).abs_diff(y) <= 2);
        assert!(if inside { touched(x, y) } else { near || !touched(x, y) }, "pixel {x},{y}");
    }
    // The other naming holds the same weights.
    let (_, same, _) = run("port", "port.safetensors", &["--point", "35,30", "--point", "5,5,0"]);
    assert_eq!(report["masks"], same["masks"]);

    let (_, report, _) = run("box", "toy.safetensors", &["--box", "20,15,50,45", "--box", "0,0,90,60"]);
    assert_eq!(masks(&report).len(), 2);
    assert_eq!(report["masks"][1]["prompt"]["box"], serde_json::json!([0.0, 0.0, 90.0, 60.0]));

    let loose = ["--everything", "--points-per-side", "4", "--pred-iou-thresh=-9", "--stability-score-thresh", "0"];
    let (_, report, _) = run("all", "toy.safetensors", &loose);
    assert!(!masks(&report).is_empty());
}

#[test]
fn segment_refuses_what_makes_no_sense() {
    let (s, _) = prepare();
    let says = |more: &[&str], words: &[&str]| {
        let message = s.refused(&[&["segment", "red.png", "--weights", "toy.safetensors"], more].concat());
        for word in words {
            assert!(message.contains(word), "`{word}` is missing in: {message}");
        }
    };
    says(&[], &["--point", "--box", "--everything"]);
    says(&["--point", "90,10"], &["90,10", "outside", "90 x 60"]);
    says(&["--box", "10,10,20,61"], &["10,10,20,61", "outside"]);
    says(
        &["--point", "1,1", "--model", "b"],
        &["toy.safetensors", "SAM with tokens of 32 in 3", "--model sam-vit-b", "768 in 12"],
    );
    says(&["--point", "1,1", "--model", "sam2-large"], &["SAM with tokens of 32", "SAM-2 with 144 in 48"]);
    says(&["--point", "1,1", "--device", "tpu"], &["tpu", "cpu"]);
    says(&["--everything", "--points-per-side", "0"], &["points_per_side"]);
    let gone = |image: &str, weights: &str, word: &str| {
        let message = s.refused(&["segment", image, "--weights", weights, "--point", "1,1"]);
        assert!(message.contains(word), "{message}");
    };
    gone("nope.png", "toy.safetensors", "nope.png");
    gone("red.png", "nope.pth", "nope.pth");
    gone("red.png", "red.png", "red.png");
    // Malformed prompts are the parser's business; it exits with 2 as well.
    for (flag, value, word) in [
        ("--point", "1,2,3", "label"),
        ("--point", "x,2", "X,Y"),
        ("--box", "50,50,10,10", "WIDTH"),
        ("--box", "1,2,3", "X0,Y0,X1,Y1"),
    ] {
        let out = s.run(&["segment", "red.png", "--weights", "toy.safetensors", flag, value]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && text.contains(word), "{flag} {value}: {text}");
    }
    assert!(!s.path("segments").exists(), "a refused command must leave nothing behind");
}
