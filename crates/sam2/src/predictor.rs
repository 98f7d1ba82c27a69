//! One embedding per image, then as many prompts as you like.

use burn::tensor::{Device, Int, Tensor};
use nn_ops::resize::Resize;
use pil_ops::{Fit, Image, Letterbox, MAX_CANVAS};
use sam_vit::{
    AutomaticConfig, ClickModel, MASK_THRESHOLD, MaskPrediction, PromptSet, Prompts, Region, SamError, binary, decoder_calls,
    prompt_tensors, read_back,
};

use crate::error::Sam2Error;
use crate::features::Features;
use crate::mask_decoder::Answer;
use crate::preprocess::{Resampling, preprocess_batch};
use crate::sam2::Sam2;

/// An image behind the encoder.
#[derive(Debug, Clone)]
pub struct ImageEmbedding {
    /// Features of one image, for prompts without a memory.
    pub features: Features,
    /// How the image lies in the input: stretched over all of it.
    pub letterbox: Letterbox,
}

impl Sam2 {
    /// Encodes an image once, at the published input size.
    ///
    /// # Errors
    /// A published size that was changed to what the network cannot run at.
    pub fn embed(&self, image: &Image) -> Result<ImageEmbedding, Sam2Error> {
        let mut all = self.embed_batch(std::slice::from_ref(image), self.image_size(), Resampling::default())?;
        Ok(all.pop().ok_or_else(|| SamError::Device("the encoder gave no embedding".into()))?)
    }

    /// Encodes images of any sizes in one pass, at an input of `canvas` x `canvas` pixels, resized in the given way. Another
    /// size than [`Sam2::image_size`] resizes the table of positions, which SAM-2 was not trained for.
    ///
    /// # Errors
    /// An input that is no multiple of [`Sam2::input_multiple`].
    pub fn embed_batch(&self, images: &[Image], canvas: usize, resampling: Resampling) -> Result<Vec<ImageEmbedding>, Sam2Error> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.without_memory(self.encode_images(images, canvas, resampling)?);
        let embedding = |(i, image): (usize, &Image)| {
            let letterbox = Letterbox::new(image.height(), image.width(), canvas, Fit::Stretched)?;
            Ok(ImageEmbedding { features: features.one(i), letterbox })
        };
        images.iter().enumerate().map(embedding).collect()
    }

    pub(crate) fn encode_images(&self, images: &[Image], canvas: usize, resampling: Resampling) -> Result<Features, Sam2Error> {
        let multiple = self.input_multiple();
        if canvas == 0 || canvas > MAX_CANVAS || !canvas.is_multiple_of(multiple) {
            return Err(Sam2Error::Canvas { canvas, multiple, most: MAX_CANVAS });
        }
        Ok(self.encode(preprocess_batch(images, canvas, resampling, &self.device())?))
    }

    /// Masks for one prompt: three with [`Answer::Three`], else one.
    ///
    /// For one click take the best of three, for a box or several points [`Answer::StableElseBest`].
    ///
    /// # Errors
    /// A prompt that makes no sense: counts that differ, unknown labels, coordinates that are not finite, an inverted box, a
    /// mask of another size.
    pub fn predict(
        &self,
        embedding: &ImageEmbedding,
        prompt: &PromptSet,
        answer: Answer,
    ) -> Result<Vec<MaskPrediction>, Sam2Error> {
        Ok(self.predict_batch(embedding, std::slice::from_ref(prompt), answer)?.into_iter().flatten().collect())
    }

    /// [`Sam2::predict`] for many prompts, in their order. Prompts of the same make (as many points, box or not, mask or not)
    /// share decoder calls.
    ///
    /// # Errors
    /// As [`Sam2::predict`]; the error names the prompt.
    pub fn predict_batch(
        &self,
        embedding: &ImageEmbedding,
        prompts: &[PromptSet],
        answer: Answer,
    ) -> Result<Vec<Vec<MaskPrediction>>, Sam2Error> {
        let [_, _, height, width] = embedding.features.image.dims();
        let mut results: Vec<Vec<MaskPrediction>> = vec![Vec::new(); prompts.len()];
        for indices in decoder_calls(prompts, [4 * height, 4 * width])? {
            let chosen: Vec<PromptSet> = indices.iter().map(|i| prompts[*i].corners_as_points()).collect();
            let chosen: Vec<&PromptSet> = chosen.iter().collect();
            let tensors = prompt_tensors(&chosen, &embedding.letterbox, &embedding.features.image.device());
            let of_one = vec![0; indices.len()];
            let (low_res, iou) = self.decode(&embedding.features, &of_one, tensors)?.answer(answer);
            let [_, number, tall, broad] = low_res.dims();
            let low_res = low_res.reshape([indices.len() * number, tall, broad]);
            for (at, iou) in read_back(iou)?.into_iter().enumerate() {
                let low_res = low_res.clone().narrow(0, at, 1).reshape([tall, broad]);
                let (height, width) = embedding.letterbox.original;
                let logits = read_back(at_size(low_res.clone(), (height, width)))?;
                let mask = binary(&logits, height, width, MASK_THRESHOLD)?;
                results[indices[at / number]].push(MaskPrediction { mask, low_res, iou });
            }
        }
        Ok(results)
    }
}

impl Sam2 {
    /// Finds masks all over an image with SAM's generator, the best of a crop first.
    ///
    /// # Errors
    /// Settings out of range, or a device that fails.
    pub fn segment_everything(&self, image: &Image, config: &AutomaticConfig) -> Result<Vec<Region>, Sam2Error> {
        Ok(config.segment_everything(self, image)?)
    }
}

impl ClickModel for Sam2 {
    type Embedding = ImageEmbedding;

    fn embed(&self, image: &Image) -> Result<ImageEmbedding, SamError> {
        Self::embed(self, image).map_err(as_sam)
    }

    fn letterbox(embedding: &ImageEmbedding) -> &Letterbox {
        &embedding.letterbox
    }

    fn device(&self) -> Device {
        Self::device(self)
    }

    fn click(&self, embedding: &ImageEmbedding, points: Tensor<3>) -> Result<(Tensor<4>, Tensor<2>), SamError> {
        let count = points.dims()[0];
        let labels = Tensor::<2, Int>::ones([count, 1], &points.device());
        let prompts = Prompts { points: Some((points, labels)), ..Prompts::default() };
        let decoded = self.decode(&embedding.features, &vec![0; count], prompts).map_err(as_sam)?;
        Ok(decoded.answer(Answer::Three))
    }

    fn restore(&self, low_res: Tensor<4>, letterbox: &Letterbox) -> Tensor<4> {
        Resize::BILINEAR.forward(low_res, [letterbox.original.0, letterbox.original.1])
    }
}

/// What SAM's generator can say.
fn as_sam(error: Sam2Error) -> SamError {
    match error {
        Sam2Error::Sam(error) => error,
        Sam2Error::Image(error) => error.into(),
        Sam2Error::Canvas { canvas, multiple, most } => SamError::Canvas { canvas, patch: multiple, most },
        other => SamError::Device(other.to_string()),
    }
}

/// Logits brought to an image's size in one bilinear step.
///
/// # Shapes
/// [4h, 4w] -> [height, width]
pub(crate) fn at_size(low_res: Tensor<2>, (height, width): (usize, usize)) -> Tensor<2> {
    let [tall, broad] = low_res.dims();
    Resize::BILINEAR.forward(low_res.reshape([1, 1, tall, broad]), [height, width]).reshape([height, width])
}
