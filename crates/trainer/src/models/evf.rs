//! EVF-SAM under the trainer.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use fusion_evf::{Encoder, EvfConfig, EvfModel, EvfSam, Pretrained, loss};
use nn_ops::resize::Resize;
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
        super::expect_fit(plan, Fit::TopLeft)?;
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

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Tensor<1>, TrainError> {
        let what = || TrainError::Device { what: "the loss", reason: "the batch holds no sentence".into() };
        Ok(loss(&self.config, compared(&logits, &masks, batch)).ok_or_else(what)?.total)
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

/// Logits and targets without the canvas' padding, there or at each photograph's own size (`train.loss_size`).
///
/// # Shapes
/// `logits`, `masks`: [Q, 1, S, S]; output: [n, height, width] of n neighbours that lie alike: fewer, larger tensors
fn compared(logits: &Tensor<4>, masks: &Tensor<4>, batch: &HostBatch) -> Vec<(Tensor<3>, Tensor<3>)> {
    let mut entries = Vec::new();
    let mut first = 0;
    while first < batch.len() {
        let place = &batch.placements[batch.image_of[first]];
        let count = batch.image_of[first..].iter().take_while(|i| batch.placements[**i] == *place).count();
        let cut = |x: &Tensor<4>| {
            x.clone().narrow(0, first, count).narrow(2, place.top, place.height).narrow(3, place.left, place.width)
        };
        let (logits, targets) = match batch.full_masks.get(first..first + count) {
            Some(full) => {
                let (height, width) = place.original;
                let values: Vec<f32> = full.iter().flatten().map(|v| f32::from(*v) / 255.0).collect();
                let targets = TensorData::new(values, [count, 1, height, width]);
                let logits = Resize::BILINEAR.forward(cut(logits), [height, width]);
                (logits, Tensor::from_data(targets, &masks.device()))
            }
            None => (cut(logits), cut(masks)),
        };
        entries.push((logits.squeeze_dim(1), targets.squeeze_dim(1)));
        first += count;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Normalisation;
    use refcoco_data::{ImageInfo, Transform};

    /// Two photographs of other shapes: logits grow to each one's size, targets are the file's own pixels.
    #[test]
    fn masks_are_compared_where_the_plan_says() {
        let device = Device::flex();
        let sample = |height: usize, width: usize, full: bool| {
            let image = Image::new(width, height, 3, vec![90; 3 * height * width]).unwrap();
            let mask: Vec<u8> = (0..height * width).map(|i| u8::from(i % width < width / 2)).collect();
            let (file_name, path) = (String::new(), "x.png".into());
            let info = ImageInfo { id: 1, file_name, path, width: width as u32, height: height as u32 };
            let transform = Transform::eval(16, Fit::TopLeft).unwrap().with_full_masks(full);
            transform.apply(&info, &image, &mask, "left", 1).unwrap()
        };
        let compared = |full: bool| {
            let samples = vec![sample(20, 40, full), sample(20, 40, full), sample(30, 10, full)];
            let batch = HostBatch::new(samples, vec![0, 0, 1], Normalisation::IMAGENET);
            let masks = batch.masks(&device);
            (compared(&masks, &masks, &batch), batch)
        };
        let (canvas, _) = compared(false);
        let shapes = |entries: &[(Tensor<3>, Tensor<3>)]| entries.iter().map(|(l, t)| [l.dims(), t.dims()]).collect::<Vec<_>>();
        assert_eq!(shapes(&canvas), [[[2, 8, 16]; 2], [[1, 16, 5]; 2]]);
        let (full, batch) = compared(true);
        assert_eq!(shapes(&full), [[[2, 20, 40]; 2], [[1, 30, 10]; 2]]);
        let targets = full[0].1.clone().try_into_vec_as::<f32>().unwrap();
        assert!(targets.iter().enumerate().all(|(i, t)| *t == f32::from(u8::from(i % 40 < 20))));
        // Soft edges aside, the logits, which are the canvas' masks here, cover the same half.
        let logits = full[0].0.clone().try_into_vec_as::<f32>().unwrap();
        assert!((logits[0] - 1.0).abs() < 1e-6 && logits[39].abs() < 1e-6);
        assert_eq!(batch.part(1, 2).full_masks, batch.full_masks[2..]);
    }
}
