//! Pillow's `Image.resize`: fixed-point separable resampling, bit for bit.

use crate::image::{Image, ImageError, check_size};

/// A resampling filter under Pillow's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The pixel under the centre.
    Nearest,
    /// Triangle; widened when shrinking (antialiased).
    Bilinear,
    /// Keys' cubic with a = -0.5; widened when shrinking.
    Bicubic,
}

/// `Image.resize((new_width, new_height), filter)`.
///
/// # Shapes
/// `[h, w, c]` to `[new_height, new_width, c]`.
///
/// # Errors
/// If a new side is 0 or beyond 65,535.
pub fn resize(image: &Image, new_width: usize, new_height: usize, filter: Filter) -> Result<Image, ImageError> {
    check_size(new_width, new_height)?;
    if (new_width, new_height) == (image.width(), image.height()) {
        return Ok(image.clone());
    }
    if filter == Filter::Nearest {
        return Ok(nearest(image, new_width, new_height));
    }
    // A pass is skipped where the axis keeps its size; the intermediate is rounded to 8 bits.
    if new_width == image.width() {
        return Ok(vertical(image, new_height, filter));
    }
    let wide = horizontal(image, new_width, filter);
    if new_height == image.height() {
        return Ok(wide);
    }
    Ok(vertical(&wide, new_height, filter))
}

/// Fixed-point weights have 22 fractional bits: 32 less 8 for the pixel and 2 for overshoot.
const BITS: u32 = 22;

struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn weight(filter: Filter, x: f64) -> f64 {
    let x = x.abs();
    match filter {
        Filter::Bicubic => {
            const A: f64 = -0.5;
            if x < 1.0 {
                ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * A
            } else {
                0.0
            }
        }
        _ => (1.0 - x).max(0.0),
    }
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = if filter == Filter::Bicubic { 2.0 } else { 1.0 } * stretch;
    let inverse = 1.0 / stretch;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // `as` truncates toward zero and stops at 0, as the reference's cast and clamp do together.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..end).map(|x| weight(filter, (x as f64 - centre + 0.5) * inverse)).collect();
            let sum: f64 = raw.iter().sum();
            let weights = raw
                .into_iter()
                .map(|w| {
                    let w = if sum == 0.0 { w } else { w / sum } * f64::from(1u32 << BITS);
                    if w < 0.0 { (w - 0.5) as i32 } else { (w + 0.5) as i32 }
                })
                .collect();
            Taps { first, weights }
        })
        .collect()
}

fn clip(value: i32) -> u8 {
    (value >> BITS).clamp(0, 255) as u8
}

fn horizontal(image: &Image, to: usize, filter: Filter) -> Image {
    let taps = taps(image.width(), to, filter);
    let c = image.channels();
    let mut data = vec![0u8; to * image.height() * c];
    for (out, row) in data.chunks_exact_mut(to * c).zip(image.data().chunks_exact(image.width() * c)) {
        for (pixel, t) in out.chunks_exact_mut(c).zip(&taps) {
            let source = &row[t.first * c..];
            if c == 3 {
                let mut sums = [1i32 << (BITS - 1); 3];
                for (p, &w) in source.chunks_exact(3).zip(&t.weights) {
                    for k in 0..3 {
                        sums[k] += i32::from(p[k]) * w;
                    }
                }
                for k in 0..3 {
                    pixel[k] = clip(sums[k]);
                }
            } else {
                let dot: i32 = source.iter().zip(&t.weights).map(|(&p, &w)| i32::from(p) * w).sum();
                pixel[0] = clip(dot + (1 << (BITS - 1)));
            }
        }
    }
    Image::from_parts(to, image.height(), c, data)
}

fn vertical(image: &Image, to: usize, filter: Filter) -> Image {
    let stride = image.width() * image.channels();
    let mut data = Vec::with_capacity(to * stride);
    let mut sums = vec![0i32; stride];
    for t in taps(image.height(), to, filter) {
        sums.fill(1 << (BITS - 1));
        for (row, &w) in image.data()[t.first * stride..].chunks_exact(stride).zip(&t.weights) {
            for (sum, &p) in sums.iter_mut().zip(row) {
                *sum += i32::from(p) * w;
            }
        }
        data.extend(sums.iter().map(|&s| clip(s)));
    }
    Image::from_parts(image.width(), to, image.channels(), data)
}

fn nearest(image: &Image, new_width: usize, new_height: usize) -> Image {
    // The reference adds the step again and again; multiplying would round differently in long rows.
    let positions = |from: usize, to: usize| {
        let step = from as f64 / to as f64;
        let mut at = step * 0.5;
        (0..to)
            .map(|_| {
                let here = (at as usize).min(from - 1);
                at += step;
                here
            })
            .collect::<Vec<_>>()
    };
    let (columns, rows) = (positions(image.width(), new_width), positions(image.height(), new_height));
    let c = image.channels();
    let mut data = Vec::with_capacity(new_width * new_height * c);
    for &y in &rows {
        for &x in &columns {
            let at = (y * image.width() + x) * c;
            data.extend_from_slice(&image.data()[at..at + c]);
        }
    }
    Image::from_parts(new_width, new_height, c, data)
}
