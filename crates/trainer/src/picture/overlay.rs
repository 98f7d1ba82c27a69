//! A mask over its image.

use image::RgbImage;

use super::{Canvas, Mask, PictureError, Rgb};

/// Tints the mask with 50 % of `colour` and draws its outline: a line of the colour inside, a white one around it.
///
/// The lines are one pixel wide up to a side of 600 pixels and grow with larger images.
///
/// # Errors
/// [`PictureError::MaskSize`] when the mask is not as large as the image.
pub fn overlay(image: &RgbImage, mask: &Mask<'_>, colour: Rgb) -> Result<RgbImage, PictureError> {
    overlay_many(image, &[(*mask, colour)])
}

/// Several masks over one image, later ones on top.
///
/// # Errors
/// [`PictureError::MaskSize`] when a mask is not as large as the image.
pub fn overlay_many(image: &RgbImage, masks: &[(Mask<'_>, Rgb)]) -> Result<RgbImage, PictureError> {
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

/// Mixes a colour into the pixels of the mask.
pub(super) fn tint(canvas: &mut Canvas, mask: &Mask<'_>, colour: Rgb, alpha: u8) {
    let (width, height) = mask.size();
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            if mask.at(x, y) {
                canvas.blend(x, y, colour, alpha);
            }
        }
    }
}

/// Draws the border pixels of the mask, `thickness` of them, in its colour and, with `halo`, the pixels around it in white.
pub(super) fn outline(canvas: &mut Canvas, mask: &Mask<'_>, colour: Rgb, thickness: u32, halo: bool) {
    let (width, height) = mask.size();
    let near = |x: i64, y: i64, inside: bool, reach: i64| {
        (-reach..=reach).any(|dy| {
            let span = reach - dy.abs();
            (-span..=span).any(|dx| mask.at(x + dx, y + dy) == inside)
        })
    };
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            if mask.at(x, y) {
                if near(x, y, false, i64::from(thickness)) {
                    canvas.blend(x, y, colour, 255);
                }
            } else if halo && near(x, y, true, i64::from(thickness.div_ceil(2))) {
                canvas.blend(x, y, [255, 255, 255], 225);
            }
        }
    }
}
