//! A video's state as a state dict, so that a film can be gone on with in another process.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::weights::StateDict;
use sam_vit::read_back;

use crate::error::Sam2Error;
use crate::memory_bank::{Direction, FrameMemory, rounded};
use crate::sam2::Sam2;
use crate::video::Sam2Video;

/// Sizes of frames, direction and area of holes.
const VIDEO: &str = "video";
/// What keys of objects begin with: `object.NUMBER.PART.FRAME`.
const OBJECT: &str = "object.";
/// Parts: memories and pointers of prompted frames, then of the last ones.
const PARTS: [&str; 4] = ["prompted_memory", "prompted_pointer", "memory", "pointer"];

impl Sam2Video {
    /// What later frames depend on: the memories and pointers of each object, a few MB. [`StateDict::save`] keeps it,
    /// [`Sam2Video::from_state`] goes on from there with the same numbers.
    ///
    /// # Errors
    /// A device that cannot be read.
    pub fn state(&self) -> Result<StateDict, Sam2Error> {
        let mut state = StateDict::empty("video");
        let [a, b, c, d] = self.sizes.unwrap_or_default().map(|size| size as f32);
        let backward = f32::from(u8::from(self.direction == Direction::Backward));
        state.insert(VIDEO, &[6], vec![a, b, c, d, backward, self.hole_area as f32]);
        for (object, known) in &self.objects {
            let bank = &known.bank;
            let mut put = |part: usize, frame: i64, shape: &[usize], values: Vec<f32>| {
                state.insert(format!("{OBJECT}{object}.{}.{frame}", PARTS[part]), shape, values);
            };
            for (frame, memory) in &bank.prompted {
                put(0, *frame, &memory.features.dims(), read_back(memory.features.clone())?);
                put(1, *frame, &memory.pointer.dims(), read_back(memory.pointer.clone())?);
            }
            for (frame, memory) in &bank.memories {
                put(2, *frame, &memory.dims(), read_back(memory.clone())?);
            }
            for (frame, pointer) in &bank.pointers {
                put(3, *frame, &pointer.dims(), read_back(pointer.clone())?);
            }
        }
        Ok(state)
    }

    /// The video whose state was kept. It goes on behind the frames that it has seen: what was answered on prompted frames is
    /// not in a state, so [`Sam2Video::track`] must not come back to them.
    ///
    /// # Errors
    /// A file that is no state of a video, or one of a model of other sizes.
    pub fn from_state(sam2: &Sam2, state: &StateDict) -> Result<Self, Sam2Error> {
        let fail = |what: String| Sam2Error::StateDict { path: state.path().to_owned(), what };
        if state.shape(VIDEO) != Some(&[6]) {
            return Err(fail(format!("not the state of a video: `{VIDEO}` of 6 numbers is missing")));
        }
        let video = state.read(VIDEO)?;
        let sizes: [usize; 4] = std::array::from_fn(|i| video[i] as usize);
        let mut restored = Self {
            sizes: (sizes != [0; 4]).then_some(sizes),
            direction: if video[4] > 0.0 { Direction::Backward } else { Direction::Forward },
            hole_area: video[5] as u64,
            ..Self::default()
        };
        let [_, channels] = sam2.no_obj_ptr.lazy_shape().dims::<2>();
        let [_, _, _, width] = sam2.maskmem_tpos_enc.lazy_shape().dims::<4>();
        let (right_memory, right_pointer) = ([1, width, sizes[2], sizes[3]], [1, channels]);
        let device = sam2.device();
        for name in state.names().filter(|name| *name != VIDEO) {
            let foreign = || fail(format!("`{name}` is no part of a video's state"));
            let mut words = name.strip_prefix(OBJECT).ok_or_else(foreign)?.split('.');
            let (Some(object), Some(part), Some(frame), None) = (words.next(), words.next(), words.next(), words.next()) else {
                return Err(foreign());
            };
            let (Ok(object), Ok(frame)) = (object.parse::<u32>(), frame.parse::<i64>()) else { return Err(foreign()) };
            let shape = state.shape(name).unwrap_or_default();
            let sized = |right: &[usize]| {
                if shape == right {
                    Ok(())
                } else {
                    Err(fail(format!("`{name}` is {shape:?}: must be {right:?} for this model")))
                }
            };
            let bank = &mut restored.objects.entry(object).or_default().bank;
            match PARTS.iter().position(|known| *known == part) {
                Some(0) => {
                    sized(&right_memory)?;
                    let pointer = format!("{OBJECT}{object}.{}.{frame}", PARTS[1]);
                    if state.shape(&pointer) != Some(&right_pointer) {
                        return Err(fail(format!("`{pointer}` of {right_pointer:?} is missing")));
                    }
                    let pointer = tensor(state, &pointer, right_pointer, &device)?.cast(sam2.kind());
                    let memory = tensor(state, name, right_memory, &device)?;
                    bank.prompted.insert(frame, FrameMemory::new(memory, pointer));
                }
                Some(1) => sized(&right_pointer)?,
                Some(2) => {
                    sized(&right_memory)?;
                    bank.memories.insert(frame, rounded(tensor(state, name, right_memory, &device)?));
                }
                Some(3) => {
                    sized(&right_pointer)?;
                    bank.pointers.insert(frame, tensor(state, name, right_pointer, &device)?.cast(sam2.kind()));
                }
                _ => return Err(foreign()),
            }
        }
        Ok(restored)
    }
}

fn tensor<const D: usize>(state: &StateDict, name: &str, shape: [usize; D], device: &Device) -> Result<Tensor<D>, Sam2Error> {
    Ok(Tensor::from_data(TensorData::new(state.read(name)?, shape), device))
}
