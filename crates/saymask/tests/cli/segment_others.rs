//! `segment` on EfficientSAM and SAM-2 of formula weights: the file says which model it is.

use burn::tensor::Device;
use efficient_sam::{EfficientSamConfig, efficient_sam_names};
use image::RgbImage;
use nn_ops::weights::{export, load_formula};
use sam2::{Naming, Sam2Config};
use test_support::{Session, json};

fn prepare() -> Session {
    let s = super::session();
    let image = RgbImage::from_fn(90, 60, |x, y| {
        let inside = (20..50).contains(&x) && (15..45).contains(&y);
        image::Rgb(if inside { [210, 60, 50] } else { [(x * 2) as u8, (y * 3) as u8, 120] })
    });
    image.save(s.path("red.png")).unwrap();
    s
}

/// Point, box and everything; the masks that were found.
fn segments(s: &Session, weights: &str, model: &str) {
    let run = |out: &str, more: &[&str]| {
        s.ok(&[&["segment", "red.png", "--weights", weights, "--model", model, "--out", out], more].concat());
        let report = json(&s.path(out).join("red.json"));
        let masks = report["masks"].as_array().unwrap().clone();
        for mask in &masks {
            let counts = mask["segmentation"]["counts"].as_str().unwrap();
            let found = coco_mask::Rle::from_compressed(60, 90, counts).unwrap();
            assert_eq!(mask["area"].as_u64(), Some(found.area()));
        }
        masks.len()
    };
    let prompts = ["--point", "35,30", "--box", "20,15,50,45", "--box", "0,0,90,60"];
    assert_eq!(run("boxes", &prompts), 2);
    let loose = ["--everything", "--points-per-side", "2", "--pred-iou-thresh=-9", "--stability-score-thresh", "0"];
    assert!(run("all", &loose) > 0);
}

#[test]
fn efficient_sam() {
    let s = prepare();
    let device = Device::flex();
    let config = EfficientSamConfig { embed_dim: 64, heads: 1, depth: 1, decoder_mlp_dim: 64, ..EfficientSamConfig::small() };
    let names = efficient_sam_names();
    let sam = load_formula(config.init(&device).unwrap(), "segment", &names).0;
    export(&sam, &names, "toy").save(s.path("light.safetensors"), &[]).unwrap();
    segments(&s, "light.safetensors", "auto");
    let says = |more: &[&str]| s.refused(&[&["segment", "red.png", "--weights", "light.safetensors"], more].concat());
    let said = says(&["--point", "1,1", "--model", "efficient-sam-s"]);
    assert!(said.contains("EfficientSAM with tokens of 64 in 1 blocks") && said.contains("384 in 12"), "{said}");
    assert!(says(&["--point", "1,1", "--half-weights"]).contains("leave it out"));
    let many: Vec<&str> = ["--point", "1,1"].repeat(7);
    assert!(says(&many).contains("7 points, of which a box is two: EfficientSAM sees 6"));
}

/// Hiera tiny at 1024 pixels: heads and windows leave no trace in a file, so sizes are the published ones.
#[test]
fn sam2() {
    let s = prepare();
    let names = Naming::Meta.names();
    let sam2 = load_formula(Sam2Config::hiera_tiny().init(&Device::flex()), "segment", &names).0;
    export(&sam2, &names, "tiny").save_half(s.path("tiny.safetensors"), &[]).unwrap();
    segments(&s, "tiny.safetensors", "sam2-tiny");
    let said = s.refused(&["segment", "red.png", "--weights", "tiny.safetensors", "--point", "1,1", "--model", "sam2-small"]);
    assert!(said.contains("SAM-2 with tokens of 96 in 12 blocks") && said.contains("96 in 16"), "{said}");
}
