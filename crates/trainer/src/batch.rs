//! From samples on the host to tensors on a device.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use fusion_dit::Prompt;
use pil_ops::{Image, ImageError, Letterbox, Normalisation};
use rayon::prelude::*;
use refcoco_data::Transformed;

use crate::prompts::prompt_of;
use run_config::PromptKind;

/// How photographs become the inputs of a method, on the loader's threads.
#[derive(Clone)]
pub struct Inputs {
    /// How the image in the canvas is normalised.
    pub normalisation: Normalisation,
    /// A second input made from the photograph itself, if the method has one.
    pub photo: Option<Arc<PhotoInput>>,
    /// The canvas made from the photograph itself, normalised, where it is not Pillow's resize; images fill it then.
    pub canvas: Option<Arc<PhotoInput>>,
}

/// Makes a second input, [1, 3, s, s], of a photograph.
pub type PhotoInput = dyn Fn(&Image) -> Result<HostTensor, ImageError> + Send + Sync;

impl Inputs {
    /// The image in the canvas alone, normalised as Segment Anything does.
    pub const CANVAS: Self = Self { normalisation: Normalisation::IMAGENET, photo: None, canvas: None };

    /// Whether the photograph itself is needed.
    pub fn need_photo(&self) -> bool {
        self.photo.is_some() || self.canvas.is_some()
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { normalisation, photo, canvas } = self;
        let (photo, canvas) = (photo.is_some(), canvas.is_some());
        f.debug_struct("Inputs").field("normalisation", normalisation).field("photo", &photo).field("canvas", &canvas).finish()
    }
}

/// A batch on the host: B images and Q sentences about them, a mask a sentence.
///
/// Normalising happens here, on the loader's threads, so that the device receives what the network sees and the padding
/// is exactly 0.
#[derive(Debug, Clone)]
pub struct HostBatch {
    /// Normalised images, [B, 3, S, S]; empty where only kept features are used.
    pub images: Vec<f32>,
    /// The second input of each image, for methods that have one.
    pub photos: Vec<HostTensor>,
    /// Soft masks, [Q, 1, S, S], 0 to 1.
    pub masks: Vec<f32>,
    /// The mask of each sentence at its image's own size, \[h, w\], 0 or 255; empty unless the loss is taken there.
    pub full_masks: Vec<Vec<u8>>,
    /// Sentences.
    pub sentences: Vec<String>,
    /// Points or a box instead of a sentence, in pixels of the canvas.
    pub prompts: Vec<Option<Prompt>>,
    /// The image of each sentence; rising.
    pub image_of: Vec<usize>,
    /// Where each image lies in its canvas.
    pub letterboxes: Vec<Letterbox>,
    /// Side S of the canvas.
    pub side: usize,
    /// What the method's image encoder makes of each image, where it is not to be computed: from a
    /// [`FeatureCache`](crate::cache::FeatureCache), or from the batch before.
    pub features: Vec<Vec<HostTensor>>,
    /// What could not be read while the batch was made; other samples stand in its place.
    pub unreadable: Vec<String>,
}

/// A tensor [1, ...] on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Values, row after row.
    pub values: Vec<f32>,
    /// Shape; the first number is 1.
    pub shape: [usize; 4],
}

impl HostTensor {
    fn on(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape), device)
    }
}

impl HostBatch {
    /// Puts samples of one canvas size together. `image_of` says which of them show one image, changed in one way; such
    /// samples follow each other.
    ///
    /// # Errors
    /// A sample that does not fit its letterbox, or a second input that cannot be made.
    pub fn new(samples: Vec<Transformed>, image_of: Vec<usize>, inputs: &Inputs) -> Result<Self, ImageError> {
        let side = samples.first().map_or(0, |s| s.letterbox.canvas);
        let first = |(i, _): &(usize, &Transformed)| *i == 0 || image_of[*i] != image_of[*i - 1];
        let shown: Vec<&Transformed> = samples.iter().enumerate().filter(first).map(|(_, s)| s).collect();
        let canvas = |s: &&Transformed| {
            let image = s.image.as_ref()?;
            Some(match (&inputs.canvas, &s.photo) {
                (Some(make), Some(photo)) => make(photo).map(|tensor| tensor.values),
                _ => s.letterbox.normalise(image, inputs.normalisation),
            })
        };
        let images = shown.par_iter().filter_map(canvas).collect::<Result<Vec<_>, _>>()?.concat();
        let photos = match &inputs.photo {
            Some(make) => shown.par_iter().filter_map(|s| s.photo.as_ref().map(|p| make(p))).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let masks = samples.iter().flat_map(|s| s.mask.iter().map(|v| f32::from(*v) / 255.0)).collect();
        let letterboxes = shown.iter().map(|s| s.letterbox).collect();
        let prompts = vec![None; samples.len()];
        let (full_masks, sentences): (Vec<_>, _) = samples.into_iter().map(|s| (s.full_mask, s.sentence)).unzip();
        let full_masks = if full_masks.iter().all(Vec::is_empty) { Vec::new() } else { full_masks };
        let (features, unreadable) = (Vec::new(), Vec::new());
        Ok(Self { images, photos, masks, full_masks, sentences, prompts, image_of, letterboxes, side, features, unreadable })
    }

    /// Puts points or boxes in place of sentences, as `kinds` and the samples' keys say.
    #[must_use]
    pub fn with_prompts(mut self, kinds: &[PromptKind], keys: impl IntoIterator<Item = u64>) -> Self {
        let masks = self.masks.chunks_exact((self.side * self.side).max(1));
        self.prompts = masks.zip(keys).map(|(mask, key)| prompt_of(kinds, mask, self.side, key)).collect();
        self
    }

    /// What each sample is prompted with, if that is not the sentence everywhere.
    pub fn prompts(&self) -> Option<Vec<Prompt>> {
        let prompt = |(prompt, text): (&Option<Prompt>, &String)| prompt.clone().unwrap_or_else(|| Prompt::Text(text.clone()));
        let any = self.prompts.iter().any(Option::is_some);
        any.then(|| self.prompts.iter().zip(&self.sentences).map(prompt).collect())
    }

    /// The batch at another side: the pixel whose corner is nearest from above left, as PyTorch's "nearest" takes it.
    #[must_use]
    pub fn rescaled(self, side: usize) -> Self {
        let from = self.side;
        if side == from || self.is_empty() {
            return self;
        }
        let at: Vec<usize> = (0..side).map(|i| i * from / side).collect();
        let resize = |planes: &[f32]| -> Vec<f32> {
            let rows = planes
                .par_chunks_exact(from * from)
                .flat_map_iter(|plane| at.iter().flat_map(|y| at.iter().map(move |x| plane[y * from + x])).collect::<Vec<_>>());
            rows.collect()
        };
        let ratio = side as f32 / from as f32;
        let moved = |prompt: &Option<Prompt>| prompt.as_ref().map(|prompt| prompt.moved([ratio; 2], [0.0; 2]));
        Self {
            images: resize(&self.images),
            masks: resize(&self.masks),
            prompts: self.prompts.iter().map(moved).collect(),
            letterboxes: self.letterboxes.iter().map(|l| l.rescaled(side)).collect(),
            side,
            ..self
        }
    }

    /// Number Q of sentences.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// Number B of images.
    pub fn image_count(&self) -> usize {
        self.letterboxes.len()
    }

    /// The images from `from` to `to`, with their sentences.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let area = self.side * self.side;
        let [a, b] = [from, to].map(|image| self.image_of.partition_point(|i| *i < image));
        Self {
            images: self.images.get(from * 3 * area..to * 3 * area).map(<[_]>::to_vec).unwrap_or_default(),
            photos: self.photos.get(from..to).map(<[_]>::to_vec).unwrap_or_default(),
            masks: self.masks[a * area..b * area].to_vec(),
            full_masks: self.full_masks.get(a..b).map(<[_]>::to_vec).unwrap_or_default(),
            sentences: self.sentences[a..b].to_vec(),
            prompts: self.prompts[a..b].to_vec(),
            image_of: self.image_of[a..b].iter().map(|i| i - from).collect(),
            letterboxes: self.letterboxes[from..to].to_vec(),
            side: self.side,
            features: self.features.get(from..to).map(<[_]>::to_vec).unwrap_or_default(),
            unreadable: Vec::new(),
        }
    }

    /// The sentences as slices.
    pub fn words(&self) -> Vec<&str> {
        self.sentences.iter().map(String::as_str).collect()
    }

    /// Where each image lies: (top, left, height, width).
    pub fn areas(&self) -> Vec<(usize, usize, usize, usize)> {
        self.letterboxes.iter().map(Letterbox::area).collect()
    }

    /// The images on a device, [B, 3, S, S].
    pub fn images(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.images.clone(), [self.image_count(), 3, self.side, self.side]), device)
    }

    /// One of the images on a device, [1, 3, S, S].
    pub fn image(&self, number: usize, device: &Device) -> Tensor<4> {
        let values = 3 * self.side * self.side;
        let of = self.images.get(number * values..(number + 1) * values).unwrap_or_default();
        Tensor::from_data(TensorData::new(of.to_vec(), [of.len() / values.max(1), 3, self.side, self.side]), device)
    }

    /// The second inputs on a device, [B, 3, s, s]; absent for methods without.
    pub fn photos(&self, device: &Device) -> Option<Tensor<4>> {
        let rows = self.photos.iter().map(|photo| photo.on(device));
        (!self.photos.is_empty()).then(|| Tensor::cat(rows.collect(), 0))
    }

    /// The masks on a device, [Q, 1, S, S].
    pub fn masks(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.masks.clone(), [self.len(), 1, self.side, self.side]), device)
    }

    /// The cached features on a device, each [B, ...]; absent where they have to be computed.
    pub fn features(&self, device: &Device) -> Option<Vec<Tensor<4>>> {
        let first = self.features.first()?;
        let stacked = (0..first.len()).map(|k| {
            let rows = self.features.iter().map(|f| f[k].on(device));
            Tensor::cat(rows.collect(), 0)
        });
        Some(stacked.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Transformed {
        let letterbox = Letterbox { canvas: 4, top: 1, left: 0, height: 2, width: 4, original: (2, 4) };
        let mask: Vec<u8> = (0..16).map(|i| if i % 4 >= 2 && (4..12).contains(&i) { 255 } else { 0 }).collect();
        let image = Some(Image::new(4, 2, 3, (12..36).collect()).unwrap());
        Transformed { image, photo: None, mask, full_mask: Vec::new(), letterbox, sentence: "left".into() }
    }

    /// Where a method makes its canvas itself, the batch holds that, and no second input.
    #[test]
    fn a_canvas_of_the_methods_own() {
        let canvas = |photo: &Image| {
            Ok(HostTensor { values: vec![photo.data().iter().map(|v| f32::from(*v)).sum(); 48], shape: [1, 3, 4, 4] })
        };
        let inputs = Inputs { canvas: Some(Arc::new(canvas)), ..Inputs::CANVAS };
        assert!(inputs.need_photo() && !Inputs::CANVAS.need_photo());
        let with_photo = Transformed { photo: Some(Image::new(1, 1, 3, vec![1, 2, 4]).unwrap()), ..sample() };
        let batch = HostBatch::new(vec![with_photo.clone()], vec![0], &inputs).unwrap();
        assert_eq!((batch.images, batch.photos), (vec![7.0; 48], Vec::new()));
        // Where kept features take the canvas' place, nothing is made.
        let kept = HostBatch::new(vec![Transformed { image: None, ..with_photo }], vec![0], &inputs).unwrap();
        assert!(kept.images.is_empty());
    }

    #[test]
    fn rescaling_takes_the_nearest_pixel_and_moves_prompts() {
        let inputs = Inputs { normalisation: Normalisation { mean: [0.0; 3], std: [1.0; 3] }, ..Inputs::CANVAS };
        let batch = HostBatch::new(vec![sample()], vec![0], &inputs).unwrap().with_prompts(&[PromptKind::Box], [1]);
        assert_eq!(batch.prompts[0], Some(Prompt::Box([2.0, 1.0, 4.0, 3.0])));
        let (masks, images) = (batch.masks.clone(), batch.images.clone());
        let half = batch.clone().rescaled(2);
        assert_eq!(half.masks, [masks[0], masks[2], masks[8], masks[10]]);
        assert_eq!(half.images[4..8], [images[16], images[18], images[24], images[26]]);
        assert_eq!(half.prompts[0], Some(Prompt::Box([1.0, 0.5, 2.0, 1.5])));
        let six = batch.rescaled(6);
        assert_eq!(six.masks[6..12], [0, 0, 1, 2, 2, 3].map(|x| masks[x]));
        assert_eq!((six.side, six.images.len()), (6, 108));
    }
}
