//! A photograph of an arrangement: light, shadows, surfaces, lens and sensor.

use super::super::draw::{Pattern, add_coverage, paint};
use super::super::scene::{Object, Scene};
use super::arrange::{Arrangement, Piece, rises};
use super::camera::Camera;
use super::ground::Ground;
use super::noise::{blur, fractal, noise};
use crate::rng::Rng;

/// Light from one side; axes are right, towards the camera, up.
struct Light {
    to: [f64; 3],
    /// Share that comes from everywhere.
    ambient: f64,
    /// How dark full shadow is.
    shadow: f64,
    /// Softness of a shadow's edge, as a share of the way it falls.
    soft: f64,
}

impl Light {
    fn random(rng: &mut Rng) -> Self {
        // From behind or from a side: shadows fall towards the camera.
        let turn = rng.range(-0.15, 1.15) * std::f64::consts::PI;
        let (height, spread) = rng.range(0.6, 1.05).sin_cos();
        Self {
            to: [turn.cos() * spread, -turn.sin() * spread, height],
            ambient: rng.range(0.35, 0.55),
            shadow: rng.range(0.4, 0.62),
            soft: rng.range(0.15, 0.5),
        }
    }

    /// Brightness of a surface against a level one.
    fn on(&self, normal: [f64; 3]) -> f64 {
        let length = normal.iter().map(|v| v * v).sum::<f64>().sqrt();
        let facing: f64 = normal.iter().zip(self.to).map(|(a, b)| a * b).sum::<f64>() / length;
        self.ambient + (1.0 - self.ambient) * (facing.max(0.0) / self.to[2])
    }

    /// Mirror light towards the camera, 0 to 1.
    fn glint(&self, normal: [f64; 3], camera: [f64; 3], sharp: f64) -> f64 {
        let half: [f64; 3] = std::array::from_fn(|k| self.to[k] + camera[k]);
        let length = |v: [f64; 3]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
        let facing: f64 = normal.iter().zip(half).map(|(a, b)| a * b).sum::<f64>() / (length(normal) * length(half));
        facing.max(0.0).powf(sharp)
    }
}

/// A window of the image.
#[derive(Clone, Copy)]
struct Window {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Window {
    /// Around outlines that move between `shifts`, with room for a blur.
    fn around(piece: &Piece, shifts: &[(f64, f64)], room: f64, scene: &Scene) -> Self {
        let bounds = |axis: usize, limit: u32| {
            let points = || piece.base.iter().flat_map(|o| o.iter().skip(axis).step_by(2).copied());
            let moves = || shifts.iter().map(|s| if axis == 0 { s.0 } else { s.1 });
            let low = points().fold(f64::MAX, f64::min) + moves().fold(f64::MAX, f64::min) - room;
            let high = points().fold(f64::MIN, f64::max) + moves().fold(f64::MIN, f64::max) + room;
            let limit = f64::from(limit);
            let low = low.floor().clamp(0.0, limit) as usize;
            (low, (high.ceil().clamp(0.0, limit) as usize).saturating_sub(low))
        };
        let ((left, width), (top, height)) = (bounds(0, scene.width), bounds(1, scene.height));
        Self { left, top, width, height }
    }

    /// The most of each pixel that a piece covers while it moves along `shifts`.
    fn swept(self, piece: &Piece, shifts: impl Iterator<Item = (f64, f64)>) -> Vec<f32> {
        let mut most = vec![0f32; self.width * self.height];
        let mut one = most.clone();
        for shift in shifts {
            one.fill(0.0);
            add_coverage(&mut one, (self.left, self.top, self.width, self.height), &piece.base, shift);
            most.iter_mut().zip(&one).for_each(|(m, c)| *m = m.max(c.min(1.0)));
        }
        most
    }

    /// Offsets of its pixels into itself and into the image, with the pixels' middles.
    fn pixels(self, image_width: usize) -> impl Iterator<Item = (usize, usize, f64, f64)> {
        (0..self.width * self.height).map(move |i| {
            let (x, y) = (self.left + i % self.width, self.top + i / self.width);
            (i, (y * image_width + x) * 3, x as f64 + 0.5, y as f64 + 0.5)
        })
    }
}

/// Renders a scene.
///
/// # Shapes
/// `[height, width, 3]`, row after row.
pub(super) fn render(scene: &Scene, arrangement: &Arrangement, rng: &mut Rng) -> Vec<u8> {
    let light = Light::random(rng);
    let camera = &arrangement.camera;
    let mut pixels = table(scene, camera, rng);
    for (object, piece) in scene.objects.iter().zip(&arrangement.pieces) {
        cast_shadow(&mut pixels, scene, piece, &light);
        put(&mut pixels, scene, camera, (object, piece), &light, rng);
    }
    lighting(&mut pixels, scene, &light, rng);
    expose(pixels, scene, rng)
}

fn table(scene: &Scene, camera: &Camera, rng: &mut Rng) -> Vec<f32> {
    let ground = Ground::random(f64::from(scene.width.max(scene.height)), rng);
    let rows = (0..scene.height).flat_map(|y| (0..scene.width).map(move |x| (f64::from(x) + 0.5, f64::from(y) + 0.5)));
    rows.flat_map(|(x, y)| ground.colour(camera.ground(x, y))).map(|v| v as f32).collect()
}

/// Darkens what lies in an object's shadow, and a little what lies close to it.
fn cast_shadow(pixels: &mut [f32], scene: &Scene, piece: &Piece, light: &Light) {
    // The upper side's shadow: away from the light, as far as the piece is high.
    let reach = piece.rise / light.to[2] * 2.2;
    let end = (-light.to[0] * reach, -light.to[1] * reach * 0.8);
    let spread = 0.4 + reach * light.soft;
    let close = piece.rise * 0.6 + 0.5;
    let window = Window::around(piece, &[(0.0, 0.0), end], 2.0 * spread.max(close) + 2.0, scene);
    let steps = (reach / spread.max(0.8)).ceil().max(1.0);
    let along = (0..=steps as usize).map(|i| i as f64 / steps).map(|t| (end.0 * t, end.1 * t));
    let mut shadow = window.swept(piece, along);
    blur(&mut shadow, window.width.max(1), spread);
    let mut contact = window.swept(piece, std::iter::once((0.0, 0.0)));
    blur(&mut contact, window.width.max(1), close);
    for (i, at, ..) in window.pixels(scene.width as usize) {
        let dim = (1.0 - light.shadow as f32 * shadow[i]) * (1.0 - 0.25 * contact[i]);
        pixels[at..at + 3].iter_mut().for_each(|v| *v *= dim);
    }
}

/// What an object's surface is like.
struct Finish {
    kind: usize,
    key: u64,
    /// Width of its rounded edge in pixels, and how steep it gets.
    bevel: (f64, f64),
    gloss: f64,
    sharp: f64,
}

impl Finish {
    fn random(piece: &Piece, rng: &mut Rng) -> Self {
        let kind = rng.below(5);
        let (gloss, sharp) = [(0.25, 30.0), (0.04, 8.0), (0.16, 40.0), (0.0, 1.0), (0.32, 14.0)][kind];
        Self {
            kind,
            key: rng.next(),
            bevel: ((piece.radius.1 * rng.range(0.08, 0.34)).max(0.7), rng.range(0.5, 1.1)),
            gloss,
            sharp,
        }
    }

    /// Relative brightness at a place in units of the radius: plastic, wood, marble, cloth, brushed metal.
    fn grain(&self, u: f64, v: f64) -> f64 {
        let key = self.key;
        1.0 + match self.kind {
            0 => 0.02 * noise(u * 3.0, v * 3.0, key),
            1 => 0.1 * (7.0 * (noise(u * 0.8, v * 2.2, key) + v)).sin() + 0.05 * noise(u * 3.0, v * 24.0, key),
            2 => 0.1 - 0.3 * (1.0 - (fractal(u * 1.2, v * 1.2, key).abs() * 6.0).min(1.0)),
            3 => 0.1 * (u * 22.0).sin() * (v * 22.0).sin() + 0.08 * fractal(u * 2.0, v * 2.0, key),
            _ => 0.1 * noise(u * 1.5, v * 30.0, key) + 0.1 * noise(u * 0.7, v * 0.9, key ^ 1),
        }
    }
}

/// Draws a piece: its walls, and on them its upper side.
fn put(pixels: &mut [f32], scene: &Scene, camera: &Camera, (object, piece): (&Object, &Piece), light: &Light, rng: &mut Rng) {
    let up = (0.0, -piece.rise);
    let window = Window::around(piece, &[(0.0, 0.0), up], 2.0, scene);
    let (finish, width) = (Finish::random(piece, rng), window.width.max(1));
    let whole = window.swept(piece, rises(piece.rise).map(|r| (0.0, -r)));
    let top = window.swept(piece, std::iter::once(up));
    let mut height = top.clone();
    blur(&mut height, width, finish.bevel.0);
    let pattern = Pattern {
        texture: object.texture,
        centre: (0.0, 0.0),
        period: piece.radius.0 * rng.range(0.42, 0.55),
        sin_cos: (piece.angle + rng.range(0.0, std::f64::consts::PI)).sin_cos(),
    };
    let (main, other) = paint(object.colour);
    let tint = rng.range(0.92, 1.04);
    // Walls look towards the camera.
    let wall = 0.35 + 0.4 * light.on([0.0, 1.0, 0.25]).min(1.0);
    let view = [0.0, camera.lean, (1.0 - camera.lean * camera.lean).sqrt()];
    let slope = |i: usize, step: usize| {
        let at = |j: Option<usize>| f64::from(j.and_then(|j| height.get(j)).copied().unwrap_or_default());
        (at(i.checked_add(step)) - at(i.checked_sub(step))) * finish.bevel.0 * finish.bevel.1
    };
    for (i, at, x, y) in window.pixels(scene.width as usize).filter(|(i, ..)| whole[*i] > 0.0) {
        let (gx, gy) = camera.ground(x, y + piece.rise);
        let (u, v) = (gx - piece.ground.0, piece.ground.1 - gy);
        let second = pattern.second(u, v);
        let grain = finish.grain(u / piece.radius.0, v / piece.radius.0) * tint;
        let normal = [-slope(i, 1), -slope(i, width), 1.0];
        let shade = light.on(normal).clamp(0.6, 1.22) * grain;
        let shine = 150.0 * finish.gloss * light.glint(normal, view, finish.sharp);
        let upper = f64::from(top[i] / whole[i]).min(1.0);
        for (k, pixel) in pixels[at..at + 3].iter_mut().enumerate() {
            let base = main[k] + (other[k] - main[k]) * second;
            let colour = main[k] * wall * grain * (1.0 - upper) + (base * shade + shine) * upper;
            *pixel += (colour as f32 - *pixel) * whole[i];
        }
    }
}

/// Light falls off over the table, and lenses darken corners.
fn lighting(pixels: &mut [f32], scene: &Scene, light: &Light, rng: &mut Rng) {
    let (w, h) = (f64::from(scene.width), f64::from(scene.height));
    let (fall, corner) = (rng.range(0.05, 0.24), rng.range(0.05, 0.28));
    let width = scene.width as usize;
    for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (((i % width) as f64 + 0.5) / w * 2.0 - 1.0, ((i / width) as f64 + 0.5) / h * 2.0 - 1.0);
        let level = 1.0 + fall * (x * light.to[0] + y * light.to[1]) - corner * (x * x + y * y) / 2.0;
        pixel.iter_mut().for_each(|v| *v *= level as f32);
    }
}

/// Lens blur, white balance, exposure and the sensor's noise.
fn expose(mut pixels: Vec<f32>, scene: &Scene, rng: &mut Rng) -> Vec<u8> {
    let width = scene.width as usize;
    let soft = rng.range(0.1, 0.45) * f64::from(scene.width.max(scene.height)) / 128.0;
    let gain = rng.range(0.92, 1.14);
    let warm = rng.range(-0.05, 0.05);
    let balance = [gain * (1.0 + warm), gain, gain * (1.0 - warm)];
    let (bright, coloured) = (rng.range(1.0, 4.0), rng.range(0.5, 2.5));
    for (k, gain) in balance.into_iter().enumerate() {
        let mut channel: Vec<f32> = pixels.iter().skip(k).step_by(3).copied().collect();
        blur(&mut channel, width.max(1), soft);
        pixels.iter_mut().skip(k).step_by(3).zip(channel).for_each(|(v, c)| *v = c * gain as f32);
    }
    // The sum of a draw's four parts is near enough to a bell.
    let mut bell = || {
        let draw = rng.next();
        let sum = (draw & 0xffff) + (draw >> 16 & 0xffff) + (draw >> 32 & 0xffff) + (draw >> 48);
        sum as f64 / 37_837.0 - 3.464
    };
    let noisy = pixels.chunks_exact(3).flat_map(|pixel| {
        let all = bell() * bright;
        let out: [u8; 3] =
            std::array::from_fn(|k| (f64::from(pixel[k]) + all + bell() * coloured).round().clamp(0.0, 255.0) as u8);
        out
    });
    noisy.collect()
}
