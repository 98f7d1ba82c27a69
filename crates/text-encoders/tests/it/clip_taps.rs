//! CLIP's image tower as a backbone: feature maps of some layers at any input size.

use burn::tensor::{Device, Tensor};
use nn_ops::resize::Resize;
use nn_ops::weights::{export, load_formula, parameters};
use text_encoders::TextError;
use text_encoders::clip::{ClipVision, ClipVisionConfig};

use crate::{difference, input};

fn tower(device: &Device) -> ClipVision {
    load_formula(ClipVisionConfig::tiny().init(device), "a", &ClipVision::names()).0
}

#[test]
fn vit_b16_has_the_published_parameters() {
    let all = parameters(&ClipVisionConfig::openai_b16().init(&Device::flex()), &ClipVision::names());
    let count = |kept: &dyn Fn(&str) -> bool| -> usize {
        all.iter().filter(|p| kept(&p.name)).map(|p| p.shape.iter().product::<usize>()).sum()
    };
    assert_eq!(count(&|name| !name.starts_with("visual_projection.")), 85_799_424);
    assert_eq!(count(&|name| name.starts_with("vision_model.") && !name.contains("post_layernorm.")), 85_797_888);
    ClipVisionConfig::openai_b16().validate().unwrap();
}

/// At the configured size the last layer's tap is the tokens without the class token, raw.
#[test]
fn taps_are_the_residual_stream() {
    let device = Device::flex();
    let (tower, image) = (tower(&device), input("image", [2, 3, 32, 32], &device));
    let taps = tower.taps(image.clone(), &[0, 1]).unwrap();
    let tokens = tower.tokens(image.clone()).unwrap();
    assert_eq!(taps[1].dims(), [2, 4, 4, 64]);
    let want = tokens.narrow(1, 1, 16).reshape([2, 4, 4, 64]);
    assert_eq!(difference(taps[1].clone(), want.clone()), 0.0);
    assert!(difference(taps[0].clone(), want) > 0.1);
    assert_eq!(difference(tower.taps(image, &[0]).unwrap().remove(0), taps[0].clone()), 0.0);
}

/// Another grid, not square: the class token's position stays, those of patches are resized as a map.
#[test]
fn positions_follow_the_grid() {
    let device = Device::flex();
    let tower = tower(&device);
    let table = tower.positions(4, 4);
    let resized = tower.positions(6, 3);
    assert_eq!(resized.dims(), [19, 64]);
    assert_eq!(difference(resized.clone().narrow(0, 0, 1), table.clone().narrow(0, 0, 1)), 0.0);
    let map = table.narrow(0, 1, 16).reshape([1, 4, 4, 64]).permute([0, 3, 1, 2]);
    let want = Resize::BICUBIC.forward(map, [6, 3]).permute([0, 2, 3, 1]).reshape([18, 64]);
    assert!(difference(resized.narrow(0, 1, 18), want) < 1e-6);
    let image = input("image", [1, 3, 48, 24], &device);
    let (embedded, grid) = tower.embed(image.clone());
    assert_eq!((embedded.dims(), grid), ([1, 19, 64], [6, 3]));
    assert_eq!(tower.taps(image, &[1]).unwrap()[0].dims(), [1, 6, 3, 64]);
}

#[test]
fn images_and_layers_that_cannot_be_are_named() {
    let device = Device::flex();
    let tower = tower(&device);
    for shape in [[1, 3, 32, 30], [1, 3, 0, 32], [1, 1, 32, 32]] {
        let error = tower.taps(Tensor::zeros(shape, &device), &[0]).unwrap_err();
        assert!(matches!(&error, TextError::Shape { found, .. } if *found == shape), "{error}");
    }
    let error = tower.taps(Tensor::zeros([1, 3, 32, 32], &device), &[1, 2]).unwrap_err();
    assert!(matches!(&error, TextError::Config(e) if e.key == "taps"), "{error}");
}

/// What taps do not read may be absent, and nothing else.
#[test]
fn towers_without_a_projection_load_for_taps() {
    let device = Device::flex();
    let (tower, image) = (tower(&device), input("image", [1, 3, 40, 32], &device));
    let file = export(&tower, &ClipVision::names(), "v");
    let config = ClipVisionConfig::tiny();
    let without = |name: &str| file.clone().rename(|n| (!n.starts_with(name)).then(|| n.to_owned())).unwrap();
    let (loaded, report) = config.load_taps(without("visual_projection"), &device).unwrap();
    assert_eq!(report.missing, ["visual_projection.weight"]);
    let [got, want] = [&loaded, &tower].map(|tower| tower.taps(image.clone(), &[1]).unwrap().remove(0));
    assert_eq!(difference(got, want), 0.0);
    assert!(config.load(without("visual_projection"), &device).is_err());
    assert!(config.load_taps(without("vision_model.pre_layrnorm"), &device).is_err());
}
