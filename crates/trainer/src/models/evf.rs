//! EVF-SAM under the trainer.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use fusion_evf::{Encoder, EvfConfig, EvfModel, EvfSam, Pretrained, loss};
use nn_ops::weights::{Checkpoint, Names};
use pil_ops::Image;
use refcoco_data::Fit;
use sam_vit::Prediction;

use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::picture::HeatMap;
use crate::plan::{Init, RunPlan, Tokenizer};
use crate::segmenter::{Attention, Segmenter};
use crate::tokenizer::RunTokenizer;

/// EVF-SAM: settings, tokenizer and first weights.
pub struct Evf {
    /// Settings.
    pub config: EvfConfig,
    tokenizer: RunTokenizer,
    init: Init,
}

impl Evf {
    /// The plan's EVF-SAM. `[model.evf]` gives sizes and choices; the longest sentence and the vocabulary follow from
    /// `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Settings that contradict each other, with the plan's key.
    pub fn new(plan: &RunPlan, tokenizer: RunTokenizer) -> Result<Self, TrainError> {
        super::expect_top_left(plan)?;
        let mut config: EvfConfig = plan.method_section()?;
        let pretrained = encoder_file(&config, &plan.model.init).is_some();
        let (kind, name, rows) = match config.encoder {
            Encoder::ClipText | Encoder::ClipLate => (Tokenizer::Clip, "CLIP", &mut config.clip_text.vocab_size),
            Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => {
                (Tokenizer::Wordpiece, "ViLT", &mut config.vilt.vocab_size)
            }
            Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => {
                (Tokenizer::Sentencepiece, "BEiT-3", &mut config.beit3.vocab_size)
            }
        };
        tokenizer.expect(plan, kind, name, pretrained)?;
        *rows = tokenizer.rows(*rows);
        config.max_tokens = plan.text.max_tokens;
        config.validate().map_err(|e| plan.value_error("model.evf", e, "settings that fit each other"))?;
        let side = plan.data.image_size as usize;
        if side != config.input_size() {
            let expected = format!("{}, the side of model.evf.sam.image_encoder.image_size", config.input_size());
            return Err(plan.value_error("data.image_size", side, expected).into());
        }
        Ok(Self { config, tokenizer, init: plan.model.init.clone() })
    }
}

/// The weights that the chosen encoder starts from.
fn encoder_file<'a>(config: &EvfConfig, init: &'a Init) -> Option<&'a String> {
    match config.encoder {
        Encoder::ClipText | Encoder::ClipLate => init.clip.as_ref(),
        Encoder::ViltText | Encoder::ViltLate | Encoder::ViltEarly => init.vilt.as_ref(),
        Encoder::Beit3Text | Encoder::Beit3Late | Encoder::Beit3Early => init.beit3.as_ref(),
    }
}

/// The plan of a published EVF-SAM: a folder with `config.json`, weights and tokenizer.
///
/// # Errors
/// A folder that is something else, or overrides that do not fit.
pub fn pretrained_plan<S: AsRef<str>>(folder: &Path, overrides: &[S]) -> Result<RunPlan, TrainError> {
    let found = Pretrained::open(folder)?;
    let kind = match found.vocabulary.file_name().and_then(|n| n.to_str()) {
        Some("vocab.txt") => Tokenizer::Wordpiece,
        Some("merges.txt" | "tokenizer.json") => Tokenizer::Clip,
        _ => Tokenizer::Sentencepiece,
    };
    let plan = serde_json::json!({
        "data": { "image_size": found.config.input_size(), "fit": Fit::TopLeft },
        "model": { "method": "evf", "evf": found.config, "init": { "method": found.weights } },
        "text": { "tokenizer": kind, "vocabulary": found.vocabulary, "max_tokens": found.config.max_tokens },
        "eval": { "profile": "evf" },
    });
    let path = folder.join("config.json");
    let unfit = |e: String| TrainError::File { path: path.clone(), what: e };
    let text = toml::to_string(&without_nulls(plan)).map_err(|e| unfit(e.to_string()))?;
    Ok(RunPlan::resolve(&text, Some(&path), overrides)?)
}

/// TOML has no word for nothing.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        other => other,
    }
}

impl Segmenter for Evf {
    type Net = EvfModel;

    fn init(&self, device: &Device) -> Result<EvfModel, TrainError> {
        let (config, init) = (&self.config, &self.init);
        let mut model = config.init(device)?;
        if let Some(path) = &init.sam {
            (model, _) = model.load_sam(&Checkpoint::open(path)?)?;
        }
        if let Some(path) = encoder_file(config, init) {
            // BEiT-3's pretraining file keeps its tensors under `model`.
            (model, _) = model.load_encoder(config, &Checkpoint::open(path)?.strip_prefix("model.")?, device)?;
        }
        if let Some(path) = &init.method {
            (model, _) = model.load(config, &Checkpoint::open(path)?)?;
        }
        Ok(model)
    }

    fn names(&self) -> Names {
        EvfModel::names(self.config.encoder)
    }

    fn trains(&self, name: &str) -> bool {
        self.config.trains(name)
    }

    /// As the released scripts: sentences are trained on as they stand and judged in lower case.
    fn logits(&self, net: &EvfModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let (config, tokenizer) = (&self.config, self.tokenizer.shared());
        let lower = |s: &String| if device.is_autodiff() { s.clone() } else { s.trim().to_lowercase() };
        let sentences: Vec<String> = batch.sentences.iter().map(lower).collect();
        let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
        let images = config.from_canvas(batch.images(device), &batch.areas())?;
        let tokens = net.tokens(config, tokenizer.as_ref(), &words)?;
        let feature = net.extract(config, images.multimodal, &tokens, &batch.image_of)?;
        let embedding = match batch.features(device).and_then(|mut kept| kept.pop()) {
            Some(kept) => kept,
            None => net.net.embed(config, images.sam),
        };
        Ok(net.net.forward(config, embedding, feature, &batch.image_of)?.logits)
    }

    /// On the canvas, its padding cut away. The released code compares at each photograph's own size.
    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Tensor<1>, TrainError> {
        let areas = batch.areas();
        let cut = |x: &Tensor<4>, first: usize, count: usize, area: (usize, usize, usize, usize)| {
            let (top, left, height, width) = area;
            let rows = x.clone().narrow(0, first, count).narrow(2, top, height).narrow(3, left, width);
            rows.reshape([count, height, width])
        };
        // Neighbours of one shape go together: fewer, larger tensors.
        let mut entries = Vec::new();
        let mut first = 0;
        while first < batch.len() {
            let area = areas[batch.image_of[first]];
            let count = batch.image_of[first..].iter().take_while(|i| areas[**i] == area).count();
            entries.push((cut(&logits, first, count, area), cut(&masks, first, count, area)));
            first += count;
        }
        let what = || TrainError::Device { what: "the loss", reason: "the batch holds no sentence".into() };
        Ok(loss(&self.config, entries).ok_or_else(what)?.total)
    }

    fn predict(&self, net: &EvfModel, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError> {
        Ok(EvfSam::new(self.config.clone(), net, self.tokenizer.shared())?.predict(image, sentences)?)
    }

    /// `[CLS]` of BEiT-3's last layer over the whole image (EVF-SAM Fig. 5).
    fn attention(&self, net: &EvfModel, image: &Image, sentence: &str) -> Result<Attention, TrainError> {
        let seen = EvfSam::new(self.config.clone(), net, self.tokenizer.shared())?.attention(image, sentence)?;
        let map = |column: String, values: Vec<f32>| {
            let row = format!("layer {}", self.config.beit3.layers);
            HeatMap { row, column, values, columns: seen.grid, area: [0.0, 0.0, 1.0, 1.0] }
        };
        let heads = seen.heads.iter().enumerate().map(|(i, head)| map(format!("head {}", i + 1), head.clone()));
        let mut maps = vec![map("[CLS], mean of heads".into(), seen.mean())];
        maps.extend(heads);
        let on_image = seen.mean().iter().sum::<f32>();
        let notes = vec![format!("{:.0} % of the attention lies on patches, the rest on [CLS] and words", 100.0 * on_image)];
        Ok(Attention { maps, notes })
    }

    fn frozen_part(&self) -> Option<&'static str> {
        (!self.config.train_image_encoder).then_some("visual_model.image_encoder.")
    }

    fn features(&self, net: &EvfModel, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        Ok(vec![net.net.embed(&self.config, images)])
    }

    fn indivisible(&self) -> Option<&'static str> {
        None
    }

    /// The tokenizer and `config.json`: beside the weights they make the published layout.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let config = format!("{:#}\n", self.config.to_published());
        self.tokenizer.files().into_iter().chain([("config.json".into(), config.into_bytes())]).collect()
    }
}
