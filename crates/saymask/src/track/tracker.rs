//! The objects of a film, said in sentences or pointed at, from frame to frame and back.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use fusion_evf::EvfPredictor;
use nn_ops::weights::StateDict;
use pil_ops::Image;
use sam2::{Direction, Frame, FrameMask, Sam2, Sam2Video, VideoPrompt};

use super::prompts::Prompts;

/// Logits of an earlier mask beyond this say no more to the prompt encoder, as in SAM-2's own code.
const CLAMP: f64 = 32.0;

/// What follows objects.
pub(super) enum Model {
    /// EVF-SAM on SAM-2: sentences, points, boxes and masks.
    Evf(Box<EvfPredictor>),
    /// SAM-2 itself: points, boxes and masks.
    Sam2(Box<Sam2>),
}

impl Model {
    /// The SAM-2 in it.
    pub(super) fn sam2(&self) -> Result<&Sam2> {
        Ok(match self {
            Self::Evf(evf) => evf.sam2()?,
            Self::Sam2(sam2) => sam2,
        })
    }

    /// A prompt per sentence about the first frame.
    fn spoken(&self, image: &Image, sentences: &[String]) -> Result<Vec<VideoPrompt>> {
        let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
        match self {
            _ if sentences.is_empty() => Ok(Vec::new()),
            Self::Evf(evf) => Ok(evf.video_prompts(image, &sentences)?),
            Self::Sam2(_) => bail!("SAM-2 itself reads no sentences; give the weights of an EVF-SAM on SAM-2"),
        }
    }
}

/// A film's objects: those of the sentences, then those that are only pointed at, counted from 1.
pub(super) struct Tracker<'a> {
    model: &'a Model,
    sentences: &'a [String],
    prompts: &'a Prompts,
    /// Every object's first frame.
    first: BTreeMap<u32, usize>,
    video: Sam2Video,
}

impl<'a> Tracker<'a> {
    /// A film of which nothing was seen.
    pub(super) fn new(model: &'a Model, sentences: &'a [String], prompts: &'a Prompts) -> Self {
        Self { model, sentences, prompts, first: prompts.objects(sentences.len()), video: Sam2Video::new() }
    }

    /// Goes on behind the first `seen` frames.
    pub(super) fn resumed(mut self, state: &StateDict, seen: usize) -> Result<Self> {
        self.video = Sam2Video::from_state(self.model.sam2()?, state)?;
        let wanted = self.first.iter().filter(|(_, first)| **first < seen).map(|(object, _)| *object);
        if !self.video.objects().eq(wanted) {
            bail!("{}: is of other objects; --restart begins anew", state.path().display());
        }
        Ok(self)
    }

    /// Names of the objects, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        let pointed = self.sentences.len() + 1..=self.first.len();
        self.sentences.iter().cloned().chain(pointed.map(|number| format!("object {number}"))).collect()
    }

    /// Frames that are visited on the way back: from the last object's first frame to the beginning of the film.
    pub(super) fn way_back(&self) -> usize {
        self.first.values().copied().max().unwrap_or_default()
    }

    /// The masks of the objects that are known by this frame. A click on an object that was followed up to here changes its mask; other
    /// prompts replace it.
    pub(super) fn forward(&mut self, number: usize, image: &Image) -> Result<Vec<FrameMask>> {
        let mut prompts = Vec::new();
        if number == 0 {
            prompts.extend((1..).zip(self.model.spoken(image, self.sentences)?));
        }
        prompts.extend(self.prompts.on(number, image)?);
        if prompts.is_empty() && self.video.objects().next().is_none() {
            return Ok(Vec::new());
        }
        let sam2 = self.model.sam2()?;
        let frame = self.frame(number, image)?;
        // All or none: a prompt that is refused leaves the film as it was.
        let mut video = self.video.clone();
        let mut masks: BTreeMap<u32, FrameMask> = video.track(sam2, &frame)?.into_iter().map(|m| (m.object, m)).collect();
        for (object, prompt) in prompts {
            let prompt = corrected(prompt, masks.get(&object));
            masks.insert(object, video.prompt(sam2, object, &frame, &prompt)?);
        }
        self.video = video;
        Ok(masks.into_values().collect())
    }

    /// The masks of the objects whose first frame lies behind this one.
    pub(super) fn backward(&mut self, number: usize, image: &Image) -> Result<Vec<FrameMask>> {
        self.video.direction = Direction::Backward;
        let frame = self.frame(number, image)?;
        let first = &self.first;
        let later = |object: u32| first.get(&object).is_some_and(|first| *first > number);
        Ok(self.video.track_those(self.model.sam2()?, &frame, later)?)
    }

    /// What later frames depend on.
    pub(super) fn state(&self) -> Result<StateDict> {
        Ok(self.video.state()?)
    }

    fn frame(&self, number: usize, image: &Image) -> Result<Frame> {
        Ok(self.model.sam2()?.frame(i64::try_from(number).context("the film is too long")?, image)?)
    }
}

/// Clicks alone say what is wrong with the mask that is there.
fn corrected(prompt: VideoPrompt, mask: Option<&FrameMask>) -> VideoPrompt {
    match (prompt, mask) {
        (VideoPrompt::Set(set), Some(mask)) if set.bbox.is_none() => {
            let [_, _, height, width] = mask.low_res.dims();
            VideoPrompt::Set(set.with_mask(mask.low_res.clone().reshape([height, width]).clamp(-CLAMP, CLAMP)))
        }
        (prompt, _) => prompt,
    }
}
