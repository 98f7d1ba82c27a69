//! Images to SAM's input tensor, and low-resolution logits back to the image: the letterbox on a device.
//!
//! The long side is brought to the input's side with Pillow's antialiased bilinear filter, the result is normalised and
//! padded with zeros, which is the mean colour, right and below (Segment Anything, appendix A).

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Fit, Image, Letterbox, Normalisation};

use crate::error::SamError;

/// An image as SAM's input, and where it lies in it; grey images count as three equal channels.
///
/// The numbers equal `(numpy.float32(pixel) - mean) / std` of Pillow's resized image in every bit.
///
/// # Shapes
/// output: `3 * canvas * canvas` values, [3, canvas, canvas] row-major
///
/// # Errors
/// A canvas out of range.
pub fn preprocess(image: &Image, canvas: usize) -> Result<(Vec<f32>, Letterbox), SamError> {
    let letterbox = Letterbox::new(image.height(), image.width(), canvas, Fit::TopLeft)?;
    Ok((letterbox.normalise(&letterbox.resize(image)?, Normalisation::IMAGENET)?, letterbox))
}

/// [`preprocess`] of several images into one tensor.
///
/// # Shapes
/// output: [B, 3, canvas, canvas]
///
/// # Errors
/// As [`preprocess`]; no image at all gives a tensor with B = 0.
pub fn preprocess_batch(images: &[Image], canvas: usize, device: &Device) -> Result<(Tensor<4>, Vec<Letterbox>), SamError> {
    let mut values = Vec::new();
    let mut letterboxes = Vec::with_capacity(images.len());
    for image in images {
        let (one, letterbox) = preprocess(image, canvas)?;
        values.extend(one);
        letterboxes.push(letterbox);
    }
    let shape = [images.len(), 3, canvas, canvas];
    Ok((Tensor::from_data(TensorData::new(values, shape), device), letterboxes))
}

/// Brings low-resolution logits to the image's own size, as [`postprocess`](crate::postprocess) does.
///
/// # Shapes
/// [N, M, h, w] -> [N, M, height, width]
pub(crate) fn restore(low_res: Tensor<4>, letterbox: &Letterbox) -> Tensor<4> {
    let (top, left, height, width) = letterbox.area();
    let canvas = Resize::BILINEAR.forward(low_res, [letterbox.canvas; 2]);
    let area = canvas.narrow(2, top, height).narrow(3, left, width);
    Resize::BILINEAR.forward(area, [letterbox.original.0, letterbox.original.1])
}
