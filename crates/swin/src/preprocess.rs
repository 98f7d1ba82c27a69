//! From an image file's pixels to the input.

use burn::tensor::{Device, Tensor, TensorData};
use pil_ops::{Filter, Image, Normalisation, resize};

use crate::error::SwinError;
use crate::model::Swin;

/// Resizes an image straight to `height` x `width`, whatever its aspect, with Pillow's antialiased bilinear filter, and
/// normalises it with ImageNet's mean and deviation; grey images count as three equal channels.
///
/// # Shapes
/// output: [1, 3, height, width]
///
/// # Errors
/// A size of 0, or beyond those that can be resized.
pub fn preprocess(image: &Image, (height, width): (usize, usize), device: &Device) -> Result<Tensor<4>, SwinError> {
    let small = resize(image, width, height, Filter::Bilinear)?;
    let values = Normalisation::IMAGENET.planes(&small);
    Ok(Tensor::from_data(TensorData::new(values, [1, 3, height, width]), device))
}

impl Swin {
    /// The feature maps of an image that is resized to `side` x `side` pixels first, as [`preprocess`] does.
    ///
    /// # Shapes
    /// [1, h, w, C] per stage
    ///
    /// # Errors
    /// A side of 0, or beyond those that can be resized.
    pub fn features(&self, image: &Image, side: usize) -> Result<Vec<Tensor<4>>, SwinError> {
        self.forward(preprocess(image, (side, side), &self.device())?)
    }
}
