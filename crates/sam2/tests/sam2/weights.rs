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

/// Written in any naming, saved and read back, the model is the same.
#[test]
fn there_and_back() {
    let model = sam2(&config());
    let folder = tempfile::tempdir().unwrap();
    for naming in [Naming::Meta, Naming::RenamedScale, Naming::HuggingFace] {
        let path = folder.path().join("model.safetensors");
        model.export(naming).unwrap().save(&path, &[]).unwrap();
        let file = StateDict::open(&path).unwrap();
        assert_eq!(Naming::of(&file), naming);
        let (back, report) = config().init(&Device::flex()).load(&file).unwrap();
        assert!(report.missing.is_empty() && report.unused.is_empty());
        let (got, want) = (back.export(naming).unwrap(), model.export(naming).unwrap());
        for name in want.names() {
            assert_eq!(got.read(name).unwrap(), want.read(name).unwrap(), "{name}");
        }
    }
}

#[test]
fn every_key_is_accounted_for() {
    let file = sam2(&config()).export(Naming::Meta).unwrap();
    let fails = |file: &StateDict, word: &str| {
        let error = config().init(&Device::flex()).load(file).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let without = file.clone().rename(|name| (name != "no_obj_ptr").then(|| name.to_owned())).unwrap();
    fails(&without, "missing in the file: `no_obj_ptr`");
    // A file of 2.1 does not fit a model of 2.0.
    let newer = sam2(&Sam2Config { version_2_1: true, ..config() }).export(Naming::Meta).unwrap();
    fails(&newer, "no_obj_embed_spatial");
    let mut wrong = file;
    wrong.insert("maskmem_tpos_enc", &[7, 1, 1, 16], vec![0.0; 112]);
    fails(&wrong, "maskmem_tpos_enc");
}

#[test]
fn files_of_no_published_size_are_refused() {
    let device = Device::flex();
    let toy = sam2(&config()).export(Naming::Meta).unwrap();
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

/// Keys of Hugging Face's port, spelled out, and what it packs: four kinds of points in one tensor, frequencies twice.
#[test]
fn keys_of_the_port() {
    let model = sam2(&Sam2Config { version_2_1: true, ..config() });
    let (meta, port) = (model.export(Naming::Meta).unwrap(), model.export(Naming::HuggingFace).unwrap());
    assert_eq!(port.len(), meta.len() - 3 + 1);
    for (ours, theirs) in [
        ("image_encoder.trunk.patch_embed.proj.bias", "vision_encoder.backbone.patch_embed.projection.bias"),
        ("image_encoder.trunk.pos_embed_window", "vision_encoder.backbone.pos_embed_window"),
        ("image_encoder.trunk.blocks.0.norm1.weight", "vision_encoder.backbone.blocks.0.layer_norm1.weight"),
        ("image_encoder.trunk.blocks.3.attn.qkv.weight", "vision_encoder.backbone.blocks.3.attn.qkv.weight"),
        ("image_encoder.trunk.blocks.1.proj.weight", "vision_encoder.backbone.blocks.1.proj.weight"),
        ("image_encoder.trunk.blocks.0.mlp.layers.1.weight", "vision_encoder.backbone.blocks.0.mlp.proj_out.weight"),
        ("image_encoder.neck.convs.3.conv.weight", "vision_encoder.neck.convs.3.weight"),
        ("sam_prompt_encoder.mask_downscaling.4.weight", "prompt_encoder.mask_embed.layer_norm2.weight"),
        ("sam_prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
        ("sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight", "mask_decoder.transformer.layers.1.mlp.proj_in.weight"),
        ("sam_mask_decoder.transformer.layers.0.norm3.bias", "mask_decoder.transformer.layers.0.layer_norm3.bias"),
        ("sam_mask_decoder.transformer.norm_final_attn.bias", "mask_decoder.transformer.layer_norm_final_attn.bias"),
        (
            "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj.weight",
            "mask_decoder.transformer.final_attn_token_to_image.o_proj.weight",
        ),
        ("sam_mask_decoder.output_upscaling.1.bias", "mask_decoder.upscale_layer_norm.bias"),
        ("sam_mask_decoder.output_upscaling.3.bias", "mask_decoder.upscale_conv2.bias"),
        (
            "sam_mask_decoder.output_hypernetworks_mlps.2.layers.0.weight",
            "mask_decoder.output_hypernetworks_mlps.2.proj_in.weight",
        ),
        ("sam_mask_decoder.iou_prediction_head.layers.1.weight", "mask_decoder.iou_prediction_head.layers.0.weight"),
        ("sam_mask_decoder.pred_obj_score_head.layers.2.bias", "mask_decoder.pred_obj_score_head.proj_out.bias"),
        (
            "memory_attention.layers.1.cross_attn_image.out_proj.weight",
            "memory_attention.layers.1.cross_attn_image.o_proj.weight",
        ),
        ("memory_attention.norm.weight", "memory_attention.layer_norm.weight"),
        ("memory_encoder.mask_downsampler.encoder.9.weight", "memory_encoder.mask_downsampler.layers.3.conv.weight"),
        ("memory_encoder.mask_downsampler.encoder.1.bias", "memory_encoder.mask_downsampler.layers.0.layer_norm.bias"),
        ("memory_encoder.mask_downsampler.encoder.12.weight", "memory_encoder.mask_downsampler.final_conv.weight"),
        ("memory_encoder.fuser.layers.1.dwconv.weight", "memory_encoder.memory_fuser.layers.1.depthwise_conv.weight"),
        ("memory_encoder.fuser.layers.1.pwconv2.weight", "memory_encoder.memory_fuser.layers.1.pointwise_conv2.weight"),
        ("memory_encoder.fuser.layers.1.gamma", "memory_encoder.memory_fuser.layers.1.scale"),
        ("memory_encoder.pix_feat_proj.weight", "memory_encoder.feature_projection.weight"),
        ("memory_encoder.out_proj.weight", "memory_encoder.projection.weight"),
        ("obj_ptr_proj.layers.1.weight", "object_pointer_proj.layers.0.weight"),
        ("mask_downsample.weight", "mask_downsample.weight"),
        ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
        ("no_mem_embed", "no_memory_embedding"),
        ("no_mem_pos_enc", "no_memory_positional_encoding"),
        ("no_obj_ptr", "no_object_pointer"),
        ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
        ("obj_ptr_tpos_proj.weight", "temporal_positional_encoding_projection_layer.weight"),
        ("sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", "shared_image_embedding.positional_embedding"),
    ] {
        assert_eq!(port.read(theirs).unwrap(), meta.read(ours).unwrap(), "{ours}");
    }
    let points: Vec<f32> =
        (0..4).flat_map(|k| meta.read(&format!("sam_prompt_encoder.point_embeddings.{k}.weight")).unwrap()).collect();
    assert_eq!(port.read("prompt_encoder.point_embed.weight").unwrap(), points);

    // Either name of the frequencies is enough; two that differ are an error.
    let (own, tied) = ("prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding");
    for gone in [own, tied] {
        let file = port.clone().rename(|name| (name != gone).then(|| name.to_owned())).unwrap();
        let back = Sam2Config { version_2_1: true, ..config() }.init(&Device::flex()).load(&file).unwrap().0;
        assert_eq!(back.export(Naming::Meta).unwrap().read("no_obj_ptr").unwrap(), meta.read("no_obj_ptr").unwrap());
    }
    let mut odd = port.clone();
    odd.insert(tied, &[2, 16], vec![0.5; 32]);
    assert!(Sam2Config { version_2_1: true, ..config() }.init(&Device::flex()).load(&odd).is_err());
    // Sizes of a published one are read off these keys, too.
    let tiny = Sam2Config { version_2_1: true, ..Sam2Config::hiera_tiny() };
    let mut shapes = StateDict::empty("tiny");
    for parameter in parameters(&tiny.init(&Device::flex()), &Naming::HuggingFace.names()) {
        if parameter.name.contains("layer_norm1.weight") || parameter.name.contains("patch_embed") {
            let count = parameter.shape.iter().product();
            shapes.insert(parameter.name, &parameter.shape, vec![0.0; count]);
        }
    }
    shapes.insert("occlusion_spatial_embedding_parameter", &[1, 64], vec![0.0; 64]);
    assert_eq!(Sam2Config::detect(&shapes).unwrap(), tiny);
}
