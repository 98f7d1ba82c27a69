//! Behaviour of the whole model, with every encoder.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use common::{ALL, Letters, difference, efficient, forms, images, model, on_sam2, tensor, toy, values};
use fusion_evf::{
    Encoder, EvfConfig, EvfError, EvfImages, EvfModel, EvfOutput, Generation, MultimodalEncoder, PromptFeature, Visual, loss,
};
use nn_ops::weights::{KeyMap, NamedVisitor, StateDict, export, load_formula, parameters, trained, visit_named};
use sam_vit::{Naming, Weights};
use text_encoders::beit3::Beit3;

fn forward(model: &EvfModel, images: EvfImages, sentences: &[&str], image_of: &[usize]) -> Result<EvfOutput, EvfError> {
    model.forward(images, &model.tokens(&Letters, sentences)?, image_of)
}

fn beit3(model: &EvfModel) -> &Beit3 {
    match &model.mm_extractor {
        MultimodalEncoder::Beit3Early(joint) => &joint.beit3,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sentences_do_not_see_padding_or_each_other_and_share_their_image() {
    let device = Device::flex();
    for config in forms() {
        let what = format!("{:?} {:?} {:?}", config.encoder, config.feature, config.beit3.fused_layers);
        let model = model(&config, &device);
        let run = |names: &[&str], sentences: &[&str], image_of: &[usize]| {
            let out = forward(&model, images(names, &device), sentences, image_of).unwrap();
            assert_eq!(out.low_res.dims(), [sentences.len(), 1, 16, 16], "{what}");
            assert_eq!((out.logits.dims(), out.iou.dims()), ([sentences.len(), 1, 64, 64], [sentences.len(), 1]));
            out.low_res
        };
        let alone = run(&["a"], &["abc"], &[0]);
        assert!(values(alone.clone()).iter().all(|v| v.is_finite()), "{what}");
        // Padded by a longer sentence, among other images, in another order.
        let many = run(&["b", "a"], &["defgh", "abc", "ab", "cd"], &[0, 1, 0, 0]);
        assert!(difference(many.clone().narrow(0, 1, 1), alone.clone()) < 2e-5, "{what}");
        let shared = run(&["a"], &["defgh", "abc"], &[0, 0]);
        assert!(difference(shared.clone().narrow(0, 1, 1), alone.clone()) < 2e-5, "{what}");
        assert!(difference(shared.narrow(0, 0, 1), alone) > 1e-3, "{what}: the sentence makes no difference");
    }
}

#[test]
fn encoders_that_see_the_image_answer_to_it() {
    let device = Device::flex();
    for config in forms() {
        let model = model(&config, &device);
        let batch = model.tokens(&Letters, &["abc"]).unwrap();
        let feature = |name: &str| model.extract(images(&[name], &device).multimodal, &batch, &[0]).unwrap();
        let change = difference(feature("a"), feature("b"));
        assert_eq!(change > 1e-4, config.encoder.sees(), "{:?} {:?}: {change}", config.encoder, config.feature);
        assert_eq!(feature("a").dims(), [1, config.feature_width()]);
    }
}

#[test]
fn features_are_those_of_the_joint_pass() {
    let device = Device::flex();
    let config = toy();
    let base = model(&config, &device);
    let batch = base.tokens(&Letters, &["abc", "defg"]).unwrap();
    let image = images(&["a", "b"], &device).multimodal;
    let joint = beit3(&base).joint(image.clone(), &batch, &[0, 1]).unwrap().sequence().unwrap();
    let get = |feature| {
        let model = model(&EvfConfig { feature, ..toy() }, &device);
        model.mm_extractor.forward(image.clone(), &batch, &[0, 1]).unwrap()
    };
    // Four patches behind the image's class token, then the text.
    let at = |place: usize| joint.clone().narrow(1, place, 1).squeeze_dim::<2>(1);
    assert_eq!(difference(get(PromptFeature::ImageCls), at(0)), 0.0);
    assert_eq!(difference(get(PromptFeature::TextCls), at(5)), 0.0);
    assert_eq!(difference(get(PromptFeature::Concat), Tensor::cat(vec![at(0), at(5)], 1)), 0.0);
    assert!(difference(get(PromptFeature::AvgPool), (at(1) + at(2) + at(3) + at(4)) / 4.0) < 1e-6);
}

#[test]
fn parameter_totals_are_the_published_ones() {
    let device = Device::flex();
    let count = |config: EvfConfig| -> usize {
        let all = parameters(&config.init(&device).unwrap(), &config.names());
        // The fixed position frequencies are a buffer in the reference, which the published totals leave out.
        let counted = all.iter().filter(|p| !p.name.ends_with("positional_encoding_gaussian_matrix"));
        counted.map(|p| p.shape.iter().product::<usize>()).sum()
    };
    assert_eq!(count(EvfConfig::large()), 1_315_105_072);
    assert_eq!(count(EvfConfig::base()), 862_865_456);
    assert_eq!(count(EvfConfig::early_half()), 1_315_105_072);
}

#[test]
fn names_are_those_of_the_released_checkpoints() {
    let names: Vec<String> = parameters(&EvfConfig::large().init(&Device::flex()).unwrap(), &EvfConfig::large().names())
        .into_iter()
        .map(|p| p.name)
        .collect();
    for name in [
        "visual_model.image_encoder.neck.0.weight",
        "visual_model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "visual_model.mask_decoder.output_upscaling.3.bias",
        "mm_extractor.beit3.text_embed.weight",
        "mm_extractor.beit3.vision_embed.mask_token",
        "mm_extractor.beit3.encoder.embed_positions.A.weight",
        "mm_extractor.beit3.encoder.layers.23.self_attn.inner_attn_ln.B.bias",
        "mm_extractor.beit3.encoder.layers.0.ffn.A.ffn_layernorm.weight",
        "mm_extractor.beit3.encoder.layer_norm.B.weight",
        "text_hidden_fcs.0.0.weight",
        "text_hidden_fcs.0.2.bias",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    assert!(
        names.iter().all(|n| n.starts_with("visual_model.")
            || n.starts_with("mm_extractor.beit3.")
            || n.starts_with("text_hidden_fcs.0."))
    );
}

#[test]
fn checkpoints_come_back_whole_with_every_encoder() {
    let device = Device::flex();
    for config in forms() {
        let names = config.names();
        let file = export(&model(&config, &device), &names, "toy");
        let total = parameters(&config.init(&device).unwrap(), &names).len();
        assert_eq!(file.len(), total, "{:?}: two parameters have one name", config.encoder);
        let (back, report) = config.init(&device).unwrap().load(&file).unwrap();
        assert_eq!(report.matched.len(), total);
        let again = export(&back, &names, "toy");
        assert!(file.names().all(|n| again.read(n).unwrap() == file.read(n).unwrap()));
        let short = file.rename(|n| (n != "text_hidden_fcs.0.2.bias").then(|| n.to_owned())).unwrap();
        assert!(config.init(&device).unwrap().load(&short).is_err());
    }
}

#[test]
fn starts_from_sam_in_both_namings_and_from_beit3() {
    let device = Device::flex();
    let config = toy();
    let sam = load_formula(config.sam.init(&device), "sam", &sam_vit::facebook_names()).0;
    for naming in [Naming::Facebook, Naming::HuggingFace] {
        let (model, _) = config.init(&device).unwrap().load_sam(&sam.export(naming).unwrap()).unwrap();
        let Visual::Sam(loaded) = &model.net.visual_model else { panic!("another image model") };
        assert_eq!(difference(loaded.image_encoder.pos_embed.val(), sam.image_encoder.pos_embed.val()), 0.0);
    }
    let names = text_encoders::beit3::Beit3::names().with_prefix("beit3.");
    let pretrained = load_formula(config.beit3.init(&device), "beit3", &names).0;
    let (model, report) = config.init(&device).unwrap().load_encoder(&export(&pretrained, &names, "beit3")).unwrap();
    assert!(report.missing.is_empty() && report.unused.is_empty());
    let again = export(beit3(&model), &names, "beit3");
    let name = "beit3.encoder.layer_norm.A.weight";
    assert_eq!(again.read(name).unwrap(), export(&pretrained, &names, "beit3").read(name).unwrap());
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

#[test]
fn gradients_reach_what_is_trained_and_nothing_else() {
    let device = Device::flex().autodiff();
    let none = EvfConfig { train_encoder: false, train_prompt_encoder: false, train_mask_decoder: false, ..toy() };
    for config in
        [toy(), none, EvfConfig { encoder: Encoder::ViltEarly, ..toy() }, EvfConfig { encoder: Encoder::ClipLate, ..toy() }]
    {
        let names = config.names();
        let model = model(&config, &device).freeze();
        let out = forward(&model, images(&["a", "b"], &device), &["abc", "de", "fgh"], &[0, 0, 1]).unwrap();
        let targets = tensor("mask", [3, 64, 64], &device).greater_elem(0.0).float();
        let grads = loss(&config, vec![(out.logits.squeeze_dim::<3>(1), targets)]).unwrap().total.backward();
        let reached = reached(&model, &GradientsParams::from_grads(grads, &model));
        let all = trained(&model, &names);
        assert!(all.iter().all(|p| config.trains(&p.name)));
        let with = |part: &str| all.iter().filter(|p| p.name.starts_with(part) && reached.contains(&p.id)).count();
        assert_eq!(with("text_hidden_fcs."), 4);
        assert_eq!(with("visual_model.image_encoder."), 0);
        assert_eq!(with("visual_model.prompt_encoder."), usize::from(config.train_prompt_encoder));
        assert_eq!(with("visual_model.mask_decoder.") > 40, config.train_mask_decoder);
        assert_eq!(with("mm_extractor.") > 20, config.train_encoder);
    }
}

#[test]
fn encoders_that_are_not_trained_keep_no_graph() {
    let device = Device::flex().autodiff();
    let config = EvfConfig { train_encoder: false, ..toy() };
    // Not frozen: the passes themselves are without a graph.
    let model = model(&config, &device);
    let out = forward(&model, images(&["a"], &device), &["abc", "de"], &[0, 0]).unwrap();
    let reached = reached(&model, &GradientsParams::from_grads(out.logits.sum().backward(), &model));
    let all = trained(&model, &config.names());
    let with = |part: &str| all.iter().filter(|p| p.name.starts_with(part) && reached.contains(&p.id)).count();
    assert_eq!((with("mm_extractor."), with("visual_model.image_encoder."), with("text_hidden_fcs.")), (0, 0, 4));
}

#[test]
fn wrong_numbers_are_errors() {
    let device = Device::flex();
    let model = model(&toy(), &device);
    let run = |sentences: &[&str], image_of: &[usize]| forward(&model, images(&["a", "b"], &device), sentences, image_of);
    assert!(matches!(run(&["a", "b"], &[0, 2]), Err(EvfError::Shape { .. })));
    assert!(matches!(run(&["a", "b"], &[0]), Err(EvfError::Shape { .. })));
    assert!(run(&[], &[]).is_err());
}

/// Every encoder on SAM, and every image model: the numbers of a model whose matrices were rounded to half precision beforehand.
#[test]
fn half_weights_answer_as_rounded_ones() {
    let device = Device::flex();
    let configs = ALL.into_iter().map(|encoder| EvfConfig { encoder, ..toy() });
    for config in configs.chain([efficient(), on_sam2(Generation::Second)]) {
        let single = model(&config, &device);
        let (half, rounded) = (single.clone().with_half_weights().unwrap(), export(&single, &config.names(), "toy"));
        let counted = Kinds::of(&half, &config.names());
        // In a toy the decoder is the larger part; of the published model nine tenths of the numbers are in the encoders' blocks.
        assert!(
            counted.half > 10_000 && counted.single > 10_000,
            "{} of {} numbers",
            counted.half,
            counted.half + counted.single
        );
        let mut file = StateDict::empty("rounded");
        for name in rounded.names() {
            let values = rounded.read(name).unwrap();
            let round = |v: f32| if counted.names.iter().any(|half| half == name) { half::f16::from_f32(v).to_f32() } else { v };
            file.insert(name, rounded.shape(name).unwrap(), values.into_iter().map(round).collect());
        }
        let (loaded, _) = config.init(&device).unwrap().load_as(&rounded, Weights::Half).unwrap();
        let (want, _) = single.load(&file).unwrap();
        let ask = |model: &EvfModel| forward(model, images(&["a"], &device), &["the red one"], &[0]).unwrap().logits;
        for got in [ask(&half), ask(&loaded)] {
            let off = difference(got, ask(&want));
            assert!(off < 1e-4, "{:?} on {:?}: {off}", config.encoder, config.visual);
        }
    }
}

/// Numbers of a model in each precision, and the names of the parameters in half.
#[derive(Default)]
struct Kinds {
    half: usize,
    single: usize,
    names: Vec<String>,
}

impl Kinds {
    fn of(model: &EvfModel, names: &KeyMap) -> Self {
        let mut kinds = Self::default();
        visit_named(model, names, &mut kinds);
        kinds
    }
}

impl NamedVisitor for Kinds {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let value = param.val();
        let count = value.dims().iter().product::<usize>();
        if value.dtype() == DType::F16 {
            self.half += count;
            self.names.push(name.to_owned());
        } else {
            self.single += count;
        }
    }
}
