//! From pixels to the two inputs (EVF-SAM sec. 3.1): SAM's, and the multimodal encoder's.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Filter, Image, resize};
use sam_vit::{PIXEL_MEAN, PIXEL_STD, Placement, SamError, preprocess_batch};
use text_encoders::clip::ClipVisionConfig;

use crate::config::{Encoder, EvfConfig};
use crate::error::EvfError;

/// Longest side of ViLT's input, in its shorter ones: 640 to 384.
const VILT_LONG: f64 = 640.0 / 384.0;

/// The two inputs of B images.
#[derive(Debug, Clone)]
pub struct EvfImages {
    /// SAM's, [B, 3, S, S], normalised and padded.
    pub sam: Tensor<4>,
    /// The multimodal encoder's, [B, 3, s, s]; of size 0 for an encoder that reads text only.
    pub multimodal: Tensor<4>,
}

impl EvfConfig {
    /// Both inputs of one image, and where it lies in SAM's.
    ///
    /// SAM's is Pillow's bilinear resize of the long side, padded. BEiT-3's is the tensor resize of the released code:
    /// bicubic to the square, aspect ignored, no antialiasing, not clamped, then to [-1, 1]. CLIP's and ViLT's are their
    /// own: Pillow's bicubic, a centre crop or sides that are multiples of the patch.
    ///
    /// # Errors
    /// An image that is inconsistent or too thin.
    pub fn preprocess(&self, image: &Image, device: &Device) -> Result<(EvfImages, Placement), EvfError> {
        let (sam, placements) = preprocess_batch(std::slice::from_ref(image), self.input_size(), device)?;
        let placement = placements.first().copied().ok_or_else(|| SamError::Device("no image was prepared".into()))?;
        let multimodal = match self.encoder {
            encoder if !encoder.sees() => Tensor::zeros([1, 3, 0, 0], device),
            Encoder::ClipLate => {
                let side = self.clip_vision.image_size;
                let short = image.height.min(image.width).max(1) as f64;
                let at = |n: usize| ((n as f64 * side as f64 / short) as usize).max(side);
                let (height, width) = (at(image.height), at(image.width));
                let small = unit(&resize(image, width, height, Filter::Bicubic).map_err(SamError::from)?, device);
                // Rounded half to even, as the reference's centre crop does.
                let from = |n: usize| ((n - side) as f64 / 2.0).round_ties_even() as usize;
                clip_normalised(small.narrow(2, from(height), side).narrow(3, from(width), side))
            }
            Encoder::ViltLate | Encoder::ViltEarly => {
                let (side, patch) = (self.vilt.image_size as f64, self.vilt.patch_size);
                let (height, width) = (image.height.max(1) as f64, image.width.max(1) as f64);
                let scale = (side / height.min(width)).min((side * VILT_LONG).floor() / height.max(width));
                let at = |n: f64| (((n * scale + 0.5) as usize) / patch * patch).max(patch);
                unit(&resize(image, at(width), at(height), Filter::Bicubic).map_err(SamError::from)?, device) * 2.0 - 1.0
            }
            _ => beit3(unit(&checked(image)?, device), self.beit3.image_size),
        };
        Ok((EvfImages { sam, multimodal }, placement))
    }

    /// Both inputs of a batch that is already SAM's: the areas (top, left, height, width) of the images are cut out,
    /// brought back to [0, 1] and resized, bicubic without antialiasing, for the multimodal encoder.
    ///
    /// A training loop whose loader ends at SAM's input uses this. It resizes a second time, so numbers differ a little from
    /// [`EvfConfig::preprocess`], which starts from the photograph.
    ///
    /// # Shapes
    /// `canvas`: [B, 3, S, S], normalised and padded; an area a row
    ///
    /// # Errors
    /// Areas that are empty, beyond the canvas, or of another number.
    pub fn from_canvas(&self, canvas: Tensor<4>, areas: &[(usize, usize, usize, usize)]) -> Result<EvfImages, EvfError> {
        let [batch, _, rows, columns] = canvas.dims();
        let device = canvas.device();
        let inside = |&(top, left, height, width): &(usize, usize, usize, usize)| {
            height > 0 && width > 0 && top.saturating_add(height) <= rows && left.saturating_add(width) <= columns
        };
        if areas.len() != batch || !areas.iter().all(inside) {
            let found = areas.iter().flat_map(|a| [a.0, a.1, a.2, a.3]).collect();
            let expected = format!("{batch} areas (top, left, height, width) within {rows} x {columns}");
            return Err(EvfError::Shape { what: "areas of the images", found, expected });
        }
        if !self.encoder.sees() {
            return Ok(EvfImages { sam: canvas, multimodal: Tensor::zeros([batch, 3, 0, 0], &device) });
        }
        let channel = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
        let unit = (canvas.clone() * channel(PIXEL_STD) + channel(PIXEL_MEAN)) / 255.0;
        let cut = areas.iter().enumerate().map(|(i, &(top, left, height, width))| {
            let one = unit.clone().narrow(0, i, 1).narrow(2, top, height).narrow(3, left, width);
            match self.encoder {
                Encoder::ClipLate => clip_normalised(Resize::BICUBIC.forward(one, [self.clip_vision.image_size; 2])),
                Encoder::ViltLate | Encoder::ViltEarly => beit3(one, self.vilt.image_size),
                _ => beit3(one, self.beit3.image_size),
            }
        });
        Ok(EvfImages { multimodal: Tensor::cat(cut.collect(), 0), sam: canvas })
    }
}

/// See [`text_encoders::beit3::Beit3::preprocess`].
fn beit3(image: Tensor<4>, side: usize) -> Tensor<4> {
    Resize::BICUBIC.forward(image, [side, side]) * 2.0 - 1.0
}

fn clip_normalised(image: Tensor<4>) -> Tensor<4> {
    let device = image.device();
    let channel = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
    (image - channel(ClipVisionConfig::MEAN)) / channel(ClipVisionConfig::STD)
}

/// The image, if it says of itself what it is: resizing to its own size checks it and changes nothing.
fn checked(image: &Image) -> Result<Image, EvfError> {
    Ok(resize(image, image.width, image.height, Filter::Bilinear).map_err(SamError::from)?)
}

/// Values from 0 to 1; grey counts as three equal channels.
///
/// # Shapes
/// output: [1, 3, H, W]
fn unit(image: &Image, device: &Device) -> Tensor<4> {
    let channels = image.channels.max(1);
    let plane = |c: usize| image.data.iter().skip(c.min(channels - 1)).step_by(channels).map(|v| f32::from(*v) / 255.0);
    let values: Vec<f32> = (0..3).flat_map(plane).collect();
    Tensor::from_data(TensorData::new(values, [1, 3, image.height, image.width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sam_vit::{ImageEncoderConfig, SamConfig};
    use text_encoders::beit3::Beit3Config;

    fn config(encoder: Encoder) -> EvfConfig {
        let image_encoder = ImageEncoderConfig { image_size: 64, ..ImageEncoderConfig::default() };
        EvfConfig {
            sam: SamConfig { image_encoder, ..SamConfig::default() },
            encoder,
            beit3: Beit3Config::tiny(9),
            ..EvfConfig::default()
        }
    }

    fn photo(width: usize, height: usize) -> Image {
        Image::new(width, height, 3, (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect()).unwrap()
    }

    /// The weights of the sheet, section 14: the first of 256 outputs of 7 has t = 0.513672 and takes -0.091118, 0.575739,
    /// 0.611621 and -0.096241 of places -2 to 1; those before the first sample fold onto it.
    #[test]
    fn bicubic_has_the_taps_of_the_sheet() {
        let row = Resize::BICUBIC.matrix(7, 256);
        let want = [-0.091_118 + 0.575_739 + 0.611_621, -0.096_241, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(row.iter().zip(want).all(|(g, w): (&f32, f32)| (g - w).abs() < 2e-6), "{:?}", &row[..7]);
    }

    #[test]
    fn every_encoder_gets_its_size() {
        let device = Device::flex();
        for (encoder, image, want) in [
            (Encoder::Beit3Early, photo(50, 30), [1, 3, 32, 32]),
            (Encoder::Beit3Text, photo(50, 30), [1, 3, 0, 0]),
            (Encoder::ClipLate, photo(50, 30), [1, 3, 224, 224]),
            (Encoder::ViltEarly, photo(500, 400), [1, 3, 384, 480]),
            (Encoder::ViltLate, photo(300, 100), [1, 3, 192, 640]),
        ] {
            let (images, placement) = config(encoder).preprocess(&image, &device).unwrap();
            assert_eq!(images.multimodal.dims(), want, "{encoder:?}");
            assert_eq!(images.sam.dims(), [1, 3, 64, 64]);
            assert_eq!(placement.original, (image.height, image.width));
        }
    }

    #[test]
    fn a_canvas_that_is_the_photograph_gives_the_same_numbers() {
        let device = Device::flex();
        let config = config(Encoder::Beit3Early);
        let (images, _) = config.preprocess(&photo(64, 64), &device).unwrap();
        let again = config.from_canvas(images.sam, &[(0, 0, 64, 64)]).unwrap();
        let worst = (again.multimodal - images.multimodal).abs().max().into_scalar::<f32>();
        assert!(worst < 1e-5, "{worst}");
    }

    #[test]
    fn areas_beyond_the_canvas_are_errors() {
        let config = config(Encoder::Beit3Early);
        let canvas = || Tensor::zeros([1, 3, 64, 64], &Device::flex());
        assert!(config.from_canvas(canvas(), &[(1, 0, 64, 64)]).is_err());
        assert!(config.from_canvas(canvas(), &[(0, 0, 0, 64)]).is_err());
        assert!(config.from_canvas(canvas(), &[]).is_err());
        assert!(config.from_canvas(canvas(), &[(usize::MAX, 0, 2, 2)]).is_err());
    }

    #[test]
    fn a_lying_image_is_an_error() {
        let lying = Image { width: 4, height: 4, channels: 3, data: vec![0; 5] };
        for encoder in [Encoder::Beit3Early, Encoder::ClipLate, Encoder::ViltEarly] {
            assert!(config(encoder).preprocess(&lying, &Device::flex()).is_err());
        }
    }
}
