//! `EvfVideo`: sentences about a video's first frame, followed through the others (EVF-SAM on SAM-2).

use nn_ops::ConfigError;
use nn_ops::config::quoted;
use nn_ops::weights::StateDict;
use pil_ops::Image;
use sam2::{Frame, FrameMask, Sam2, Sam2Video, VideoPrompt};

use crate::error::EvfError;
use crate::predict::EvfPredictor;
use crate::visual::Generation;

/// Sentences that are followed through a video, each with a memory of its own; a frame is encoded once for all of them.
///
/// The model comes in with each call. What is kept does not grow with the film.
#[derive(Debug, Clone)]
pub struct EvfVideo {
    sentences: Vec<String>,
    video: Sam2Video,
}

impl EvfVideo {
    /// A video in which no frame was seen yet.
    pub fn new<S: Into<String>>(sentences: impl IntoIterator<Item = S>) -> Self {
        Self { sentences: sentences.into_iter().map(Into::into).collect(), video: Sam2Video::new() }
    }

    /// The masks of the next frame, one per sentence in their order; [`FrameMask::object`] is the sentence's number. The first
    /// frame is the one that the sentences speak about. Numbers of frames rise; some may be missing.
    ///
    /// # Errors
    /// A model that is not on SAM-2, a sentence without words, a frame of another size than those before.
    pub fn frame(&mut self, evf: &EvfPredictor, index: i64, image: &Image) -> Result<Vec<FrameMask>, EvfError> {
        let sam2 = evf.sam2()?;
        let frame = sam2.frame(index, image)?;
        if self.video.objects().next().is_some() {
            return Ok(self.video.track(sam2, &frame)?);
        }
        let sentences: Vec<&str> = self.sentences.iter().map(String::as_str).collect();
        let prompts = evf.video_prompts(image, &sentences)?;
        // All or none: a prompt that is refused leaves the video without objects.
        let mut video = self.video.clone();
        let masks = prompt(&mut video, sam2, &frame, &prompts)?;
        self.video = video;
        Ok(masks)
    }

    /// What later frames depend on, to be kept and given to [`EvfVideo::resume`].
    ///
    /// # Errors
    /// A device that cannot be read.
    pub fn state(&self) -> Result<StateDict, EvfError> {
        Ok(self.video.state()?)
    }

    /// A video that goes on behind the frames that `state` has seen, with the sentences that it was begun with.
    ///
    /// # Errors
    /// A state of another model or another number of sentences.
    pub fn resume<S: Into<String>>(
        evf: &EvfPredictor,
        sentences: impl IntoIterator<Item = S>,
        state: &StateDict,
    ) -> Result<Self, EvfError> {
        let sentences: Vec<String> = sentences.into_iter().map(Into::into).collect();
        let video = Sam2Video::from_state(evf.sam2()?, state)?;
        let (found, expected) = (video.objects().count(), sentences.len());
        if found != expected {
            let expected = format!("{expected}, one per sentence");
            return Err(EvfError::Shape { what: "objects of the video's state", found: vec![found], expected });
        }
        Ok(Self { sentences, video })
    }
}

fn prompt(video: &mut Sam2Video, sam2: &Sam2, frame: &Frame, prompts: &[VideoPrompt]) -> Result<Vec<FrameMask>, EvfError> {
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    prompts.iter().enumerate().map(|(at, prompt)| Ok(video.prompt(sam2, number(at), frame, prompt)?)).collect()
}

impl EvfPredictor {
    /// The SAM-2 below the model.
    ///
    /// # Errors
    /// A model on SAM or EfficientSAM, which know no video.
    pub fn sam2(&self) -> Result<&Sam2, EvfError> {
        self.model().net.visual_model.sam2().ok_or_else(|| {
            let kind = self.model().config().visual;
            ConfigError::new("visual", quoted(&kind), "\"sam2\" for video: the others have no memory").into()
        })
    }

    /// A prompt per sentence about a video's first frame. In the first generation two padding points come in front of the
    /// sentence's token.
    ///
    /// # Errors
    /// A sentence without words, or an image beyond the sizes that can be resized.
    pub fn video_prompts(&self, first: &Image, sentences: &[&str]) -> Result<Vec<VideoPrompt>, EvfError> {
        let model = self.model();
        let padded = model.config().generation == Generation::First;
        let multimodal = model.config().multimodal_tensor(first, &model.device())?;
        let prompt = |sentence: &&str| {
            let batch = model.tokens(self.tokenizer().as_ref(), &[sentence])?;
            let feature = model.extract(multimodal.clone(), &batch, &[0])?;
            Ok(VideoPrompt::Tokens { tokens: model.net.tokens(feature)?, padded })
        };
        sentences.iter().map(prompt).collect()
    }
}
