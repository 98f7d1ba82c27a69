//! Golden files against our models.

use std::path::Path;

use burn::tensor::Device;
use run_config::Precision;
use saymask::check::{BOUND, COARSE, Verdict, run};

fn passes(file: &str) {
    within(file, Precision::F32, BOUND);
}

fn within(file: &str, precision: Precision, bound: f32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(file);
    match run(&path, &Device::flex(), precision, bound).unwrap() {
        Verdict::Skipped(why) => panic!("{file}: {why}"),
        Verdict::Checked(outcomes) => {
            let failed: Vec<_> = outcomes.iter().filter(|o| !o.passed()).collect();
            assert!(!outcomes.is_empty() && failed.is_empty(), "{file}: {failed:#?}");
        }
    }
}

#[test]
fn sam_tiny() {
    passes("sam-tiny.safetensors");
}

#[test]
fn sam_vit_b() {
    passes("sam-vit-b.safetensors");
}

#[test]
fn sam2() {
    passes("sam2.safetensors");
}

#[test]
fn sam2_video() {
    passes("sam2-video.safetensors");
}

#[test]
fn sam2_hiera_tiny() {
    passes("sam2-hiera-t.safetensors");
}

#[test]
fn sam2_hiera_large() {
    passes("sam2-hiera-l.safetensors");
}

#[test]
fn dit_tiny() {
    passes("dit-tiny.safetensors");
}

#[test]
fn text_encoders() {
    passes("text-encoders.safetensors");
}

#[test]
fn evf() {
    passes("evf.safetensors");
}

#[test]
fn evf_sam2() {
    passes("evf-sam2.safetensors");
}

#[test]
fn risam() {
    passes("risam.safetensors");
}

#[test]
fn swin() {
    passes("swin.safetensors");
}

#[test]
fn clip_taps() {
    passes("clip-taps.safetensors");
}

#[test]
fn efficient_sam() {
    passes("efficient-sam.safetensors");
}

/// Computing in bf16 stays within the bound that is stated for it.
#[test]
fn models_in_bf16() {
    for file in ["sam-tiny.safetensors", "dit-tiny.safetensors", "risam.safetensors"] {
        within(file, Precision::Bf16, COARSE);
    }
}

#[test]
fn a_wrong_number_fails() {
    // The same file at a bound of nothing must fail: the comparison compares.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/sam-tiny.safetensors");
    let Verdict::Checked(outcomes) = run(&path, &Device::flex(), Precision::F32, 0.0).unwrap() else { panic!("skipped") };
    assert!(outcomes.iter().any(|o| !o.passed()));
}
