//! One embedding an image, then as many prompts as you like.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use coco_mask::Rle;
use pil_ops::{Image, Letterbox, MAX_CANVAS};

use crate::error::SamError;
use crate::mask_decoder::Output;
use crate::prediction::{binary, read_back};
use crate::preprocess::{preprocess_batch, restore};
use crate::prompt_encoder::Prompts;
use crate::sam::Sam;

/// A pixel belongs to a mask where its logit is above this.
pub const MASK_THRESHOLD: f32 = 0.0;
/// Prompts that share one decoder call, as in the published mask generator.
const PROMPTS_A_CALL: usize = 64;
/// Logits at the image's size that are alive at once: 128 MB.
const PIXELS_A_PASS: usize = 1 << 25;

/// An image behind the encoder.
#[derive(Debug, Clone)]
pub struct ImageEmbedding {
    /// Features, [1, C, h, w].
    pub features: Tensor<4>,
    /// Where the image lies in the input.
    pub letterbox: Letterbox,
}

/// What is asked about an image: any of points, a box and an earlier mask, in the image's own pixels.
///
/// Nothing at all is allowed, as in the reference.
#[derive(Debug, Clone, Default)]
pub struct PromptSet {
    /// Points (x, y).
    pub points: Vec<[f64; 2]>,
    /// One label a point: 1 foreground, 0 background, -1 padding.
    pub labels: Vec<i32>,
    /// Box (x0, y0, x1, y1).
    pub bbox: Option<[f64; 4]>,
    /// Logits of an earlier prediction ([`MaskPrediction::low_res`]), [4h, 4w].
    pub mask: Option<Tensor<2>>,
}

impl PromptSet {
    /// A click on the object.
    pub fn click(x: f64, y: f64) -> Self {
        Self::default().with_point([x, y], 1)
    }

    /// A box around the object.
    pub fn boxed(bbox: [f64; 4]) -> Self {
        Self { bbox: Some(bbox), ..Self::default() }
    }

    /// Adds a point; label 1 is foreground, 0 background.
    pub fn with_point(mut self, point: [f64; 2], label: i32) -> Self {
        self.points.push(point);
        self.labels.push(label);
        self
    }

    /// Adds or replaces the earlier mask.
    pub fn with_mask(mut self, low_res: Tensor<2>) -> Self {
        self.mask = Some(low_res);
        self
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.bbox.is_none() && self.mask.is_none()
    }

    /// What prompts of one decoder call have in common.
    pub fn make(&self) -> PromptMake {
        (self.points.len(), self.bbox.is_some(), self.mask.is_some())
    }

    /// The same with the box as two points in front of the others, labels 2 and 3: how SAM-2 and EfficientSAM take boxes.
    #[must_use]
    pub fn corners_as_points(&self) -> Self {
        let corners = self.bbox.map(|[x0, y0, x1, y1]| [([x0, y0], 2), ([x1, y1], 3)]);
        let points = corners.into_iter().flatten().chain(self.points.iter().copied().zip(self.labels.iter().copied()));
        let (points, labels) = points.unzip();
        Self { points, labels, bbox: None, mask: self.mask.clone() }
    }

    /// Fails unless the prompt makes sense for an embedding whose masks have (height, width) = `low_res`; `index` is its place
    /// in the call.
    ///
    /// # Errors
    /// [`SamError::Prompt`] with what is wrong.
    pub fn check(&self, index: usize, low_res: [usize; 2]) -> Result<(), SamError> {
        let fail = |what: String| Err(SamError::Prompt { index, what });
        if self.points.len() != self.labels.len() {
            return fail(format!("{} points but {} labels; each point needs one", self.points.len(), self.labels.len()));
        }
        if let Some(label) = self.labels.iter().find(|l| !(-1..=1).contains(*l)) {
            return fail(format!("label {label}: must be 1 (foreground), 0 (background) or -1 (padding)"));
        }
        if let Some(point) = self.points.iter().find(|p| !p.iter().all(|v| v.is_finite())) {
            return fail(format!("point {point:?}: coordinates must be finite"));
        }
        if let Some(b) = self.bbox {
            if !b.iter().all(|v| v.is_finite()) {
                return fail(format!("box {b:?}: coordinates must be finite"));
            }
            if b[2] < b[0] || b[3] < b[1] {
                return fail(format!("box {b:?}: is (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1; is it (x, y, width, height)?"));
            }
        }
        match &self.mask {
            Some(mask) if mask.dims() != low_res => {
                fail(format!("mask of {:?} logits (height, width): this embedding needs {low_res:?}", mask.dims()))
            }
            _ => Ok(()),
        }
    }
}

/// Number of points, whether there is a box, whether there is a mask: [`PromptSet::make`].
pub type PromptMake = (usize, bool, bool);

/// One mask for a prompt.
#[derive(Debug, Clone)]
pub struct MaskPrediction {
    /// The mask at the image's size, as COCO's column-major runs.
    pub mask: Rle,
    /// Its logits at low resolution, [4h, 4w]; valid as [`PromptSet::mask`] of the next call.
    pub low_res: Tensor<2>,
    /// Predicted IoU with the true mask (not limited to 0..1).
    pub iou: f32,
}

impl Sam {
    /// Side of the input that the position tables are made for, in pixels.
    pub fn image_size(&self) -> usize {
        let [_, grid, _, _] = self.image_encoder.pos_embed.lazy_shape().dims();
        grid * self.patch_size()
    }

    /// Side of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        let [_, _, _, patch] = self.image_encoder.patch_embed.proj.weight.lazy_shape().dims();
        patch
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.image_encoder.pos_embed.lazy_device()
    }

    /// Encodes an image once, at the published input size.
    ///
    /// # Errors
    /// A device that fails.
    pub fn embed(&self, image: &Image) -> Result<ImageEmbedding, SamError> {
        let mut all = self.embed_batch(std::slice::from_ref(image), self.image_size())?;
        all.pop().ok_or_else(|| SamError::Device("the encoder gave no embedding".into()))
    }

    /// Encodes images of any sizes in one pass, at an input of `canvas` x `canvas` pixels. Another size than
    /// [`Sam::image_size`] resizes the position tables: faster and coarser, or slower and finer, but not what SAM was
    /// trained at.
    ///
    /// # Errors
    /// An input that is no multiple of the patch.
    pub fn embed_batch(&self, images: &[Image], canvas: usize) -> Result<Vec<ImageEmbedding>, SamError> {
        let patch = self.patch_size();
        if canvas == 0 || canvas > MAX_CANVAS || !canvas.is_multiple_of(patch) {
            return Err(SamError::Canvas { canvas, patch, most: MAX_CANVAS });
        }
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let (input, letterboxes) = preprocess_batch(images, canvas, &self.device())?;
        let features = self.image_encoder.forward(input);
        let one = |(i, letterbox)| ImageEmbedding { features: features.clone().narrow(0, i, 1), letterbox };
        Ok(letterboxes.into_iter().enumerate().map(one).collect())
    }

    /// Masks for one prompt: one with [`Output::Single`], three with [`Output::Multi`].
    ///
    /// For a box or several points take the single mask; for one click the best of three by [`MaskPrediction::iou`].
    ///
    /// # Errors
    /// A prompt that makes no sense: counts that differ, unknown labels, coordinates that are not finite, an inverted
    /// box, a mask of another size.
    pub fn predict(
        &self,
        embedding: &ImageEmbedding,
        prompt: &PromptSet,
        output: Output,
    ) -> Result<Vec<MaskPrediction>, SamError> {
        let mut all = self.predict_batch(embedding, std::slice::from_ref(prompt), output)?;
        all.pop().ok_or_else(|| SamError::Device("the decoder gave no mask".into()))
    }

    /// [`Sam::predict`] for many prompts, in their order. Prompts of the same make (as many points, box or not, mask or
    /// not) share decoder calls.
    ///
    /// # Errors
    /// As [`Sam::predict`]; the error names the prompt.
    pub fn predict_batch(
        &self,
        embedding: &ImageEmbedding,
        prompts: &[PromptSet],
        output: Output,
    ) -> Result<Vec<Vec<MaskPrediction>>, SamError> {
        let [_, _, height, width] = embedding.features.dims();
        let canvas = (embedding.letterbox.canvas, embedding.letterbox.canvas);
        let mut results: Vec<Vec<MaskPrediction>> = vec![Vec::new(); prompts.len()];
        for indices in decoder_calls(prompts, [4 * height, 4 * width])? {
            let chosen: Vec<&PromptSet> = indices.iter().map(|i| &prompts[*i]).collect();
            let tensors = prompt_tensors(&chosen, &embedding.letterbox, &embedding.features.device());
            let (low_res, iou) = self.decode(embedding.features.clone(), tensors, canvas, output);
            let [_, number, tall, broad] = low_res.dims();
            let iou = read_back(iou)?;
            let low_res = low_res.reshape([indices.len() * number, tall, broad]);
            let (letterbox, to_full) = (&embedding.letterbox, |low_res| restore(low_res, &embedding.letterbox));
            let masks = masks_at_full_size(&low_res, letterbox, to_full, |logits, h, w| binary(logits, h, w, MASK_THRESHOLD))?;
            for (at, (mask, iou)) in masks.into_iter().zip(iou).enumerate() {
                let low_res = low_res.clone().narrow(0, at, 1).reshape([tall, broad]);
                results[indices[at / number]].push(MaskPrediction { mask, low_res, iou });
            }
        }
        Ok(results)
    }
}

/// Numbers of the prompts that share each decoder call: those of the same make (as many points, box or not, mask or not).
///
/// # Errors
/// The first prompt that makes no sense; masks must have `low_res` = [4h, 4w] logits.
pub fn decoder_calls(prompts: &[PromptSet], low_res: [usize; 2]) -> Result<Vec<Vec<usize>>, SamError> {
    for (index, prompt) in prompts.iter().enumerate() {
        prompt.check(index, low_res)?;
    }
    Ok(grouped(prompts.iter().map(PromptSet::make), PROMPTS_A_CALL))
}

/// Places of equal keys together, each group in their order and of at most `most`.
pub fn grouped<K: Ord>(keys: impl IntoIterator<Item = K>, most: usize) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (index, key) in keys.into_iter().enumerate() {
        groups.entry(key).or_default().push(index);
    }
    groups.values().flat_map(|group| group.chunks(most.max(1))).map(<[usize]>::to_vec).collect()
}

/// Prompts of one make as the prompt encoder takes them.
pub fn prompt_tensors(prompts: &[&PromptSet], letterbox: &Letterbox, device: &Device) -> Prompts {
    let (count, points) = (prompts.len(), prompts.first().map_or(0, |p| p.points.len()));
    let coordinates: Vec<f32> = prompts.iter().flat_map(|p| &p.points).flat_map(|p| letterbox.point(*p)).collect();
    let labels: Vec<i64> = prompts.iter().flat_map(|p| &p.labels).map(|l| i64::from(*l)).collect();
    let boxes: Vec<f32> = prompts.iter().filter_map(|p| p.bbox).flat_map(|b| letterbox.bbox(b)).collect();
    let masks: Vec<Tensor<4>> = prompts.iter().filter_map(|p| p.mask.clone()).map(Tensor::unsqueeze::<4>).collect();
    Prompts {
        points: (points > 0).then(|| {
            let coordinates = Tensor::from_data(TensorData::new(coordinates, [count, points, 2]), device);
            (coordinates, Tensor::<2, Int>::from_data(TensorData::new(labels, [count, points]), device))
        }),
        boxes: (!boxes.is_empty()).then(|| Tensor::from_data(TensorData::new(boxes, [count, 4]), device)),
        masks: (!masks.is_empty()).then(|| Tensor::cat(masks, 0)),
        tokens: None,
    }
}

/// Brings logits to the image's size with `restore`, a few at a time, and gives each (row-major, height, width) to `each`.
///
/// # Shapes
/// `low_res`: [N, 4h, 4w]; `restore`: [N, 1, 4h, 4w] -> [N, 1, height, width]
///
/// # Errors
/// Those of `each`, or a device that cannot be read.
pub fn masks_at_full_size<T>(
    low_res: &Tensor<3>,
    letterbox: &Letterbox,
    restore: impl Fn(Tensor<4>) -> Tensor<4>,
    mut each: impl FnMut(&[f32], usize, usize) -> Result<T, SamError>,
) -> Result<Vec<T>, SamError> {
    let count = low_res.dims()[0];
    let (height, width) = letterbox.original;
    let largest = (height * width).max(letterbox.canvas * letterbox.canvas);
    let step = (PIXELS_A_PASS / largest).max(1);
    let mut out = Vec::with_capacity(count);
    for from in (0..count).step_by(step) {
        let some = low_res.clone().narrow(0, from, step.min(count - from)).unsqueeze_dim::<4>(1);
        let full = read_back(restore(some))?;
        for logits in full.chunks_exact(height * width) {
            out.push(each(logits, height, width)?);
        }
    }
    Ok(out)
}
