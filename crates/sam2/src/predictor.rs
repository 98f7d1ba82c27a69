//! One embedding per image, then as many prompts as you like.

use burn::tensor::Tensor;
use nn_ops::resize::Resize;
use pil_ops::{Fit, Image, Letterbox, MAX_CANVAS};
use sam_vit::{MASK_THRESHOLD, MaskPrediction, PromptSet, binary, decoder_calls, prompt_tensors, read_back};

use crate::error::Sam2Error;
use crate::features::Features;
use crate::mask_decoder::Answer;
use crate::preprocess::{Resampling, preprocess};
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
        self.embed_by(image, self.image_size(), Resampling::default())
    }

    /// Encodes an image at an input of `canvas` x `canvas` pixels, resized in the given way. Another size than
    /// [`Sam2::image_size`] resizes the table of positions, which SAM-2 was not trained for.
    ///
    /// # Errors
    /// An input that is no multiple of [`Sam2::input_multiple`].
    pub fn embed_by(&self, image: &Image, canvas: usize, resampling: Resampling) -> Result<ImageEmbedding, Sam2Error> {
        let features = self.without_memory(self.encode_image(image, canvas, resampling)?);
        let letterbox = Letterbox::new(image.height(), image.width(), canvas, Fit::Stretched)?;
        Ok(ImageEmbedding { features, letterbox })
    }

    pub(crate) fn encode_image(&self, image: &Image, canvas: usize, resampling: Resampling) -> Result<Features, Sam2Error> {
        let multiple = self.input_multiple();
        if canvas == 0 || canvas > MAX_CANVAS || !canvas.is_multiple_of(multiple) {
            return Err(Sam2Error::Canvas { canvas, multiple, most: MAX_CANVAS });
        }
        Ok(self.encode(preprocess(image, canvas, resampling, &self.device())?))
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
            let chosen: Vec<PromptSet> = indices.iter().map(|i| corners_as_points(&prompts[*i])).collect();
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

/// A box as two points in front of the others, labels 2 and 3.
pub(crate) fn corners_as_points(prompt: &PromptSet) -> PromptSet {
    let corners = prompt.bbox.map(|[x0, y0, x1, y1]| [([x0, y0], 2), ([x1, y1], 3)]);
    let points = corners.into_iter().flatten().chain(prompt.points.iter().copied().zip(prompt.labels.iter().copied()));
    let (points, labels) = points.unzip();
    PromptSet { points, labels, bbox: None, mask: prompt.mask.clone() }
}

/// Logits brought to an image's size in one bilinear step.
///
/// # Shapes
/// [4h, 4w] -> [height, width]
pub(crate) fn at_size(low_res: Tensor<2>, (height, width): (usize, usize)) -> Tensor<2> {
    let [tall, broad] = low_res.dims();
    Resize::BILINEAR.forward(low_res.reshape([1, 1, tall, broad]), [height, width]).reshape([height, width])
}
