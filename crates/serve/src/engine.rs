//! `Engine`: what the model thread asks, which is a text-prompted model or a Segment Anything model itself.

use std::any::Any;

use figures::HeatPage;
use image::RgbImage;
use models::{AnyEmbedding, AnyModel, ModelError, Question};
use pil_ops::Image;
use sam_vit::{Prediction, SamError};
use serde::Serialize;

/// What a model is and can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Its name in paths: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its weights are, in words.
    pub weights: String,
    /// Its method: `dit`, `evf`, `risam`, `sam`, `efficient-sam` or `sam2`.
    pub method: String,
    /// Whether it reads sentences.
    pub sentences: bool,
    /// Whether its decoder takes points and boxes.
    pub points: bool,
    /// Whether it has attention maps.
    pub attention: bool,
}

impl ModelInfo {
    /// A name of the allowed letters, made of any.
    pub fn name_from(text: &str) -> String {
        let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
        let name = name.trim_matches(['-', '.']);
        if name.is_empty() { "saymask".to_owned() } else { name.to_owned() }
    }
}

/// An image behind a model's encoder.
pub struct Encoded {
    /// Columns of the image, upright.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes of the features.
    pub bytes: usize,
    /// The features, which the model that made them knows.
    pub features: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({} x {}, {} bytes)", self.width, self.height, self.bytes)
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Mask, score and box.
    pub prediction: Prediction,
    /// Probability that what the sentence says is there at all; none where the model has no such score.
    pub presence: Option<f32>,
    /// The mask's parts, where they were asked for, the largest first.
    pub instances: Option<Vec<Prediction>>,
    /// What of the sentence is beyond the model's tokens and not read.
    pub not_read: Option<String>,
}

/// Why a model did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The question makes no sense to it.
    #[error("{0}")]
    Question(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// A model as the server sees it. It lives on one thread.
pub trait Engine: Send + 'static {
    /// What it is.
    fn info(&self) -> ModelInfo;

    /// Encodes an image once.
    ///
    /// # Errors
    /// An image that the model refuses, or a device that fails.
    fn encode(&self, image: &Image) -> Result<Encoded, EngineError>;

    /// An answer per question; with `instances` the parts of each mask apart.
    ///
    /// # Errors
    /// A question that the model refuses, or a device that fails.
    fn ask(&self, image: &Encoded, questions: &[Question], instances: bool) -> Result<Vec<Answer>, EngineError>;

    /// Where text and image attend to each other, drawn.
    ///
    /// # Errors
    /// A model without such maps, or a sentence that it refuses.
    fn attention(&self, image: &Image, sentence: &str) -> Result<RgbImage, EngineError>;
}

/// A text-prompted model.
pub struct TextEngine {
    model: AnyModel,
    info: ModelInfo,
}

impl TextEngine {
    /// A model under a name, with what its weights are in words.
    pub fn new(model: AnyModel, name: &str, weights: &str) -> Self {
        let method = match &model {
            AnyModel::Dit(_) => "dit",
            AnyModel::Evf(_) => "evf",
            AnyModel::Risam(_) => "risam",
        };
        let info = ModelInfo {
            name: ModelInfo::name_from(name),
            weights: weights.to_owned(),
            method: method.to_owned(),
            sentences: true,
            points: model.takes_points(),
            attention: true,
        };
        Self { model, info }
    }

    fn not_read(&self, question: &Question) -> Result<Option<String>, EngineError> {
        let Some(sentence) = &question.sentence else { return Ok(None) };
        Ok(self.model.truncation(sentence)?.map(|truncation| truncation.dropped))
    }
}

impl Engine for TextEngine {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn encode(&self, image: &Image) -> Result<Encoded, EngineError> {
        let embedding = self.model.embed(image)?;
        let bytes = embedding.bytes();
        Ok(Encoded { width: image.width(), height: image.height(), bytes, features: Box::new(embedding) })
    }

    fn ask(&self, image: &Encoded, questions: &[Question], instances: bool) -> Result<Vec<Answer>, EngineError> {
        let embedding: &AnyEmbedding = features(image)?;
        let mut answers = Vec::with_capacity(questions.len());
        let mut add = |question: &Question, prediction: Prediction, instances: Option<Vec<Prediction>>| {
            let not_read = self.not_read(question)?;
            answers.push(Answer { prediction, presence: None, instances, not_read });
            Ok::<(), EngineError>(())
        };
        if instances {
            for (question, logits) in questions.iter().zip(self.model.ask_logits(embedding, questions)?) {
                add(question, logits.prediction().map_err(sam)?, Some(logits.instances().map_err(sam)?))?;
            }
        } else {
            for (question, prediction) in questions.iter().zip(self.model.ask_with(embedding, questions)?) {
                add(question, prediction, None)?;
            }
        }
        Ok(answers)
    }

    fn attention(&self, image: &Image, sentence: &str) -> Result<RgbImage, EngineError> {
        let attention = self.model.attention(image, sentence)?;
        let page = HeatPage::new(format!("\"{sentence}\""), format!("attention to the image, {}", self.info.weights));
        let page = HeatPage { notes: attention.notes, ..page };
        page.draw(&image.to_rgb8(), &attention.maps).map_err(|error| EngineError::Failed(error.to_string()))
    }
}

/// The features that a model made itself.
pub(crate) fn features<T: 'static>(image: &Encoded) -> Result<&T, EngineError> {
    image.features.downcast_ref().ok_or_else(|| EngineError::Failed("another model encoded this image".into()))
}

/// An error of Segment Anything: the question's fault or not.
pub(crate) fn sam(error: SamError) -> EngineError {
    match error {
        SamError::Prompt { .. } | SamError::Image(_) | SamError::Canvas { .. } => EngineError::Question(error.to_string()),
        error => EngineError::Failed(error.to_string()),
    }
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> Self {
        if error.is_about_the_question() { Self::Question(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}
