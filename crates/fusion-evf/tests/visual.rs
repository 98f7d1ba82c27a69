//! EVF-SAM on EfficientSAM and SAM-2: names, what trains, which mask answers, sizes of logits, published layouts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use common::{Letters, difference, efficient, images, model, on_sam2, tensor, values};
use efficient_sam::EfficientSamConfig;
use fusion_evf::{Answer, EvfConfig, EvfPredictor, Generation, Input, VisualKind, loss};
use nn_ops::resize::Resize;
use nn_ops::weights::{StateDict, export, load_formula, parameters, trained};
use pil_ops::Image;
use sam_vit::Prediction;
use sam2::{Naming, Sam2Config};
use serde_json::json;
use text_encoders::TextTokenizer;
use text_encoders::beit3::Beit3Config;
use text_encoders::tokenizer::WordPiece;

fn toys() -> [EvfConfig; 3] {
    [efficient(), on_sam2(Generation::First), on_sam2(Generation::Second)]
}

fn photo() -> Image {
    Image::new(70, 50, 3, (0..50 * 70 * 3).map(|i| (i * 31 % 251) as u8).collect()).unwrap()
}

#[test]
fn parameter_totals_are_the_published_ones() {
    let count = |config: EvfConfig| -> usize {
        let all = parameters(&config.init(&Device::flex()).unwrap(), &config.names());
        let counted = all.iter().filter(|p| !p.name.ends_with("positional_encoding_gaussian_matrix"));
        counted.map(|p| p.shape.iter().product::<usize>()).sum()
    };
    assert_eq!(count(EvfConfig::sam2_large()), 898_444_594);
    assert_eq!(count(EvfConfig::efficient_sam_small()), 700_427_492);
    let (beit3, efficient_sam) = (Beit3Config::base(), EfficientSamConfig::tiny());
    assert_eq!(count(EvfConfig { beit3, efficient_sam, ..EvfConfig::efficient_sam_small() }), 231_998_052);
}

#[test]
fn names_are_those_of_the_released_checkpoints() {
    for (config, some) in [
        (
            EvfConfig::sam2_large(),
            [
                "visual_model.image_encoder.trunk.blocks.44.proj.weight",
                "visual_model.memory_encoder.fuser.layers.1.weight",
                "visual_model.sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
                "visual_model.no_mem_embed",
            ],
        ),
        (
            EvfConfig::efficient_sam_small(),
            [
                "visual_model.image_encoder.neck.3.weight",
                "visual_model.prompt_encoder.invalid_points.weight",
                "visual_model.mask_decoder.final_output_upscaling_layers.0.1.bias",
                "visual_model.mask_decoder.transformer.layers.0.mlp.fc.weight",
            ],
        ),
    ] {
        let all: Vec<String> =
            parameters(&config.init(&Device::flex()).unwrap(), &config.names()).into_iter().map(|p| p.name).collect();
        for name in some.into_iter().chain(["mm_extractor.beit3.encoder.layer_norm.B.weight", "text_hidden_fcs.0.2.bias"]) {
            assert!(all.iter().any(|n| n == name), "{name}");
        }
        let known = ["visual_model.", "mm_extractor.beit3.", "text_hidden_fcs.0."];
        assert!(all.iter().all(|n| known.iter().any(|prefix| n.starts_with(prefix))));
    }
}

#[test]
fn sentences_do_not_see_each_other_and_share_their_image() {
    let device = Device::flex();
    for config in toys() {
        let what = format!("{:?} {:?}", config.visual, config.generation);
        let model = model(&config, &device);
        let run = |names: &[&str], sentences: &[&str], image_of: &[usize]| {
            let tokens = model.tokens(&Letters, sentences).unwrap();
            let out = model.forward(images(names, &device), &tokens, image_of).unwrap();
            assert_eq!((out.low_res.dims(), out.logits.dims()), ([sentences.len(), 1, 16, 16], [sentences.len(), 1, 16, 16]));
            assert_eq!(out.iou.dims(), [sentences.len(), 1]);
            out.low_res
        };
        let alone = run(&["a"], &["abc"], &[0]);
        let many = run(&["b", "a"], &["defgh", "abc", "ab"], &[0, 1, 0]);
        assert!(difference(many.narrow(0, 1, 1), alone.clone()) < 2e-5, "{what}");
        let shared = run(&["a"], &["defgh", "abc"], &[0, 0]);
        assert!(difference(shared.clone().narrow(0, 1, 1), alone.clone()) < 2e-5, "{what}");
        assert!(difference(shared.narrow(0, 0, 1), alone) > 1e-4, "{what}: the sentence makes no difference");
    }
}

#[test]
fn features_can_be_kept_and_wrong_ones_are_refused() {
    let device = Device::flex();
    for (config, maps) in toys().into_iter().zip([1, 3, 3]) {
        let model = model(&config, &device);
        let features = model.net.encode(images(&["a", "b"], &device).sam);
        assert_eq!((features.len(), features[0].dims()), (maps, [2, 32, 4, 4]));
        let vector = tensor("feature", [1, config.feature_width()], &device);
        let mut more = features.clone();
        more.push(features[0].clone());
        assert!(model.net.forward(more, vector.clone(), &[0]).is_err());
        assert!(model.net.forward(features.clone(), vector.clone(), &[2]).is_err());
        assert!(model.net.forward(features, vector, &[1]).is_ok());
    }
}

#[test]
fn the_generation_says_which_mask_answers() {
    let device = Device::flex();
    for (generation, judged) in [(Generation::First, Answer::StableElseBest), (Generation::Second, Answer::BestOfThree)] {
        let model = model(&on_sam2(generation), &device);
        let vector = tensor("feature", [2, model.config().feature_width()], &device);
        let features = model.net.encode(images(&["a"], &device).sam);
        let of = |answer| model.net.forward_answer(features.clone(), vector.clone(), &[0, 0], answer).unwrap().low_res;
        let found = model.net.forward(features.clone(), vector.clone(), &[0, 0]).unwrap().low_res;
        assert_eq!(difference(found, of(judged)), 0.0);
        assert!(difference(of(Answer::First), of(Answer::BestOfThree)) > 1e-4);
    }
}

/// The answer of the predictor is one bilinear step from a quarter of the input, and preprocessing that of the generation.
#[test]
fn stretched_images_are_answered_in_one_step() {
    let device = Device::flex();
    for config in toys() {
        let model = model(&config, &device);
        let evf = EvfPredictor::new(&model, Arc::new(Letters)).unwrap();
        let (inputs, letterbox) = config.preprocess(&photo(), &device).unwrap();
        assert_eq!((letterbox.height, letterbox.width), (64, 64));
        let other = Some(if config.input() == Input::Stretched { Input::LongSideThenStretched } else { Input::Stretched });
        let (others, _) = EvfConfig { input: other, ..config.clone() }.preprocess(&photo(), &device).unwrap();
        assert!(difference(inputs.sam.clone(), others.sam) > 1e-3, "{:?}", config.input());
        let low_res = model.forward(inputs, &model.tokens(&Letters, &["ab"]).unwrap(), &[0]).unwrap().low_res;
        let want = values(Resize::BILINEAR.forward(low_res, [50, 70]));
        let want = Prediction::from_map(&want, 50, 70, 0.0).unwrap();
        let found = evf.predict(&photo(), &["ab"]).unwrap().remove(0);
        let unlike = found.mask.to_row_major().iter().zip(want.mask.to_row_major()).filter(|(a, b)| **a != *b).count();
        assert!(unlike <= 2 && (found.score - want.score).abs() < 1e-4, "{unlike} pixels, {:?}", config.visual);
    }
}

fn reached<M: Module>(module: &M, grads: &GradientsParams) -> Vec<ParamId> {
    struct Reached<'a>(&'a GradientsParams, Vec<ParamId>);
    impl ModuleVisitor for Reached<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.get::<D>(param.id).is_some() {
                self.1.push(param.id);
            }
        }
    }
    let mut reached = Reached(grads, Vec::new());
    module.visit(&mut reached);
    reached.1
}

/// What a configuration calls trained gets a gradient, but for what no prompt of one token reaches.
#[test]
fn gradients_reach_what_is_trained_and_nothing_else() {
    let device = Device::flex().autodiff();
    let whole = EvfConfig {
        train_image_encoder: true,
        train_mask_decoder: true,
        train_prompt_encoder: true,
        ..on_sam2(Generation::Second)
    };
    let decoder = EvfConfig { train_mask_decoder: true, ..on_sam2(Generation::Second) };
    let [efficient, first, second] = toys();
    for (config, [image, decodes, prompt]) in [
        (efficient, [false, true, false]),
        (first, [false, false, false]),
        (second, [false, false, false]),
        (decoder, [false, true, false]),
        (whole, [true, true, true]),
    ] {
        let what = format!("{:?} {:?} {decodes}", config.visual, config.generation);
        let names = config.names();
        let model = model(&config, &device).freeze();
        let tokens = model.tokens(&Letters, &["abc", "de", "fgh"]).unwrap();
        let out = model.forward(images(&["a", "b"], &device), &tokens, &[0, 0, 1]).unwrap();
        let targets = tensor("mask", [3, 16, 16], &device).greater_elem(0.0).float();
        let grads = loss(&config, vec![(out.logits.squeeze_dim::<3>(1), targets)]).unwrap().total.backward();
        let reached = reached(&model, &GradientsParams::from_grads(grads, &model));
        let all = trained(&model, &names);
        assert!(all.iter().all(|p| config.trains(&p.name)), "{what}");
        let with = |part: &str| all.iter().filter(|p| p.name.contains(part) && reached.contains(&p.id)).count();
        assert_eq!(with("text_hidden_fcs."), 4, "{what}");
        assert!(with("mm_extractor.") > 20, "{what}");
        assert_eq!(with("visual_model.image_encoder.") > 10, image, "{what}");
        assert_eq!(with("mask_decoder.") > 40, decodes, "{what}");
        assert_eq!(with("prompt_encoder.no_mask_embed"), usize::from(prompt), "{what}");
        assert_eq!(with("no_mem_embed"), usize::from(image), "{what}");
        assert_eq!(with("memory_attention") + with("memory_encoder") + with("obj_ptr"), 0, "{what}");
    }
}

#[test]
fn starts_from_published_files() {
    let device = Device::flex();
    let config = efficient();
    let sam = load_formula(config.efficient_sam.init(&device).unwrap(), "sam", &efficient_sam::efficient_sam_names()).0;
    let (model, report) = config.init(&device).unwrap().load_sam(&sam.export()).unwrap();
    let file = export(&model, &config.names(), "toy");
    let name = "mask_decoder.iou_token.weight";
    assert_eq!(file.read(&format!("visual_model.{name}")).unwrap(), sam.export().read(name).unwrap());
    assert_eq!(report.matched.len(), sam.export().len());

    let config = on_sam2(Generation::Second);
    let sam2 = load_formula(config.sam2.init(&device), "sam2", &Naming::Meta.names()).0;
    for naming in [Naming::Meta, Naming::RenamedScale, Naming::HuggingFace] {
        let (model, _) = config.init(&device).unwrap().load_sam(&sam2.export(naming).unwrap()).unwrap();
        let file = export(&model, &config.names(), "toy");
        let scale = file.read("visual_model.memory_encoder.fuser.layers.0.weight").unwrap();
        assert_eq!(scale, sam2.export(Naming::Meta).unwrap().read("memory_encoder.fuser.layers.0.gamma").unwrap());
    }
    assert!(config.init(&device).unwrap().load_sam(&sam.export()).is_err());
}

#[test]
fn published_keys_give_the_published_models() {
    let read = |architecture: &str, sam: &str, encoder: &str| {
        EvfConfig::from_json(&json!({ "architectures": [architecture], "sam_scale": sam, "mm_extractor_scale": encoder }))
            .unwrap()
    };
    assert_eq!(read("EvfSam2Model", "large", "large"), EvfConfig::sam2_large());
    let (beit3, sam2) = (Beit3Config::base(), Sam2Config::hiera_tiny());
    assert_eq!(read("EvfSam2Model", "tiny", "base"), EvfConfig { beit3, sam2, ..EvfConfig::sam2_large() });
    assert_eq!(read("EvfEffiSamModel", "small", "large"), EvfConfig::efficient_sam_small());
    let tiny = EvfConfig { efficient_sam: EfficientSamConfig::tiny(), ..EvfConfig::efficient_sam_small() };
    assert_eq!(read("EvfEffiSamModel", "tiny", "large"), tiny);
    for config in [EvfConfig::sam2_large(), tiny, EvfConfig::large()] {
        let mut json = config.to_json();
        assert_eq!(EvfConfig::from_json(&json).unwrap(), config);
        // The published keys alone say the same.
        json.as_object_mut().unwrap().remove("saymask");
        assert_eq!(EvfConfig::from_json(&json).unwrap(), config);
    }
}

/// A safetensors file of two precisions: what `half` says as f16, the rest as f32.
fn mixed(path: &Path, weights: &StateDict, half: impl Fn(&str) -> bool) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for name in weights.names() {
        let begin = data.len();
        let halved = half(name);
        for v in weights.read(name).unwrap() {
            if halved { data.extend(half::f16::from_f32(v).to_le_bytes()) } else { data.extend(v.to_le_bytes()) }
        }
        let kind = if halved { "F16" } else { "F32" };
        let entry = json!({ "dtype": kind, "shape": weights.shape(name).unwrap(), "data_offsets": [begin, data.len()] });
        header.insert(name.to_owned(), entry);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

/// The four published folders in their layouts, at toy size: `evf-sam2` holds BEiT-3 and projector in f32 and SAM-2 in f16;
/// the multitask ones have one more token.
#[test]
fn published_folders_are_read() {
    let device = Device::flex();
    let words = WordPiece::train(["the zebra on the left", "the last zebra"], 60).unwrap();
    let vocabulary = words.vocabulary();
    for (config, added, halved) in [
        (common::toy(), false, "all"),
        (common::toy(), true, "all"),
        (on_sam2(Generation::First), false, "visual_model."),
        (on_sam2(Generation::Second), true, "all"),
        (efficient(), false, "all"),
    ] {
        let config = EvfConfig { beit3: Beit3Config::tiny(words.vocab_size()), ..config };
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("vocab.txt"), &vocabulary).unwrap();
        std::fs::write(path("config.json"), config.to_json().to_string()).unwrap();
        if added {
            std::fs::write(path("added_tokens.json"), "{}").unwrap();
        }
        let saved = load_formula(config.init(&device).unwrap(), "published", &config.names()).0;
        let weights = export(&saved, &config.names(), "published");
        mixed(&path("model.safetensors"), &weights, |name| halved == "all" || name.starts_with(halved));
        let read = EvfPredictor::from_pretrained(folder.path(), &device).unwrap();
        assert_eq!(read.model().config(), &config);
        let again = export(read.model(), &config.names(), "read");
        for name in weights.names() {
            let rounded =
                |v: &f32| if halved == "all" || name.starts_with(halved) { half::f16::from_f32(*v).to_f32() } else { *v };
            let want: Vec<f32> = weights.read(name).unwrap().iter().map(rounded).collect();
            assert_eq!(again.read(name).unwrap(), want, "{name}");
        }
        assert_eq!(read.predict(&photo(), &["the zebra"]).unwrap().len(), 1);
    }
}

/// `config.json` of a published model on SAM-2 says nothing of its generation; the folder does.
#[test]
fn the_folder_says_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let of = || EvfConfig::from_pretrained(folder.path()).unwrap();
    let write = |json: serde_json::Value| std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    write(json!({ "architectures": ["EvfSam2Model"], "sam_scale": "large", "mm_extractor_scale": "large" }));
    assert_eq!((of().generation, of().visual), (Generation::First, VisualKind::Sam2));
    std::fs::write(folder.path().join("added_tokens.json"), "{\"[semantic]\": 64002}").unwrap();
    assert_eq!(of(), EvfConfig::sam2_large());
    // A folder of ours says it itself.
    std::fs::remove_file(folder.path().join("added_tokens.json")).unwrap();
    write(EvfConfig::sam2_large().to_json());
    assert_eq!(of().generation, Generation::Second);
}
