//! RISAM under the trainer.

use burn::tensor::{Device, Tensor};
use fusion_risam::{Backbone, ImageFeatures, RisamConfig, RisamModel, RisamOutput, loss, valid_areas};
use nn_ops::weights::{Checkpoint, Names};
use pil_ops::Image;
use refcoco_data::Fit;
use sam_vit::Prediction;
use text_encoders::clip::ClipVisionConfig;

use crate::batch::{HostBatch, Normalisation};
use crate::error::TrainError;
use crate::picture::HeatMap;
use crate::plan::{Init, RunPlan, Tokenizer};
use crate::segmenter::{Attention, Segmenter};
use crate::tokenizer::RunTokenizer;

/// RISAM: settings, tokenizer and first weights.
pub struct Risam {
    /// Settings.
    pub config: RisamConfig,
    tokenizer: RunTokenizer,
    init: Init,
}

impl Risam {
    /// The plan's RISAM. `[model.risam]` gives sizes and choices; the canvas, the number of words and the vocabulary follow
    /// from `data.image_size`, `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Settings that contradict each other, with the plan's key.
    pub fn new(plan: &RunPlan, tokenizer: RunTokenizer) -> Result<Self, TrainError> {
        tokenizer.expect(plan, Tokenizer::Clip, "CLIP", plan.model.init.clip.is_some())?;
        let mut config: RisamConfig = plan.method_section()?;
        let fit = match config.backbone {
            Backbone::Sam => Fit::TopLeft,
            Backbone::Clip => Fit::StretchBicubic,
            Backbone::Swin => Fit::Stretch,
        };
        super::expect_fit(plan, fit)?;
        config.input_size = plan.data.image_size as usize;
        config.words = plan.text.max_tokens;
        config.clip.vocab_size = tokenizer.rows(config.clip.vocab_size);
        config.validate().map_err(|e| plan.value_error("model.risam", e, "settings that fit each other"))?;
        Ok(Self { config, tokenizer, init: plan.model.init.clone() })
    }

    fn output(&self, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<RisamOutput, TrainError> {
        let (config, tokenizer) = (&self.config, self.tokenizer.shared());
        let tokens = RisamModel::tokens(config, tokenizer.as_ref(), &batch.words())?;
        let text = net.encode_text(config, &tokens)?;
        let kept = match batch.features(device) {
            Some(kept) => kept,
            None => self.features(net, batch.images(device))?,
        };
        let mut kept = kept.into_iter();
        let mut tap = || kept.next().ok_or(TrainError::Device { what: "features", reason: "fewer than three taps".into() });
        let image = ImageFeatures { taps: [tap()?, tap()?, tap()?], embedding: kept.next() };
        Ok(net.net.forward(config, &image, &batch.image_of, text, tokens.lengths())?)
    }
}

impl Segmenter for Risam {
    type Net = RisamModel;

    fn init(&self, device: &Device) -> Result<RisamModel, TrainError> {
        let mut model = self.config.init(device)?;
        if let Some(path) = self.init.sam.as_ref().filter(|_| self.config.uses_sam()) {
            (model, _) = model.load_sam(&Checkpoint::open(path)?)?;
        }
        if let Some(path) = &self.init.swin {
            (model, _) = model.load_swin(&self.config, &Checkpoint::open_model(path)?, device)?;
        }
        if let Some(path) = &self.init.clip {
            (model, _) = model.load_clip(&self.config, Checkpoint::open(path)?, device)?;
        }
        if let Some(path) = &self.init.method {
            (model, _) = model.load(&Checkpoint::open(path)?)?;
        }
        Ok(model)
    }

    fn names(&self) -> Names {
        RisamModel::names()
    }

    fn normalisation(&self) -> Normalisation {
        let whole = |values: [f32; 3]| values.map(|v| 255.0 * v);
        match self.config.backbone {
            Backbone::Sam | Backbone::Swin => Normalisation::IMAGENET,
            Backbone::Clip => Normalisation { mean: whole(ClipVisionConfig::MEAN), std: whole(ClipVisionConfig::STD) },
        }
    }

    fn trains(&self, name: &str) -> bool {
        self.config.trains(name)
    }

    fn logits(&self, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        Ok(self.output(net, batch, device)?.logits)
    }

    /// Stretched images have no padding to cut: their logits go straight to the image's size.
    fn judged(&self, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let output = self.output(net, batch, device)?;
        Ok(if self.config.stretches() { output.low_res } else { output.logits })
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Tensor<1>, TrainError> {
        let of_pictures = batch.areas();
        let areas: Vec<_> = batch.image_of.iter().map(|picture| of_pictures[*picture]).collect();
        let valid = valid_areas(&areas, [batch.side; 2], &logits.device());
        Ok(loss(&self.config, logits, masks, Some(valid)).total)
    }

    fn predict(&self, net: &RisamModel, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError> {
        Ok(fusion_risam::Risam::new(self.config.clone(), net, self.tokenizer.shared())?.predict(image, sentences)?)
    }

    /// Regions per word as maps, words per region as lines: those of the region that each word prefers (RISAM Fig. 7).
    fn attention(&self, net: &RisamModel, image: &Image, sentence: &str) -> Result<Attention, TrainError> {
        let seen = fusion_risam::Risam::new(self.config.clone(), net, self.tokenizer.shared())?.attention(image, sentence)?;
        if seen.blocks.is_empty() {
            return Err(TrainError::Unsupported("attention maps of this interaction; \"full\", \"sdf\" and \"bcm\" have them"));
        }
        let (side, count, [_, _, bottom, right]) = (seen.grid, seen.grid * seen.grid, seen.area);
        let (mut maps, mut notes) = (Vec::new(), Vec::new());
        for (number, block) in seen.blocks.iter().enumerate() {
            let (regions, words) = (host(block.regions.clone())?, host(block.words.clone())?);
            let tokens = regions.len() / count;
            for (word, at) in &seen.words {
                let mean = |region: usize| at.clone().map(|t| regions[t * count + region]).sum::<f32>() / at.len() as f32;
                let values: Vec<f32> = (0..count).map(mean).collect();
                let best = (0..count).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0);
                if number + 1 == seen.blocks.len() {
                    let share = |at: &std::ops::Range<usize>| at.clone().map(|t| words[best * tokens + t]).sum::<f32>();
                    let shares: Vec<String> = seen.words.iter().map(|(w, at)| format!("{w} {:.2}", share(at))).collect();
                    let percent = |cell: usize, part: f32| 100.0 * (cell as f32 + 0.5) / side as f32 / part;
                    let (x, y) = (percent(best % side, right), percent(best / side, bottom));
                    notes
                        .push(format!("the region of \"{word}\", {x:.0} % across and {y:.0} % down, sees {}", shares.join(", ")));
                }
                let row = format!("block {}", number + 1);
                maps.push(HeatMap { row, column: word.clone(), values, columns: side, area: seen.area });
            }
        }
        Ok(Attention { maps, notes })
    }

    fn frozen_part(&self) -> Option<&'static str> {
        (!self.config.train_image_encoder).then_some("image_encoder.")
    }

    fn features(&self, net: &RisamModel, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        let ImageFeatures { taps, embedding } = net.encode_images(&self.config, images)?;
        Ok(taps.into_iter().chain(embedding).collect())
    }

    fn indivisible(&self) -> Option<&'static str> {
        (!self.config.baseline).then_some("batch norms would see a part of the batch each")
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.tokenizer.files()
    }
}

fn host(maps: Tensor<3>) -> Result<Vec<f32>, TrainError> {
    maps.try_into_vec_as::<f32>().map_err(|e| TrainError::Device { what: "attention maps", reason: e.to_string() })
}
