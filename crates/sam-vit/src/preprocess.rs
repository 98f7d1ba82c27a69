//! From an image file's pixels to SAM's input, and coordinates both ways.
//!
//! The long side is brought to the input's side with Pillow's antialiased bilinear filter, the result is normalised and
//! padded with zeros, which is the mean colour: right and below (Segment Anything, appendix A), or on all sides, as
//! models built on SAM do.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Filter, Image, resize};

use crate::error::SamError;

/// Mean of red, green and blue that SAM subtracts, on the scale 0 to 255.
pub const PIXEL_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// Deviation of red, green and blue that SAM divides by.
pub const PIXEL_STD: [f32; 3] = [58.395, 57.12, 57.375];
/// Largest side of the input: three channels of it take 0.8 GB.
pub const MAX_CANVAS: usize = 8192;

/// Where an image lies in the network's square input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// (height, width) of the image.
    pub original: (usize, usize),
    /// (height, width) of the part of the input that it fills; the rest is padding.
    pub valid: (usize, usize),
    /// (top, left) of that part.
    pub offset: (usize, usize),
    /// Side of the input.
    pub canvas: usize,
}

impl Placement {
    /// Where an image of `height` x `width` lies in an input of `canvas` x `canvas` under SAM's rule: from the top left,
    /// halves of a pixel rounded up.
    ///
    /// # Errors
    /// A side that is 0 or would become 0, or an input beyond [`MAX_CANVAS`].
    pub fn new(height: usize, width: usize, canvas: usize) -> Result<Self, SamError> {
        Self::by(height, width, canvas, |exact| exact + 0.5)
    }

    /// In the middle, halves of a pixel rounded to even (DIT).
    ///
    /// # Errors
    /// As [`Placement::new`].
    pub fn centred(height: usize, width: usize, canvas: usize) -> Result<Self, SamError> {
        let mut place = Self::by(height, width, canvas, f64::round_ties_even)?;
        place.offset = ((canvas - place.valid.0) / 2, (canvas - place.valid.1) / 2);
        Ok(place)
    }

    /// Over the whole input, whatever the aspect (EfficientSAM, SAM-2).
    ///
    /// # Errors
    /// A side that is 0, or an input beyond [`MAX_CANVAS`].
    pub fn stretched(height: usize, width: usize, canvas: usize) -> Result<Self, SamError> {
        if canvas == 0 || canvas > MAX_CANVAS {
            return Err(SamError::Canvas { canvas, patch: 1, most: MAX_CANVAS });
        }
        if height == 0 || width == 0 {
            return Err(SamError::Thin { width, height, canvas });
        }
        Ok(Self { original: (height, width), valid: (canvas, canvas), offset: (0, 0), canvas })
    }

    fn by(height: usize, width: usize, canvas: usize, round: fn(f64) -> f64) -> Result<Self, SamError> {
        if canvas == 0 || canvas > MAX_CANVAS {
            return Err(SamError::Canvas { canvas, patch: 1, most: MAX_CANVAS });
        }
        let scale = canvas as f64 / height.max(width) as f64;
        let side = |side: usize| (round(side as f64 * scale) as usize).min(canvas);
        let valid = (side(height), side(width));
        if height == 0 || width == 0 || valid.0 == 0 || valid.1 == 0 {
            return Err(SamError::Thin { width, height, canvas });
        }
        Ok(Self { original: (height, width), valid, offset: (0, 0), canvas })
    }

    /// (x, y) in the image's pixels to the input's. The factors come from the rounded sizes, in f64, as in the reference.
    pub fn point(&self, [x, y]: [f64; 2]) -> [f32; 2] {
        let [across, down] = self.factors();
        [(x * across + self.offset.1 as f64) as f32, (y * down + self.offset.0 as f64) as f32]
    }

    /// (x0, y0, x1, y1) in the image's pixels to the input's.
    pub fn bbox(&self, [x0, y0, x1, y1]: [f64; 4]) -> [f32; 4] {
        let ([x0, y0], [x1, y1]) = (self.point([x0, y0]), self.point([x1, y1]));
        [x0, y0, x1, y1]
    }

    /// Undoes [`Placement::point`], up to rounding.
    pub fn point_back(&self, [x, y]: [f32; 2]) -> [f64; 2] {
        let [across, down] = self.factors();
        [(f64::from(x) - self.offset.1 as f64) / across, (f64::from(y) - self.offset.0 as f64) / down]
    }

    /// Undoes [`Placement::bbox`], up to rounding.
    pub fn bbox_back(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f64; 4] {
        let ([x0, y0], [x1, y1]) = (self.point_back([x0, y0]), self.point_back([x1, y1]));
        [x0, y0, x1, y1]
    }

    /// Brings low-resolution logits to the image's own size, as [`postprocess`](crate::postprocess) does.
    ///
    /// # Shapes
    /// [N, M, h, w] -> [N, M, height, width]
    pub fn restore(&self, low_res: Tensor<4>) -> Tensor<4> {
        self.crop(Resize::BILINEAR.forward(low_res, [self.canvas; 2]))
    }

    /// Brings logits at the input's size to the image's: without padding, then bilinearly.
    ///
    /// # Shapes
    /// [N, M, canvas, canvas] -> [N, M, height, width]
    pub fn crop(&self, logits: Tensor<4>) -> Tensor<4> {
        let area = logits.narrow(2, self.offset.0, self.valid.0).narrow(3, self.offset.1, self.valid.1);
        Resize::BILINEAR.forward(area, [self.original.0, self.original.1])
    }

    /// Pixels of the input to a pixel of the image, across and down.
    pub fn factors(&self) -> [f64; 2] {
        [self.valid.1 as f64 / self.original.1 as f64, self.valid.0 as f64 / self.original.0 as f64]
    }
}

/// Resizes, normalises and pads an image; grey images count as three equal channels.
///
/// The numbers equal `(numpy.float32(pixel) - mean) / std` of Pillow's resized image in every bit.
///
/// # Shapes
/// output: `3 * canvas * canvas` values, [3, canvas, canvas] row-major
///
/// # Errors
/// An inconsistent image, or one that [`Placement::new`] refuses.
pub fn preprocess(image: &Image, canvas: usize) -> Result<(Vec<f32>, Placement), SamError> {
    let placement = Placement::new(image.height, image.width, canvas)?;
    Ok((preprocess_at(image, &placement)?, placement))
}

/// [`preprocess`] of an image to the place that was found for it.
///
/// # Errors
/// An inconsistent image.
pub fn preprocess_at(image: &Image, placement: &Placement) -> Result<Vec<f32>, SamError> {
    let Placement { valid: (height, width), offset: (top, left), canvas, .. } = *placement;
    let resized = resize(image, width, height, Filter::Bilinear)?;
    let mut values = vec![0.0f32; 3 * canvas * canvas];
    for (channel, plane) in values.chunks_exact_mut(canvas * canvas).enumerate() {
        let (mean, std) = (PIXEL_MEAN[channel], PIXEL_STD[channel]);
        let table: [f32; 256] = std::array::from_fn(|v| (v as f32 - mean) / std);
        let offset = channel.min(resized.channels - 1);
        for (row, pixels) in plane.chunks_exact_mut(canvas).skip(top).zip(resized.data.chunks_exact(width * resized.channels)) {
            for (value, pixel) in row[left..].iter_mut().zip(pixels.chunks_exact(resized.channels)) {
                *value = table[usize::from(pixel[offset])];
            }
        }
    }
    Ok(values)
}

/// [`preprocess`] of several images into one tensor.
///
/// # Shapes
/// output: [B, 3, canvas, canvas]
///
/// # Errors
/// As [`preprocess`]; no image at all gives a tensor with B = 0.
pub fn preprocess_batch(images: &[Image], canvas: usize, device: &Device) -> Result<(Tensor<4>, Vec<Placement>), SamError> {
    let mut values = Vec::new();
    let mut placements = Vec::with_capacity(images.len());
    for image in images {
        let (one, placement) = preprocess(image, canvas)?;
        values.extend(one);
        placements.push(placement);
    }
    let shape = [images.len(), 3, canvas, canvas];
    Ok((Tensor::from_data(TensorData::new(values, shape), device), placements))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_go_there_and_back() {
        let placement = Placement::new(1080, 1920, 1024).unwrap();
        assert_eq!(placement.valid, (576, 1024));
        assert_eq!(placement.point([960.0, 540.0]), [512.0, 288.0]);
        // 333 -> 341 and 500 -> 512: the factors of the two axes differ by rounding.
        let placement = Placement::new(500, 333, 512).unwrap();
        assert_eq!(placement.valid, (512, 341));
        let b = [10.0, 20.0, 300.5, 444.25];
        let back = placement.bbox_back(placement.bbox(b));
        assert!(b.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-4), "{back:?}");
        assert_eq!(placement.bbox(b)[0], (10.0f64 * (341.0 / 333.0)) as f32);
        assert_eq!(placement.bbox(b)[1], (20.0f64 * (512.0 / 500.0)) as f32);
    }

    /// 5 x 2.5 pixels become 5 x 2, not 5 x 3, and lie in the middle; logits find their way back.
    #[test]
    fn in_the_middle() {
        let place = Placement::centred(5, 10, 5).unwrap();
        assert_eq!((place.valid, place.offset), ((2, 5), (1, 0)));
        assert_eq!(Placement::new(5, 10, 5).unwrap().valid, (3, 5));
        assert_eq!(place.point([4.0, 2.5]), [2.0, 2.0]);
        assert_eq!(place.point_back([2.0, 2.0]), [4.0, 2.5]);
        let image = Image::new(10, 5, 3, vec![255; 150]).unwrap();
        let values = preprocess_at(&image, &place).unwrap();
        let filled: Vec<bool> = values[..25].iter().map(|v| *v != 0.0).collect();
        assert_eq!(filled, (0..25).map(|i| (5..15).contains(&i)).collect::<Vec<_>>());
        let canvas = Tensor::<1>::from_floats(&values[..25], &Device::flex()).reshape([1, 1, 5, 5]);
        let back = place.crop(canvas);
        assert_eq!(back.dims(), [1, 1, 5, 10]);
        assert!((back.min() - values[5]).into_scalar::<f32>().abs() < 1e-6);
    }

    #[test]
    fn over_the_whole_input() {
        let place = Placement::stretched(5, 10, 20).unwrap();
        assert_eq!((place.point([10.0, 5.0]), place.point([2.5, 1.0])), ([20.0, 20.0], [5.0, 4.0]));
        assert_eq!(place.bbox_back(place.bbox([1.0, 2.0, 3.0, 4.0])), [1.0, 2.0, 3.0, 4.0]);
        assert!(matches!(Placement::stretched(0, 10, 64), Err(SamError::Thin { .. })));
        assert!(matches!(Placement::stretched(10, 10, usize::MAX), Err(SamError::Canvas { .. })));
    }

    #[test]
    fn sizes_that_cannot_be() {
        assert!(matches!(Placement::new(0, 10, 64), Err(SamError::Thin { .. })));
        assert!(matches!(Placement::new(1, 4000, 64), Err(SamError::Thin { .. })));
        assert!(matches!(Placement::new(4, 4, 0), Err(SamError::Canvas { .. })));
        assert!(matches!(Placement::new(4, 4, usize::MAX), Err(SamError::Canvas { .. })));
        let lying = Image { width: 4, height: 4, channels: 3, data: vec![0; 5] };
        assert!(matches!(preprocess(&lying, 16), Err(SamError::Image(_))));
        let four = Image { width: 4, height: 4, channels: 0, data: vec![] };
        assert!(matches!(preprocess(&four, 16), Err(SamError::Image(_))));
    }

    #[test]
    fn grey_is_three_equal_channels() {
        let grey = Image::new(3, 2, 1, vec![0, 50, 100, 150, 200, 255]).unwrap();
        let colour = Image::new(3, 2, 3, grey.data.iter().flat_map(|v| [*v; 3]).collect()).unwrap();
        assert_eq!(preprocess(&grey, 16).unwrap(), preprocess(&colour, 16).unwrap());
    }
}
