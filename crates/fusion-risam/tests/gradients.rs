//! Gradients of each module against finite differences along a fixed direction through all of its parameters.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use common::{GRID, features, fusion, net, own, tensor, toy, values, words};
use fusion_risam::{
    Decoder, DecoderContext, DecoderState, Enhancement, Interaction, LanguageSoftmax, LinguisticPosition, MaskHead,
    NormPlacement, RisamConfig, RisamFeatures, loss,
};
use nn_ops::formula;

/// The n-th parameter's direction.
fn direction<const D: usize>(n: usize, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(formula::tensor("direction", &n.to_string(), &shape, 0.0, 1.0), shape), device)
}

struct Step {
    count: usize,
    size: f64,
}

impl ModuleMapper for Step {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.count += 1;
        if !param.is_require_grad() {
            return param;
        }
        let (n, size) = (self.count, self.size);
        param.map(|x| {
            let by = direction(n, x.dims(), &x.device()) * size;
            (x.detach() + by).detach().require_grad()
        })
    }
}

struct Along<'a> {
    count: usize,
    grads: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for Along<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.count += 1;
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let along = grad.clone() * direction(self.count, grad.dims(), &grad.device());
            self.sum += f64::from(along.sum().into_scalar::<f32>());
        }
    }
}

/// Half the distance between the two points of a difference. Kinks (ReLU) and jumps (the relevance mask) must not lie
/// between them; single precision must still tell them apart.
const STEP: f64 = 1e-4;
/// Largest relative difference of the two derivatives. Single precision leaves half a percent; the ReLUs of the larger maps
/// have kinks between the points in any case.
const BOUND: f64 = 0.03;

/// Compares the derivative of the sum of `f` along the direction with its central difference. `f` runs where gradients are
/// tracked, so batch norms use the batch in both.
fn check<M: Module>(what: &str, module: &M, f: impl Fn(&M) -> Tensor<1>) {
    let grads = GradientsParams::from_grads(f(module).sum().backward(), module);
    let mut along = Along { count: 0, grads: &grads, sum: 0.0 };
    module.visit(&mut along);
    let at = |size: f64| values(f(&module.clone().map(&mut Step { count: 0, size }))).into_iter().map(f64::from).sum::<f64>();
    let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    let error = (numeric - along.sum).abs() / along.sum.abs().max(0.1);
    assert!(along.sum.abs() > 1e-3, "{what}: the derivative {} is too small to tell anything", along.sum);
    assert!(error < BOUND, "{what}: {} by backward, {numeric} by differences", along.sum);
}

/// The elements of a tensor, each weighted differently.
fn number<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let weights = tensor("weights", x.dims(), &x.device());
    (x * weights).flatten::<1>(0, D - 1)
}

#[test]
fn feature_enhancement() {
    let device = Device::flex().autodiff();
    for enhancement in [Enhancement::Full, Enhancement::None, Enhancement::VitDet] {
        let config = RisamConfig { enhancement, tap_layer_norm: true, ..toy() };
        let RisamFeatures::Taps(taps) = features(&config, &["a", "b"], &device) else { panic!("taps") };
        let module = fusion(net(&config, &device)).fe;
        check(&format!("{enhancement:?}"), &module, |m| number(m.forward(&taps)));
    }
}

#[test]
fn interactions() {
    let device = Device::flex().autodiff();
    let of = |interaction| RisamConfig { interaction, ..toy() };
    for (what, config) in [
        ("mutual", of(Interaction::Mutual)),
        ("over regions", RisamConfig { language_softmax: LanguageSoftmax::Regions, ..toy() }),
        ("learned positions", RisamConfig { linguistic_position: LinguisticPosition::Learned, ..toy() }),
        ("without the mask", RisamConfig { relevance_mask: false, ..toy() }),
        ("three blocks", RisamConfig { interaction_blocks: 3, ..toy() }),
        ("sdf", of(Interaction::VisionGuided)),
        ("bcm", of(Interaction::Serial)),
        ("te", of(Interaction::Transformer)),
        ("conv", of(Interaction::Conv)),
    ] {
        let map = tensor("map", [2, config.width, GRID.0, GRID.1], &device);
        let text = words(&config, &["one", "two"], 5, &device);
        let module = fusion(net(&config, &device));
        check(what, &module, |m| {
            let pair = m.interact(map.clone(), text.clone(), &[5, 3]).pop().unwrap();
            Tensor::cat(vec![number(pair.visual), number(pair.language)], 0)
        });
    }
}

#[test]
fn decoder_block() {
    let device = Device::flex().autodiff();
    for norm in [NormPlacement::None, NormPlacement::Pre, NormPlacement::Post] {
        let config = RisamConfig { norm, ffn: 20, token_to_image: true, ..toy() };
        let module = own(net(&config, &device)).blocks.remove(0);
        let state = DecoderState {
            visual: tensor("v", [2, 16, config.width], &device),
            tokens: tensor("t", [2, 5, config.width], &device),
        };
        check(&format!("{norm:?}"), &module, |m| {
            let out = m.forward(state.clone(), &DecoderContext::default());
            Tensor::cat(vec![number(out.visual), number(out.tokens)], 0)
        });
    }
}

#[test]
fn heads() {
    let device = Device::flex().autodiff();
    let config = toy();
    let map = tensor("map", [2, config.width, GRID.0, GRID.1], &device);
    let query = tensor("query", [2, config.width], &device);
    check("head", &own(net(&config, &device)).head, |m| number(m.forward(map.clone(), query.clone())));
    let config = RisamConfig { vlt_head: true, language_in_decoder: false, ..config };
    let MaskHead::Vlt(vlt) = fusion(net(&config, &device)).decoder else { panic!("VLT's head") };
    check("vlt head", &vlt, |m| number(m.forward(map.clone())));
}

#[test]
fn the_whole_network_under_its_loss() {
    let device = Device::flex().autodiff();
    let wide = |config| RisamConfig { focal_alpha: Some(0.25), ..config };
    for (what, config) in [
        ("own", toy()),
        ("sam", wide(RisamConfig { decoder: Decoder::Sam, ..toy() })),
        ("baseline", RisamConfig { baseline: true, ..toy() }),
    ] {
        let image = features(&config, &["a", "b"], &device);
        let text = words(&config, &["one", "two"], 5, &device);
        let targets = tensor("mask", [2, 1, 64, 64], &device);
        check(what, &net(&config, &device), |m| {
            let logits = m.forward(&image, &[0, 1], text.clone(), &[5, 3]).unwrap().logits;
            // Losses are small numbers; the bound is relative to at least a tenth.
            loss(&config, logits, targets.clone(), None).total * 100.0
        });
    }
}
