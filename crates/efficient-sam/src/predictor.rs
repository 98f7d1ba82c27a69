//! One embedding per image, then as many prompts as you like.

use burn::tensor::{Device, Int, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Fit, Image, Letterbox, MAX_CANVAS, Normalisation};
use sam_vit::{
    AutomaticConfig, ClickModel, ImageEmbedding, MaskPrediction, Output, PromptSet, Region, SamError, binary, masks_at_full_size,
    read_back,
};

use crate::model::{EfficientSam, by_iou};
use crate::prompt_encoder::{BOTTOM_RIGHT, INVALID, TOP_LEFT, prepare_points};

/// Prompts that share one decoder call.
const PROMPTS_PER_CALL: usize = 64;
/// Values from 0 to 1.
const UNIT: Normalisation = Normalisation { mean: [0.0; 3], std: [255.0; 3] };

/// Resizes images of values in [0, 1] to `side` x `side`, bilinear with half-pixel centres, no antialiasing and no regard to
/// the aspect, and normalises them.
///
/// # Shapes
/// [B, 3, H, W] -> [B, 3, side, side]
pub fn preprocess(images: Tensor<4>, side: usize) -> Tensor<4> {
    let device = images.device();
    let channel = |values: [f32; 3]| Tensor::<1>::from_floats(values.map(|v| v / 255.0), &device).reshape([1, 3, 1, 1]);
    let Normalisation { mean, std } = Normalisation::IMAGENET;
    (Resize::BILINEAR.forward(images, [side, side]) - channel(mean)) / channel(std)
}

/// Brings low-resolution logits straight to the image's size: bicubic, half-pixel centres, no antialiasing.
///
/// # Shapes
/// [N, M, 4h, 4w] -> [N, M, height, width]
pub fn postprocess(low_res: Tensor<4>, (height, width): (usize, usize)) -> Tensor<4> {
    Resize::BICUBIC.forward(low_res, [height, width])
}

impl EfficientSam {
    /// Encodes an image once.
    ///
    /// # Errors
    /// An image beyond the sizes that can be placed.
    pub fn embed(&self, image: &Image) -> Result<ImageEmbedding, SamError> {
        let mut all = self.embed_batch(std::slice::from_ref(image), self.image_size())?;
        all.pop().ok_or_else(|| SamError::Device("the encoder gave no embedding".into()))
    }

    /// Encodes images of any sizes in one pass, at an input of `canvas` x `canvas` pixels. Another size than
    /// [`EfficientSam::image_size`] resizes the positions to a grid that the model was not trained at.
    ///
    /// # Errors
    /// An image beyond the sizes that can be placed, or an input that is no multiple of the patch.
    pub fn embed_batch(&self, images: &[Image], canvas: usize) -> Result<Vec<ImageEmbedding>, SamError> {
        let patch = self.patch_size();
        if canvas == 0 || canvas > MAX_CANVAS || !canvas.is_multiple_of(patch) {
            return Err(SamError::Canvas { canvas, patch, most: MAX_CANVAS });
        }
        let (mut inputs, mut letterboxes) = (Vec::new(), Vec::new());
        for image in images {
            let unit =
                Tensor::from_data(TensorData::new(UNIT.planes(image), [1, 3, image.height(), image.width()]), &self.device());
            inputs.push(preprocess(unit, canvas));
            letterboxes.push(Letterbox::new(image.height(), image.width(), canvas, Fit::Stretched)?);
        }
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.image_encoder.forward(Tensor::cat(inputs, 0));
        let one = |(i, letterbox)| ImageEmbedding { features: features.clone().narrow(0, i, 1), letterbox };
        Ok(letterboxes.into_iter().enumerate().map(one).collect())
    }

    /// Masks for one prompt: one with [`Output::Single`], three in the order of falling IoU with [`Output::Multi`]. A pixel is
    /// foreground where its logit is at least 0.
    ///
    /// # Errors
    /// A prompt that makes no sense, with a mask, without any point or box, or of more points than
    /// [`EfficientSam::max_points`]; a box counts as two.
    pub fn predict(
        &self,
        embedding: &ImageEmbedding,
        prompt: &PromptSet,
        output: Output,
    ) -> Result<Vec<MaskPrediction>, SamError> {
        let mut all = self.predict_batch(embedding, std::slice::from_ref(prompt), output)?;
        all.pop().ok_or_else(|| SamError::Device("the decoder gave no mask".into()))
    }

    /// [`EfficientSam::predict`] for many prompts, in their order.
    ///
    /// # Errors
    /// As [`EfficientSam::predict`]; the error names the prompt.
    pub fn predict_batch(
        &self,
        embedding: &ImageEmbedding,
        prompts: &[PromptSet],
        output: Output,
    ) -> Result<Vec<Vec<MaskPrediction>>, SamError> {
        let [_, _, height, width] = embedding.features.dims();
        for (index, prompt) in prompts.iter().enumerate() {
            check(prompt, index, [4 * height, 4 * width], self.max_points())?;
        }
        let (place, device) = (&embedding.letterbox, embedding.features.device());
        let mut results = Vec::with_capacity(prompts.len());
        for group in prompts.chunks(PROMPTS_PER_CALL) {
            let (points, labels) = to_tensors(group, self.max_points(), place, &device);
            let (low_res, iou) = self.decode_points(embedding.features.clone(), points, labels, output);
            let [_, number, tall, broad] = low_res.dims();
            let iou = read_back(iou)?;
            let low_res = low_res.reshape([group.len() * number, tall, broad]);
            let restore = |low_res| postprocess(low_res, place.original);
            // At least 0 is above the number next to it.
            let masks = masks_at_full_size(&low_res, place, restore, |logits, h, w| binary(logits, h, w, 0f32.next_down()))?;
            for (row, iou) in iou.chunks(number).enumerate() {
                let order = by_iou(iou, 0).into_iter().map(|i| (row * number + i, iou[i]));
                let one = |(at, iou): (usize, f32)| MaskPrediction {
                    mask: masks[at].clone(),
                    low_res: low_res.clone().narrow(0, at, 1).reshape([tall, broad]),
                    iou,
                };
                results.push(order.map(one).collect());
            }
        }
        Ok(results)
    }

    /// Finds masks all over an image with SAM's generator, the best of a crop first.
    ///
    /// # Errors
    /// Settings out of range, or a device that fails.
    pub fn segment_everything(&self, image: &Image, config: &AutomaticConfig) -> Result<Vec<Region>, SamError> {
        config.segment_everything(self, image)
    }
}

impl ClickModel for EfficientSam {
    type Embedding = ImageEmbedding;

    fn embed(&self, image: &Image) -> Result<ImageEmbedding, SamError> {
        Self::embed(self, image)
    }

    fn letterbox(embedding: &ImageEmbedding) -> &Letterbox {
        &embedding.letterbox
    }

    fn device(&self) -> Device {
        Self::device(self)
    }

    fn click(&self, embedding: &ImageEmbedding, points: Tensor<3>) -> Result<(Tensor<4>, Tensor<2>), SamError> {
        let labels = Tensor::<2, Int>::ones([points.dims()[0], 1], &points.device());
        let input = (embedding.letterbox.canvas, embedding.letterbox.canvas);
        let (points, labels) = prepare_points(points, labels, self.max_points(), input, input);
        Ok(self.decode_points(embedding.features.clone(), points, labels, Output::Multi))
    }

    fn restore(&self, low_res: Tensor<4>, letterbox: &Letterbox) -> Tensor<4> {
        postprocess(low_res, letterbox.original)
    }
}

fn check(prompt: &PromptSet, index: usize, low_res: [usize; 2], most: usize) -> Result<(), SamError> {
    prompt.check(index, low_res)?;
    let fail = |what: String| Err(SamError::Prompt { index, what });
    if prompt.mask.is_some() {
        return fail("a mask: EfficientSAM takes points and boxes only".into());
    }
    let count = prompt.points.len() + 2 * usize::from(prompt.bbox.is_some());
    if count == 0 {
        return fail("is empty; give a point or a box".into());
    }
    if count > most {
        return fail(format!("{count} points, of which a box is two: EfficientSAM sees {most}"));
    }
    Ok(())
}

/// `number` points per prompt, a box's corners first, in pixels of the network's input.
fn to_tensors(prompts: &[PromptSet], number: usize, place: &Letterbox, device: &Device) -> (Tensor<3>, Tensor<2, Int>) {
    let (mut points, mut labels) = (Vec::new(), Vec::new());
    for prompt in prompts {
        let corners = prompt.bbox.iter().flat_map(|b| [([b[0], b[1]], TOP_LEFT), ([b[2], b[3]], BOTTOM_RIGHT)]);
        let clicks = prompt.points.iter().copied().zip(prompt.labels.iter().copied());
        let padding = std::iter::repeat(([-1.0, -1.0], INVALID));
        for ([x, y], label) in corners.chain(clicks).chain(padding).take(number) {
            points.extend([x as f32, y as f32]);
            labels.push(label);
        }
    }
    let points = Tensor::from_data(TensorData::new(points, [prompts.len(), number, 2]), device);
    let labels = Tensor::from_data(TensorData::new(labels, [prompts.len(), number]), device);
    prepare_points(points, labels, number, place.original, (place.canvas, place.canvas))
}
