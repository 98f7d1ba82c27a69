//! Deep Instruction Tuning under the trainer.

use burn::tensor::{Device, Tensor};
use fusion_dit::{DitModel, loss};
use models::methods::DitMethod;
use nn_ops::loss::dice;
use nn_ops::weights::KeyMap;

use crate::batch::HostBatch;
use crate::error::TrainError;
use crate::memory::Stack;
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
        let (tokenizer, images) = (self.tokenizer.shared(), batch.images(device));
        Ok(match batch.prompts() {
            Some(prompts) => net.forward_prompts(tokenizer.as_ref(), &net.encode_images(images), &prompts, &batch.image_of)?,
            None => net.forward(images, &net.tokens(tokenizer.as_ref(), &batch.words())?, &batch.image_of)?.logits,
        })
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, _batch: &HostBatch) -> Result<Loss, TrainError> {
        let weight = self.config.dice_weight;
        if weight == 0.0 {
            return Ok(loss(logits, masks).into());
        }
        let dice = dice(logits.clone().flatten(1, 3), masks.clone().flatten(1, 3), 1.0, 1.0).mean();
        let bce = loss(logits, masks);
        Ok(Loss { total: bce.clone() + dice.clone() * weight, terms: vec![("bce", bce), ("dice", dice)] })
    }

    fn stacks(&self) -> Vec<Stack> {
        super::stacks::dit(&self.config)
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        super::dropout_divides(self.config.dropout.max(self.config.text_dropout()))
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        DitMethod::files(self)
    }
}
