//! `Prompt`: points, boxes and text, mixed in one batch (DIT Tab. 6).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use nn_ops::rows::select_rows;
use sam_vit::{PromptSet, Prompts, SamError, prompt_tensors};
use text_encoders::{Encoding, Padding, TextBatch, TextTokenizer};

use crate::error::DitError;
use crate::model::{DitFeatures, DitModel, check_rows};
use crate::predict::DitEmbedding;

/// What says which object is meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A sentence.
    Text(String),
    /// Points on the object, (x, y) in pixels.
    Points(Vec<[f32; 2]>),
    /// The box around it, (x0, y0, x1, y1) in pixels.
    Box([f32; 4]),
}

impl Prompt {
    /// The same prompt after pixels moved: (x, y) becomes (x `scale[0]` + `shift[0]`, y `scale[1]` + `shift[1]`).
    #[must_use]
    pub fn moved(&self, scale: [f32; 2], shift: [f32; 2]) -> Self {
        let to = |[x, y]: [f32; 2]| [x * scale[0] + shift[0], y * scale[1] + shift[1]];
        match self {
            Self::Text(text) => Self::Text(text.clone()),
            Self::Points(points) => Self::Points(points.iter().copied().map(to).collect()),
            Self::Box([x0, y0, x1, y1]) => {
                let ([x0, y0], [x1, y1]) = (to([*x0, *y0]), to([*x1, *y1]));
                Self::Box([x0, y0, x1, y1])
            }
        }
    }

    /// Prompts of equal groups go through the decoder together.
    fn group(&self) -> (u8, usize) {
        match self {
            Self::Text(_) => (0, 0),
            Self::Points(points) => (1, points.len()),
            Self::Box(_) => (2, 0),
        }
    }

    fn check(&self, index: usize) -> Result<(), SamError> {
        let wrong = |what: String| Err(SamError::Prompt { index, what });
        match self {
            Self::Points(points) if points.is_empty() => wrong("no points; give at least one (x, y)".into()),
            Self::Points(points) if !points.iter().flatten().all(|v| v.is_finite()) => {
                wrong(format!("{points:?}: coordinates must be finite"))
            }
            Self::Box(b) if !(b.iter().all(|v| v.is_finite()) && b[0] <= b[2] && b[1] <= b[3]) => {
                wrong(format!("box {b:?}: is (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, all finite"))
            }
            _ => Ok(()),
        }
    }
}

impl DitModel {
    /// Mask logits of each prompt. `image_of[q]` is the image that prompt q is about.
    ///
    /// Text reaches encoder and decoder. Points and boxes go to the decoder's prompt encoder only, as in SAM; the encoder's
    /// slots then hold an empty sentence, so that the slots are never without content (the paper leaves this open; its
    /// latency of 123 ms is the same for all prompts).
    ///
    /// # Shapes
    /// `features`: B images; `prompts`: Q, in pixels of the network's input; output: [Q, 1, H, W]
    ///
    /// # Errors
    /// No prompt at all or one without content, numbers that do not fit, a sentence that the tokenizer refuses.
    pub fn forward_prompts(
        &self,
        tokenizer: &dyn TextTokenizer,
        features: &DitFeatures,
        prompts: &[Prompt],
        image_of: &[usize],
    ) -> Result<Tensor<4>, DitError> {
        check_rows(features.images(), prompts.len(), image_of)?;
        let mut groups: BTreeMap<(u8, usize), Vec<usize>> = BTreeMap::new();
        for (index, prompt) in prompts.iter().enumerate() {
            prompt.check(index)?;
            groups.entry(prompt.group()).or_default().push(index);
        }
        let mut order = vec![0; prompts.len()];
        for (place, index) in groups.values().flatten().enumerate() {
            order[*index] = place;
        }
        let logits = groups.values().map(|members| {
            let of_group: Vec<&Prompt> = members.iter().map(|i| &prompts[*i]).collect();
            let images: Vec<usize> = members.iter().map(|i| image_of[*i]).collect();
            self.forward_group(tokenizer, features, &of_group, &images)
        });
        let logits = logits.collect::<Result<Vec<_>, _>>()?;
        if logits.is_empty() {
            return Err(SamError::Prompt { index: 0, what: "is missing; give at least one".into() }.into());
        }
        Ok(select_rows(Tensor::cat(logits, 0), &order))
    }

    /// Prompts of one kind and length.
    fn forward_group(
        &self,
        tokenizer: &dyn TextTokenizer,
        features: &DitFeatures,
        prompts: &[&Prompt],
        image_of: &[usize],
    ) -> Result<Tensor<4>, DitError> {
        let count = prompts.len();
        let (mut sentences, mut points, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in prompts {
            match prompt {
                Prompt::Text(text) => sentences.push(text.as_str()),
                Prompt::Points(these) => points.extend(these.iter().flatten().copied()),
                Prompt::Box(corners) => boxes.extend_from_slice(corners),
            }
        }
        if !sentences.is_empty() {
            return Ok(self.forward_features(features, &self.tokens(tokenizer, &sentences)?, image_of)?.logits);
        }
        let device = features.device();
        let mut asked = Prompts::default();
        if boxes.is_empty() {
            let each = points.len() / (2 * count);
            let points = Tensor::from_data(TensorData::new(points, [count, each, 2]), &device);
            asked.points = Some((points, Tensor::ones([count, each], &device)));
        } else {
            asked.boxes = Some(Tensor::from_data(TensorData::new(boxes, [count, 4]), &device));
        }
        let embedding = match features.rows(image_of) {
            DitFeatures::Input(images) => self.net.encode(images, Some(self.encode_nothing(tokenizer, count)?)),
            DitFeatures::Embedding(map) => map,
        };
        Ok(self.net.decode_by(embedding, asked, self.config().prompt_mask).logits)
    }

    /// Mask logits of questions of one make about one image: sentences, prompts, or both beside each other.
    ///
    /// # Shapes
    /// output: [Q, 1, H, W]
    pub(crate) fn forward_questions(
        &self,
        tokenizer: &dyn TextTokenizer,
        embedding: &DitEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
    ) -> Result<Tensor<4>, DitError> {
        let DitEmbedding { features, letterbox } = embedding;
        let count = questions.len();
        let sentences: Vec<&str> = questions.iter().filter_map(|(sentence, _)| *sentence).collect();
        let prompts: Vec<&PromptSet> = questions.iter().map(|(_, prompt)| *prompt).collect();
        let mut asked = prompt_tensors(&prompts, letterbox, &features.device());
        let text = if sentences.is_empty() {
            self.encode_nothing(tokenizer, count)?
        } else {
            let text = self.encode_text(&self.tokens(tokenizer, &sentences)?)?;
            asked.tokens = self.net.text_prompts(text.clone()).tokens;
            text
        };
        let embedding = match features.rows(&vec![0; count]) {
            DitFeatures::Input(images) => self.net.encode(images, Some(text)),
            DitFeatures::Embedding(map) => map,
        };
        Ok(self.net.decode(embedding, asked).logits)
    }

    /// Features of `count` empty sentences: start, end and padding.
    ///
    /// # Shapes
    /// output: [`count`, L, text_dim]
    fn encode_nothing(&self, tokenizer: &dyn TextTokenizer, count: usize) -> Result<Tensor<3>, DitError> {
        let empty = Encoding { ids: tokenizer.wrap(&[]), truncated: false };
        self.encode_text(&TextBatch::new(vec![empty; count], tokenizer.pad_id(), self.config().text_tokens, Padding::Max)?)
    }
}
