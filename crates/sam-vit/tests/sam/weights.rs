//! Checkpoints: sizes, names, loading and writing.

use burn::tensor::{DType, Device};
use nn_ops::weights::{StateDict, parameters};
use sam_vit::{Naming, Sam, SamConfig, SamError, Weights, facebook_names, hugging_face_names, load_facebook, load_hugging_face};

use crate::toy::{config, formula, sam};

const TIED: &str = "shared_image_embedding.positional_embedding";
const OWN: &str = "prompt_encoder.shared_embedding.positional_embedding";

fn same(a: &StateDict, b: &StateDict) {
    assert!(a.names().eq(b.names()));
    for name in a.names() {
        assert_eq!(a.shape(name), b.shape(name), "{name}");
        let bits = |c: &StateDict| c.read(name).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(a) == bits(b), "{name}");
    }
}

fn without(state_dict: &StateDict, name: &str) -> StateDict {
    state_dict.clone().rename(|n| (n != name).then(|| n.to_owned())).unwrap()
}

/// Totals of the released files, without a single weight being made. 256 fixed frequencies come on top.
#[test]
fn parameter_totals() {
    let published = [
        (SamConfig::vit_b(), 314, 89_670_912, 93_735_472),
        (SamConfig::vit_l(), 482, 308_278_272, 312_342_832),
        (SamConfig::vit_h(), 594, 637_026_048, 641_090_608),
    ];
    for (config, tensors, encoder, total) in published {
        let all = parameters(&config.init(&Device::flex()), &facebook_names());
        let count = |head: &str| {
            all.iter().filter(|p| p.name.starts_with(head)).map(|p| p.shape.iter().product::<usize>()).sum::<usize>()
        };
        assert_eq!(all.len(), tensors);
        assert_eq!(count("image_encoder."), encoder);
        assert_eq!(count("prompt_encoder."), 6_220 + 256);
        assert_eq!(count("mask_decoder."), 4_058_340);
        assert_eq!(count(""), total + 256);
        assert_eq!(count("mask_decoder.transformer.layers.1."), 1_579_520);
    }
    for (depth, total) in [(4, 7_217_380), (6, 10_376_420)] {
        let config = SamConfig { decoder_depth: depth, ..SamConfig::vit_b() };
        let all = parameters(&config.init(&Device::flex()).mask_decoder, &facebook_names());
        assert_eq!(all.iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>(), total);
    }
}

/// Keys of every kind, spelled out.
#[test]
fn official_keys() {
    let model = config().init(&Device::flex());
    let pairs = [
        ("image_encoder.pos_embed", "vision_encoder.pos_embed"),
        ("image_encoder.patch_embed.proj.weight", "vision_encoder.patch_embed.projection.weight"),
        ("image_encoder.blocks.2.norm1.weight", "vision_encoder.layers.2.layer_norm1.weight"),
        ("image_encoder.blocks.2.norm2.bias", "vision_encoder.layers.2.layer_norm2.bias"),
        ("image_encoder.blocks.0.attn.rel_pos_w", "vision_encoder.layers.0.attn.rel_pos_w"),
        ("image_encoder.blocks.0.attn.qkv.bias", "vision_encoder.layers.0.attn.qkv.bias"),
        ("image_encoder.blocks.0.mlp.lin2.weight", "vision_encoder.layers.0.mlp.lin2.weight"),
        ("image_encoder.neck.0.weight", "vision_encoder.neck.conv1.weight"),
        ("image_encoder.neck.1.bias", "vision_encoder.neck.layer_norm1.bias"),
        ("image_encoder.neck.2.weight", "vision_encoder.neck.conv2.weight"),
        ("image_encoder.neck.3.weight", "vision_encoder.neck.layer_norm2.weight"),
        ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", OWN),
        ("prompt_encoder.point_embeddings.3.weight", "prompt_encoder.point_embed.3.weight"),
        ("prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
        ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
        ("prompt_encoder.mask_downscaling.0.weight", "prompt_encoder.mask_embed.conv1.weight"),
        ("prompt_encoder.mask_downscaling.1.weight", "prompt_encoder.mask_embed.layer_norm1.weight"),
        ("prompt_encoder.mask_downscaling.3.bias", "prompt_encoder.mask_embed.conv2.bias"),
        ("prompt_encoder.mask_downscaling.4.bias", "prompt_encoder.mask_embed.layer_norm2.bias"),
        ("prompt_encoder.mask_downscaling.6.weight", "prompt_encoder.mask_embed.conv3.weight"),
        ("mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
        ("mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
        (
            "mask_decoder.transformer.layers.1.self_attn.q_proj.weight",
            "mask_decoder.transformer.layers.1.self_attn.q_proj.weight",
        ),
        (
            "mask_decoder.transformer.layers.0.cross_attn_token_to_image.out_proj.bias",
            "mask_decoder.transformer.layers.0.cross_attn_token_to_image.out_proj.bias",
        ),
        ("mask_decoder.transformer.layers.0.norm4.weight", "mask_decoder.transformer.layers.0.layer_norm4.weight"),
        ("mask_decoder.transformer.layers.1.mlp.lin1.weight", "mask_decoder.transformer.layers.1.mlp.lin1.weight"),
        (
            "mask_decoder.transformer.final_attn_token_to_image.k_proj.bias",
            "mask_decoder.transformer.final_attn_token_to_image.k_proj.bias",
        ),
        ("mask_decoder.transformer.norm_final_attn.weight", "mask_decoder.transformer.layer_norm_final_attn.weight"),
        ("mask_decoder.output_upscaling.0.weight", "mask_decoder.upscale_conv1.weight"),
        ("mask_decoder.output_upscaling.1.bias", "mask_decoder.upscale_layer_norm.bias"),
        ("mask_decoder.output_upscaling.3.bias", "mask_decoder.upscale_conv2.bias"),
        ("mask_decoder.output_hypernetworks_mlps.3.layers.0.weight", "mask_decoder.output_hypernetworks_mlps.3.proj_in.weight"),
        ("mask_decoder.output_hypernetworks_mlps.0.layers.1.bias", "mask_decoder.output_hypernetworks_mlps.0.layers.0.bias"),
        ("mask_decoder.output_hypernetworks_mlps.1.layers.2.weight", "mask_decoder.output_hypernetworks_mlps.1.proj_out.weight"),
        ("mask_decoder.iou_prediction_head.layers.0.bias", "mask_decoder.iou_prediction_head.proj_in.bias"),
        ("mask_decoder.iou_prediction_head.layers.1.weight", "mask_decoder.iou_prediction_head.layers.0.weight"),
        ("mask_decoder.iou_prediction_head.layers.2.bias", "mask_decoder.iou_prediction_head.proj_out.bias"),
    ];
    // Both lists describe the same parameters in the same order.
    let ours = parameters(&model, &facebook_names());
    let theirs = parameters(&model, &hugging_face_names());
    assert_eq!(ours.len(), theirs.len());
    for (facebook, hugging_face) in pairs {
        let at = ours.iter().position(|p| p.name == facebook).unwrap_or_else(|| panic!("{facebook}"));
        assert_eq!(theirs[at].name, hugging_face);
    }
    for names in [&ours, &theirs] {
        let distinct: std::collections::BTreeSet<_> = names.iter().map(|p| &p.name).collect();
        assert_eq!(distinct.len(), names.len());
    }
}

#[test]
fn sizes_are_read_off_the_shapes() {
    let device = Device::flex();
    let unequal = {
        // 61 / 112 * 112 is 60 and something in f64.
        let mut c = config();
        c.image_encoder.embed_dim = 112;
        c.image_encoder.mlp_ratio = 61.5 / 112.0;
        c.image_encoder.global_blocks = vec![0, 2];
        c.mask_in_channels = 8;
        c.decoder_depth = 3;
        c
    };
    for config in [SamConfig::vit_b(), SamConfig::vit_l(), SamConfig::vit_h(), config(), unequal] {
        for naming in [Naming::Facebook, Naming::HuggingFace] {
            // Shapes without numbers: detection reads none.
            let mut file = StateDict::empty("shapes");
            for p in parameters(&config.init(&device), &naming.names()) {
                file.insert(p.name, &p.shape, Vec::new());
            }
            assert_eq!(Naming::of(&file).unwrap(), naming);
            let found = SamConfig::detect(&file).unwrap();
            assert_eq!(found.image_encoder.mlp_dim(), config.image_encoder.mlp_dim());
            let mut comparable = found;
            comparable.image_encoder.mlp_ratio = config.image_encoder.mlp_ratio;
            assert_eq!(comparable, config);
        }
    }
}

/// Written and read again in both namings, every bit survives, and what one naming writes the other's twin equals.
#[test]
fn round_trips_are_equal_in_every_bit() {
    let device = Device::flex();
    let model = sam(&config(), &device);
    let folder = tempfile::tempdir().unwrap();
    let original = model.export(Naming::Facebook).unwrap();
    for naming in [Naming::Facebook, Naming::HuggingFace] {
        let path = folder.path().join(format!("{naming:?}.safetensors"));
        let written = model.export(naming).unwrap();
        written.save(&path, &[("format", "pt")]).unwrap();
        same(&StateDict::open(&path).unwrap(), &written);
        let back = Sam::from_pretrained(&path, &device).unwrap();
        same(&back.export(Naming::Facebook).unwrap(), &original);
        assert_eq!(written.shape(TIED).is_some(), naming == Naming::HuggingFace);
    }
}

#[test]
fn tied_frequencies_may_lie_in_either_place() {
    let device = Device::flex();
    let model = sam(&config(), &device);
    let both = model.export(Naming::HuggingFace).unwrap();
    let original = model.export(Naming::Facebook).unwrap();
    for file in [both.clone(), without(&both, TIED), without(&both, OWN)] {
        let (back, report) = load_hugging_face(config().init(&device), &file).unwrap();
        assert!(report.missing.is_empty() && report.unused.is_empty());
        same(&back.export(Naming::Facebook).unwrap(), &original);
    }
    let mut torn = both.clone();
    torn.insert(TIED, &[2, 16], vec![0.5; 32]);
    assert!(load_hugging_face(config().init(&device), &torn).unwrap_err().to_string().contains("one tensor"));
    torn.insert(TIED, &[4], vec![0.5; 4]);
    assert!(load_hugging_face(config().init(&device), &torn).is_err());
    assert!(load_hugging_face(config().init(&device), &without(&without(&both, TIED), OWN)).is_err());
}

#[test]
fn files_that_do_not_fit_are_explained() {
    let device = Device::flex();
    let file = sam(&config(), &device).export(Naming::Facebook).unwrap();
    let explain = |file: &StateDict| Sam::from_state_dict(file, Weights::Single, &device).map(|_| ()).unwrap_err().to_string();
    let missing = explain(&without(&file, "mask_decoder.iou_token.weight"));
    assert!(missing.contains("mask_decoder.iou_token.weight"), "{missing}");
    let mut more = file.clone();
    more.insert("surplus", &[1], vec![0.0]);
    assert!(explain(&more).contains("`surplus`"));
    let mut shape = file.clone();
    shape.insert("prompt_encoder.no_mask_embed.weight", &[1, 31], vec![0.0; 31]);
    let text = explain(&shape);
    assert!(text.contains("[1, 31]") && text.contains("[1, 32]"), "{text}");
    let mut constants = file.clone();
    constants.insert("pixel_mean", &[3, 1, 1], vec![0.0; 3]);
    assert_eq!(load_facebook(config().init(&device), &constants).unwrap().1.unused, ["pixel_mean"]);
    assert!(matches!(Sam::from_state_dict(&StateDict::empty("none"), Weights::Single, &device), Err(SamError::StateDict { .. })));
    assert!(matches!(Sam::from_pretrained("no/such/file.pth", &device), Err(SamError::Weights(_))));
}

/// Shapes made up to mislead end in errors before anything is allocated.
#[test]
fn hostile_shapes_are_errors() {
    let device = Device::flex();
    let file = sam(&config(), &device).export(Naming::Facebook).unwrap();
    let hostile: [(&str, &[usize]); 13] = [
        ("image_encoder.patch_embed.proj.weight", &[1 << 63, 3, 16, 16]),
        ("image_encoder.patch_embed.proj.weight", &[usize::MAX, 3, 16, 16]),
        ("image_encoder.patch_embed.proj.weight", &[32, 3, 16]),
        ("image_encoder.patch_embed.proj.weight", &[32, 4, 16, 16]),
        ("image_encoder.patch_embed.proj.weight", &[32, 3, 16, 8]),
        ("image_encoder.pos_embed", &[1, 4, 5, 32]),
        ("image_encoder.pos_embed", &[1, 0, 0, 32]),
        ("image_encoder.blocks.0.attn.rel_pos_h", &[5, 0]),
        ("image_encoder.blocks.0.attn.rel_pos_h", &[5, 7]),
        ("image_encoder.blocks.2.attn.rel_pos_h", &[3, 16]),
        ("image_encoder.blocks.0.mlp.lin1.weight", &[1 << 60, 32]),
        ("image_encoder.neck.conv1.weight", &[]),
        ("prompt_encoder.mask_downscaling.3.weight", &[6, 4, 2, 2]),
    ];
    for (name, shape) in hostile {
        let mut bad = file.clone();
        let name = if name.contains("neck.conv1") { "image_encoder.neck.0.weight" } else { name };
        bad.insert(name, shape, Vec::new());
        assert!(Sam::from_state_dict(&bad, Weights::Single, &device).is_err(), "{name} {shape:?}");
    }
}

/// Weights in half precision answer as the same weights rounded beforehand do, to the bit, however they came to be.
#[test]
fn half_weights_are_rounded_weights() {
    let device = Device::flex();
    let whole = sam(&config(), &device);
    let file = whole.export(Naming::Facebook).unwrap();
    let mut rounded = file.clone();
    for name in file.names().filter(|n| n.contains(".blocks.")).map(str::to_owned).collect::<Vec<_>>() {
        let shape = file.shape(&name).unwrap().to_vec();
        if shape.len() == 2 && !name.contains("rel_pos") {
            let values = file.read(&name).unwrap().into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect();
            rounded.insert(&name, &shape, values);
        }
    }
    let image = formula::<4>("image", [1, 3, 64, 64], &device);
    let embed = |sam: &Sam| sam.image_encoder.forward(image.clone()).into_data().try_to_vec::<f32>().unwrap();
    let want = embed(&Sam::from_state_dict(&rounded, Weights::Single, &device).unwrap());
    assert_ne!(want, embed(&whole));
    let loaded = Sam::from_state_dict(&file, Weights::Half, &device).unwrap();
    assert_eq!(loaded.image_encoder.blocks[0].mlp.lin1.weight.val().dtype(), DType::F16);
    assert_eq!(loaded.mask_decoder.transformer.layers[0].mlp.lin1.weight.val().dtype(), DType::F32);
    assert_eq!(embed(&loaded), want);
    assert_eq!(embed(&whole.with_half_weights().unwrap()), want);

    let mut large = file.clone();
    let name = "image_encoder.blocks.1.attn.proj.weight";
    large.insert(name, &[32, 32], vec![7e4; 32 * 32]);
    let error = Sam::from_state_dict(&large, Weights::Half, &device).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("70000") && error.contains("65504"), "{error}");
    assert!(Sam::from_state_dict(&large, Weights::Single, &device).unwrap().with_half_weights().is_err());
}
