//! `EvfImages`: photographs to the two inputs (EVF-SAM sec. 3.1), the image model's and the multimodal encoder's.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Filter, Image, ImageError, Letterbox, Normalisation, resize};
use sam_vit::SamError;
use sam2::Sam2Error;

use crate::config::{Encoder, EvfConfig};
use crate::error::EvfError;

/// The two inputs of B images.
#[derive(Debug, Clone)]
pub struct EvfImages {
    /// The image model's, [B, 3, S, S], normalised; SAM's is padded.
    pub sam: Tensor<4>,
    /// The multimodal encoder's, [B, 3, s, s]; of size 0 for an encoder that reads text only.
    pub multimodal: Tensor<4>,
}

impl EvfConfig {
    /// Both inputs of one photograph, and where it lies in the image model's.
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn preprocess(&self, image: &Image, device: &Device) -> Result<(EvfImages, Letterbox), EvfError> {
        let canvas = self.input_size();
        let letterbox = Letterbox::new(image.height(), image.width(), canvas, self.fit()).map_err(SamError::from)?;
        let values = self.visual_input(image).map_err(SamError::from)?;
        let sam = Tensor::from_data(TensorData::new(values, [1, 3, canvas, canvas]), device);
        Ok((EvfImages { sam, multimodal: self.multimodal_tensor(image, device)? }, letterbox))
    }

    /// The image model's input, made from the photograph as [`EvfConfig::input()`] says.
    ///
    /// # Shapes
    /// output: `3 * S * S` values, [3, S, S]
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn visual_input(&self, photo: &Image) -> Result<Vec<f32>, ImageError> {
        let canvas = self.input_size();
        let Some(resampling) = self.input().resampling() else {
            let letterbox = Letterbox::new(photo.height(), photo.width(), canvas, self.fit())?;
            return letterbox.normalise(&letterbox.resize(photo)?, Normalisation::IMAGENET);
        };
        sam2::preprocess(photo, canvas, resampling).map_err(|error| match error {
            Sam2Error::Image(error) => error,
            _ => ImageError::Canvas { canvas, long: canvas },
        })
    }

    /// [`EvfConfig::multimodal_input`] on a device.
    ///
    /// # Shapes
    /// output: [1, 3, s, s]
    pub(crate) fn multimodal_tensor(&self, photo: &Image, device: &Device) -> Result<Tensor<4>, EvfError> {
        let (values, side) = self.multimodal_input(photo).map_err(SamError::from)?;
        Ok(Tensor::from_data(TensorData::new(values, [1, 3, side, side]), device))
    }

    /// The multimodal encoder's input, made from the photograph itself, and its side; nothing and 0 for an encoder that reads
    /// text only. Training, evaluation and prediction all use it.
    ///
    /// Every encoder sees the whole image squashed to its square, so that "left" exists for all of them. BEiT-3's resize is
    /// the released code's: bicubic, no antialiasing, not clamped, then to [-1, 1]. CLIP's and ViLT's is Pillow's bicubic; their
    /// own preprocessing would cut the sides off or keep the aspect, which a batch cannot.
    ///
    /// # Shapes
    /// output: `3 * side * side` values, [3, side, side]
    ///
    /// # Errors
    /// An image beyond the sizes that can be resized.
    pub fn multimodal_input(&self, photo: &Image) -> Result<(Vec<f32>, usize), ImageError> {
        let squashed = |side: usize| resize(photo, side, side, Filter::Bicubic);
        Ok(match self.encoder {
            encoder if !encoder.sees() => (Vec::new(), 0),
            Encoder::ClipLate => {
                let side = self.clip_vision.image_size;
                let (mean, std) = (self.clip_vision.mean, self.clip_vision.std);
                (planes(&squashed(side)?, |c, v| (v - mean[c]) / std[c]), side)
            }
            Encoder::ViltLate | Encoder::ViltEarly => {
                let side = self.vilt.image_size;
                (planes(&squashed(side)?, |_, v| v * 2.0 - 1.0), side)
            }
            _ => {
                let side = self.beit3.image_size;
                let unit = planes(photo, |_, v| v);
                let mut values = Resize::BICUBIC.forward_host(&unit, [photo.height(), photo.width()], [side; 2]);
                values.iter_mut().for_each(|v| *v = *v * 2.0 - 1.0);
                (values, side)
            }
        })
    }
}

/// Channel after channel, `f(channel, value)` of values from 0 to 1; grey counts as three equal channels.
///
/// # Shapes
/// output: [3, H, W]
fn planes(image: &Image, f: impl Fn(usize, f32) -> f32) -> Vec<f32> {
    let channels = image.channels();
    let plane =
        |c: usize| image.data().iter().skip(c.min(channels - 1)).step_by(channels).map(move |v| (c, f32::from(*v) / 255.0));
    (0..3).flat_map(plane).map(|(c, v)| f(c, v)).collect()
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

    /// The first of 256 outputs of 7 has t = 0.513672 and takes -0.091118, 0.575739,
    /// 0.611621 and -0.096241 of places -2 to 1; those before the first sample fold onto it.
    #[test]
    fn bicubic_has_the_released_codes_taps() {
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
            (Encoder::ViltEarly, photo(500, 400), [1, 3, 384, 384]),
            (Encoder::ViltLate, photo(300, 100), [1, 3, 384, 384]),
        ] {
            let (images, letterbox) = config(encoder).preprocess(&image, &device).unwrap();
            assert_eq!(images.multimodal.dims(), want, "{encoder:?}");
            assert_eq!(images.sam.dims(), [1, 3, 64, 64]);
            assert_eq!(letterbox.original, (image.height(), image.width()));
        }
    }

    /// What is on the left stays on the left of every encoder's input: an image three times as wide as high is not cropped.
    #[test]
    fn the_whole_image_is_seen() {
        let wide = Image::new(90, 30, 3, (0..90 * 30).flat_map(|i| [if i % 90 < 30 { 255 } else { 0 }; 3]).collect()).unwrap();
        for encoder in [Encoder::Beit3Early, Encoder::ClipLate, Encoder::ViltLate, Encoder::ViltEarly] {
            let (values, side) = config(encoder).multimodal_input(&wide).unwrap();
            let row = &values[..side];
            let (bright, dark) = (row[side / 6], row[side / 2]);
            assert!(bright > dark + 1.0, "{encoder:?}: {bright} against {dark}");
            assert!((row[0] - bright).abs() < 0.1 && (row[side - 1] - dark).abs() < 0.1, "{encoder:?}");
        }
    }
}
