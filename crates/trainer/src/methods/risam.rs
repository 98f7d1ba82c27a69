//! RISAM under the trainer.

use burn::tensor::{Device, Tensor};
use fusion_risam::{Backbone, RisamFeatures, RisamLoss, RisamModel, RisamOutput, loss, valid_areas};
use models::methods::RisamMethod;
use nn_ops::weights::KeyMap;
use serde_json::json;

use crate::batch::{HostBatch, Inputs};
use crate::error::TrainError;
use crate::memory::Stack;
use crate::segmenter::{Loss, Segmenter};

impl Segmenter for RisamMethod {
    type Net = RisamModel;

    fn init(&self, device: &Device) -> Result<RisamModel, TrainError> {
        Ok(self.build(device)?)
    }

    fn names(&self) -> KeyMap {
        RisamMethod::names(self)
    }

    fn trains(&self, name: &str) -> bool {
        self.config.trains(name)
    }

    fn inputs(&self) -> Inputs {
        Inputs { normalisation: self.config.normalisation(), ..Inputs::CANVAS }
    }

    fn logits(&self, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        Ok(output(self, net, batch, device)?.logits)
    }

    /// Stretched images have no padding to cut: their logits go straight to the image's size.
    fn judged(&self, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        Ok(self.config.answer(output(self, net, batch, device)?))
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError> {
        let per_image = batch.areas();
        let areas: Vec<_> = batch.image_of.iter().map(|image| per_image[*image]).collect();
        let valid = valid_areas(&areas, [batch.side; 2], &logits.device());
        let RisamLoss { focal, dice, total } = loss(&self.config, logits, masks, Some(valid));
        Ok(Loss { total, terms: vec![("focal", focal), ("dice", dice)] })
    }

    fn frozen_prefix(&self) -> Option<&'static str> {
        (!self.config.train_image_encoder).then_some("image_encoder.")
    }

    fn frozen_settings(&self) -> serde_json::Value {
        let config = &self.config;
        let sizes = match config.backbone {
            Backbone::Sam => json!(config.sam.image_encoder),
            Backbone::Clip => json!(config.clip_vision),
            Backbone::Swin => json!(config.swin),
        };
        // The baseline takes what comes out at the end, whatever the taps.
        let taps = if config.baseline { json!(null) } else { json!(config.taps) };
        json!({ "backbone": config.backbone, "sizes": sizes, "taps": taps })
    }

    fn encodes_once(&self) -> bool {
        true
    }

    fn features(&self, net: &RisamModel, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        Ok(net.encode_images(images)?.into_tensors())
    }

    fn stacks(&self) -> Vec<Stack> {
        super::stacks::risam(&self.config)
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        (!self.config.baseline).then_some("batch norms would see a part of the batch each")
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        RisamMethod::files(self)
    }
}

fn output(method: &RisamMethod, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<RisamOutput, TrainError> {
    let tokens = net.tokens(method.tokenizer.shared().as_ref(), &batch.words())?;
    let features = match batch.features(device) {
        Some(kept) => RisamFeatures::from_tensors(kept)?,
        None => net.encode_images(batch.images(device))?,
    };
    Ok(net.forward_features(&features, &tokens, &batch.image_of)?)
}
