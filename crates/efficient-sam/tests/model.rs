//! What a user of the crate relies on, on toy sizes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use efficient_sam::{
    AutomaticConfig, EfficientSam, EfficientSamConfig, Output, PromptSet, SamError, efficient_sam_names, postprocess,
    prepare_points, preprocess,
};
use nn_ops::weights::{StateDict, load_formula, parameters, trained};
use pil_ops::{Fit, Image, Letterbox, Normalisation};

fn config() -> EfficientSamConfig {
    EfficientSamConfig::toy()
}

fn model(device: &Device) -> EfficientSam {
    load_formula(config().init(device).unwrap(), "toy", &efficient_sam_names()).0
}

fn formula<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(nn_ops::formula::tensor("toy", name, &shape, 0.0, 1.0), shape), device)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

#[track_caller]
fn assert_close<const D: usize>(got: Tensor<D>, want: Tensor<D>, tolerance: f32) {
    assert_eq!(got.dims(), want.dims());
    let worst = (got - want).abs().max().into_scalar::<f32>();
    assert!(worst <= tolerance, "largest difference {worst}");
}

fn test_image(height: usize, width: usize) -> Image {
    Image::new(width, height, 3, (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect()).unwrap()
}

/// The published totals, without a single weight being made. 256 fixed frequencies come on top.
#[test]
fn parameter_totals() {
    for (config, encoder, total) in
        [(EfficientSamConfig::tiny(), 6_163_840, 10_223_204), (EfficientSamConfig::small(), 22_353_664, 26_413_028)]
    {
        let all = parameters(&config.init(&Device::flex()).unwrap(), &efficient_sam_names());
        let count = |head: &str| {
            all.iter().filter(|p| p.name.starts_with(head)).map(|p| p.shape.iter().product::<usize>()).sum::<usize>()
        };
        assert_eq!(all.len(), 278);
        assert_eq!(
            (count("image_encoder."), count("prompt_encoder."), count("mask_decoder."), count("")),
            (encoder, 1_024 + 256, 4_058_340, total + 256)
        );
    }
}

#[test]
fn official_keys() {
    let all = parameters(&EfficientSamConfig::small().init(&Device::flex()).unwrap(), &efficient_sam_names());
    for (name, shape) in [
        ("image_encoder.pos_embed", vec![1, 197, 384]),
        ("image_encoder.patch_embed.proj.bias", vec![384]),
        ("image_encoder.blocks.11.attn.qkv.weight", vec![1152, 384]),
        ("image_encoder.blocks.0.mlp.fc2.weight", vec![384, 1536]),
        ("image_encoder.neck.2.weight", vec![256, 256, 3, 3]),
        ("image_encoder.neck.3.bias", vec![256]),
        ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", vec![2, 128]),
        ("prompt_encoder.bbox_bottom_right_embeddings.weight", vec![1, 256]),
        ("mask_decoder.iou_token.weight", vec![1, 256]),
        ("mask_decoder.transformer.layers.1.mlp.layers.0.0.weight", vec![2048, 256]),
        ("mask_decoder.transformer.layers.0.mlp.fc.bias", vec![256]),
        ("mask_decoder.transformer.layers.0.cross_attn_image_to_token.out_proj.weight", vec![256, 128]),
        ("mask_decoder.transformer.norm_final_attn.weight", vec![256]),
        ("mask_decoder.final_output_upscaling_layers.0.0.weight", vec![256, 64, 2, 2]),
        ("mask_decoder.final_output_upscaling_layers.0.1.weight", vec![64]),
        ("mask_decoder.final_output_upscaling_layers.1.0.bias", vec![32]),
        ("mask_decoder.output_hypernetworks_mlps.3.layers.1.0.weight", vec![256, 256]),
        ("mask_decoder.output_hypernetworks_mlps.0.fc.weight", vec![32, 256]),
        ("mask_decoder.iou_prediction_head.fc.weight", vec![4, 256]),
    ] {
        assert!(all.iter().any(|p| p.name == name && p.shape == shape), "{name} {shape:?}");
    }
}

/// Queries do not see each other, nor do images of a batch: the norm over whole maps keeps to its own.
#[test]
fn queries_are_apart() {
    let device = Device::flex();
    let model = model(&device);
    let images = model.image_encoder.forward(formula("in", [2, 3, 64, 64], &device));
    let alone = model.image_encoder.forward(formula("in", [2, 3, 64, 64], &device).narrow(0, 1, 1));
    assert_close(images.clone().narrow(0, 1, 1), alone, 1e-5);
    let tokens = formula("tokens", [3, 1, 32], &device);
    for output in [Output::Single, Output::Multi] {
        let (masks, iou) = model.decode_tokens(images.clone().narrow(0, 0, 1), tokens.clone(), output);
        let number = if output == Output::Single { 1 } else { 3 };
        assert_eq!((masks.dims(), iou.dims()), ([3, number, 16, 16], [3, number]));
        let (one, own) = model.decode_tokens(images.clone().narrow(0, 0, 1), tokens.clone().narrow(0, 2, 1), output);
        assert_close(masks.narrow(0, 2, 1), one, 1e-5);
        assert_close(iou.narrow(0, 2, 1), own, 1e-5);
    }
    // An image per query.
    let (both, _) = model.decode_tokens(images.clone(), tokens.clone().narrow(0, 0, 2), Output::Single);
    let (second, _) = model.decode_tokens(images.narrow(0, 1, 1), tokens.narrow(0, 1, 1), Output::Single);
    assert_close(both.narrow(0, 1, 1), second, 1e-5);
}

/// The order of points is no matter, how many invalid ones follow is.
#[test]
fn points_are_a_set_of_six() {
    let device = Device::flex();
    let model = model(&device);
    let embedding = model.image_encoder.forward(formula("in", [1, 3, 64, 64], &device));
    let run = |points: &[[f32; 2]], labels: &[i32], number: usize| {
        let flat: Vec<f32> = points.iter().flatten().copied().collect();
        let points = Tensor::<3>::from_data(TensorData::new(flat, [1, labels.len(), 2]), &device);
        let labels = Tensor::<2, Int>::from_data(TensorData::new(labels.to_vec(), [1, labels.len()]), &device);
        let (points, labels) = prepare_points(points, labels, number, (64, 64), (64, 64));
        model.decode_points(embedding.clone(), points, labels, Output::Single).0
    };
    let plain = run(&[[5.0, 9.0], [40.0, 30.0]], &[1, 0], 6);
    assert_close(run(&[[40.0, 30.0], [5.0, 9.0]], &[0, 1], 6), plain.clone(), 1e-5);
    assert_close(run(&[[5.0, 9.0], [40.0, 30.0], [-1.0, -1.0]], &[1, 0, -1], 6), plain.clone(), 1e-6);
    let other = run(&[[5.0, 9.0], [40.0, 30.0]], &[1, 0], 5);
    assert!((other - plain).abs().max().into_scalar::<f32>() > 1e-3);
}

#[test]
fn predictions_are_at_the_images_size_and_sorted() {
    let device = Device::flex();
    let model = model(&device);
    let image = test_image(45, 70);
    let embedding = model.embed(&image).unwrap();
    let by = Normalisation { mean: [0.0; 3], std: [255.0; 3] };
    let unit = Tensor::from_data(TensorData::new(by.planes(&image), [1, 3, 45, 70]), &device);
    assert_close(embedding.features.clone(), model.image_encoder.forward(preprocess(unit, 64)), 0.0);
    assert_eq!(embedding.letterbox, Letterbox::new(45, 70, 64, Fit::Stretched).unwrap());
    let prompts = [
        PromptSet::click(30.0, 20.0),
        PromptSet::boxed([5.0, 4.0, 60.0, 40.0]).with_point([20.0, 10.0], 0),
        PromptSet::boxed([-3.0, -2.0, 60.0, 40.0]),
    ];
    let found = model.predict_batch(&embedding, &prompts, Output::Multi).unwrap();
    for (prompt, masks) in prompts.iter().zip(&found) {
        assert_eq!(masks.len(), 3);
        assert!(masks.windows(2).all(|pair| pair[0].iou >= pair[1].iou));
        let alone = model.predict(&embedding, prompt, Output::Multi).unwrap();
        for (one, both) in alone.iter().zip(masks) {
            assert_eq!((both.mask.height(), both.mask.width()), (45, 70));
            assert!((one.iou - both.iou).abs() < 1e-4);
            let full = values(postprocess(both.low_res.clone().unsqueeze::<4>(), (45, 70)));
            let want: Vec<u8> = full.iter().map(|v| u8::from(*v >= 0.0)).collect();
            assert_eq!(both.mask.to_row_major(), want);
        }
        assert_eq!(model.predict(&embedding, prompt, Output::Single).unwrap().len(), 1);
    }
    // A box and its corners as points are one thing.
    let corners = Tensor::<3>::from_floats([[[5.0, 4.0], [60.0, 40.0], [20.0, 10.0]]], &device);
    let labels = Tensor::<2, Int>::from_ints([[2, 3, 0]], &device);
    let (points, labels) = prepare_points(corners, labels, 6, (45, 70), (64, 64));
    let (_, iou) = model.decode_points(embedding.features.clone(), points, labels, Output::Multi);
    let best = values(iou).into_iter().fold(f32::MIN, f32::max);
    assert!((best - found[1][0].iou).abs() < 1e-4);
    assert_eq!(model.predict_batch(&embedding, &[], Output::Multi).unwrap().len(), 0);
}

#[test]
fn senseless_prompts_and_inputs_are_named() {
    let device = Device::flex();
    let model = model(&device);
    let embedding = model.embed(&test_image(45, 70)).unwrap();
    let seven = (0..7).fold(PromptSet::default(), |set, i| set.with_point([f64::from(i), 3.0], 1));
    let five = (0..5).fold(PromptSet::boxed([1.0, 1.0, 9.0, 9.0]), |set, i| set.with_point([f64::from(i), 3.0], 1));
    let wrong = [
        (PromptSet::default(), "is empty"),
        (PromptSet::click(1.0, 1.0).with_mask(Tensor::zeros([16, 16], &device)), "takes points and boxes only"),
        (seven, "7 points"),
        (five, "7 points, of which a box is two: EfficientSAM sees 6"),
        (PromptSet::default().with_point([1.0, 1.0], 2), "label 2"),
        (PromptSet::click(f64::NAN, 1.0), "finite"),
        (PromptSet::boxed([9.0, 1.0, 3.0, 2.0]), "x0 <= x1"),
    ];
    for (prompt, word) in wrong {
        let prompts = [PromptSet::click(1.0, 1.0), prompt];
        let message = model.predict_batch(&embedding, &prompts, Output::Single).unwrap_err().to_string();
        assert!(message.starts_with("prompt 1: ") && message.contains(word), "{message}");
    }
    assert!(matches!(model.embed_batch(&[test_image(9, 9)], 65), Err(SamError::Canvas { canvas: 65, .. })));
    assert_eq!(model.embed_batch(&[], 64).unwrap().len(), 0);
    assert_eq!(model.embed_batch(&[test_image(9, 9)], 32).unwrap()[0].features.dims(), [1, 32, 2, 2]);
    let bad = EfficientSamConfig { heads: 5, ..config() };
    assert!(matches!(bad.init(&device), Err(SamError::Config(_))));
}

/// SAM's generator on this model: every filter open, each click gives its masks.
#[test]
fn everything_in_an_image() {
    let model = model(&Device::flex());
    let open = AutomaticConfig {
        points_per_side: 3,
        points_per_batch: 4,
        pred_iou_thresh: f32::MIN,
        stability_score_thresh: 0.0,
        box_nms_thresh: 2.0,
        ..AutomaticConfig::default()
    };
    let image = test_image(45, 70);
    let found = model.segment_everything(&image, &open).unwrap();
    assert_eq!(found.len(), 27);
    assert!(found.iter().all(|region| (region.mask.height(), region.mask.width()) == (45, 70)));
    assert!(found.windows(2).all(|pair| pair[0].predicted_iou >= pair[1].predicted_iou));
    // The masks of a click are those of the predictor.
    let best = &found[0];
    let embedding = model.embed(&image).unwrap();
    let prompt = PromptSet::click(best.point[0], best.point[1]);
    let predicted = model.predict(&embedding, &prompt, Output::Multi).unwrap();
    assert!((predicted[0].iou - best.predicted_iou).abs() < 1e-4);
    assert!(model.segment_everything(&image, &AutomaticConfig { points_per_side: 0, ..open }).is_err());
}

/// EVF-SAM trains the mask decoder: one text token's mask reaches all of it but what belongs to the other masks.
#[test]
fn gradients_reach_the_decoder_through_tokens() {
    let device = Device::flex().autodiff();
    let model = model(&device);
    let embedding = formula("embedding", [1, 32, 4, 4], &device);
    let (masks, _) = model.decode_tokens(embedding, formula("text", [2, 1, 32], &device), Output::Single);
    let grads = GradientsParams::from_grads(masks.powi_scalar(2).mean().backward(), &model);
    let unused = |name: &str| {
        !name.starts_with("mask_decoder.")
            || name.contains("iou_prediction_head.")
            || ["1", "2", "3"].iter().any(|k| name.contains(&format!("mlps.{k}.")))
    };
    let own = trained(&model, &efficient_sam_names());
    assert_eq!(grads.len(), own.iter().filter(|p| !unused(&p.name)).count());
}

fn same(a: &StateDict, b: &StateDict) {
    assert!(a.names().eq(b.names()));
    assert!(a.names().all(|name| a.shape(name) == b.shape(name) && a.read(name).unwrap() == b.read(name).unwrap()));
}

#[test]
fn checkpoints_come_back_and_sizes_are_read_off() {
    let device = Device::flex();
    // Heads of 64 channels, as in every published file.
    let wide = EfficientSamConfig { embed_dim: 128, heads: 2, image_size: 1024, ..config() };
    let model = load_formula(wide.init(&device).unwrap(), "wide", &efficient_sam_names()).0;
    let file = model.export();
    assert_eq!(EfficientSamConfig::detect(&file).unwrap(), wide);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("efficient.safetensors");
    file.save(&path, &[]).unwrap();
    same(&EfficientSam::from_pretrained(&path, &device).unwrap().export(), &file);
    let mut more = file.clone();
    more.insert("pixel_mean", &[3], vec![0.0; 3]);
    assert_eq!(wide.load(&more, &device).unwrap().1.unused, ["pixel_mean"]);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let device = Device::flex();
    let file = model(&device).export();
    let without = |name: &str| file.clone().rename(|n| (n != name).then(|| n.to_owned())).unwrap();
    let message = |file: &StateDict| config().load(file, &device).unwrap_err().to_string();
    let key = "mask_decoder.final_output_upscaling_layers.0.1.weight";
    assert!(message(&without(key)).contains(&format!("missing in the file: `{key}`")));
    let mut more = file.clone();
    more.insert("prompt_encoder.no_mask_embed.weight", &[1, 32], vec![0.0; 32]);
    assert!(message(&more).contains("in the file but not in the model: `prompt_encoder.no_mask_embed.weight`"));
    let detect = |file: &StateDict| EfficientSamConfig::detect(file).unwrap_err().to_string();
    let key = "image_encoder.patch_embed.proj.weight";
    assert!(detect(&without(key)).contains(&format!("not an EfficientSAM checkpoint: `{key}` is missing")));
    let mut table = file.clone();
    table.insert("image_encoder.pos_embed", &[1, 12, 32], vec![0.0; 12 * 32]);
    assert!(detect(&table).contains("12 rows: must be a square and 1"));
    assert!(detect(&file).contains("tokens of 32 channels: must be whole heads of 64"));
}
