//! Weights in half precision, and what it cannot hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::nn::LinearConfig;
use burn::tensor::{DType, Device};
use nn_ops::weights::{Allow, KeyMap, StateDict, halve, load, load_halving};
use tempfile::TempDir;

#[test]
fn what_half_precision_cannot_hold_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half.safetensors");
    let mut file = StateDict::empty("export");
    file.insert("fits", &[2], vec![65504.0, -1.0]);
    file.save_half(&path, &[]).unwrap();
    file.insert("layer.weight", &[2, 2], vec![0.0, 1.0, -70000.0, 2.0]);
    let error = file.save_half(&path, &[]).unwrap_err().to_string();
    assert!(error.contains("`layer.weight`") && error.contains("70000") && error.contains("65504"), "{error}");
    assert_eq!(StateDict::open(&path).unwrap().len(), 1, "the file from before stays");

    let device = Device::flex();
    let names = KeyMap::new(&[("^weight", "official")]);
    let layer = || LinearConfig::new(2, 2).with_bias(false).init(&device);
    let read = |file: &StateDict| load_halving(layer(), file, &names, &Allow::default(), &|path| path == "weight");
    let mut file = StateDict::empty("a file");
    file.insert("official", &[2, 2], vec![0.1, 1.0, -2.0, 3.0]);
    let (half, _) = read(&file).unwrap();
    assert_eq!(half.weight.val().dtype(), DType::F16);
    let again = halve(half.clone(), &names, |_| true).unwrap();
    assert_eq!(again.weight.val().into_data(), half.weight.val().into_data());
    file.insert("official", &[2, 2], vec![0.0, 1.0, -70000.0, 2.0]);
    let whole = load(layer(), &file, &names, &Allow::default()).unwrap().0;
    for error in [read(&file).unwrap_err(), halve(whole, &names, |_| true).unwrap_err()] {
        assert!(error.to_string().contains("`official`"), "{error}");
    }
}
