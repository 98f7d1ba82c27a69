//! Outputs of a reference implementation, from golden files.
//!
//! `tests/data/*.safetensors` are the tiny cases. The whole files take minutes and gigabytes:
//! `GOLDENS=folder cargo nextest run -p text-encoders --run-ignored only --no-capture whole_files`.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use nn_ops::weights::StateDict;
use text_encoders::check::{CaseOutput, cases};

/// Relative to the largest value: sums of a few thousand `f32` products in another order.
const TOLERANCE: f64 = 1e-4;

fn metadata(path: &Path) -> BTreeMap<String, String> {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    serde_json::from_value(header["__metadata__"].clone()).unwrap()
}

fn check(path: &Path) -> usize {
    let device = Device::flex();
    let wanted = StateDict::open(path).unwrap();
    let cases = cases(&metadata(path)).unwrap();
    let mut compared = 0;
    let mut failures = Vec::new();
    for case in &cases {
        let start = std::time::Instant::now();
        let outputs = case.run(&device, |name| wanted.shape(name).is_some()).unwrap();
        let stored = wanted.names().filter(|name| case.owns(name)).count();
        assert_eq!(outputs.len(), stored, "{} puts out another number of tensors than the file stores", case.name());
        assert!(stored > 0, "{} stores nothing", case.name());
        for output in outputs {
            let CaseOutput { name, shape, .. } = &output;
            let error = output.error(&wanted.read(name).unwrap());
            println!("{name} {shape:?}: {error:.2e} ({:.1} s)", start.elapsed().as_secs_f64());
            if error > TOLERANCE {
                failures.push(format!("{name}: {error:e}"));
            }
            compared += 1;
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
    compared
}

#[test]
fn tiny_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    assert_eq!(check(&folder.join("tiny-text-encoders.safetensors")), 4);
    assert_eq!(check(&folder.join("tiny-evf.safetensors")), 4);
}

#[test]
#[ignore = "minutes and gigabytes; needs GOLDENS"]
fn whole_files() {
    let folder = std::env::var_os("GOLDENS").expect("GOLDENS names a folder of golden files");
    for file in ["text-encoders.safetensors", "evf.safetensors"] {
        let path = Path::new(&folder).join(file);
        if path.exists() {
            assert!(check(&path) > 0);
        }
    }
}
