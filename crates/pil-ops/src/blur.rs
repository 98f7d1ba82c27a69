//! Pillow's `GaussianBlur`: three extended box blurs per axis.

use crate::image::{Image, ImageError};

/// `image.filter(ImageFilter.GaussianBlur(radius))`: three extended box blurs per axis, `radius` being the standard
/// deviation in pixels.
///
/// # Errors
/// If the radius is not within 0 to 1000.
pub fn gaussian_blur(image: &Image, radius: f32) -> Result<Image, ImageError> {
    if !(0.0..=1000.0).contains(&radius) {
        return Err(ImageError::Radius { radius: radius.to_string() });
    }
    let mut out = image.clone();
    if radius == 0.0 {
        return Ok(out);
    }
    let window = Window::new(box_radius(radius));
    let (w, h, c) = (image.width(), image.height(), image.channels());
    let (mut line, mut next) = (vec![0u8; w.max(h)], vec![0u8; w.max(h)]);
    let mut pass = |data: &mut [u8], start: usize, step: usize, n: usize| {
        for (i, v) in line[..n].iter_mut().enumerate() {
            *v = data[start + i * step];
        }
        for _ in 0..PASSES {
            window.blur(&line[..n], &mut next[..n]);
            std::mem::swap(&mut line, &mut next);
        }
        for (i, &v) in line[..n].iter().enumerate() {
            data[start + i * step] = v;
        }
    };
    for y in 0..h {
        for k in 0..c {
            pass(out.data_mut(), y * w * c + k, c, w);
        }
    }
    for x in 0..w * c {
        pass(out.data_mut(), x, w * c, h);
    }
    Ok(out)
}

const PASSES: u8 = 3;

/// The box radius whose repeated blur has the wanted variance (Gwosdek et al., "Theoretical foundations of Gaussian
/// convolution by extended box filtering", eq. 7, 11 and 14), in single precision with double intermediates as in
/// Pillow.
fn box_radius(radius: f32) -> f32 {
    let sigma2 = radius * radius / f32::from(PASSES);
    let length = (12.0 * f64::from(sigma2) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let mut part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * sigma2);
    part /= 6.0 * (sigma2 - (whole + 1.0) * (whole + 1.0));
    whole + part
}

struct Window {
    radius: usize,
    near: u32,
    far: u32,
}

impl Window {
    fn new(radius: f32) -> Self {
        let whole = radius as usize;
        let near = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let far = ((1u32 << 24) - (2 * whole as u32 + 1) * near) / 2;
        Self { radius: whole, near, far }
    }

    fn blur(&self, line: &[u8], out: &mut [u8]) {
        let last = line.len() - 1;
        let r = self.radius;
        let right = |x: usize, by: usize| u32::from(line[(x + by).min(last)]);
        let left = |x: usize, by: usize| u32::from(line[x.saturating_sub(by)]);
        // The sum over x - r ..= x + r with clamped borders, moved along.
        let mut sum = (0..=r).map(|d| right(0, d)).sum::<u32>() + left(0, 1) * r as u32;
        for (x, v) in out.iter_mut().enumerate() {
            if x > 0 {
                sum = sum + right(x, r) - left(x - 1, r);
            }
            let far = left(x, r + 1) + right(x, r + 1);
            *v = ((sum * self.near + far * self.far + (1 << 23)) >> 24) as u8;
        }
    }
}
