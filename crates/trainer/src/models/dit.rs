//! Deep Instruction Tuning under the trainer.

use burn::tensor::{Device, Tensor};
use fusion_dit::{DitConfig, DitModel, loss};
use nn_ops::weights::{Checkpoint, Names};
use pil_ops::Image;
use sam_vit::Prediction;

use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::plan::{Init, RunPlan, Tokenizer};
use crate::segmenter::Segmenter;
use crate::tokenizer::RunTokenizer;

/// DIT: sizes, tokenizer and first weights.
pub struct Dit {
    /// Sizes.
    pub config: DitConfig,
    tokenizer: RunTokenizer,
    init: Init,
}

impl Dit {
    /// The plan's DIT. `[model.dit]` gives sizes; the canvas, the number of text tokens and the vocabulary follow from
    /// `data.image_size`, `text.max_tokens` and the tokenizer.
    ///
    /// # Errors
    /// Sizes that contradict each other, with the plan's key.
    pub fn new(plan: &RunPlan, tokenizer: RunTokenizer) -> Result<Self, TrainError> {
        tokenizer.expect(plan, Tokenizer::Wordpiece, "BERT")?;
        let mut config: DitConfig = plan.method_section()?;
        config.input_size = plan.data.image_size as usize;
        config.text_tokens = plan.text.max_tokens;
        config.bert.vocab_size = tokenizer.rows(config.bert.vocab_size);
        config.validate().map_err(|e| plan.value_error("model.dit", e, "sizes that fit each other"))?;
        config.bert.validate()?;
        if config.bert.hidden != config.text_dim {
            return Err(plan
                .value_error(
                    "model.dit.text_dim",
                    config.text_dim,
                    format!("{} as model.dit.bert.hidden says", config.bert.hidden),
                )
                .into());
        }
        Ok(Self { config, tokenizer, init: plan.model.init.clone() })
    }
}

impl Segmenter for Dit {
    type Net = DitModel;

    fn init(&self, device: &Device) -> Result<DitModel, TrainError> {
        let mut model = self.config.init(device)?;
        if let Some(path) = &self.init.sam {
            (model, _) = model.load_sam(Checkpoint::open(path)?)?;
        }
        if let Some(path) = &self.init.bert {
            (model.lang_encoder, _) = self.config.bert.load(Checkpoint::open(path)?, device)?;
        }
        if let Some(path) = &self.init.method {
            (model, _) = model.load(Checkpoint::open(path)?)?;
        }
        Ok(model)
    }

    fn names(&self) -> Names {
        DitModel::names()
    }

    fn logits(&self, net: &DitModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let (tokenizer, images) = (self.tokenizer.shared(), batch.images_by_sentence(device));
        Ok(net.forward(&self.config, tokenizer.as_ref(), images, &batch.words())?.logits)
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, _batch: &HostBatch) -> Result<Tensor<1>, TrainError> {
        Ok(loss(logits, masks))
    }

    fn predict(&self, net: &DitModel, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError> {
        Ok(fusion_dit::Dit::new(self.config.clone(), net, self.tokenizer.shared())?.predict(image, sentences)?)
    }

    fn indivisible(&self) -> Option<&'static str> {
        super::dropout_divides(self.config.dropout.max(self.config.bert.dropout))
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.tokenizer.files()
    }
}
