//! From an image's pixels to SAM-2's input: four ways of resizing that published code takes.

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::resize::Resize;
use pil_ops::{Filter, Fit, Image, Letterbox, MAX_CANVAS, Normalisation, resize};

use crate::error::Sam2Error;

/// Mean of red, green and blue on the scale 0 to 1, as video code subtracts it.
const UNIT_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Deviation of red, green and blue on the scale 0 to 1.
const UNIT_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How an image is brought to the square input. All of them ignore its aspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// Pillow's bilinear filter, antialiased.
    #[default]
    PilBilinear,
    /// PyTorch's bilinear resize of bytes, not antialiased: across, then down, each rounded to bytes.
    TorchU8Bilinear,
    /// Pillow's bilinear filter with the long side to the input's, then PyTorch's bilinear resize to the square.
    LongSideStretch,
    /// Pillow's bicubic filter: frames of a video.
    Video,
}

/// Resizes and normalises an image; a grey image counts as three equal channels.
///
/// # Shapes
/// output: [1, 3, `canvas`, `canvas`]
///
/// # Errors
/// An input of no pixels or beyond 8192.
pub fn preprocess(image: &Image, canvas: usize, resampling: Resampling, device: &Device) -> Result<Tensor<4>, Sam2Error> {
    if canvas == 0 || canvas > MAX_CANVAS {
        return Err(Sam2Error::Canvas { canvas, multiple: 1, most: MAX_CANVAS });
    }
    let Normalisation { mean, std } = Normalisation::IMAGENET;
    let by_bytes = |channel: usize, v: usize| (v as f32 - mean[channel]) / std[channel];
    let by_units = |channel: usize, v: usize| ((v as f64 / 255.0) as f32 - UNIT_MEAN[channel]) / UNIT_STD[channel];
    let tensor = |image: &Image, table: &dyn Fn(usize, usize) -> f32| {
        let data = TensorData::new(planes(image, table), [1, 3, image.height(), image.width()]);
        Tensor::<4>::from_data(data, device)
    };
    Ok(match resampling {
        Resampling::PilBilinear => tensor(&resize(image, canvas, canvas, Filter::Bilinear)?, &by_bytes),
        Resampling::Video => tensor(&resize(image, canvas, canvas, Filter::Bicubic)?, &by_units),
        Resampling::TorchU8Bilinear => tensor(&bilinear_bytes(image, canvas)?, &by_bytes),
        Resampling::LongSideStretch => {
            let long = Letterbox::new(image.height(), image.width(), canvas, Fit::TopLeft)?.resize(image)?;
            let long = tensor(&long, &by_bytes);
            Resize::BILINEAR.forward(long, [canvas, canvas])
        }
    })
}

/// Channel after channel, each byte looked up.
fn planes(image: &Image, table: &dyn Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(3 * image.width() * image.height());
    for channel in 0..3 {
        let table: [f32; 256] = std::array::from_fn(|v| table(channel, v));
        let from = channel.min(image.channels() - 1);
        values.extend(image.data().chunks_exact(image.channels()).map(|pixel| table[usize::from(pixel[from])]));
    }
    values
}

/// Two taps of one axis: both places and the weight of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let tap = |i: usize| {
        let source = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let first = (source as usize).min(from - 1);
        (first, (first + 1).min(from - 1), source - first as f64)
    };
    (0..to).map(tap).collect()
}

fn mix(a: u8, b: u8, weight: f64) -> u8 {
    // `as` cuts, so halves go up.
    (f64::from(a) * (1.0 - weight) + f64::from(b) * weight + 0.5) as u8
}

/// PyTorch's bilinear resize of bytes without antialiasing.
fn bilinear_bytes(image: &Image, side: usize) -> Result<Image, Sam2Error> {
    let channels = image.channels();
    let across = taps(image.width(), side);
    let mut wide = Vec::with_capacity(image.height() * side * channels);
    for row in image.data().chunks_exact(image.width() * channels) {
        for (first, second, weight) in &across {
            wide.extend((0..channels).map(|c| mix(row[first * channels + c], row[second * channels + c], *weight)));
        }
    }
    let stride = side * channels;
    let mut data = Vec::with_capacity(side * stride);
    for (first, second, weight) in taps(image.height(), side) {
        let rows = [first, second].map(|row| &wide[row * stride..][..stride]);
        data.extend(rows[0].iter().zip(rows[1]).map(|(a, b)| mix(*a, *b, weight)));
    }
    Ok(Image::new(side, side, channels, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pass is rounded by itself: 0 and 255 in the middle are 128 (127.5), and 128 with 1 is 65 (64.5).
    #[test]
    fn bytes_are_rounded_after_each_pass() {
        let image = Image::new(2, 2, 1, vec![0, 255, 1, 1]).unwrap();
        let got = bilinear_bytes(&image, 1).unwrap();
        assert_eq!(got.data(), [65]);
    }

    #[test]
    fn every_way_fills_the_square_and_grey_is_three_channels() {
        let device = Device::flex();
        let grey = Image::new(5, 3, 1, (0..15).map(|v| v * 17).collect()).unwrap();
        let colour = Image::new(5, 3, 3, grey.data().iter().flat_map(|v| [*v; 3]).collect()).unwrap();
        for way in [Resampling::PilBilinear, Resampling::TorchU8Bilinear, Resampling::LongSideStretch, Resampling::Video] {
            let got = preprocess(&grey, 32, way, &device).unwrap();
            assert_eq!(got.dims(), [1, 3, 32, 32]);
            assert_eq!(got.into_data(), preprocess(&colour, 32, way, &device).unwrap().into_data());
        }
    }

    #[test]
    fn thin_images_and_impossible_inputs() {
        let device = Device::flex();
        let thin = Image::new(1, 300, 1, vec![7; 300]).unwrap();
        for way in [Resampling::PilBilinear, Resampling::TorchU8Bilinear, Resampling::LongSideStretch, Resampling::Video] {
            assert_eq!(preprocess(&thin, 32, way, &device).unwrap().dims(), [1, 3, 32, 32], "{way:?}");
            for canvas in [0, MAX_CANVAS + 1] {
                assert!(matches!(preprocess(&thin, canvas, way, &device), Err(Sam2Error::Canvas { .. })));
            }
        }
    }
}
