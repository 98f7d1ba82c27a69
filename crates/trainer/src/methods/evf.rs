//! EVF-SAM under the trainer.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use fusion_evf::{EvfLoss, EvfModel, loss};
use models::methods::EvfMethod;
use nn_ops::resize::Resize;
use nn_ops::weights::KeyMap;
use pil_ops::Image;

use crate::batch::{HostBatch, HostTensor, Inputs, PhotoInput};
use crate::error::TrainError;
use crate::segmenter::{Loss, Segmenter};

impl Segmenter for EvfMethod {
    type Net = EvfModel;

    fn init(&self, device: &Device) -> Result<EvfModel, TrainError> {
        Ok(self.build(device)?)
    }

    fn names(&self) -> KeyMap {
        EvfMethod::names(self)
    }

    fn trains(&self, name: &str) -> bool {
        self.config.trains(name)
    }

    /// The multimodal encoder's input is made from the photograph, not from SAM's canvas.
    fn inputs(&self) -> Inputs {
        let config = self.config.clone();
        let photo = move |photo: &Image| {
            let (values, side) = config.multimodal_input(photo)?;
            Ok(HostTensor { values, shape: [1, 3, side, side] })
        };
        let sees = self.config.encoder.sees();
        Inputs { photo: sees.then(|| Arc::new(photo) as Arc<PhotoInput>), ..Inputs::CANVAS }
    }

    /// As the released scripts: sentences are trained on as they stand and judged in lower case.
    fn logits(&self, net: &EvfModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let lower = |s: &String| if device.is_autodiff() { s.clone() } else { s.trim().to_lowercase() };
        let sentences: Vec<String> = batch.sentences.iter().map(lower).collect();
        let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
        // For an encoder that reads text only the second input is of size 0.
        let photos = batch.photos(device).unwrap_or_else(|| Tensor::zeros([batch.image_count(), 3, 0, 0], device));
        let tokens = net.tokens(self.tokenizer.shared().as_ref(), &words)?;
        let feature = net.extract(photos, &tokens, &batch.image_of)?;
        let embedding = match batch.features(device).and_then(|mut kept| kept.pop()) {
            Some(kept) => kept,
            None => net.net.encode(batch.images(device)),
        };
        Ok(net.net.forward(embedding, feature, &batch.image_of)?.logits)
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError> {
        let what = || TrainError::Device { what: "the loss", reason: "the batch holds no sentence".into() };
        let EvfLoss { bce, dice, total } = loss(&self.config, compared(&logits, &masks, batch)).ok_or_else(what)?;
        Ok(Loss { total, terms: vec![("bce", bce), ("dice", dice)] })
    }

    fn frozen_prefix(&self) -> Option<&'static str> {
        (!self.config.train_image_encoder).then_some("visual_model.image_encoder.")
    }

    fn features(&self, net: &EvfModel, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        Ok(vec![net.net.encode(images)])
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        None
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        EvfMethod::files(self)
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
        let place = &batch.letterboxes[batch.image_of[first]];
        let count = batch.image_of[first..].iter().take_while(|i| batch.letterboxes[**i] == *place).count();
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
    use pil_ops::Fit;
    use refcoco_data::{Collection, ImageInfo, Photo, Transform};

    /// Two photographs of other shapes: logits grow to each one's size, targets are the file's own pixels.
    #[test]
    fn masks_are_compared_where_the_plan_says() {
        let device = Device::flex();
        let sample = |height: usize, width: usize, full: bool| {
            let image = Image::new(width, height, 3, vec![90; 3 * height * width]).unwrap();
            let mask: Vec<u8> = (0..height * width).map(|i| u8::from(i % width < width / 2)).collect();
            let (file_name, path) = (String::new(), "x.png".into());
            let info = ImageInfo {
                id: 1,
                photo: Photo::numbered(Collection::Coco, 1),
                file_name,
                path,
                width: width as u32,
                height: height as u32,
            };
            let transform = Transform::eval(16, Fit::TopLeft).unwrap().with_full_masks(full);
            transform.apply(&info, &image, &mask, "left", 1).unwrap()
        };
        let compared = |full: bool| {
            let samples = vec![sample(20, 40, full), sample(20, 40, full), sample(30, 10, full)];
            let batch = HostBatch::new(samples, vec![0, 0, 1], &Inputs::CANVAS).unwrap();
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
