//! `SamEngine`: Segment Anything itself as an engine; points and boxes, no sentences.

use image::RgbImage;
use models::Question;
use pil_ops::Image;
use sam_vit::{ImageEmbedding, Output, Prediction, Sam, connected_parts};

use crate::engine::{Answer, Encoded, Engine, EngineError, ModelInfo, features, sam};

/// Segment Anything without text.
pub struct SamEngine {
    sam: Sam,
    info: ModelInfo,
}

impl SamEngine {
    /// A model under a name, with what its weights are in words.
    pub fn new(sam: Sam, name: &str, weights: &str) -> Self {
        let info = ModelInfo {
            name: ModelInfo::name_from(name),
            weights: weights.to_owned(),
            method: "sam".to_owned(),
            sentences: false,
            points: true,
            attention: false,
        };
        Self { sam, info }
    }

    /// The best mask of a prompt, as `saymask segment` answers it: of a single click, which is ambiguous, the best of three.
    fn best(&self, embedding: &ImageEmbedding, question: &Question, instances: bool) -> Result<Answer, EngineError> {
        if question.sentence.is_some() {
            return Err(EngineError::Question("this model reads no sentences; give points or a box".into()));
        }
        let prompt = &question.prompt;
        if prompt.is_empty() {
            return Err(EngineError::Question("nothing is asked; give a point or a box".into()));
        }
        let ambiguous = prompt.points.len() == 1 && prompt.bbox.is_none();
        let output = if ambiguous { Output::Multi } else { Output::Single };
        let masks = self.sam.predict(embedding, prompt, output).map_err(sam)?;
        let best = masks.into_iter().max_by(|a, b| a.iou.total_cmp(&b.iou));
        let best = best.ok_or_else(|| EngineError::Failed("the decoder gave no mask".into()))?;
        let scored = |mask: coco_mask::Rle| Prediction { bbox: mask.bbox(), score: best.iou, mask };
        let instances =
            if instances { Some(connected_parts(&best.mask).map_err(sam)?.into_iter().map(scored).collect()) } else { None };
        Ok(Answer { prediction: scored(best.mask.clone()), presence: None, instances, not_read: None })
    }
}

impl Engine for SamEngine {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn encode(&self, image: &Image) -> Result<Encoded, EngineError> {
        let embedding = self.sam.embed(image).map_err(sam)?;
        let map = &embedding.features;
        let bytes = map.dims().iter().product::<usize>() * map.dtype().size();
        Ok(Encoded { width: image.width(), height: image.height(), bytes, features: Box::new(embedding) })
    }

    fn ask(&self, image: &Encoded, questions: &[Question], instances: bool) -> Result<Vec<Answer>, EngineError> {
        let embedding: &ImageEmbedding = features(image)?;
        questions.iter().map(|question| self.best(embedding, question, instances)).collect()
    }

    fn attention(&self, _: &Image, _: &str) -> Result<RgbImage, EngineError> {
        Err(EngineError::Question("this model reads no sentences and has no attention maps".into()))
    }
}
