//! `EvfPredictor`: an image and sentences in, masks out.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use nn_ops::ConfigError;
use nn_ops::config::quoted;
use pil_ops::{Image, Letterbox};
use sam_vit::{MaskLogits, Prediction, PromptSet, SamError, grouped, prompt_tensors};
use text_encoders::TextTokenizer;

use crate::encoder::MultimodalEncoder;
use crate::error::EvfError;
use crate::model::{EvfFeatures, EvfModel};
use crate::net::EvfOutput;
use crate::visual::Visual;

/// Sentences that go through the network together.
const SENTENCES_PER_PASS: usize = 8;

/// An EVF-SAM ready to use: weights and tokenizer.
#[derive(Clone)]
pub struct EvfPredictor {
    model: EvfModel,
    tokenizer: Arc<dyn TextTokenizer>,
}

/// An image, encoded once and asked as often as wanted: [`EvfPredictor::embed`].
#[derive(Debug, Clone)]
pub struct EvfEmbedding {
    /// What no sentence changes, of this one image.
    pub features: EvfFeatures,
    /// Where the image lies in the image model's input.
    pub letterbox: Letterbox,
}

impl std::fmt::Debug for EvfPredictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.model.config();
        write!(f, "EvfPredictor({:?} on {:?}, input {})", config.encoder, config.visual, config.input_size())
    }
}

impl EvfPredictor {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// A tokenizer that can put out ids without a row in the encoder's table.
    pub fn new(model: &EvfModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, EvfError> {
        model.config().validate()?;
        model.mm_extractor.text().check_tokenizer(tokenizer.as_ref())?;
        Ok(Self { model: model.valid(), tokenizer })
    }

    /// The weights, for inference.
    pub fn model(&self) -> &EvfModel {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<dyn TextTokenizer> {
        &self.tokenizer
    }

    /// Another threshold than the configuration's: the probability above which a pixel is foreground.
    ///
    /// # Errors
    /// Nothing between 0 and 1.
    pub fn with_threshold(mut self, threshold: f64) -> Result<Self, EvfError> {
        self.model.net.config.threshold = threshold;
        self.model.config().validate()?;
        Ok(self)
    }

    /// Encodes an image by the image model's encoder, and prepares the multimodal encoder's input.
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn embed(&self, image: &Image) -> Result<EvfEmbedding, EvfError> {
        let (images, letterbox) = self.model.config().preprocess(image, &self.model.device())?;
        Ok(EvfEmbedding { features: self.model.encode_images(images), letterbox })
    }

    /// One mask per sentence, at the image's own size.
    ///
    /// SAM's postprocessing: logits go to the input's size, lose the padding, go to the image's size and are compared with
    /// the threshold. Where the image fills the input, they go to the image's size in one step.
    ///
    /// # Errors
    /// A sentence without words.
    pub fn ask(&self, embedding: &EvfEmbedding, sentences: &[&str]) -> Result<Vec<Prediction>, EvfError> {
        let EvfEmbedding { features, letterbox } = embedding;
        let threshold = self.model.config().threshold_logit() as f32;
        let mut predictions = Vec::with_capacity(sentences.len());
        for group in sentences.chunks(SENTENCES_PER_PASS) {
            let batch = self.model.tokens(self.tokenizer.as_ref(), group)?;
            let logits = self.model.forward_features(features, &batch, &vec![0; group.len()])?.logits;
            // A pixel of the input is one of the logits by their sides.
            let letterbox = letterbox.rescaled(logits.dims()[3]);
            predictions.extend(Prediction::from_batch(logits, &letterbox, threshold)?);
        }
        Ok(predictions)
    }

    /// As [`EvfPredictor::ask`], each sentence beside points, a box and an earlier mask in the image's own pixels, which go to the
    /// image model's decoder in front of the sentence's token. Without a sentence they are asked alone.
    ///
    /// # Errors
    /// A sentence without words, a prompt that makes no sense, or neither; a mask on EfficientSAM, which takes none.
    pub fn ask_with(
        &self,
        embedding: &EvfEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
    ) -> Result<Vec<Prediction>, EvfError> {
        self.answer(embedding, questions, Prediction::from_batch)
    }

    /// As [`EvfPredictor::ask_with`], the masks before their threshold.
    ///
    /// # Errors
    /// As there.
    pub fn ask_logits(
        &self,
        embedding: &EvfEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
    ) -> Result<Vec<MaskLogits>, EvfError> {
        self.answer(embedding, questions, MaskLogits::from_batch)
    }

    fn answer<T>(
        &self,
        embedding: &EvfEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
        read: impl Fn(Tensor<4>, &Letterbox, f32) -> Result<Vec<T>, SamError>,
    ) -> Result<Vec<T>, EvfError> {
        self.check(embedding, questions)?;
        let threshold = self.model.config().threshold_logit() as f32;
        let mut answers: Vec<Option<T>> = questions.iter().map(|_| None).collect();
        let makes = questions.iter().map(|(sentence, prompt)| (sentence.is_some(), prompt.make()));
        for group in grouped(makes, SENTENCES_PER_PASS) {
            let chosen: Vec<_> = group.iter().map(|i| questions[*i]).collect();
            let logits = self.forward_questions(embedding, &chosen)?.logits;
            let letterbox = embedding.letterbox.rescaled(logits.dims()[3]);
            for (place, answer) in group.into_iter().zip(read(logits, &letterbox, threshold)?) {
                answers[place] = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn check(&self, embedding: &EvfEmbedding, questions: &[(Option<&str>, &PromptSet)]) -> Result<(), EvfError> {
        let low_res = embedding.features.maps.first().map_or([0; 2], |map| {
            let [_, _, height, width] = map.dims();
            [4 * height, 4 * width]
        });
        let most = match &self.model.net.visual_model {
            Visual::Efficient(sam) => sam.max_points(),
            Visual::Sam(_) | Visual::Sam2(_) => usize::MAX,
        };
        for (index, (sentence, prompt)) in questions.iter().enumerate() {
            prompt.check(index, low_res)?;
            let count = prompt.points.len() + 2 * usize::from(prompt.bbox.is_some());
            let what = if sentence.is_none() && prompt.is_empty() {
                "is empty; give a sentence, a point or a box".to_owned()
            } else if count > most {
                format!("{count} points, of which a box is two: EfficientSAM sees {most}")
            } else {
                continue;
            };
            return Err(SamError::Prompt { index, what }.into());
        }
        Ok(())
    }

    /// Questions of one make about one image.
    fn forward_questions(
        &self,
        embedding: &EvfEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
    ) -> Result<EvfOutput, EvfError> {
        let EvfEmbedding { features, letterbox } = embedding;
        let image_of = vec![0; questions.len()];
        let sentences: Vec<&str> = questions.iter().filter_map(|(sentence, _)| *sentence).collect();
        let corners = !matches!(self.model.net.visual_model, Visual::Sam(_));
        let placed: Vec<PromptSet> =
            questions.iter().map(|(_, prompt)| if corners { prompt.corners_as_points() } else { (*prompt).clone() }).collect();
        let mut prompts = prompt_tensors(&placed.iter().collect::<Vec<_>>(), letterbox, &self.model.device());
        if !sentences.is_empty() {
            let batch = self.model.tokens(self.tokenizer.as_ref(), &sentences)?;
            prompts.tokens =
                Some(self.model.net.tokens(self.model.extract(features.multimodal.clone(), &batch, &image_of)?)?);
        }
        self.model.net.forward_prompts(features.maps.clone(), prompts, &image_of, self.model.config().answer(false))
    }

    /// [`EvfPredictor::embed`], then [`EvfPredictor::ask`].
    ///
    /// # Errors
    /// As both.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, EvfError> {
        self.ask(&self.embed(image)?, sentences)
    }

    /// Where the image's `[CLS]`, which becomes SAM's prompt, attends in BEiT-3's last layer (EVF-SAM Fig. 5).
    ///
    /// # Errors
    /// As [`EvfPredictor::predict`], or an encoder that does not read image and text together in BEiT-3.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<EvfAttention, EvfError> {
        let config = self.model.config();
        let MultimodalEncoder::Beit3Early(joint) = &self.model.mm_extractor else {
            let expected = "\"beit3_early\" for attention maps: the others have none of `[CLS]` over the image";
            return Err(ConfigError::new("encoder", quoted(&config.encoder), expected).into());
        };
        let (images, _) = config.preprocess(image, &self.model.device())?;
        let batch = self.model.tokens(self.tokenizer.as_ref(), &[sentence])?;
        let patches = config.beit3.patches();
        let map = joint.beit3.last_attention(images.multimodal, &batch, &[0])?.narrow(2, 0, 1).narrow(3, 1, patches);
        let values = map.try_into_vec_as::<f32>().map_err(|e| SamError::Device(format!("attention: {e}")))?;
        let heads = values.chunks_exact(patches).map(<[f32]>::to_vec).collect();
        Ok(EvfAttention { grid: config.beit3.image_size / config.beit3.patch_size, heads })
    }
}

/// Where `[CLS]` attends: [`EvfPredictor::attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct EvfAttention {
    /// Side g of the patch grid, which covers the whole image.
    pub grid: usize,
    /// One map per head, g x g, row by row: shares of the attention, the rest of which lies on `[CLS]` and on words.
    pub heads: Vec<Vec<f32>>,
}

impl EvfAttention {
    /// The mean over heads, g x g.
    pub fn mean(&self) -> Vec<f32> {
        let count = self.heads.len().max(1) as f32;
        (0..self.grid * self.grid).map(|i| self.heads.iter().map(|h| h[i]).sum::<f32>() / count).collect()
    }
}
