//! A toy that the integration tests share.
#![allow(dead_code, reason = "each test file uses its part")]

use burn::tensor::{Device, Tensor, TensorData};
use efficient_sam::EfficientSamConfig;
use fusion_evf::{Encoder, EvfConfig, EvfImages, EvfModel, Generation, PromptFeature, VisualKind};
use nn_ops::formula;
use nn_ops::weights::load_formula;
use sam_vit::{ImageEncoderConfig, SamConfig};
use sam2::Sam2Config;
use text_encoders::beit3::Beit3Config;
use text_encoders::clip::{ClipTextConfig, ClipVisionConfig};
use text_encoders::vilt::ViltConfig;
use text_encoders::{TextError, TextTokenizer};

/// BEiT-3 of two narrow layers, SAM of two, on 64 pixels.
pub(crate) fn small(vocabulary: usize) -> EvfConfig {
    let image_encoder = ImageEncoderConfig {
        image_size: 64,
        embed_dim: 16,
        depth: 2,
        heads: 2,
        out_channels: 32,
        window_size: 3,
        global_blocks: vec![1],
        ..ImageEncoderConfig::default()
    };
    EvfConfig {
        sam: SamConfig { image_encoder, decoder_mlp_dim: 32, ..SamConfig::default() },
        beit3: Beit3Config::tiny(vocabulary),
        ..EvfConfig::default()
    }
}

pub(crate) const ALL: [Encoder; 8] = [
    Encoder::ClipText,
    Encoder::ClipLate,
    Encoder::ViltText,
    Encoder::ViltLate,
    Encoder::ViltEarly,
    Encoder::Beit3Text,
    Encoder::Beit3Late,
    Encoder::Beit3Early,
];

pub(crate) fn toy() -> EvfConfig {
    EvfConfig {
        clip_text: ClipTextConfig::tiny(30),
        clip_vision: ClipVisionConfig::tiny(),
        vilt: ViltConfig {
            vocab_size: 30,
            hidden: 32,
            layers: 2,
            heads: 2,
            ffn: 64,
            max_positions: 16,
            image_size: 32,
            patch_size: 16,
            ..ViltConfig::b32()
        },
        ..small(30)
    }
}

/// On EfficientSAM.
pub(crate) fn efficient() -> EvfConfig {
    EvfConfig { visual: VisualKind::EfficientSam, efficient_sam: EfficientSamConfig::toy(), ..toy() }
}

/// On SAM-2, trained as released.
pub(crate) fn on_sam2(generation: Generation) -> EvfConfig {
    let (train_prompt_encoder, train_mask_decoder) = (false, false);
    EvfConfig { visual: VisualKind::Sam2, sam2: Sam2Config::toy(), generation, train_prompt_encoder, train_mask_decoder, ..toy() }
}

pub(crate) fn forms() -> Vec<EvfConfig> {
    let mut forms: Vec<EvfConfig> = ALL.into_iter().map(|encoder| EvfConfig { encoder, ..toy() }).collect();
    forms.extend(
        [PromptFeature::TextCls, PromptFeature::AvgPool, PromptFeature::Concat].map(|feature| EvfConfig { feature, ..toy() }),
    );
    forms.push(EvfConfig { beit3: Beit3Config { fused_layers: Some(vec![1]), ..toy().beit3 }, ..toy() });
    forms
}

pub(crate) fn model(config: &EvfConfig, device: &Device) -> EvfModel {
    load_formula(config.init(device).unwrap(), "toy", &config.names()).0
}

pub(crate) fn tensor<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(formula::tensor("toy", name, &shape, 0.0, 1.0), shape), device)
}

pub(crate) fn images(names: &[&str], device: &Device) -> EvfImages {
    let all = |what: &str, side: usize| {
        Tensor::cat(names.iter().map(|n| tensor(&format!("{n}.{what}"), [1, 3, side, side], device)).collect(), 0)
    };
    EvfImages { sam: all("sam", 64), multimodal: all("mm", 32) }
}

pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

pub(crate) fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a)
        .iter()
        .zip(values(b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0f32, |m, e| if e.is_nan() { f32::INFINITY } else { m.max(e) })
}

/// One id a letter.
pub(crate) struct Letters;

impl TextTokenizer for Letters {
    fn vocab_size(&self) -> usize {
        30
    }
    fn pad_id(&self) -> u32 {
        1
    }
    fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(text.bytes().filter(u8::is_ascii_lowercase).map(|b| u32::from(b - b'a') + 3).collect())
    }
    fn wrap(&self, pieces: &[u32]) -> Vec<u32> {
        // The end has the largest id, as in CLIP.
        [&[0], pieces, &[29]].concat()
    }
}
