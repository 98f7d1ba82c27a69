//! Gradients through the decoder, and weights in bf16.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use nn_ops::weights::load_formula;
use sam2::{Answer, Features, Naming, Sam2Video, VideoPrompt};

use crate::toy::{config, formula, sam2, test_image, values};

/// A text's tokens get gradients from whichever mask answers, and their step changes that mask as they say.
#[test]
fn gradients_reach_the_tokens() {
    let device = Device::flex().autodiff();
    let sam2 = load_formula(config().init(&device), "toy", &Naming::Meta.names()).0.no_grad();
    let lift = |x: Tensor<4>| Tensor::<4>::from_inner(x);
    let features = Features::new(sam2.features(lift(formula("image", [1, 3, 64, 64])))).unwrap();
    let tokens = Tensor::<3>::from_inner(formula("tokens", [2, 1, 32])).require_grad();
    for answer in [Answer::First, Answer::BestOfThree, Answer::StableElseBest] {
        let mean = |tokens: Tensor<3>| sam2.decode_tokens(&features, &[], tokens, answer).unwrap().0.mean();
        let value = mean(tokens.clone());
        let grads = value.clone().backward();
        let gradient = tokens.grad(&grads).unwrap();
        let norm = gradient.clone().powi_scalar(2).sum().into_scalar::<f32>();
        assert!(norm > 0.0, "{answer:?}");
        let step = 1e-2 / norm.sqrt();
        let moved = mean(Tensor::from_inner(tokens.clone().inner() + gradient * step));
        let change = (moved.into_scalar::<f32>() - value.into_scalar::<f32>()) / (step * norm);
        assert!((change - 1.0).abs() < 0.1, "{answer:?}: {change}");
    }
}

/// All but norms and the frequencies of positions in bf16, as evaluation in that precision sees a model.
struct Lower(Vec<String>);

impl ModuleMapper for Lower {
    fn enter_module(&mut self, _: &str, container: &str) {
        self.0.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let single = ["Struct:LayerNorm", "Struct:LayerNorm2d", "Struct:PositionEmbedding"];
        if self.0.last().is_some_and(|container| single.contains(&container.as_str())) {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.cast(DType::BF16), mapper)
    }
}

/// Images and a video run in bf16, close to what they are in single precision.
#[test]
fn bf16() {
    let single = sam2(&config());
    let low = single.clone().map(&mut Lower(Vec::new()));
    let close = |got: Vec<f32>, want: Vec<f32>, what: &str| {
        let square = |v: f32| f64::from(v) * f64::from(v);
        let error: f64 = got.iter().zip(&want).map(|(g, w)| square(g - w)).sum();
        let scale: f64 = want.iter().map(|w| square(*w)).sum();
        assert!(error.sqrt() < 0.1 * scale.sqrt(), "{what}: {} of {}", error.sqrt(), scale.sqrt());
    };
    let image = || formula("image", [1, 3, 64, 64]);
    for (got, want) in low.features(image()).iter().zip(single.features(image())) {
        assert_eq!(got.dtype(), DType::BF16);
        close(values(got), values(&want), "features");
    }
    let follow = |sam2: &sam2::Sam2, tokens: Tensor<3>| {
        let mut video = Sam2Video::new();
        let frame = |index: i64| sam2.frame(index, &test_image(index as u32, 30, 40)).unwrap();
        let first = video.prompt(sam2, 1, &frame(0), &VideoPrompt::Tokens { tokens, padded: true }).unwrap();
        let second = video.track(sam2, &frame(1)).unwrap().remove(0);
        [first, second].map(|mask| (values(&mask.decoded.low_res), values(&mask.memory)))
    };
    let tokens = || formula::<3>("text", [1, 1, 32]);
    let got = follow(&low, tokens().cast(DType::BF16));
    let want = follow(&single, tokens());
    for ((masks, memory), (want_masks, want_memory)) in got.into_iter().zip(want) {
        close(masks, want_masks, "masks");
        close(memory, want_memory, "memory");
    }
}
