//! Video: a state machine that follows objects from frame to frame.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Int, Tensor, TensorData};
use coco_mask::Rle;
use pil_ops::{Fit, Image, Letterbox};
use sam_vit::{MASK_THRESHOLD, Prediction, PromptSet, Prompts, decoder_calls, prompt_tensors, read_back};

use crate::config::STRIDE;
use crate::error::Sam2Error;
use crate::features::Features;
use crate::given_mask::GivenMask;
use crate::holes::{HOLE_AREA, fill_holes};
use crate::mask_decoder::{Answer, Decoded};
use crate::memory_bank::{Direction, FrameMemory, MemoryBank};
use crate::predictor::at_size;
use crate::preprocess::Resampling;
use crate::sam2::{ObjectHeads, Sam2};

/// A frame behind the encoder; all objects share it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its number. Numbers need not begin at 0, and some may be missing.
    pub index: i64,
    /// (height, width) of the image.
    pub size: (usize, usize),
    /// Features without any memory, of one image.
    pub features: Features,
}

impl Frame {
    /// Sizes that all frames of a video share.
    fn sizes(&self) -> [usize; 4] {
        let [_, _, height, width] = self.features.image.dims();
        [self.size.0, self.size.1, height, width]
    }
}

/// What says which object is meant.
#[derive(Debug, Clone)]
pub enum VideoPrompt {
    /// Points, a box, logits of an earlier mask, in the frame's own pixels.
    Set(PromptSet),
    /// Free tokens, such as those of a text.
    Tokens {
        /// [1, T, C].
        tokens: Tensor<3>,
        /// Whether two padding points come in front of them, as in text-prompted checkpoints of the first generation.
        padded: bool,
    },
    /// The object's mask, of the frame's own size.
    Mask(Rle),
}

/// An object on a frame.
#[derive(Debug, Clone)]
pub struct FrameMask {
    /// The object.
    pub object: u32,
    /// Number of the frame.
    pub index: i64,
    /// (height, width) of the image.
    pub size: (usize, usize),
    /// Logit of the object being there; it is where this is above 0.
    pub object_score: f32,
    /// Logits at a quarter of the input, -1024 everywhere without the object, holes filled, [1, 1, 4h, 4w].
    pub low_res: Tensor<4>,
    /// All that the decoder said.
    pub decoded: Decoded,
    /// Object pointer, [1, C].
    pub pointer: Tensor<2>,
    /// The frame's memory before it was rounded, [1, 64, h, w].
    pub memory: Tensor<4>,
    /// The features that looked at memories, [1, C, h, w]; none on a prompted frame.
    pub conditioned: Option<Tensor<4>>,
}

impl FrameMask {
    /// Whether the object is there.
    pub fn is_present(&self) -> bool {
        self.object_score > 0.0
    }

    /// Logits at the image's size.
    ///
    /// # Shapes
    /// output: [height, width]
    pub fn logits(&self) -> Tensor<2> {
        let [_, _, height, width] = self.low_res.dims();
        at_size(self.low_res.clone().reshape([height, width]), self.size)
    }

    /// Mask, score and box at the image's size.
    ///
    /// # Errors
    /// A device that cannot be read.
    pub fn prediction(&self) -> Result<Prediction, Sam2Error> {
        let (height, width) = self.size;
        Ok(Prediction::from_map(&read_back(self.logits())?, height, width, MASK_THRESHOLD)?)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    pub(crate) bank: MemoryBank,
    /// Answers on prompted frames, which tracking repeats.
    prompted: BTreeMap<i64, FrameMask>,
}

/// Objects that are followed through a video.
///
/// It keeps prompted frames, and a few of the last ones per object; its memory does not grow with the film. The model comes
/// in with each call, so that one serves many videos.
#[derive(Debug, Clone)]
pub struct Sam2Video {
    pub(crate) objects: BTreeMap<u32, Object>,
    pub(crate) sizes: Option<[usize; 4]>,
    /// The way in which frames are visited. It may change at any time: a film that is prompted in the middle is followed to its
    /// end, then from there back. The second pass starts from the prompted frames and those few of the first pass that are
    /// still kept.
    pub direction: Direction,
    /// Holes of at most so many low-resolution pixels are filled; 0 fills none.
    pub hole_area: u64,
}

impl Default for Sam2Video {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), sizes: None, direction: Direction::Forward, hole_area: HOLE_AREA }
    }
}

impl Sam2 {
    /// Encodes a frame of a video at the published input size, as the reference's video code resizes it.
    ///
    /// # Errors
    /// As [`Sam2::embed`].
    pub fn frame(&self, index: i64, image: &Image) -> Result<Frame, Sam2Error> {
        let features = self.encode_images(std::slice::from_ref(image), self.image_size(), Resampling::Video)?;
        Ok(Frame { index, size: (image.height(), image.width()), features })
    }
}

impl Sam2Video {
    /// A video without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// The objects.
    pub fn objects(&self) -> impl Iterator<Item = u32> {
        self.objects.keys().copied()
    }

    /// The memory of an object.
    pub fn bank(&self, object: u32) -> Option<&MemoryBank> {
        self.objects.get(&object).map(|o| &o.bank)
    }

    /// Forgets an object; whether there was one.
    pub fn forget(&mut self, object: u32) -> bool {
        self.objects.remove(&object).is_some()
    }

    /// Says on a frame what an object is: a new object, or one more prompted frame of a known one. The frame does not look at
    /// memories; it becomes one that is kept for good. The best of three masks answers; to a box or several points the single
    /// mask where it is stable.
    ///
    /// # Errors
    /// A frame of another size than those before, or a prompt that makes no sense; nothing is kept then.
    pub fn prompt(&mut self, sam2: &Sam2, object: u32, frame: &Frame, prompt: &VideoPrompt) -> Result<FrameMask, Sam2Error> {
        self.check(frame)?;
        let mask = match prompt {
            VideoPrompt::Mask(mask) => self.given(sam2, object, frame, mask)?,
            VideoPrompt::Set(set) => {
                let (prompts, answer) = self.set(object, frame, set)?;
                self.answer(sam2, object, frame, prompts, answer)?
            }
            VideoPrompt::Tokens { tokens, padded } => {
                let [count, length, channels] = tokens.dims();
                if count != 1 || length == 0 || channels != frame.features.image.dims()[1] {
                    let what = format!("tokens are {:?}; must be [1, T, C] with T at least 1", tokens.dims());
                    return Err(Sam2Error::Prompt { object, index: frame.index, what });
                }
                let points = padded.then(|| padding_point(tokens));
                let prompts = Prompts { points, tokens: Some(tokens.clone()), ..Prompts::default() };
                self.answer(sam2, object, frame, prompts, Answer::BestOfThree)?
            }
        };
        self.sizes = Some(frame.sizes());
        let known = self.objects.entry(object).or_default();
        known.bank.keep_prompted(frame.index, FrameMemory::new(mask.memory.clone(), mask.pointer.clone()));
        known.prompted.insert(frame.index, mask.clone());
        Ok(mask)
    }

    /// Follows all objects to a frame. On a frame where an object was prompted, it is what was answered there.
    ///
    /// # Errors
    /// A frame of another size than those before; nothing is kept then.
    pub fn track(&mut self, sam2: &Sam2, frame: &Frame) -> Result<Vec<FrameMask>, Sam2Error> {
        self.track_those(sam2, frame, |_| true)
    }

    /// As [`Sam2Video::track`], of some objects only; the others stay as they are.
    ///
    /// # Errors
    /// As there.
    pub fn track_those(&mut self, sam2: &Sam2, frame: &Frame, wanted: impl Fn(u32) -> bool) -> Result<Vec<FrameMask>, Sam2Error> {
        self.check(frame)?;
        let mut masks = Vec::with_capacity(self.objects.len());
        for (object, known) in self.objects.iter().filter(|(object, _)| wanted(**object)) {
            masks.push(match known.prompted.get(&frame.index) {
                Some(mask) => mask.clone(),
                None => match known.bank.read(sam2, frame.index, self.direction) {
                    Some(memory) => {
                        let image = sam2.memory_attention.forward(frame.features.image.clone(), &memory);
                        self.follow(sam2, *object, frame, image)?
                    }
                    None => continue,
                },
            });
        }
        let reach = sam2.reach();
        for mask in &masks {
            if let Some(known) = self.objects.get_mut(&mask.object) {
                known.bank.keep(frame.index, FrameMemory::new(mask.memory.clone(), mask.pointer.clone()), reach);
            }
        }
        self.sizes = Some(frame.sizes());
        Ok(masks)
    }

    fn check(&self, frame: &Frame) -> Result<(), Sam2Error> {
        let (index, found) = (frame.index, frame.sizes());
        match self.sizes {
            Some(expected) if expected != found => Err(Sam2Error::FrameSize { index, found, expected }),
            _ if found.contains(&0) || frame.features.image.dims()[0] != 1 => {
                let found = frame.features.image.dims().to_vec();
                Err(Sam2Error::Shape { what: "features of a frame", found, expected: "those of one image".into() })
            }
            _ => Ok(()),
        }
    }

    /// A prompt set as tensors, and which mask answers it.
    fn set(&self, object: u32, frame: &Frame, set: &PromptSet) -> Result<(Prompts, Answer), Sam2Error> {
        let [_, _, height, width] = frame.features.image.dims();
        if set.points.is_empty() && set.bbox.is_none() && set.mask.is_none() {
            let what = "the prompt is empty; give points, a box or the logits of an earlier mask".into();
            return Err(Sam2Error::Prompt { object, index: frame.index, what });
        }
        decoder_calls(std::slice::from_ref(set), [4 * height, 4 * width])?;
        let mut set = set.corners_as_points();
        let answer = if set.points.len() > 1 { Answer::StableElseBest } else { Answer::BestOfThree };
        if set.points.is_empty() {
            set = set.with_point([0.0, 0.0], -1);
        }
        let device = frame.features.image.device();
        let letterbox = Letterbox::new(frame.size.0, frame.size.1, STRIDE * height, Fit::Stretched)?;
        Ok((prompt_tensors(&[&set], &letterbox, &device), answer))
    }

    /// A prompted frame.
    fn answer(&self, sam2: &Sam2, object: u32, frame: &Frame, prompts: Prompts, answer: Answer) -> Result<FrameMask, Sam2Error> {
        let decoded = sam2.decode(&sam2.without_memory(frame.features.clone()), &[], prompts)?;
        let heads = sam2.heads(&decoded, answer);
        let object_score = score(&decoded)?;
        let low_res = fill_holes(heads.low_res, self.hole_area)?;
        self.finish(sam2, frame, FrameParts { object, object_score, decoded, pointer: heads.pointer, low_res, conditioned: None })
    }

    /// A tracked frame: nothing is asked, so the prompt is two padding points. Its memory is of the mask with its holes.
    fn follow(&self, sam2: &Sam2, object: u32, frame: &Frame, image: Tensor<4>) -> Result<FrameMask, Sam2Error> {
        let features = Features { image: image.clone(), ..frame.features.clone() };
        let points = Some(padding_point(&image));
        let decoded = sam2.decode(&features, &[], Prompts { points, ..Prompts::default() })?;
        let ObjectHeads { low_res, pointer } = sam2.heads(&decoded, Answer::BestOfThree);
        let object_score = score(&decoded)?;
        self.finish(sam2, frame, FrameParts { object, object_score, decoded, pointer, low_res, conditioned: Some(image) })
    }

    /// A frame whose mask is given: it is its own answer, and the decoder only makes the pointer.
    fn given(&self, sam2: &Sam2, object: u32, frame: &Frame, mask: &Rle) -> Result<FrameMask, Sam2Error> {
        let [_, _, height, width] = frame.features.image.dims();
        let device = frame.features.image.device();
        let wrong = |what| Sam2Error::Prompt { object, index: frame.index, what };
        let given = GivenMask::new(mask, frame.size, [STRIDE * height, STRIDE * width]).map_err(wrong)?;
        let prompts = Prompts {
            points: Some(padding_point(&frame.features.image)),
            masks: Some(given.prompt(sam2, &device)),
            ..Prompts::default()
        };
        let decoded = sam2.decode(&frame.features, &[], prompts)?;
        let pointer = sam2.heads(&decoded, Answer::First).pointer;
        let absent = Tensor::<2, Bool>::from_data(TensorData::new(vec![given.is_empty()], [1, 1]), &device);
        let pointer = sam2.replace_pointer(pointer, absent);
        let low_res = fill_holes(given.low_res(&device).cast(sam2.kind()), self.hole_area)?;
        let object_score = given.object_score();
        self.finish(sam2, frame, FrameParts { object, object_score, decoded, pointer, low_res, conditioned: None })
    }

    /// Makes the memory; of a tracked frame's mask before its holes are filled.
    fn finish(&self, sam2: &Sam2, frame: &Frame, parts: FrameParts) -> Result<FrameMask, Sam2Error> {
        let FrameParts { object, object_score, decoded, pointer, low_res, conditioned } = parts;
        let prompted = conditioned.is_none();
        let mut memory = sam2.memorise(frame.features.image.clone(), low_res.clone(), prompted);
        if let (Some(embed), false) = (&sam2.no_obj_embed_spatial, object_score > 0.0) {
            let embed = embed.val();
            let channels = embed.dims()[1];
            memory = memory + embed.reshape([1, channels, 1, 1]);
        }
        let low_res = if prompted { low_res } else { fill_holes(low_res, self.hole_area)? };
        let (index, size) = (frame.index, frame.size);
        Ok(FrameMask { object, index, size, object_score, low_res, decoded, pointer, memory, conditioned })
    }
}

/// What [`Sam2Video::finish`] makes a mask of.
struct FrameParts {
    object: u32,
    object_score: f32,
    decoded: Decoded,
    pointer: Tensor<2>,
    low_res: Tensor<4>,
    conditioned: Option<Tensor<4>>,
}

fn score(decoded: &Decoded) -> Result<f32, Sam2Error> {
    Ok(read_back(decoded.object_score.clone())?.first().copied().unwrap_or(f32::NEG_INFINITY))
}

/// A padding point, to which the prompt encoder adds its own.
fn padding_point<const D: usize>(like: &Tensor<D>) -> (Tensor<3>, Tensor<2, Int>) {
    let device = like.device();
    (Tensor::zeros([1, 1, 2], &device), Tensor::full([1, 1], -1, &device))
}
