//! Deep Instruction Tuning under the trainer.

use burn::tensor::{Device, Tensor};
use fusion_dit::{DitModel, loss};
use models::methods::DitMethod;
use nn_ops::weights::KeyMap;

use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::segmenter::{Loss, Segmenter};

impl Segmenter for DitMethod {
    type Net = DitModel;

    fn init(&self, device: &Device) -> Result<DitModel, TrainError> {
        Ok(self.build(device)?)
    }

    fn names(&self) -> KeyMap {
        DitMethod::names(self)
    }

    fn logits(&self, net: &DitModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let (tokenizer, images) = (self.tokenizer.shared(), batch.images_by_sentence(device));
        Ok(match batch.prompts() {
            Some(prompts) => net.forward_prompts(&self.config, tokenizer.as_ref(), images, &prompts)?,
            None => net.forward(&self.config, tokenizer.as_ref(), images, &batch.words())?.logits,
        })
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, _batch: &HostBatch) -> Result<Loss, TrainError> {
        Ok(loss(logits, masks).into())
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        super::dropout_divides(self.config.dropout.max(self.config.text_dropout()))
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        DitMethod::files(self)
    }
}
