//! `Question`: a sentence, points and a box about one object, and `AnyModel::ask_with`, which answers it over a kept encoding.

use burn::tensor::Tensor;
use pil_ops::Letterbox;
use sam_vit::{MaskLogits, Prediction, PromptSet, SamError};

use crate::any::{AnyEmbedding, AnyModel};
use crate::error::ModelError;

/// What is asked about an image: a sentence, points and a box, or several of them about one object.
///
/// ```
/// use models::Question;
///
/// let plain = Question::sentence("the zebra on the left");
/// let corrected = plain.clone().with_point([310.0, 95.0], 1).with_point([120.0, 200.0], 0);
/// assert_eq!((plain.prompt.is_empty(), corrected.prompt.labels), (true, vec![1, 0]));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// What to look for; none where points or a box alone say what is meant.
    pub sentence: Option<String>,
    /// Points, a box and an earlier mask, in the image's own pixels.
    pub prompt: PromptSet,
}

impl Question {
    /// A sentence alone.
    pub fn sentence(sentence: impl Into<String>) -> Self {
        Self { sentence: Some(sentence.into()), prompt: PromptSet::default() }
    }

    /// Points and a box alone.
    pub fn prompt(prompt: PromptSet) -> Self {
        Self { sentence: None, prompt }
    }

    /// Adds a click in the image's own pixels: label 1 on the object, 0 beside it.
    #[must_use]
    pub fn with_point(mut self, point: [f64; 2], label: i32) -> Self {
        self.prompt = self.prompt.with_point(point, label);
        self
    }

    /// Adds or replaces the box, (x0, y0, x1, y1) in the image's own pixels.
    #[must_use]
    pub fn with_box(mut self, bbox: [f64; 4]) -> Self {
        self.prompt.bbox = Some(bbox);
        self
    }

    fn parts(&self) -> (Option<&str>, &PromptSet) {
        (self.sentence.as_deref(), &self.prompt)
    }
}

impl AnyModel {
    /// Whether its decoder takes points and boxes: SAM's does, so DIT and EVF-SAM do; RISAM has a decoder of its own.
    pub fn takes_points(&self) -> bool {
        !matches!(self, Self::Risam(_))
    }

    /// One mask per question, at the image's own size. A question that is a sentence alone has the answer of
    /// [`AnyModel::ask`].
    ///
    /// # Errors
    /// What the method refuses: a sentence without words, a prompt that makes no sense, points or a box where
    /// [`AnyModel::takes_points`] is false, an embedding of another method.
    pub fn ask_with(&self, embedding: &AnyEmbedding, questions: &[Question]) -> Result<Vec<Prediction>, ModelError> {
        let parts: Vec<_> = questions.iter().map(Question::parts).collect();
        Ok(match (self, embedding) {
            (Self::Dit(model), AnyEmbedding::Dit(embedding)) => model.ask_with(embedding, &parts)?,
            (Self::Evf(model), AnyEmbedding::Evf(embedding)) => model.ask_with(embedding, &parts)?,
            (Self::Risam(model), AnyEmbedding::Risam(embedding)) => model.ask(embedding, &sentences(&parts)?)?,
            _ => return Err(ModelError::Unsupported("use for an embedding that another method made")),
        })
    }

    /// As [`AnyModel::ask_with`], the masks before their threshold: for [`MaskLogits::instances`].
    ///
    /// # Errors
    /// As there.
    pub fn ask_logits(&self, embedding: &AnyEmbedding, questions: &[Question]) -> Result<Vec<MaskLogits>, ModelError> {
        let parts: Vec<_> = questions.iter().map(Question::parts).collect();
        Ok(match (self, embedding) {
            (Self::Dit(model), AnyEmbedding::Dit(embedding)) => model.ask_logits(embedding, &parts)?,
            (Self::Evf(model), AnyEmbedding::Evf(embedding)) => model.ask_logits(embedding, &parts)?,
            (Self::Risam(model), AnyEmbedding::Risam(embedding)) => model.ask_logits(embedding, &sentences(&parts)?)?,
            _ => return Err(ModelError::Unsupported("use for an embedding that another method made")),
        })
    }
}

/// The sentences of questions that have nothing else.
fn sentences<'a>(questions: &[(Option<&'a str>, &PromptSet)]) -> Result<Vec<&'a str>, ModelError> {
    let sentence = |(index, (sentence, prompt)): (usize, &(Option<&'a str>, &PromptSet))| match sentence {
        Some(sentence) if prompt.is_empty() => Ok(*sentence),
        _ => {
            let what = "points, boxes and masks: this method's decoder takes sentences alone".to_owned();
            Err(ModelError::Prompt(SamError::Prompt { index, what }))
        }
    };
    questions.iter().enumerate().map(sentence).collect()
}

impl AnyEmbedding {
    /// Bytes of the features that are kept.
    pub fn bytes(&self) -> usize {
        fn of<const D: usize>(tensor: &Tensor<D>) -> usize {
            tensor.dims().iter().product::<usize>() * tensor.dtype().size()
        }
        match self {
            Self::Dit(embedding) => match &embedding.features {
                fusion_dit::DitFeatures::Input(map) | fusion_dit::DitFeatures::Embedding(map) => of(map),
            },
            Self::Evf(embedding) => embedding.features.maps.iter().map(of).sum::<usize>() + of(&embedding.features.multimodal),
            Self::Risam(embedding) => of(&embedding.map),
        }
    }

    /// Where the image lies in the network's input; its own size is in [`Letterbox::original`].
    pub fn letterbox(&self) -> &Letterbox {
        match self {
            Self::Dit(embedding) => &embedding.letterbox,
            Self::Evf(embedding) => &embedding.letterbox,
            Self::Risam(embedding) => &embedding.letterbox,
        }
    }
}
