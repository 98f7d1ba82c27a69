//! A mask that a video prompt gives: its logits, and the mask prompt that makes its pointer.

use burn::tensor::{Device, Tensor, TensorData};
use coco_mask::Rle;
use nn_ops::conv::patch_conv;
use pil_ops::{Filter, Image, resize};

use crate::sam2::Sam2;

/// Logit inside of a given mask; outside it is the negative.
const SURE: f32 = 10.0;
/// Input pixels per low-resolution pixel.
const QUARTER: usize = 4;

/// A mask at the network's input size.
pub(crate) struct GivenMask {
    /// 255 inside.
    bytes: Image,
}

impl GivenMask {
    /// Brings a mask of a frame of `size` to `input`, both (height, width): resized with antialiasing, more than half inside
    /// is inside.
    pub(crate) fn new(mask: &Rle, size: (usize, usize), input: [usize; 2]) -> Result<Self, String> {
        let (height, width) = (mask.height() as usize, mask.width() as usize);
        if (height, width) != size {
            return Err(format!("the mask is {height} x {width} (height x width), the frame {} x {}", size.0, size.1));
        }
        let data = mask.to_row_major().into_iter().map(|v| if v > 0 { u8::MAX } else { 0 }).collect();
        let image = Image::new(width, height, 1, data).map_err(|e| e.to_string())?;
        let mut bytes = resize(&image, input[1], input[0], Filter::Bilinear).map_err(|e| e.to_string())?;
        for v in bytes.data_mut() {
            *v = if *v >= 128 { u8::MAX } else { 0 };
        }
        Ok(Self { bytes })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.data().iter().all(|v| *v == 0)
    }

    /// The logit that stands for the decoder's score of the object.
    pub(crate) fn object_score(&self) -> f32 {
        if self.is_empty() { -SURE } else { SURE }
    }

    /// Logits at a quarter of the input, antialiased.
    ///
    /// # Shapes
    /// output: [1, 1, 4h, 4w]
    pub(crate) fn low_res(&self, device: &Device) -> Tensor<4> {
        let (height, width) = (self.bytes.height() / QUARTER, self.bytes.width() / QUARTER);
        // A quarter of a checked size is one, so the resize cannot fail; an unresized mask would show in the shape.
        let small = resize(&self.bytes, width, height, Filter::Bilinear).unwrap_or_else(|_| self.bytes.clone());
        let logits: Vec<f32> = small.data().iter().map(|v| (f32::from(*v) / 127.5 - 1.0) * SURE).collect();
        Tensor::from_data(TensorData::new(logits, [1, 1, small.height(), small.width()]), device)
    }

    /// The mask prompt.
    ///
    /// # Shapes
    /// output: [1, 1, 4h, 4w]
    pub(crate) fn prompt(&self, sam2: &Sam2, device: &Device) -> Tensor<4> {
        let values: Vec<f32> = self.bytes.data().iter().map(|v| f32::from(*v) / 255.0).collect();
        let mask = Tensor::<4>::from_data(TensorData::new(values, [1, 1, self.bytes.height(), self.bytes.width()]), device);
        patch_conv(&sam2.mask_downsample, mask).permute([0, 3, 1, 2])
    }
}
