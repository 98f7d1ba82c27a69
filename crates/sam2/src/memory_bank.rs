//! The memory of one object: its prompted frames, and the last frames before the current one.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use half::bf16;
use nn_ops::linear::linear;

use crate::memory_attention::MemoryTokens;
use crate::positions::{sine, sine_line};
use crate::sam2::Sam2;

/// The way in which frames are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Numbers rise.
    #[default]
    Forward,
    /// Numbers fall.
    Backward,
}

impl Direction {
    /// The number of the frame visited `steps` before frame `index`.
    fn before(self, index: i64, steps: usize) -> i64 {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        match self {
            Self::Forward => index.saturating_sub(steps),
            Self::Backward => index.saturating_add(steps),
        }
    }

    /// How many steps before frame `index` frame `other` was visited; negative for one that comes later.
    fn age(self, index: i64, other: i64) -> i64 {
        match self {
            Self::Forward => index.saturating_sub(other),
            Self::Backward => other.saturating_sub(index),
        }
    }
}

/// What is kept of one frame.
#[derive(Debug, Clone)]
pub struct FrameMemory {
    /// The memory, rounded to bf16 and of that precision where the device has it, [1, 64, h, w].
    pub(crate) features: Tensor<4>,
    /// The object pointer, [1, C].
    pub(crate) pointer: Tensor<2>,
}

impl FrameMemory {
    /// Rounds a memory for keeping, as the reference does. Pointers are kept as they are.
    ///
    /// # Shapes
    /// `memory`: [1, 64, h, w]; `pointer`: [1, C]
    pub fn new(memory: Tensor<4>, pointer: Tensor<2>) -> Self {
        Self { features: rounded(memory), pointer }
    }
}

/// Rounded to bf16, halves to even.
pub(crate) fn rounded(x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    if x.dtype() == DType::BF16 || device.supports_dtype(DType::BF16) {
        return x.cast(DType::BF16);
    }
    let (shape, kind) = (x.dims(), x.dtype());
    match x.clone().try_into_vec_as::<f32>() {
        Ok(values) => {
            let values: Vec<f32> = values.into_iter().map(|v| bf16::from_f32(v).to_f32()).collect();
            Tensor::from_data(TensorData::new(values, shape), (&device, kind))
        }
        Err(_) => x,
    }
}

/// The memory of one object.
///
/// It keeps every prompted frame, and of the others the memories and pointers that the next frames can look at: at most 6 and
/// 15 on either side of the last one, however long the film.
#[derive(Debug, Clone, Default)]
pub struct MemoryBank {
    pub(crate) prompted: BTreeMap<i64, FrameMemory>,
    pub(crate) memories: BTreeMap<i64, Tensor<4>>,
    pub(crate) pointers: BTreeMap<i64, Tensor<2>>,
}

impl MemoryBank {
    /// Keeps a prompted frame for good.
    pub fn keep_prompted(&mut self, index: i64, memory: FrameMemory) {
        self.memories.remove(&index);
        self.pointers.remove(&index);
        self.prompted.insert(index, memory);
    }

    /// Keeps a tracked frame, and forgets those that are out of its reach: `reach` is the number of frames and of pointers
    /// that are looked at ([`Sam2::reach`]). A frame that was prompted stays as it is.
    pub fn keep(&mut self, index: i64, memory: FrameMemory, reach: (usize, usize)) {
        if !self.prompted.contains_key(&index) {
            self.memories.insert(index, memory.features);
            self.pointers.insert(index, memory.pointer);
        }
        let near = |other: i64, reach: usize| other.abs_diff(index) < reach as u64;
        self.memories.retain(|other, _| near(*other, reach.0));
        self.pointers.retain(|other, _| near(*other, reach.1));
    }

    /// Whether there is a prompted frame; without one there is nothing to track.
    pub fn is_prompted(&self) -> bool {
        !self.prompted.is_empty()
    }

    /// Numbers of frames whose memory or pointer is kept, prompted ones included.
    pub fn kept(&self) -> (usize, usize) {
        (self.prompted.len() + self.memories.len(), self.prompted.len() + self.pointers.len())
    }

    /// What frame `index` looks at: all prompted frames; the last frames before it, oldest first, told apart by how many
    /// numbers ago they were (a number that was never visited is left out); pointers of the prompted frames that came before,
    /// then of the last ones, newest first. `None` without a prompted frame.
    pub fn read(&self, sam2: &Sam2, index: i64, direction: Direction) -> Option<MemoryTokens> {
        let first = self.prompted.values().next()?;
        let [_, channels, height, width] = first.features.dims();
        let (device, kind) = (first.features.device(), sam2.kind());
        let (memories, pointers) = sam2.reach();
        let rows = sam2.maskmem_tpos_enc.val().reshape([memories, 1, channels]);
        let place = flat(sine(channels, [height, width], &device, kind));
        let (mut values, mut positions) = (Vec::new(), Vec::new());
        let mut take = |memory: &Tensor<4>, row: usize| {
            values.push(flat(memory.clone()).cast(kind));
            positions.push(place.clone() + rows.clone().narrow(0, row, 1));
        };
        for memory in self.prompted.values() {
            take(&memory.features, memories - 1);
        }
        for age in (1..memories).rev() {
            if let Some(memory) = self.memories.get(&direction.before(index, age)) {
                take(memory, age - 1);
            }
        }
        let (tokens, ages) = self.read_pointers(index, direction, pointers);
        let count = tokens.len() * sam2.pointer_parts();
        if let Some(positions_of) = (!tokens.is_empty()).then(|| sam2.pointer_positions(&ages)) {
            values.push(Tensor::cat(tokens, 0).reshape([1, count, channels]));
            positions.push(positions_of);
        }
        Some(MemoryTokens { values: Tensor::cat(values, 1), positions: Tensor::cat(positions, 1), pointers: count })
    }

    /// Pointers, each [1, C], and how long ago each was made.
    fn read_pointers(&self, index: i64, direction: Direction, most: usize) -> (Vec<Tensor<2>>, Vec<i64>) {
        let of_prompted = self.prompted.iter().map(|(at, memory)| (direction.age(index, *at), memory.pointer.clone()));
        let of_prompted = of_prompted.filter(|(age, _)| *age >= 0);
        let last = (1..most).filter_map(|age| {
            let pointer = self.pointers.get(&direction.before(index, age))?;
            Some((i64::try_from(age).unwrap_or(i64::MAX), pointer.clone()))
        });
        let (ages, tokens) = of_prompted.chain(last).unzip::<i64, Tensor<2>, Vec<_>, Vec<_>>();
        (tokens, ages)
    }
}

impl Sam2 {
    /// Tokens that a pointer is cut into.
    fn pointer_parts(&self) -> usize {
        let [_, channels] = self.no_obj_ptr.lazy_shape().dims();
        let [_, _, _, width] = self.maskmem_tpos_enc.lazy_shape().dims();
        channels / width.max(1)
    }

    /// Positions of pointers' tokens: none in SAM 2.0; in 2.1 of how long ago they were made, as a part of the reach.
    ///
    /// # Shapes
    /// output: [1, ages * parts, 64]
    fn pointer_positions(&self, ages: &[i64]) -> Tensor<3> {
        let [_, _, _, width] = self.maskmem_tpos_enc.lazy_shape().dims();
        let (parts, options) = (self.pointer_parts(), (&self.device(), self.kind()));
        let Some(projection) = &self.obj_ptr_tpos_proj else {
            return Tensor::zeros([1, ages.len() * parts, width], options);
        };
        let furthest = self.reach().1.saturating_sub(1).max(1) as f64;
        let places: Vec<f64> = ages.iter().map(|age| *age as f64 / furthest).collect();
        let projected = linear(projection, sine_line(&places, parts * width, options.0, options.1));
        projected.reshape([ages.len(), 1, width]).expand([ages.len(), parts, width]).reshape([1, ages.len() * parts, width])
    }
}

/// A map as tokens.
///
/// # Shapes
/// [1, C, h, w] -> [1, h * w, C]
fn flat(map: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = map.dims();
    map.reshape([batch, channels, height * width]).swap_dims(1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn memories_are_rounded_to_even_and_pointers_are_not() {
        let device = Device::flex();
        // Halves between two numbers of bf16: 1 + 2^-8 goes down to 1, 1 + 3 * 2^-8 up to 1 + 2^-6.
        let (low, high) = (1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0);
        let memory = Tensor::<1>::from_floats([low, high], &device).reshape([1, 2, 1, 1]);
        let kept = FrameMemory::new(memory, Tensor::<2>::from_floats([[low]], &device));
        assert_eq!(kept.features.cast(DType::F32).into_data().try_to_vec::<f32>().unwrap(), [1.0, 1.0 + 4.0 / 256.0]);
        assert_eq!(kept.pointer.into_scalar::<f32>(), low);
    }

    #[test]
    fn directions() {
        assert_eq!((Direction::Forward.before(9, 2), Direction::Backward.before(9, 2)), (7, 11));
        assert_eq!((Direction::Forward.age(9, 7), Direction::Backward.age(9, 7)), (2, -2));
    }
}
