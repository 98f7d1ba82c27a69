//! RISAM under the trainer.

use burn::tensor::{Device, Tensor};
use fusion_risam::{ImageFeatures, RisamLoss, RisamModel, loss, valid_areas};
use models::methods::RisamMethod;
use nn_ops::weights::KeyMap;

use crate::batch::HostBatch;
use crate::error::TrainError;
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

    fn logits(&self, net: &RisamModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
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
        Ok(net.net.forward(config, &image, &batch.image_of, text, tokens.lengths())?.logits)
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError> {
        let of_pictures = batch.areas();
        let areas: Vec<_> = batch.image_of.iter().map(|picture| of_pictures[*picture]).collect();
        let valid = valid_areas(&areas, [batch.side; 2], &logits.device());
        let RisamLoss { focal, dice, total } = loss(&self.config, logits, masks, Some(valid));
        Ok(Loss { total, terms: vec![("focal", focal), ("dice", dice)] })
    }

    fn frozen_prefix(&self) -> Option<&'static str> {
        (!self.config.train_image_encoder).then_some("image_encoder.")
    }

    fn features(&self, net: &RisamModel, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        let ImageFeatures { taps, embedding } = net.encode_images(&self.config, images)?;
        Ok(taps.into_iter().chain(embedding).collect())
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        (!self.config.baseline).then_some("batch norms would see a part of the batch each")
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        RisamMethod::files(self)
    }
}
