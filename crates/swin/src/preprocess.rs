//! From an image file's pixels to the input.

use burn::tensor::{Device, Tensor, TensorData};
use pil_ops::{Filter, Image, resize};

use crate::error::SwinError;
use crate::model::Swin;

/// Mean of red, green and blue, of values in [0, 1].
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Resizes an image straight to `height` x `width`, whatever its aspect, with Pillow's antialiased bilinear filter, and
/// normalises it; grey images count as three equal channels.
///
/// # Shapes
/// output: [1, 3, height, width]
///
/// # Errors
/// An inconsistent image, or a size of 0.
pub fn preprocess(image: &Image, (height, width): (usize, usize), device: &Device) -> Result<Tensor<4>, SwinError> {
    let small = resize(image, width, height, Filter::Bilinear)?;
    let values = small.planes(|c, level| (f32::from(level) / 255.0 - MEAN[c]) / STD[c])?;
    Ok(Tensor::from_data(TensorData::new(values, [1, 3, height, width]), device))
}

impl Swin {
    /// The feature maps of an image that is resized to `side` x `side` pixels first, as [`preprocess`] does.
    ///
    /// # Shapes
    /// [1, h, w, C] per stage
    ///
    /// # Errors
    /// An inconsistent image, or a side of 0.
    pub fn features(&self, image: &Image, side: usize) -> Result<Vec<Tensor<4>>, SwinError> {
        self.forward(preprocess(image, (side, side), &self.device())?)
    }
}
