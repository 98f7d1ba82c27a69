//! Pillow's `ImageEnhance`: brightness, contrast, saturation, and its grey conversion.

use crate::image::Image;

/// `ImageEnhance.Brightness(image).enhance(factor)`: a blend with black.
pub fn brightness(image: &mut Image, factor: f32) {
    for v in image.data_mut() {
        *v = blend(0, *v, factor);
    }
}

/// `ImageEnhance.Contrast(image).enhance(factor)`: a blend with the mean grey level.
pub fn contrast(image: &mut Image, factor: f32) {
    let sum: u64 = luma(image).data().iter().map(|&v| u64::from(v)).sum();
    let mean = (sum as f64 / (image.width() * image.height()) as f64 + 0.5) as u8;
    for v in image.data_mut() {
        *v = blend(mean, *v, factor);
    }
}

/// `ImageEnhance.Color(image).enhance(factor)`: a blend with the grey image.
pub fn saturation(image: &mut Image, factor: f32) {
    let grey = luma(image);
    let channels = image.channels();
    for (pixel, &g) in image.data_mut().chunks_exact_mut(channels).zip(grey.data()) {
        for v in pixel {
            *v = blend(g, *v, factor);
        }
    }
}

/// `image.convert("L")`: ITU-R 601-2 luma in 16-bit fixed point.
///
/// # Shapes
/// `[h, w, c]` to `[h, w, 1]`.
pub fn luma(image: &Image) -> Image {
    if image.channels() == 1 {
        return image.clone();
    }
    let grey = |p: &[u8]| {
        let sum = u32::from(p[0]) * 19_595 + u32::from(p[1]) * 38_470 + u32::from(p[2]) * 7_471;
        ((sum + 0x8000) >> 16) as u8
    };
    let data = image.data().chunks_exact(3).map(grey).collect();
    Image::from_parts(image.width(), image.height(), 1, data)
}

/// `Image.blend`: single precision, truncated (not rounded) to 8 bits; factors beyond 0 and 1 extrapolate.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (a, b) = (i32::from(from), i32::from(to));
    // `as` saturates, which is the clamp of the reference's extrapolating branch.
    (a as f32 + factor * (b - a) as f32) as u8
}
