//! A toy EVF-SAM, a toy SAM, EfficientSAM and SAM-2, and servers of them that the tests share.

use std::io::Cursor;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use efficient_sam::{EfficientSam, EfficientSamConfig};
use fusion_evf::{EvfConfig, EvfPredictor};
use image::{ImageFormat, RgbImage};
use models::{AnyModel, Question};
use nn_ops::weights::load_formula;
use pil_ops::Image;
use sam_vit::{ImageEncoderConfig, Sam, SamConfig};
use sam2::{Sam2, Sam2Config};
use serve::engine::{Answer, Encoded, EngineError};
use serve::{Engine, Limits, ModelInfo, Options, SamEngine, Server, TextEngine};
use text_encoders::beit3::Beit3Config;
use text_encoders::{TextError, TextTokenizer};

pub(crate) fn sam_config() -> SamConfig {
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
    SamConfig { image_encoder, decoder_mlp_dim: 32, ..SamConfig::default() }
}

/// One id per letter.
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
        [&[0], pieces, &[29]].concat()
    }
}

/// An EVF-SAM of toy size with formula weights.
pub(crate) fn toy() -> AnyModel {
    let config = EvfConfig { sam: sam_config(), beit3: Beit3Config::tiny(30), ..EvfConfig::default() };
    let model = load_formula(config.init(&Device::flex()).unwrap(), "toy", &config.names()).0;
    AnyModel::Evf(EvfPredictor::new(&model, Arc::new(Letters)).unwrap())
}

pub(crate) fn toy_sam() -> Sam {
    load_formula(sam_config().init(&Device::flex()), "toy", &sam_vit::facebook_names()).0
}

pub(crate) fn text_engine() -> TextEngine {
    TextEngine::new(toy(), "toy", "formula weights")
}

pub(crate) fn sam_engine() -> SamEngine<Sam> {
    SamEngine::new(toy_sam(), "toy-sam", "formula weights")
}

pub(crate) fn toy_efficient_sam() -> EfficientSam {
    let model = EfficientSamConfig::toy().init(&Device::flex()).unwrap();
    load_formula(model, "toy", &efficient_sam::efficient_sam_names()).0
}

pub(crate) fn toy_sam2() -> Sam2 {
    load_formula(Sam2Config::toy().init(&Device::flex()), "toy", &sam2::Naming::Meta.names()).0
}

pub(crate) fn start(engine: impl Engine, options: Options) -> Server {
    Server::start(TcpListener::bind("127.0.0.1:0").unwrap(), engine, options).unwrap()
}

pub(crate) fn server() -> Server {
    start(text_engine(), Options::default())
}

pub(crate) fn with_limits(limits: Limits) -> Options {
    Options { limits, ..Options::default() }
}

/// Pixels that differ by `seed`.
pub(crate) fn pixels(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x * 31 + seed, y * 17 + x, (x * y + 7 * seed) % 251].map(|v| (v % 256) as u8))
    })
}

pub(crate) fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(crate) fn photo(seed: u32) -> Vec<u8> {
    png(&pixels(seed, 70, 50))
}

/// A sample of `/metrics`.
pub(crate) fn metric(server: &Server, name: &str) -> f64 {
    let text = test_support::http::get(server.addr(), "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

/// Waits until a condition holds, at most ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The toy, which takes its time, and fails by panicking on one sentence.
pub(crate) struct Slow {
    pub(crate) inner: TextEngine,
    pub(crate) encode: Duration,
}

impl Engine for Slow {
    fn info(&self) -> ModelInfo {
        self.inner.info()
    }
    fn encode(&self, image: &Image) -> Result<Encoded, EngineError> {
        std::thread::sleep(self.encode);
        self.inner.encode(image)
    }
    fn ask(&self, image: &Encoded, questions: &[Question], instances: bool) -> Result<Vec<Answer>, EngineError> {
        assert!(!questions.iter().any(|q| q.sentence.as_deref() == Some("panic")), "as asked for");
        self.inner.ask(image, questions, instances)
    }
    fn attention(&self, image: &Image, sentence: &str) -> Result<RgbImage, EngineError> {
        self.inner.attention(image, sentence)
    }
}

pub(crate) fn slow(milliseconds: u64) -> Slow {
    Slow { inner: text_engine(), encode: Duration::from_millis(milliseconds) }
}
