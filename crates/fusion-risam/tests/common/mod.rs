//! A toy RISAM and its inputs, all from formula tensors.
#![allow(dead_code, reason = "each test file uses its part")]

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use fusion_risam::{
    Backbone, Decoder, Enhancement, Fusion, Interaction, LanguageSoftmax, LinguisticPosition, MaskHead, NormPlacement,
    OwnDecoder, RisamConfig, RisamFeatures, RisamForm, RisamModel, RisamNet, Upsampling, VisualPosition,
};
use nn_ops::formula;
use nn_ops::weights::load_formula;
use sam_vit::{ImageEncoderConfig, SamConfig};
use swin::SwinConfig;
use text_encoders::clip::{ClipTextConfig, ClipVisionConfig};
use text_encoders::{TextError, TextTokenizer};

/// Grid of the toy.
pub(crate) const GRID: (usize, usize) = (4, 4);

pub(crate) fn toy() -> RisamConfig {
    let image_encoder = ImageEncoderConfig {
        image_size: 64,
        embed_dim: 24,
        depth: 3,
        heads: 2,
        out_channels: 16,
        window_size: 3,
        global_blocks: vec![0, 1, 2],
        ..ImageEncoderConfig::default()
    };
    RisamConfig {
        sam: SamConfig { image_encoder, decoder_heads: 2, decoder_mlp_dim: 32, ..SamConfig::default() },
        clip: ClipTextConfig { width: 12, heads: 2, ffn: 24, ..ClipTextConfig::tiny(30) },
        input_size: 64,
        taps: [0, 1, 2],
        words: 6,
        width: 16,
        heads: 4,
        up_channels: [8, 4],
        ..RisamConfig::default()
    }
}

/// The toy on CLIP's image tower, on the same grid.
pub(crate) fn on_clip() -> RisamConfig {
    let clip_vision =
        ClipVisionConfig { image_size: 48, patch_size: 16, layers: 3, width: 24, heads: 2, ..ClipVisionConfig::tiny() };
    RisamConfig { backbone: Backbone::Clip, clip_vision, ..toy() }
}

/// The toy on a Swin Transformer, whose middle tap has the same grid.
pub(crate) fn on_swin() -> RisamConfig {
    let swin = SwinConfig {
        embed_dim: 8,
        depths: vec![1, 2, 2, 1],
        heads: vec![1, 1, 2, 2],
        window: 3,
        mlp_ratio: 2.0,
        ..SwinConfig::default()
    };
    RisamConfig { backbone: Backbone::Swin, swin, taps: [1, 2, 3], ..toy() }
}

/// Every ablation of the paper's tables, and every choice it leaves open.
pub(crate) fn forms() -> Vec<(&'static str, RisamConfig)> {
    vec![
        ("paper", toy()),
        ("fe none", RisamConfig { enhancement: Enhancement::None, ..toy() }),
        ("fe vit_det", RisamConfig { enhancement: Enhancement::VitDet, tap_layer_norm: true, ..toy() }),
        ("single linear, tap norm", RisamConfig { single_linear: true, tap_layer_norm: true, ..toy() }),
        ("ma conv", RisamConfig { interaction: Interaction::Conv, ..toy() }),
        ("ma te", RisamConfig { interaction: Interaction::Transformer, ..toy() }),
        ("ma sdf", RisamConfig { interaction: Interaction::VisionGuided, ..toy() }),
        ("ma bcm", RisamConfig { interaction: Interaction::Serial, ..toy() }),
        ("no mask", RisamConfig { relevance_mask: false, ..toy() }),
        ("three blocks", RisamConfig { interaction_blocks: 3, decoder_blocks: 3, ..toy() }),
        ("one block", RisamConfig { interaction_blocks: 1, decoder_blocks: 1, ..toy() }),
        ("regions", RisamConfig { language_softmax: LanguageSoftmax::Regions, ..toy() }),
        ("no position", RisamConfig { linguistic_position: LinguisticPosition::None, ..toy() }),
        ("learned position", RisamConfig { linguistic_position: LinguisticPosition::Learned, ..toy() }),
        ("decoder position", RisamConfig { linguistic_position: LinguisticPosition::Decoder, ..toy() }),
        ("visual position", RisamConfig { visual_position: VisualPosition::SamDense, ..toy() }),
        ("toi", RisamConfig { token_to_image: true, norm: NormPlacement::Pre, ..toy() }),
        ("norms", RisamConfig { token_to_image: true, norm: NormPlacement::Post, ffn: 20, ..toy() }),
        ("no elg", RisamConfig { language_in_decoder: false, ..toy() }),
        ("vlt head", RisamConfig { language_in_decoder: false, vlt_head: true, ..toy() }),
        ("decoder sam", RisamConfig { decoder: Decoder::Sam, ..toy() }),
        ("gelu", RisamConfig { upsampling: Upsampling::Both, ..toy() }),
        ("baseline", RisamConfig { baseline: true, ..toy() }),
        ("clip", on_clip()),
        ("swin, tap norm", RisamConfig { tap_layer_norm: true, ..on_swin() }),
        ("swin, vit_det", RisamConfig { enhancement: Enhancement::VitDet, ..on_swin() }),
        ("swin, decoder sam", RisamConfig { decoder: Decoder::Sam, ..on_swin() }),
    ]
}

pub(crate) fn model(config: &RisamConfig, device: &Device) -> RisamModel {
    load_formula(config.init(device).unwrap(), "toy", &config.names()).0
}

/// The network's method.
pub(crate) fn fusion(net: RisamNet) -> Fusion {
    match net.form {
        RisamForm::Fusion(fusion) => fusion,
        RisamForm::Baseline(_) => panic!("the baseline"),
    }
}

/// The network's own decoder.
pub(crate) fn own(net: RisamNet) -> OwnDecoder {
    match fusion(net).decoder {
        MaskHead::Own(own) => own,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn tensor<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(formula::tensor("toy", name, &shape, 0.0, 1.5), shape), device)
}

pub(crate) fn net(config: &RisamConfig, device: &Device) -> RisamNet {
    config.validate().unwrap();
    load_formula(config.init_net(device), "toy", &RisamNet::names()).0
}

/// Features of the images with these names.
pub(crate) fn features(config: &RisamConfig, images: &[&str], device: &Device) -> RisamFeatures {
    let map = |what: &str, channels: usize, last: bool| {
        let one = |name: &&str| {
            let shape = if last { [1, GRID.0, GRID.1, channels] } else { [1, channels, GRID.0, GRID.1] };
            tensor(&format!("{name}.{what}"), shape, device)
        };
        Tensor::cat(images.iter().map(one).collect(), 0)
    };
    if config.baseline {
        return RisamFeatures::Embedding(map("embedding", config.sam.prompt_dim(), false));
    }
    let [one, two, three] = config.tap_widths();
    RisamFeatures::Taps([map("tap1", one, true), map("tap2", two, true), map("tap3", three, true)])
}

/// Word features of the sentences with these names; row `i` is the same whatever the others are.
pub(crate) fn words(config: &RisamConfig, sentences: &[&str], length: usize, device: &Device) -> Tensor<3> {
    let word = |sentence: &&str| {
        let words = (0..length).map(|i| tensor(&format!("{sentence}.{i}"), [1, 1, config.text_width()], device));
        Tensor::cat(words.collect(), 1)
    };
    Tensor::cat(sentences.iter().map(word).collect(), 0)
}

pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

pub(crate) fn assert_near<const D: usize>(got: Tensor<D>, want: Tensor<D>, bound: f32, what: &str) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (values(got), values(want));
    let worst =
        got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0f32, |m, e| if e.is_nan() { f32::INFINITY } else { m.max(e) });
    assert!(worst <= bound, "{what}: largest difference {worst}");
}

/// Parameters that have a gradient.
pub(crate) fn reached<M: Module>(module: &M, grads: &GradientsParams) -> Vec<ParamId> {
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

/// Whether every gradient is made of numbers.
pub(crate) fn finite<M: Module>(module: &M, grads: &GradientsParams) -> bool {
    struct Finite<'a>(&'a GradientsParams, bool);
    impl ModuleVisitor for Finite<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = self.0.get::<D>(param.id);
            self.1 &= grad.is_none_or(|grad| values(grad).iter().all(|v| v.is_finite()));
        }
    }
    let mut finite = Finite(grads, true);
    module.visit(&mut finite);
    finite.1
}

/// One id a letter.
pub(crate) struct Letters;

impl TextTokenizer for Letters {
    fn vocab_size(&self) -> usize {
        30
    }
    fn pad_id(&self) -> u32 {
        0
    }
    fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(text.bytes().filter(u8::is_ascii_lowercase).map(|b| u32::from(b - b'a') + 1).collect())
    }
    fn wrap(&self, pieces: &[u32]) -> Vec<u32> {
        [&[28], pieces, &[29]].concat()
    }
}
