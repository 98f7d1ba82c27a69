//! Turning a scene into pixels.

use super::scene::{Colour, Object, Scene, Texture};
use crate::rng::Rng;

/// Sub-rows per pixel; along a row coverage is exact.
const SUB: usize = 4;

/// Renders a scene.
///
/// # Shapes
/// `[height, width, 3]`, row after row.
pub(crate) fn render(scene: &Scene, rng: &mut Rng) -> Vec<u8> {
    let (w, h) = (scene.width as usize, scene.height as usize);
    let mut pixels = background(w, h, rng);
    for object in &scene.objects {
        let tint = rng.range(0.92, 1.06);
        let period = object.radius * rng.range(0.42, 0.55);
        let slant = rng.range(0.0, std::f64::consts::PI);
        let (main, other) = paint(object.colour);
        let sin_cos = (object.angle + slant).sin_cos();
        let pattern = Pattern { texture: object.texture, centre: object.centre, period, sin_cos };
        let (top, cover) = rows(object, w, h);
        for (y, row) in cover.chunks_exact(w).enumerate() {
            for (x, &c) in row.iter().enumerate().filter(|(_, c)| **c > 0.0) {
                let second = pattern.second(x as f64 + 0.5, (y + top) as f64 + 0.5);
                let pixel = &mut pixels[((y + top) * w + x) * 3..][..3];
                for k in 0..3 {
                    let colour = (main[k] + (other[k] - main[k]) * second) * tint;
                    pixel[k] += (colour - pixel[k]) * f64::from(c);
                }
            }
        }
    }
    pixels.into_iter().map(|v| (v + rng.range(-3.0, 3.0)).round().clamp(0.0, 255.0) as u8).collect()
}

/// The colour itself and its partner in a pattern: a shade of the same hue, so that the name still fits.
pub(super) fn paint(colour: Colour) -> ([f64; 3], [f64; 3]) {
    match colour {
        Colour::Red => ([218.0, 38.0, 36.0], [118.0, 8.0, 12.0]),
        Colour::Orange => ([246.0, 138.0, 18.0], [168.0, 78.0, 0.0]),
        Colour::Yellow => ([250.0, 224.0, 40.0], [180.0, 146.0, 4.0]),
        Colour::Green => ([44.0, 164.0, 62.0], [10.0, 82.0, 28.0]),
        Colour::Blue => ([42.0, 92.0, 226.0], [10.0, 28.0, 116.0]),
        Colour::Purple => ([142.0, 52.0, 182.0], [70.0, 14.0, 98.0]),
        Colour::White => ([246.0, 246.0, 246.0], [178.0, 178.0, 182.0]),
        Colour::Black => ([26.0, 26.0, 28.0], [92.0, 92.0, 96.0]),
    }
}

/// Where an object shows its second colour. Lengths are pixels.
pub(super) struct Pattern {
    pub(super) texture: Texture,
    pub(super) centre: (f64, f64),
    pub(super) period: f64,
    /// Sine and cosine of its direction.
    pub(super) sin_cos: (f64, f64),
}

impl Pattern {
    /// How much of the second colour a point shows, 0 to 1; edges are one pixel soft.
    pub(super) fn second(&self, x: f64, y: f64) -> f64 {
        let (sin, cos) = self.sin_cos;
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let (u, v) = ((dx * cos + dy * sin) / self.period, (dy * cos - dx * sin) / self.period);
        // Signed distance from the middle of a stripe's edge, in pixels: positive inside the stripe.
        let stripe = |t: f64| (0.25 - ((t - t.floor()) - 0.5).abs()) * self.period;
        let soft = |d: f64| (d + 0.5).clamp(0.0, 1.0);
        match self.texture {
            Texture::Plain => 0.0,
            Texture::Striped => soft(stripe(u)),
            Texture::Checkered => {
                let (a, b) = (soft(stripe(u * 0.8)), soft(stripe(v * 0.8)));
                a + b - 2.0 * a * b
            }
            Texture::Dotted => {
                let (fu, fv) = (u - u.floor() - 0.5, v - v.floor() - 0.5);
                soft((0.31 - fu.hypot(fv)) * self.period)
            }
        }
    }
}

/// First row and coverage (0 to 1, full width) of the rows an object touches.
fn rows(object: &Object, w: usize, h: usize) -> (usize, Vec<f32>) {
    let ys = || object.outlines.iter().flat_map(|o| o.iter().skip(1).step_by(2).copied());
    let top = ys().fold(f64::MAX, f64::min).floor().clamp(0.0, h as f64) as usize;
    let end = ys().fold(f64::MIN, f64::max).ceil().clamp(top as f64, h as f64) as usize;
    let mut cover = vec![0f32; (end - top) * w];
    add_coverage(&mut cover, (0, top, w, end - top), &object.outlines, (0.0, 0.0));
    (top, cover)
}

/// Adds the share of each pixel that lies inside of outlines, even-odd, to a window (left, top, width, height) of the image; the
/// outlines are moved by `shift` first.
pub(super) fn add_coverage(
    cover: &mut [f32],
    (left, top, w, h): (usize, usize, usize, usize),
    outlines: &[Vec<f64>],
    shift: (f64, f64),
) {
    let (left, top, limit) = (left as f64 - shift.0, top as f64 - shift.1, w as f64);
    let mut crossings: Vec<f64> = Vec::new();
    for sub in 0..h * SUB {
        let y = top + (sub as f64 + 0.5) / SUB as f64;
        crossings.clear();
        for outline in outlines {
            let n = outline.len() / 2;
            for i in 0..n {
                let j = (i + 1) % n;
                let (x0, y0, x1, y1) = (outline[2 * i], outline[2 * i + 1], outline[2 * j], outline[2 * j + 1]);
                if (y0 <= y) != (y1 <= y) {
                    crossings.push(x0 + (y - y0) / (y1 - y0) * (x1 - x0) - left);
                }
            }
        }
        crossings.sort_by(f64::total_cmp);
        let row = &mut cover[sub / SUB * w..][..w];
        for pair in crossings.chunks_exact(2) {
            let (a, b) = (pair[0].clamp(0.0, limit), pair[1].clamp(0.0, limit));
            for (x, c) in row.iter_mut().enumerate().take(b.ceil() as usize).skip(a as usize) {
                let part = (b.min(x as f64 + 1.0) - a.max(x as f64)).max(0.0);
                *c += (part / SUB as f64) as f32;
            }
        }
    }
}

/// A muted, low-contrast ground: no hue of the objects, no grey as light or dark as white and black.
fn background(w: usize, h: usize, rng: &mut Rng) -> Vec<f64> {
    let grey = rng.range(100.0, 165.0);
    let base: [f64; 3] = std::array::from_fn(|_| grey + rng.range(-14.0, 14.0));
    let contrast = rng.range(7.0, 17.0);
    let kind = rng.below(7);
    let scale = rng.range(0.05, 0.16) * w.max(h) as f64;
    let (sin, cos) = rng.range(0.0, std::f64::consts::PI).sin_cos();
    let phase = rng.range(0.0, 6.0);
    let key = rng.next();
    let mut out = Vec::with_capacity(w * h * 3);
    for y in 0..h {
        for x in 0..w {
            let (fx, fy) = (x as f64, y as f64);
            let (u, v) = ((fx * cos + fy * sin) / scale, (fy * cos - fx * sin) / scale);
            let level = match kind {
                0 => (u * 0.7 + phase).sin(),
                1 => noise(u, v, key) + 0.5 * noise(u * 2.3, v * 2.3, key ^ 1),
                2 => 2.0 * (fx * cos + fy * sin) / (w + h) as f64 + 0.4 * noise(u * 3.0, v * 3.0, key),
                3 => ((u + phase).sin() + (v * 1.3).sin()) * 0.6,
                4 => {
                    // Bricks: every other row is shifted by half a brick.
                    let row = (fy / scale).floor();
                    let along = fx / (scale * 2.0) + if row as i64 % 2 == 0 { 0.0 } else { 0.5 };
                    let edge = (fy / scale - row).min(along - along.floor());
                    if edge < 0.12 { -1.0 } else { 0.6 * hash(along.floor(), row, key) }
                }
                5 => hash(fx, fy, key) * 0.9,
                _ => (noise(u * 0.6, v * 0.6, key) * 5.0).sin(),
            };
            out.extend(base.map(|b| b + level * contrast));
        }
    }
    out
}

/// -1 to 1 at a grid point.
fn hash(x: f64, y: f64, key: u64) -> f64 {
    Rng::keyed(&[x as i64 as u64, y as i64 as u64, key]).unit() * 2.0 - 1.0
}

/// Smooth value noise, -1 to 1.
fn noise(x: f64, y: f64, key: u64) -> f64 {
    let (x0, y0) = (x.floor(), y.floor());
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    let (fx, fy) = (smooth(x - x0), smooth(y - y0));
    let row = |yy: f64| hash(x0, yy, key) * (1.0 - fx) + hash(x0 + 1.0, yy, key) * fx;
    row(y0) * (1.0 - fy) + row(y0 + 1.0) * fy
}
