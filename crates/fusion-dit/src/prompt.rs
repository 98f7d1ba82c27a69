//! Points, boxes and text, mixed in one batch (DIT Tab. 6).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use nn_ops::rows::select_rows;
use sam_vit::{Prompts, SamError};
use text_encoders::TextTokenizer;

use crate::config::DitConfig;
use crate::error::DitError;
use crate::model::DitModel;

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
    /// Mask logits of each image under its own prompt.
    ///
    /// Text reaches encoder and decoder. Points and boxes go to the decoder's prompt encoder only, as in SAM; the encoder's
    /// slots then hold an empty sentence, so that the slots are never without content (the paper leaves this open; its
    /// latency of 123 ms is the same for all prompts).
    ///
    /// # Shapes
    /// `images`: [B, 3, H, W], normalised and padded, or [1, 3, H, W] for a variant that keeps text out of the encoder, which
    /// then runs once; B prompts, in pixels of this input; output: [B, 1, H, W]
    ///
    /// # Errors
    /// Another number of prompts than images, a prompt without content, a sentence that the tokenizer refuses.
    pub fn forward_prompts(
        &self,
        config: &DitConfig,
        tokenizer: &dyn TextTokenizer,
        images: Tensor<4>,
        prompts: &[Prompt],
    ) -> Result<Tensor<4>, DitError> {
        let (count, available) = (prompts.len(), images.dims()[0]);
        let shared = available == 1 && !config.variant.instructs_encoder();
        if count == 0 || available != count && !shared {
            let what = format!("{count} prompts for {available} images; each image needs one");
            return Err(SamError::Prompt { index: count.min(available), what }.into());
        }
        let mut groups: BTreeMap<(u8, usize), Vec<usize>> = BTreeMap::new();
        for (index, prompt) in prompts.iter().enumerate() {
            prompt.check(index)?;
            groups.entry(prompt.group()).or_default().push(index);
        }
        if groups.len() == 1 {
            return self.forward_group(config, tokenizer, images, &prompts.iter().collect::<Vec<_>>());
        }
        let mut back = vec![0; count];
        let mut logits = Vec::with_capacity(groups.len());
        for (place, index) in groups.values().flatten().enumerate() {
            back[*index] = place;
        }
        for members in groups.values() {
            let mine: Vec<&Prompt> = members.iter().map(|i| &prompts[*i]).collect();
            let theirs = if shared { images.clone() } else { select_rows(images.clone(), members) };
            logits.push(self.forward_group(config, tokenizer, theirs, &mine)?);
        }
        Ok(select_rows(Tensor::cat(logits, 0), &back))
    }

    /// Prompts of one kind and length.
    fn forward_group(
        &self,
        config: &DitConfig,
        tokenizer: &dyn TextTokenizer,
        images: Tensor<4>,
        prompts: &[&Prompt],
    ) -> Result<Tensor<4>, DitError> {
        let device = images.device();
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
            return Ok(self.forward(config, tokenizer, images, &sentences)?.logits);
        }
        let mut asked = Prompts::default();
        if boxes.is_empty() {
            let each = points.len() / (2 * count);
            let points = Tensor::from_data(TensorData::new(points, [count, each, 2]), &device);
            asked.points = Some((points, Tensor::ones([count, each], &device)));
        } else {
            asked.boxes = Some(Tensor::from_data(TensorData::new(boxes, [count, 4]), &device));
        }
        let text = config.variant.instructs_encoder();
        let text = text.then(|| self.lang_encoder.read_nothing(tokenizer, count, config.text_tokens)).transpose()?;
        Ok(self.net.forward_prompts(config, images, text, asked).logits)
    }
}
