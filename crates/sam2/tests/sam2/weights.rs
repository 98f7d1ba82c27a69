//! Checkpoints: both namings, loading and writing.

use burn::tensor::Device;
use nn_ops::weights::{StateDict, parameters};
use sam_vit::Weights;
use sam2::{Naming, Sam2, Sam2Config, Sam2Error};

use crate::toy::{assert_close, config, formula, sam2};

/// Keys of every kind, spelled out.
#[test]
fn official_keys() {
    let model = Sam2Config { version_2_1: true, ..config() }.init(&Device::flex());
    let keys = [
        "image_encoder.trunk.patch_embed.proj.bias",
        "image_encoder.trunk.pos_embed",
        "image_encoder.trunk.pos_embed_window",
        "image_encoder.trunk.blocks.3.attn.qkv.weight",
        "image_encoder.trunk.blocks.1.proj.weight",
        "image_encoder.trunk.blocks.0.mlp.layers.1.weight",
        "image_encoder.neck.convs.3.conv.weight",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "sam_prompt_encoder.mask_downscaling.4.weight",
        "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
        "sam_mask_decoder.output_upscaling.3.bias",
        "sam_mask_decoder.obj_score_token.weight",
        "sam_mask_decoder.conv_s0.weight",
        "sam_mask_decoder.pred_obj_score_head.layers.2.bias",
        "memory_attention.layers.1.cross_attn_image.k_proj.weight",
        "memory_attention.layers.0.linear2.bias",
        "memory_attention.norm.weight",
        "memory_encoder.mask_downsampler.encoder.9.weight",
        "memory_encoder.mask_downsampler.encoder.10.bias",
        "memory_encoder.mask_downsampler.encoder.12.weight",
        "memory_encoder.fuser.layers.1.dwconv.weight",
        "memory_encoder.fuser.layers.1.gamma",
        "memory_encoder.out_proj.weight",
        "obj_ptr_proj.layers.2.weight",
        "mask_downsample.weight",
        "maskmem_tpos_enc",
        "no_mem_embed",
        "no_mem_pos_enc",
        "no_obj_ptr",
        "no_obj_embed_spatial",
        "obj_ptr_tpos_proj.weight",
    ];
    let all: Vec<String> = parameters(&model, &Naming::Meta.names()).into_iter().map(|p| p.name).collect();
    for key in keys {
        assert!(all.iter().any(|name| name == key), "{key}");
    }
    let renamed: Vec<String> = parameters(&model, &Naming::RenamedScale.names()).into_iter().map(|p| p.name).collect();
    let changed: Vec<&String> = renamed.iter().filter(|name| !all.contains(name)).collect();
    assert_eq!(changed, ["memory_encoder.fuser.layers.0.weight", "memory_encoder.fuser.layers.1.weight"]);
}

/// Written in either naming, saved and read back, the model is the same.
#[test]
fn there_and_back() {
    let model = sam2(&config());
    let folder = tempfile::tempdir().unwrap();
    for naming in [Naming::Meta, Naming::RenamedScale] {
        let path = folder.path().join("model.safetensors");
        model.export(naming).save(&path, &[]).unwrap();
        let file = StateDict::open(&path).unwrap();
        assert_eq!(Naming::of(&file), naming);
        let (back, report) = config().init(&Device::flex()).load(&file).unwrap();
        assert!(report.missing.is_empty() && report.unused.is_empty());
        let (got, want) = (back.export(naming), model.export(naming));
        for name in want.names() {
            assert_eq!(got.read(name).unwrap(), want.read(name).unwrap(), "{name}");
        }
    }
}

#[test]
fn every_key_is_accounted_for() {
    let file = sam2(&config()).export(Naming::Meta);
    let fails = |file: &StateDict, word: &str| {
        let error = config().init(&Device::flex()).load(file).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let without = file.clone().rename(|name| (name != "no_obj_ptr").then(|| name.to_owned())).unwrap();
    fails(&without, "missing in the file: `no_obj_ptr`");
    // A file of 2.1 does not fit a model of 2.0.
    let newer = sam2(&Sam2Config { version_2_1: true, ..config() }).export(Naming::Meta);
    fails(&newer, "no_obj_embed_spatial");
    let mut wrong = file;
    wrong.insert("maskmem_tpos_enc", &[7, 1, 1, 16], vec![0.0; 112]);
    fails(&wrong, "maskmem_tpos_enc");
}

#[test]
fn files_of_no_published_size_are_refused() {
    let device = Device::flex();
    let toy = sam2(&config()).export(Naming::Meta);
    let error = Sam2::from_state_dict(&toy, Weights::Single, &device).unwrap_err();
    assert!(matches!(error, Sam2Error::StateDict { .. }) && error.to_string().contains("5 blocks"), "{error}");
    let other = Sam2Config::detect(&StateDict::empty("sam.pth")).unwrap_err().to_string();
    assert!(other.contains("sam.pth: not a SAM-2 checkpoint"), "{other}");
}

/// The version of a published size shows in its keys.
#[test]
fn versions_are_told_apart() {
    let device = Device::flex();
    for version_2_1 in [false, true] {
        let config = Sam2Config { version_2_1, ..Sam2Config::hiera_small() };
        let mut file = StateDict::empty("shapes.pt");
        for parameter in parameters(&config.init(&device), &Naming::Meta.names()) {
            file.insert(parameter.name, &parameter.shape, Vec::new());
        }
        assert_eq!(Sam2Config::detect(&file).unwrap(), config);
    }
}

#[test]
fn half_the_memory() {
    let model = sam2(&config());
    let image = formula("image", [1, 3, 64, 64]);
    let want = model.encode(image.clone()).image;
    let halved = model.with_half_weights().unwrap();
    assert_eq!(halved.image_encoder.trunk.blocks[0].attn.qkv.weight.val().dtype(), burn::tensor::DType::F16);
    let got = halved.encode(image).image;
    let scale = want.clone().abs().max().into_scalar::<f32>();
    assert_close(&got, &want, 1e-2 * scale, "features");
}
