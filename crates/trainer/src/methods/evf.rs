//! EVF-SAM under the trainer.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use fusion_evf::{EvfLoss, EvfModel, Input, VisualKind, loss};
use models::methods::EvfMethod;
use nn_ops::resize::Resize;
use nn_ops::weights::KeyMap;
use pil_ops::{Image, Letterbox};
use serde_json::json;

use crate::batch::{HostBatch, HostTensor, Inputs, PhotoInput};
use crate::error::TrainError;
use crate::memory::Stack;
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

    /// The multimodal encoder's input is made from the photograph, not from the canvas; so is the canvas itself where it is not
    /// Pillow's resize.
    fn inputs(&self) -> Inputs {
        let config = self.config.clone();
        let photo = move |photo: &Image| {
            let (values, side) = config.multimodal_input(photo)?;
            Ok(HostTensor { values, shape: [1, 3, side, side] })
        };
        let sees = self.config.encoder.sees();
        let config = self.config.clone();
        let canvas = move |photo: &Image| {
            let side = config.input_size();
            Ok(HostTensor { values: config.visual_input(photo)?, shape: [1, 3, side, side] })
        };
        let own = !matches!(self.config.input(), Input::LongSidePadded | Input::Stretched);
        Inputs {
            photo: sees.then(|| Arc::new(photo) as Arc<PhotoInput>),
            canvas: own.then(|| Arc::new(canvas) as Arc<PhotoInput>),
            ..Inputs::CANVAS
        }
    }

    /// Logits of padded inputs are at the input's side, those of stretched ones at a quarter of it, from where they go straight
    /// to the photograph's size.
    ///
    /// As the released scripts: sentences are trained on as they stand and judged in lower case.
    fn logits(&self, net: &EvfModel, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let lower = |s: &String| if device.is_autodiff() { s.clone() } else { s.trim().to_lowercase() };
        let sentences: Vec<String> = batch.sentences.iter().map(lower).collect();
        let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
        // For an encoder that reads text only the second input is of size 0.
        let photos = batch.photos(device).unwrap_or_else(|| Tensor::zeros([batch.image_count(), 3, 0, 0], device));
        let tokens = net.tokens(self.tokenizer.shared().as_ref(), &words)?;
        let feature = net.extract(photos, &tokens, &batch.image_of)?;
        let features = match batch.features(device) {
            Some(kept) => kept,
            None => net.net.encode(batch.images(device)),
        };
        Ok(net.net.forward(features, feature, &batch.image_of)?.logits)
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError> {
        let what = || TrainError::Device { what: "the loss", reason: "the batch holds no sentence".into() };
        let EvfLoss { bce, dice, total } = loss(&self.config, compared(&logits, &masks, batch)).ok_or_else(what)?;
        Ok(Loss { total, terms: vec![("bce", bce), ("dice", dice)] })
    }

    fn frozen_prefix(&self) -> Option<&'static str> {
        let frozen = match self.config.visual {
            // Two of the decoder's convolutions and "no memory" count as the image's side.
            VisualKind::Sam2 if !self.config.train_mask_decoder && !self.config.train_prompt_encoder => "visual_model.",
            _ => "visual_model.image_encoder.",
        };
        (!self.config.train_image_encoder).then_some(frozen)
    }

    fn frozen_settings(&self) -> serde_json::Value {
        let config = &self.config;
        let sizes = match config.visual {
            VisualKind::Sam => json!(config.sam.image_encoder),
            VisualKind::EfficientSam => json!(config.efficient_sam),
            VisualKind::Sam2 => json!(config.sam2),
        };
        json!({ "visual": config.visual, "sizes": sizes, "input": config.input() })
    }

    fn encodes_once(&self) -> bool {
        true
    }

    fn features(&self, net: &EvfModel, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        Ok(net.net.encode(images))
    }

    fn stacks(&self) -> Vec<Stack> {
        super::stacks::evf(&self.config)
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        None
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        EvfMethod::files(self)
    }
}

/// Logits and targets without the canvas' padding, there or at each photograph's own size (`train.loss_size`). Logits of
/// another side than the canvas' are those of an image that fills it, and go to the targets' size in one step.
///
/// # Shapes
/// `logits`: [Q, 1, s, s]; `masks`: [Q, 1, S, S]; output: [n, height, width] of n neighbours that lie alike: fewer, larger
/// tensors
fn compared(logits: &Tensor<4>, masks: &Tensor<4>, batch: &HostBatch) -> Vec<(Tensor<3>, Tensor<3>)> {
    let mut entries = Vec::new();
    let mut first = 0;
    let side = logits.dims()[3];
    while first < batch.len() {
        let place = &batch.letterboxes[batch.image_of[first]];
        let count = batch.image_of[first..].iter().take_while(|i| batch.letterboxes[**i] == *place).count();
        let cut = |x: &Tensor<4>, place: &Letterbox| {
            x.clone().narrow(0, first, count).narrow(2, place.top, place.height).narrow(3, place.left, place.width)
        };
        let targets = match batch.full_masks.get(first..first + count) {
            Some(full) => {
                let (height, width) = place.original;
                let values: Vec<f32> = full.iter().flatten().map(|v| f32::from(*v) / 255.0).collect();
                Tensor::from_data(TensorData::new(values, [count, 1, height, width]), &masks.device())
            }
            None => cut(masks, place),
        };
        let [_, _, height, width] = targets.dims();
        let logits = cut(logits, &place.rescaled(side));
        let logits = if logits.dims() == targets.dims() { logits } else { Resize::BILINEAR.forward(logits, [height, width]) };
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

    /// An image that fills its canvas: a quarter of the canvas is brought to the photograph, or to the canvas, in one step.
    #[test]
    fn logits_of_stretched_images_go_straight_to_their_targets() {
        let device = Device::flex();
        let image = Image::new(40, 20, 3, vec![90; 3 * 800]).unwrap();
        let mask: Vec<u8> = (0..800).map(|i| u8::from(i % 40 < 20)).collect();
        let photo = Photo::numbered(Collection::Coco, 1);
        let info = ImageInfo { id: 1, photo, file_name: String::new(), path: "x.png".into(), width: 40, height: 20 };
        for (full, want) in [(true, [1, 20, 40]), (false, [1, 16, 16])] {
            let transform = Transform::eval(16, Fit::Stretched).unwrap().with_full_masks(full);
            let sample = transform.apply(&info, &image, &mask, "left", 1).unwrap();
            let batch = HostBatch::new(vec![sample], vec![0], &Inputs::CANVAS).unwrap();
            // Left of the middle 1, right of it -1, on a map of 4 x 4.
            let logits = Tensor::<2>::from_floats([[1.0, 1.0, -1.0, -1.0]; 4], &device).unsqueeze::<4>();
            let (found, targets) = compared(&logits, &batch.masks(&device), &batch).remove(0);
            assert_eq!((found.dims(), targets.dims()), (want, want));
            let [_, _, width] = want;
            let found = found.try_into_vec_as::<f32>().unwrap();
            assert!(found.iter().enumerate().all(|(i, v)| (*v > 0.0) == (i % width < width / 2)), "{found:?}");
        }
    }
}
