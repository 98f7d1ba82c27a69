//! A mask over its image.

use image::RgbImage;

use crate::draw::{TextSize, wrap};
use crate::{Canvas, FigureError, Mask, Rgb, colour};

/// Tints the mask with 50 % of `colour` and draws its outline: a line of the colour inside, a white one around it.
///
/// The lines are one pixel wide up to a side of 600 pixels and grow with larger images.
///
/// # Errors
/// [`FigureError::MaskSize`] when the mask is not as large as the image.
pub fn overlay(image: &RgbImage, mask: &Mask<'_>, colour: Rgb) -> Result<RgbImage, FigureError> {
    overlay_many(image, &[(*mask, colour)])
}

/// Several masks over one image, later ones on top.
///
/// # Errors
/// [`FigureError::MaskSize`] when a mask is not as large as the image.
pub fn overlay_many(image: &RgbImage, masks: &[(Mask<'_>, Rgb)]) -> Result<RgbImage, FigureError> {
    let mut canvas = Canvas::on(image.clone());
    for (mask, _) in masks {
        mask.fits(image)?;
    }
    for (mask, colour) in masks {
        tint(&mut canvas, mask, *colour, 128);
    }
    let thickness = image.width().max(image.height()) / 600 + 1;
    for (mask, colour) in masks {
        outline(&mut canvas, mask, *colour, thickness, true);
    }
    Ok(canvas.into_image())
}

/// Long side up to which an image is enlarged before masks are drawn over it: smaller ones hide in their outlines.
const TINY: u32 = 160;

/// Masks over an image with a caption below, for people. Tiny images are enlarged by a whole factor, pixel by pixel, so that their
/// masks can be seen; larger ones keep their size, and the caption lies on a strip under them.
///
/// # Errors
/// [`FigureError::MaskSize`] when a mask is not as large as the image.
pub fn captioned(image: &RgbImage, masks: &[(Mask<'_>, Rgb)], caption: &str) -> Result<RgbImage, FigureError> {
    let factor = TINY.div_ceil(image.width().max(image.height()).max(1)).max(1);
    let drawn = if factor == 1 { overlay_many(image, masks)? } else { enlarged(image, masks, factor)? };
    let size = if drawn.width() < 320 { TextSize::Small } else { TextSize::Normal };
    let lines = wrap(caption, size, drawn.width().saturating_sub(12), 3);
    if lines.is_empty() {
        return Ok(drawn);
    }
    let strip = lines.len() as u32 * (size.height() + size.height() / 4) + 8;
    let mut canvas = Canvas::new(drawn.width(), drawn.height() + strip, colour::PAPER);
    canvas.paste(&drawn, 0, 0);
    canvas.lines(&lines, 6, i64::from(drawn.height()) + 5, size, colour::INK);
    Ok(canvas.into_image())
}

/// Image and masks with every pixel as a square.
fn enlarged(image: &RgbImage, masks: &[(Mask<'_>, Rgb)], factor: u32) -> Result<RgbImage, FigureError> {
    let (width, height) = (image.width() * factor, image.height() * factor);
    let large = RgbImage::from_fn(width, height, |x, y| *image.get_pixel(x / factor, y / factor));
    let grown: Vec<Vec<u8>> = masks
        .iter()
        .map(|(mask, _)| {
            mask.fits(image)?;
            let at = |i: u32| u8::from(mask.at(i64::from(i % width / factor), i64::from(i / width / factor)));
            Ok((0..width * height).map(at).collect())
        })
        .collect::<Result<_, FigureError>>()?;
    let grown: Vec<_> = grown
        .iter()
        .zip(masks)
        .map(|(bytes, (_, colour))| Ok((Mask::new(width, height, bytes)?, *colour)))
        .collect::<Result<_, FigureError>>()?;
    overlay_many(&large, &grown)
}

/// A figure as a PNG file's bytes.
///
/// # Errors
/// [`image::ImageError`] when the encoder refuses.
pub fn png(figure: &RgbImage) -> image::ImageResult<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    figure.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// [`png`], as small as the encoder makes it: for figures that are kept, at several times the time.
///
/// # Errors
/// As there.
pub fn compact_png(figure: &RgbImage) -> image::ImageResult<Vec<u8>> {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    let mut bytes = Vec::new();
    figure.write_with_encoder(PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive))?;
    Ok(bytes)
}

/// Mixes a colour into the pixels of the mask.
pub(crate) fn tint(canvas: &mut Canvas, mask: &Mask<'_>, colour: Rgb, alpha: u8) {
    let (width, height) = mask.size();
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            if mask.at(x, y) {
                canvas.blend(x, y, colour, alpha);
            }
        }
    }
}

/// Draws the border pixels of the mask, `thickness` of them, in its colour and, with `halo`, the pixels around it in white. Time
/// is linear in pixels, whatever the thickness.
pub(crate) fn outline(canvas: &mut Canvas, mask: &Mask<'_>, colour: Rgb, thickness: u32, halo: bool) {
    let (width, height) = mask.size();
    let halo_reach = if halo { thickness.div_ceil(2) } else { 0 };
    let to_outside = distances(mask, false);
    let to_inside = distances(mask, true);
    let mut at = 0;
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            if to_outside[at] > 0 {
                if to_outside[at] <= thickness {
                    canvas.blend(x, y, colour, 255);
                }
            } else if to_inside[at] <= halo_reach {
                canvas.blend(x, y, [255, 255, 255], 225);
            }
            at += 1;
        }
    }
}

/// City-block distance of every pixel to the nearest pixel that lies inside (`inside`) or outside of the mask, 0 where it is one;
/// what is beyond the border lies outside. Two passes over the pixels (Rosenfeld and Pfaltz, 1966).
fn distances(mask: &Mask<'_>, inside: bool) -> Vec<u32> {
    let (width, height) = (mask.width as usize, mask.height as usize);
    let far = mask.width.saturating_add(mask.height);
    let beyond = if inside { far } else { 0 };
    let mut all: Vec<u32> = mask.bytes.iter().map(|b| if (*b != 0) == inside { 0 } else { far }).collect();
    for at in 0..all.len() {
        let (y, x) = (at / width, at % width);
        let above = if y > 0 { all[at - width] } else { beyond };
        let left = if x > 0 { all[at - 1] } else { beyond };
        all[at] = all[at].min(above.min(left) + 1);
    }
    for at in (0..all.len()).rev() {
        let (y, x) = (at / width, at % width);
        let below = if y + 1 < height { all[at + width] } else { beyond };
        let right = if x + 1 < width { all[at + 1] } else { beyond };
        all[at] = all[at].min(below.min(right) + 1);
    }
    all
}
