//! `DitPredictor`: an image and sentences in, masks out.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use nn_ops::ConfigError;
use nn_ops::config::quoted;
use pil_ops::{Fit, Image, Letterbox, Normalisation};
use sam_vit::{MaskLogits, Prediction, PromptSet, SamError, grouped};
use text_encoders::{TextEncoder, TextTokenizer};

use crate::error::DitError;
use crate::model::{DitFeatures, DitModel};
use crate::prompt::Prompt;

/// Sentences or other prompts that go through the network together.
const SENTENCES_PER_PASS: usize = 8;

/// A DIT ready to use: weights and tokenizer.
#[derive(Clone)]
pub struct DitPredictor {
    model: DitModel,
    tokenizer: Arc<dyn TextTokenizer>,
}

/// An image, prepared once and asked as often as wanted: [`DitPredictor::embed`].
#[derive(Debug, Clone)]
pub struct DitEmbedding {
    /// What no sentence changes, of this one image.
    pub features: DitFeatures,
    /// Where the image lies in the network's input.
    pub letterbox: Letterbox,
}

impl std::fmt::Debug for DitPredictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.model.config();
        write!(f, "DitPredictor({:?}, input {})", config.variant, config.input_size)
    }
}

impl DitPredictor {
    /// Puts the parts together; a training model is turned into one for inference.
    ///
    /// # Errors
    /// A tokenizer that can put out ids without a row in the text encoder's table.
    pub fn new(model: &DitModel, tokenizer: Arc<dyn TextTokenizer>) -> Result<Self, DitError> {
        model.config().validate()?;
        model.lang_encoder.check_tokenizer(tokenizer.as_ref())?;
        Ok(Self { model: model.valid(), tokenizer })
    }

    /// The weights, for inference.
    pub fn model(&self) -> &DitModel {
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
    pub fn with_threshold(mut self, threshold: f64) -> Result<Self, DitError> {
        self.model.net.config.threshold = threshold;
        self.model.config().validate()?;
        Ok(self)
    }

    /// Prepares an image: brought to the network's input with its long side and centred. Text runs through the image
    /// encoder, so this is all that is done once per image, except by the default fusion, which encodes it here.
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn embed(&self, image: &Image) -> Result<DitEmbedding, DitError> {
        let (input, letterbox) = self.input(image)?;
        Ok(DitEmbedding { features: self.model.encode_images(input), letterbox })
    }

    /// One mask per sentence, at the image's own size.
    ///
    /// The logits of the image's area are resized bilinearly to the original size and compared with the threshold. (The
    /// released evaluation resizes the binary map instead, which makes masks up to a pixel larger; evaluation under that
    /// rule is a profile of the metrics crate.)
    ///
    /// # Errors
    /// A sentence without words.
    pub fn ask(&self, embedding: &DitEmbedding, sentences: &[&str]) -> Result<Vec<Prediction>, DitError> {
        let prompts: Vec<Prompt> = sentences.iter().map(|s| Prompt::Text((*s).to_owned())).collect();
        self.ask_prompts(embedding, &prompts)
    }

    /// As [`DitPredictor::ask`] under any prompts, in pixels of the image itself (Tab. 6).
    ///
    /// # Errors
    /// A prompt without content, or as [`DitPredictor::ask`].
    pub fn ask_prompts(&self, embedding: &DitEmbedding, prompts: &[Prompt]) -> Result<Vec<Prediction>, DitError> {
        let DitEmbedding { features, letterbox } = embedding;
        let scale = letterbox.factors().map(|f| f as f32);
        let shift = [letterbox.left as f32, letterbox.top as f32];
        let prompts: Vec<Prompt> = prompts.iter().map(|p| p.moved(scale, shift)).collect();
        let threshold = self.model.config().threshold_logit() as f32;
        let mut predictions = Vec::with_capacity(prompts.len());
        for group in prompts.chunks(SENTENCES_PER_PASS) {
            let image_of = vec![0; group.len()];
            let logits = self.model.forward_prompts(self.tokenizer.as_ref(), features, group, &image_of)?;
            predictions.extend(Prediction::from_batch(logits, letterbox, threshold)?);
        }
        Ok(predictions)
    }

    /// As [`DitPredictor::ask`], each sentence beside points, a box and an earlier mask in the image's own pixels, which go to the
    /// decoder in front of the text. Without a sentence the encoder's slots hold an empty one.
    ///
    /// # Errors
    /// A sentence without words, a prompt that makes no sense, or neither.
    pub fn ask_with(
        &self,
        embedding: &DitEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
    ) -> Result<Vec<Prediction>, DitError> {
        self.answer(embedding, questions, Prediction::from_batch)
    }

    /// As [`DitPredictor::ask_with`], the masks before their threshold.
    ///
    /// # Errors
    /// As there.
    pub fn ask_logits(
        &self,
        embedding: &DitEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
    ) -> Result<Vec<MaskLogits>, DitError> {
        self.answer(embedding, questions, MaskLogits::from_batch)
    }

    fn answer<T>(
        &self,
        embedding: &DitEmbedding,
        questions: &[(Option<&str>, &PromptSet)],
        read: impl Fn(Tensor<4>, &Letterbox, f32) -> Result<Vec<T>, SamError>,
    ) -> Result<Vec<T>, DitError> {
        let threshold = self.model.config().threshold_logit() as f32;
        let low_res = [4 * self.model.config().grid(); 2];
        for (index, (sentence, prompt)) in questions.iter().enumerate() {
            prompt.check(index, low_res)?;
            if sentence.is_none() && prompt.is_empty() {
                return Err(SamError::Prompt { index, what: "is empty; give a sentence, a point or a box".into() }.into());
            }
        }
        let mut answers: Vec<Option<T>> = questions.iter().map(|_| None).collect();
        let makes = questions.iter().map(|(sentence, prompt)| (sentence.is_some(), prompt.make()));
        for group in grouped(makes, SENTENCES_PER_PASS) {
            let chosen: Vec<_> = group.iter().map(|i| questions[*i]).collect();
            let logits = self.model.forward_questions(self.tokenizer.as_ref(), embedding, &chosen)?;
            for (place, answer) in group.into_iter().zip(read(logits, &embedding.letterbox, threshold)?) {
                answers[place] = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// [`DitPredictor::embed`], then [`DitPredictor::ask`].
    ///
    /// # Errors
    /// As both.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, DitError> {
        self.ask(&self.embed(image)?, sentences)
    }

    /// [`DitPredictor::embed`], then [`DitPredictor::ask_prompts`].
    ///
    /// # Errors
    /// As both.
    pub fn predict_prompts(&self, image: &Image, prompts: &[Prompt]) -> Result<Vec<Prediction>, DitError> {
        self.ask_prompts(&self.embed(image)?, prompts)
    }

    /// Where each word of a sentence attends in each block of the image encoder (DIT Fig. 5).
    ///
    /// # Errors
    /// As [`DitPredictor::predict`], or a variant that keeps text out of the encoder.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<DitAttention, DitError> {
        let config = self.model.config();
        if self.model.net.instruction.is_none() {
            let expected = "another for attention maps: its text meets the image in the mask decoder only";
            return Err(ConfigError::new("variant", quoted(&config.variant), expected).into());
        }
        let (input, letterbox) = self.input(image)?;
        let words = self.tokenizer.words(sentence, config.text_tokens)?;
        let maps = self.model.attention(input, &self.model.tokens(self.tokenizer.as_ref(), &[sentence])?)?;
        let layers = maps.into_iter().map(|map| {
            let [_, slots, height, width] = map.dims();
            let map = map.reshape([slots, height * width]);
            words.iter().map(|(_, at)| read(map.clone().narrow(0, at.start, at.len()).mean_dim(0))).collect()
        });
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(DitAttention {
            words: words.into_iter().map(|(word, _)| word).collect(),
            grid: config.grid(),
            area: letterbox.relative_area(),
            layers,
        })
    }

    /// How much the image's regions attend to each other under a sentence, per block (paper Fig. 5, "Default SAM"): the region at a place
    /// (x, y) in pixels of the image, or the mean over all regions. One map per block, whose column is called "image".
    ///
    /// # Errors
    /// As [`DitPredictor::attention`], but for variants that keep text out of the encoder, which have these maps, too; a place outside of
    /// the image.
    pub fn image_attention(&self, image: &Image, sentence: &str, place: Option<[f32; 2]>) -> Result<DitAttention, DitError> {
        let config = self.model.config();
        let (input, letterbox) = self.input(image)?;
        let grid = config.grid();
        let region = place.map(|place| region(place, image, &letterbox, grid)).transpose()?;
        let text = match self.model.net.instruction {
            Some(_) => Some(self.model.encode_text(&self.model.tokens(self.tokenizer.as_ref(), &[sentence])?)?),
            None => None,
        };
        let maps = self.model.net.image_attention(input, text, region);
        let layers = maps.into_iter().map(|map| Ok(vec![read(map.reshape([1, grid * grid]))?]));
        let layers = layers.collect::<Result<_, DitError>>()?;
        Ok(DitAttention { words: vec!["image".into()], grid, area: letterbox.relative_area(), layers })
    }

    /// The image in the middle of the input, [1, 3, S, S], and where it lies there.
    fn input(&self, image: &Image) -> Result<(Tensor<4>, Letterbox), DitError> {
        let side = self.model.config().input_size;
        let letterbox = Letterbox::new(image.height(), image.width(), side, Fit::Centre).map_err(SamError::from)?;
        let resized = letterbox.resize(image).map_err(SamError::from)?;
        let values = letterbox.normalise(&resized, Normalisation::IMAGENET).map_err(SamError::from)?;
        let values = TensorData::new(values, [1, 3, side, side]);
        Ok((Tensor::from_data(values, &self.model.device()), letterbox))
    }
}

/// Where words attend: [`DitPredictor::attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct DitAttention {
    /// The words, those beyond the text's limit left out.
    pub words: Vec<String>,
    /// Side g of the token grid.
    pub grid: usize,
    /// The part of the grid that the image covers, (top, left, bottom, right) in sides of the grid; the rest is padding.
    pub area: [f32; 4],
    /// A list of maps per block, one per word: g x g shares of the word's attention, mean over heads and the word's tokens.
    pub layers: Vec<Vec<Vec<f32>>>,
}

/// Row and column in the grid of a place in pixels of the image.
fn region([x, y]: [f32; 2], image: &Image, letterbox: &Letterbox, grid: usize) -> Result<[usize; 2], DitError> {
    let (width, height) = (image.width() as f32, image.height() as f32);
    if !((0.0..width).contains(&x) && (0.0..height).contains(&y)) {
        let what = format!("the place {x},{y} is outside of the image's {width} x {height} pixels");
        return Err(SamError::Prompt { index: 0, what }.into());
    }
    let [top, left, bottom, right] = letterbox.relative_area();
    let at = |share: f32, from: f32, to: f32| (((from + (to - from) * share) * grid as f32) as usize).min(grid.max(1) - 1);
    Ok([at(y / height, top, bottom), at(x / width, left, right)])
}

fn read(row: Tensor<2>) -> Result<Vec<f32>, DitError> {
    Ok(row.try_into_vec_as::<f32>().map_err(|e| SamError::Device(format!("attention: {e}")))?)
}
