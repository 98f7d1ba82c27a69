//! A mask over its image.

use image::RgbImage;

use crate::draw::{TextSize, mix, wrap};
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
    let (width, _) = mask.size();
    for (y, row) in mask.bytes.chunks_exact((width as usize).max(1)).enumerate() {
        for (pixel, inside) in canvas.row_mut(y as u32).zip(row) {
            if *inside != 0 {
                mix(pixel, colour, alpha);
            }
        }
    }
}

/// Draws the border pixels of the mask, `thickness` of them, in its colour and, with `halo`, the pixels around it in white. Time
/// is linear in pixels, whatever the thickness.
pub(crate) fn outline(canvas: &mut Canvas, mask: &Mask<'_>, colour: Rgb, thickness: u32, halo: bool) {
    let thickness = u8::try_from(thickness).unwrap_or(u8::MAX - 1).min(u8::MAX - 1);
    let halo_reach = if halo { thickness.div_ceil(2) } else { 0 };
    let distances = distances(mask);
    let width = (mask.width as usize).max(1);
    for (y, (row, away)) in mask.bytes.chunks_exact(width).zip(distances.chunks_exact(width)).enumerate() {
        for ((pixel, inside), away) in canvas.row_mut(y as u32).zip(row).zip(away) {
            if *inside != 0 && *away <= thickness {
                mix(pixel, colour, 255);
            } else if *inside == 0 && *away <= halo_reach {
                mix(pixel, [255, 255, 255], 225);
            }
        }
    }
}

/// City-block distance of every pixel to the nearest one on the other side of the mask's border, at most 255; what is beyond the image
/// lies outside of the mask. Two passes over the pixels (Rosenfeld and Pfaltz, 1966).
fn distances(mask: &Mask<'_>) -> Vec<u8> {
    let width = mask.width as usize;
    let mut all = vec![u8::MAX; mask.bytes.len()];
    if width == 0 {
        return all;
    }
    let beyond = vec![0; width];
    let mut passed: (&[u8], Vec<u8>) = (&beyond, vec![u8::MAX; width]);
    for (row, away) in mask.bytes.chunks_exact(width).zip(all.chunks_exact_mut(width)) {
        from_row(row, away, passed.0, &passed.1);
        from_column(row.iter().zip(&mut *away));
        passed.0 = row;
        passed.1.copy_from_slice(away);
    }
    passed = (&beyond, vec![u8::MAX; width]);
    for (row, away) in mask.bytes.chunks_exact(width).zip(all.chunks_exact_mut(width)).rev() {
        from_row(row, away, passed.0, &passed.1);
        from_column(row.iter().zip(&mut *away).rev());
        passed.0 = row;
        passed.1.copy_from_slice(away);
    }
    all
}

/// What a pixel may be away by its neighbour's word: one more than it where both lie on one side of the border, else 1.
fn step(same: bool, neighbour: u8) -> u8 {
    if same { neighbour.saturating_add(1) } else { 1 }
}

/// Distances through the row above, or below.
fn from_row(row: &[u8], away: &mut [u8], other: &[u8], other_away: &[u8]) {
    for (((inside, away), other), other_away) in row.iter().zip(away).zip(other).zip(other_away) {
        *away = (*away).min(step((*inside != 0) == (*other != 0), *other_away));
    }
}

/// Distances through the pixel before.
fn from_column<'a>(pixels: impl Iterator<Item = (&'a u8, &'a mut u8)>) {
    let mut before = (false, u8::MAX);
    for (inside, away) in pixels {
        let inside = *inside != 0;
        *away = (*away).min(step(inside == before.0, before.1));
        before = (inside, *away);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_to_the_nearest_pixel_of_the_other_side() {
        let (width, height) = (13u32, 9u32);
        let mut state = 7u32;
        for density in [2, 5, 40, 117] {
            let bytes: Vec<u8> = (0..width * height)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    u8::from(state >> 8 & 0xFFFF > 0xFFFF / density)
                })
                .collect();
            let mask = Mask::new(width, height, &bytes).unwrap();
            let around = || (-1..=i64::from(height)).flat_map(|y| (-1..=i64::from(width)).map(move |x| (x, y)));
            let found = distances(&mask);
            for (at, away) in found.iter().enumerate() {
                let (x, y) = (at as i64 % i64::from(width), at as i64 / i64::from(width));
                let other = around().filter(|(u, v)| mask.at(*u, *v) != mask.at(x, y));
                let nearest = other.map(|(u, v)| (u - x).abs() + (v - y).abs()).min();
                assert_eq!(i64::from(*away), nearest.unwrap_or(255), "{x}, {y} of {bytes:?}");
            }
        }
    }
}
