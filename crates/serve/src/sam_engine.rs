//! `SamEngine`: SAM, EfficientSAM and SAM-2 themselves as engines; points and boxes, no sentences.

use burn::tensor::Tensor;
use efficient_sam::EfficientSam;
use image::RgbImage;
use models::Question;
use pil_ops::Image;
use sam_vit::{ClickModel, MaskPrediction, Output, Prediction, PromptSet, Sam, SamError, connected_parts};
use sam2::{Answer as Sam2Answer, Sam2, Sam2Error};

use crate::engine::{Answer, Encoded, Engine, EngineError, ModelInfo, features, sam};

/// A model that answers points and boxes.
pub trait Promptable: ClickModel<Embedding: Send + Sync + 'static> + Send + 'static {
    /// What [`ModelInfo::method`] says.
    const METHOD: &'static str;

    /// Masks of a prompt, among which the one of the highest predicted IoU answers it. A single click is `ambiguous`: whole, part
    /// or subpart may be meant.
    ///
    /// # Errors
    /// A prompt that the model refuses, or a device that fails.
    fn masks(&self, embedding: &Self::Embedding, prompt: &PromptSet, ambiguous: bool)
    -> Result<Vec<MaskPrediction>, EngineError>;

    /// Bytes of the features that are kept.
    fn bytes(embedding: &Self::Embedding) -> usize;
}

impl Promptable for Sam {
    const METHOD: &'static str = "sam";

    fn masks(
        &self,
        embedding: &Self::Embedding,
        prompt: &PromptSet,
        ambiguous: bool,
    ) -> Result<Vec<MaskPrediction>, EngineError> {
        let output = if ambiguous { Output::Multi } else { Output::Single };
        self.predict(embedding, prompt, output).map_err(sam)
    }

    fn bytes(embedding: &Self::Embedding) -> usize {
        bytes(&embedding.features)
    }
}

impl Promptable for EfficientSam {
    const METHOD: &'static str = "efficient-sam";

    /// Always the best of three, as in its reference.
    fn masks(&self, embedding: &Self::Embedding, prompt: &PromptSet, _: bool) -> Result<Vec<MaskPrediction>, EngineError> {
        self.predict(embedding, prompt, Output::Multi).map_err(sam)
    }

    fn bytes(embedding: &Self::Embedding) -> usize {
        bytes(&embedding.features)
    }
}

impl Promptable for Sam2 {
    const METHOD: &'static str = "sam2";

    fn masks(
        &self,
        embedding: &Self::Embedding,
        prompt: &PromptSet,
        ambiguous: bool,
    ) -> Result<Vec<MaskPrediction>, EngineError> {
        let answer = if ambiguous { Sam2Answer::BestOfThree } else { Sam2Answer::StableElseBest };
        self.predict(embedding, prompt, answer).map_err(|error| match error {
            Sam2Error::Sam(error) => sam(error),
            error => EngineError::Failed(error.to_string()),
        })
    }

    fn bytes(embedding: &Self::Embedding) -> usize {
        let maps = &embedding.features;
        [&maps.image, &maps.h1, &maps.h0].into_iter().map(bytes).sum()
    }
}

fn bytes(map: &Tensor<4>) -> usize {
    map.dims().iter().product::<usize>() * map.dtype().size()
}

/// A Segment Anything model without text.
pub struct SamEngine<M> {
    model: M,
    info: ModelInfo,
}

impl<M: Promptable> SamEngine<M> {
    /// A model under a name, with what its weights are in words.
    pub fn new(model: M, name: &str, weights: &str) -> Self {
        let info = ModelInfo {
            name: ModelInfo::name_from(name),
            weights: weights.to_owned(),
            method: M::METHOD.to_owned(),
            sentences: false,
            points: true,
            attention: false,
        };
        Self { model, info }
    }

    /// The best mask of a prompt, as `saymask segment` answers it.
    fn best(&self, embedding: &M::Embedding, question: &Question, instances: bool) -> Result<Answer, EngineError> {
        if question.sentence.is_some() {
            return Err(EngineError::Question("this model reads no sentences; give points or a box".into()));
        }
        let prompt = &question.prompt;
        if prompt.is_empty() {
            return Err(EngineError::Question("nothing is asked; give a point or a box".into()));
        }
        let ambiguous = prompt.points.len() == 1 && prompt.bbox.is_none();
        let masks = self.model.masks(embedding, prompt, ambiguous)?;
        let best = masks.into_iter().max_by(|a, b| a.iou.total_cmp(&b.iou));
        let best = best.ok_or_else(|| EngineError::Failed("the decoder gave no mask".into()))?;
        let scored = |mask: coco_mask::Rle| Prediction { bbox: mask.bbox(), score: best.iou, mask };
        let parts = |mask| Ok::<_, SamError>(connected_parts(mask)?.into_iter().map(scored).collect());
        let instances = if instances { Some(parts(&best.mask).map_err(sam)?) } else { None };
        Ok(Answer { prediction: scored(best.mask.clone()), presence: None, instances, not_read: None })
    }
}

impl<M: Promptable> Engine for SamEngine<M> {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn encode(&self, image: &Image) -> Result<Encoded, EngineError> {
        let embedding = self.model.embed(image).map_err(sam)?;
        let bytes = M::bytes(&embedding);
        Ok(Encoded { width: image.width(), height: image.height(), bytes, features: Box::new(embedding) })
    }

    fn ask(&self, image: &Encoded, questions: &[Question], instances: bool) -> Result<Vec<Answer>, EngineError> {
        let embedding: &M::Embedding = features(image)?;
        questions.iter().map(|question| self.best(embedding, question, instances)).collect()
    }

    fn attention(&self, _: &Image, _: &str) -> Result<RgbImage, EngineError> {
        Err(EngineError::Question("this model reads no sentences and has no attention maps".into()))
    }
}
