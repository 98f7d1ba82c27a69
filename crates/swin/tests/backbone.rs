//! What a user of the crate relies on, on toy sizes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use nn_ops::weights::{StateDict, export, load_formula, name_ids, parameters, trained};
use pil_ops::{Image, Normalisation};
use swin::{Swin, SwinConfig, SwinError, microsoft_names, preprocess};

fn config() -> SwinConfig {
    SwinConfig {
        embed_dim: 8,
        depths: vec![2, 2, 2],
        heads: vec![1, 2, 4],
        window: 3,
        mlp_ratio: 2.0,
        output_norms: vec![1, 2],
        ..SwinConfig::default()
    }
}

fn model(config: &SwinConfig, device: &Device) -> Swin {
    load_formula(config.init(device).unwrap(), "toy", &Swin::names()).0
}

fn formula<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(nn_ops::formula::tensor("toy", name, &shape, 0.0, 1.0), shape), device)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).abs().max().into_scalar::<f32>()
}

fn count(config: &SwinConfig, kept: impl Fn(&str) -> bool) -> (usize, usize) {
    let all = parameters(&config.init(&Device::flex()).unwrap(), &Swin::names());
    let kept: Vec<_> = all.iter().filter(|p| kept(&p.name)).collect();
    (kept.len(), kept.iter().map(|p| p.shape.iter().product::<usize>()).sum())
}

/// The published totals, without a single weight being made.
#[test]
fn parameter_totals() {
    let own = |name: &str| !name.starts_with("norm");
    assert_eq!(count(&SwinConfig::base_window12(), own), (325, 86_876_536));
    assert_eq!(count(&SwinConfig::base_window12(), |name| !own(name)), (6, 3_584));
    assert_eq!(count(&SwinConfig::tiny(), own).1, 27_517_818);
}

#[test]
fn official_keys() {
    let all = parameters(&SwinConfig::base_window12().init(&Device::flex()).unwrap(), &Swin::names());
    for (name, shape) in [
        ("patch_embed.proj.weight", vec![128, 3, 4, 4]),
        ("patch_embed.norm.bias", vec![128]),
        ("layers.2.blocks.17.norm2.weight", vec![512]),
        ("layers.3.blocks.1.attn.relative_position_bias_table", vec![529, 32]),
        ("layers.1.blocks.0.attn.qkv.weight", vec![768, 256]),
        ("layers.0.blocks.1.mlp.fc1.weight", vec![512, 128]),
        ("layers.2.downsample.reduction.weight", vec![1024, 2048]),
        ("layers.2.downsample.norm.weight", vec![2048]),
        ("norm3.weight", vec![1024]),
    ] {
        assert!(all.iter().any(|p| p.name == name && p.shape == shape), "{name} {shape:?}");
    }
    assert!(!all.iter().any(|p| p.name.starts_with("layers.3.downsample") || p.name.starts_with("norm0")));
}

/// Any size goes through, sides rounded up; one image of a batch does not see another.
#[test]
fn maps_of_any_size() {
    let device = Device::flex();
    let (config, model) = (config(), model(&config(), &device));
    for (height, width) in [(48, 48), (45, 70), (8, 8), (1, 3)] {
        let images = formula("in", [2, 3, height, width], &device);
        let maps = model.forward(images.clone()).unwrap();
        for (stage, map) in maps.iter().enumerate() {
            let (h, w) = config.grid(stage, (height, width));
            assert_eq!(map.dims(), [2, h, w, config.width(stage)]);
            assert!(values(map.clone()).iter().all(|v| v.is_finite()));
        }
        let second = model.forward(images.narrow(0, 1, 1)).unwrap();
        for (one, both) in second.into_iter().zip(maps) {
            assert!(difference(one, both.narrow(0, 1, 1)) < 1e-5, "{height} x {width}");
        }
    }
}

/// A block's windows: what a token changes lies in its own window, of the shifted block in its own shifted one, and nowhere
/// beyond the border.
#[test]
fn tokens_change_their_own_window() {
    let device = Device::flex();
    let model = model(&config(), &device);
    let (height, width) = (9, 12);
    let map = formula("map", [1, height, width, 8], &device);
    let grid = swin::WindowGrid::new(height, width, 3, true, &device);
    for (block, shift) in [(0, 0), (1, 1)] {
        let block = &model.layers[0].blocks[block];
        let before = values(block.forward(map.clone(), &grid).sum_dim(3));
        for (y, x) in [(0, 0), (4, 6), (8, 11), (0, 5), (8, 0)] {
            let place = (0..height * width * 8).map(|at| f32::from(u8::from(at / 8 == y * width + x)));
            let step = Tensor::<4>::from_data(TensorData::new(place.collect::<Vec<f32>>(), [1, height, width, 8]), &device);
            let ramp = Tensor::<1, burn::tensor::Int>::arange(0..8, &device).float().reshape([1, 1, 1, 8]);
            let after = values(block.forward(map.clone() + step * ramp, &grid).sum_dim(3));
            let window = |y: usize, x: usize| ((y + 3 - shift) / 3, (x + 3 - shift) / 3);
            for at in 0..height * width {
                let same = window(at / width, at % width) == window(y, x);
                assert_eq!(before[at] != after[at], same, "shift {shift}: ({y}, {x}) and token {at}");
            }
        }
    }
}

/// A model whose matrices and tables are rounded to bf16 gives maps in bf16, close to those of single precision.
#[test]
fn half_precision_meets_no_other() {
    struct Lower;
    impl ModuleMapper for Lower {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|x| x.cast(FloatDType::BF16))
        }
    }
    let device = Device::flex();
    let (model, image) = (model(&config(), &device), formula("in", [1, 3, 44, 40], &device));
    let half = model.clone().map(&mut Lower).forward(image.clone()).unwrap();
    for (got, want) in half.into_iter().zip(model.forward(image).unwrap()) {
        assert_eq!(got.dtype(), DType::BF16);
        let scale = want.clone().abs().max().into_scalar::<f32>();
        assert!(difference(got.cast(FloatDType::F32), want) < 0.1 * scale);
    }
}

#[test]
fn photographs_are_stretched_and_normalised() {
    let device = Device::flex();
    let image = Image::new(6, 2, 3, vec![200; 36]).unwrap();
    let input = preprocess(&image, (4, 5), &device).unwrap();
    assert_eq!(input.dims(), [1, 3, 4, 5]);
    let got = values(input);
    for channel in 0..3 {
        let want = (200.0 - Normalisation::IMAGENET.mean[channel]) / Normalisation::IMAGENET.std[channel];
        assert!(got[channel * 20..][..20].iter().all(|v| (v - want).abs() < 1e-6));
    }
    let grey = Image::new(2, 2, 1, vec![9, 8, 7, 200]).unwrap();
    let colour = Image::new(2, 2, 3, grey.data().iter().flat_map(|v| [*v; 3]).collect()).unwrap();
    assert_eq!(values(preprocess(&grey, (3, 3), &device).unwrap()), values(preprocess(&colour, (3, 3), &device).unwrap()));
    assert!(matches!(preprocess(&image, (0, 4), &device), Err(SwinError::Image(_))));
    let maps = model(&config(), &device).features(&image, 24).unwrap();
    assert_eq!(maps[2].dims(), [1, 2, 2, 32]);
}

#[test]
fn tensors_that_are_no_images_are_refused() {
    let device = Device::flex();
    let model = model(&config(), &device);
    for shape in [[1, 4, 8, 8], [1, 3, 0, 8], [0, 3, 8, 8]] {
        let error = model.forward(Tensor::zeros(shape, &device)).unwrap_err();
        assert!(matches!(&error, SwinError::Shape { found, .. } if *found == shape), "{error}");
    }
}

/// Gradients reach every parameter, also those behind the norms.
#[test]
fn everything_is_trainable() {
    let device = Device::flex().autodiff();
    let model = name_ids(model(&config(), &device), &Swin::names());
    let maps = model.forward(formula("in", [1, 3, 40, 36], &device)).unwrap();
    let loss = maps.into_iter().map(|map| (map.clone() * map.tanh()).sum()).reduce(|a, b| a + b).unwrap();
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    assert_eq!(grads.len(), trained(&model, &Swin::names()).len());
    assert!(
        difference(model.valid().forward(formula("in", [1, 3, 40, 36], &Device::flex())).unwrap().remove(2), {
            let plain = self::model(&config(), &Device::flex());
            plain.forward(formula("in", [1, 3, 40, 36], &Device::flex())).unwrap().remove(2)
        }) < 1e-6
    );
}

fn file() -> StateDict {
    export(&model(&config(), &Device::flex()), &Swin::names(), "toy.safetensors")
}

/// What a classifier's file holds beside the backbone, without norms of stages.
fn classifier() -> StateDict {
    let mut file = file().rename(|name| (!name.starts_with("norm")).then(|| name.to_owned())).unwrap();
    for (name, shape) in [
        ("layers.0.blocks.0.attn.relative_position_index", vec![9, 9]),
        ("layers.0.blocks.1.attn_mask", vec![4, 9, 9]),
        ("norm.weight", vec![32]),
        ("norm.bias", vec![32]),
        ("head.weight", vec![5, 32]),
        ("head.bias", vec![5]),
    ] {
        file.insert(name, &shape, vec![0.5; shape.iter().product()]);
    }
    file
}

fn maps(config: &SwinConfig, file: &StateDict) -> Vec<Tensor<4>> {
    let device = Device::flex();
    config.load(file, &device).unwrap().0.forward(formula("in", [1, 3, 44, 40], &device)).unwrap()
}

#[test]
fn sizes_are_read_off_the_file() {
    assert_eq!(SwinConfig::detect(&file()).unwrap(), config());
    assert_eq!(SwinConfig::detect(&classifier()).unwrap(), config());
    let other = SwinConfig { output_norms: vec![0], mlp_ratio: 3.5, window: 2, patch_size: 2, ..config() };
    let file = export(&model(&other, &Device::flex()), &Swin::names(), "other");
    assert_eq!(SwinConfig::detect(&file).unwrap(), other);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swin.safetensors");
    file.save(&path, &[]).unwrap();
    let swin = Swin::from_pretrained(&path, &Device::flex()).unwrap();
    assert_eq!(swin.window(), 2);
    let image = formula("in", [1, 3, 20, 20], &Device::flex());
    let want = model(&other, &Device::flex()).forward(image.clone()).unwrap().remove(2);
    assert_eq!(difference(swin.forward(image).unwrap().remove(2), want), 0.0);
}

/// A classifier's file: its norms of stages stay fresh, its own norm, head and constants unused.
#[test]
fn classifiers_become_backbones() {
    let (swin, report) = config().load(&classifier(), &Device::flex()).unwrap();
    assert_eq!((report.missing.len(), report.unused.len()), (4, 6));
    let norm = swin.norms[2].as_ref().unwrap();
    assert_eq!((values(norm.gamma.val()), values(norm.beta.val())), (vec![1.0; 32], vec![0.0; 32]));
    let image = formula("in", [1, 3, 44, 40], &Device::flex());
    let [own, bare] = [vec![1, 2], vec![]].map(|output_norms| {
        let config = SwinConfig { output_norms, ..config() };
        config.load(&classifier(), &Device::flex()).unwrap().0.forward(image.clone()).unwrap().remove(2)
    });
    // A fresh norm does nothing but norm.
    assert!(difference(own, swin.norms[2].as_ref().unwrap().forward(bare)) < 1e-6);
}

/// timm merges in front of a stage instead of behind one, and calls its head otherwise.
#[test]
fn timm_names() {
    let theirs = classifier()
        .rename(|name| {
            Some(match name {
                _ if name.contains(".downsample.") => {
                    let stage = name.split('.').nth(1).unwrap().parse::<usize>().unwrap();
                    name.replacen(&format!("layers.{stage}"), &format!("layers.{}", stage + 1), 1)
                }
                _ if name.starts_with("head.") => name.replace("head.", "head.fc."),
                _ if name.contains("relative_position_index") || name.contains("attn_mask") => return None,
                _ => name.to_owned(),
            })
        })
        .unwrap();
    assert!(theirs.shape("layers.2.downsample.norm.weight").is_some());
    assert_eq!(SwinConfig::detect(&theirs).unwrap(), config());
    for (got, want) in maps(&config(), &theirs).into_iter().zip(maps(&config(), &classifier())) {
        assert_eq!(difference(got, want), 0.0);
    }
}

/// Hugging Face's names, of published files and of models in memory: queries, keys and values apart.
fn hugging_face(old: bool, backbone: bool) -> StateDict {
    let mut split = if backbone { file() } else { classifier() };
    let fused: Vec<String> = split.names().filter(|n| n.contains(".attn.qkv.")).map(str::to_owned).collect();
    for name in fused {
        let parts = if old { ["self.query", "self.key", "self.value"] } else { ["q_proj", "k_proj", "v_proj"] };
        split.split_rows(&name, &parts.map(|part| name.replace("attn.qkv", &format!("attention.{part}")))).unwrap();
    }
    let table = if old { "attention.self." } else { "attention.relative_position_bias." };
    let rules = [
        ("layers.", "encoder.layers."),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("patch_embed.norm", "embeddings.norm"),
        ("blocks.0.norm1", "blocks.0.layernorm_before"),
        ("blocks.1.norm1", "blocks.1.layernorm_before"),
        ("blocks.0.norm2", "blocks.0.layernorm_after"),
        ("blocks.1.norm2", "blocks.1.layernorm_after"),
        ("attn.relative_position", &format!("{table}relative_position")),
        ("attn.proj", if old { "attention.output.dense" } else { "attention.o_proj" }),
        ("mlp.fc1", if old { "intermediate.dense" } else { "mlp.fc1" }),
        ("mlp.fc2", if old { "output.dense" } else { "mlp.fc2" }),
    ];
    split
        .rename(|name| {
            let own = |to: &str, rest: &str| Some(format!("{to}{rest}"));
            if name.contains("attn_mask") {
                return None;
            }
            for (from, to) in [
                ("norm.", "swin.layernorm."),
                ("head.", "classifier."),
                ("norm1.", "hidden_states_norms.stage2."),
                ("norm2.", "hidden_states_norms.stage3."),
            ] {
                if let Some(rest) = name.strip_prefix(from) {
                    return own(to, rest);
                }
            }
            own("swin.", &rules.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to)))
        })
        .unwrap()
}

#[test]
fn hugging_face_names() {
    for (old, backbone) in [(true, false), (false, false), (true, true), (false, true)] {
        let theirs = hugging_face(old, backbone);
        let key = "swin.encoder.layers.1.blocks.0.attention.";
        assert!(theirs.shape(&format!("{key}{}", if old { "self.key.bias" } else { "k_proj.bias" })).is_some());
        assert_eq!(SwinConfig::detect(&theirs).unwrap(), config());
        let ours = if backbone { file() } else { classifier() };
        for (got, want) in maps(&config(), &theirs).into_iter().zip(maps(&config(), &ours)) {
            assert_eq!(difference(got, want), 0.0, "old {old}, backbone {backbone}");
        }
    }
    let name = "swin.encoder.layers.1.blocks.0.attention.self.key.bias";
    let broken = hugging_face(true, false).rename(|n| (n != name).then(|| n.to_owned())).unwrap();
    let message = microsoft_names(broken).unwrap_err().to_string();
    assert!(message.contains("layers.1.blocks.0.attn.key.bias"), "{message}");
}

/// Tables that were made for another window are resized; those of the same stay bit for bit.
#[test]
fn another_window() {
    let wide = SwinConfig { window: 4, ..config() };
    let (swin, _) = wide.load(&file(), &Device::flex()).unwrap();
    let name = "layers.0.blocks.0.attn.relative_position_bias_table";
    let small = Tensor::<2>::from_data(TensorData::new(file().read(name).unwrap(), [25, 1]), &Device::flex());
    let table = swin.layers[0].blocks[0].attn.relative_position_bias_table.val();
    assert_eq!(difference(table, swin::resize_table(small, 4)), 0.0);
    assert_eq!(maps(&wide, &file()).len(), 3);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let message = |file: &StateDict| config().load(file, &Device::flex()).unwrap_err().to_string();
    let without = |name: &str| file().rename(|n| (n != name).then(|| n.to_owned())).unwrap();
    let missing = message(&without("layers.1.blocks.1.mlp.fc2.bias"));
    assert!(missing.contains("missing in the file: `layers.1.blocks.1.mlp.fc2.bias`"), "{missing}");
    let mut more = file();
    more.insert("absolute_pos_embed", &[1], vec![0.0]);
    assert!(message(&more).contains("in the file but not in the model: `absolute_pos_embed`"));
    let mut table = file();
    table.insert("layers.0.blocks.0.attn.relative_position_bias_table", &[24, 1], vec![0.0; 24]);
    assert!(message(&table).contains("[24, 1] in the file and [25, 1] in the model"));
    let error = SwinConfig::detect(&without("patch_embed.proj.weight")).unwrap_err().to_string();
    assert!(error.contains("not a Swin Transformer: `patch_embed.proj.weight` is missing"), "{error}");
    let mut heads = file();
    heads.insert("layers.0.blocks.0.attn.relative_position_bias_table", &[25, 3], vec![0.0; 75]);
    let error = SwinConfig::detect(&heads).unwrap_err().to_string();
    assert!(error.contains("`heads` is [3, 2, 4]"), "{error}");
}
