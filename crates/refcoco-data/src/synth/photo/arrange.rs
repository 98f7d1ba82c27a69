//! Thick pieces on a table, seen by a camera: where each lies, how large it looks, what it hides.

use std::f64::consts::TAU;

use coco_mask::{MaskError, Merge, Rle, merge};

use super::super::SynthConfig;
use super::super::scene::{Object, Scene, Size, finish, fits, looks, outline_mask, turn, unit_outlines};
use super::camera::Camera;
use crate::rng::Rng;

/// One piece as the renderer needs it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Outlines of the side that lies on the table, in pixels of the image.
    pub(super) base: Vec<Vec<f64>>,
    /// How many pixels its upper side lies above.
    pub(super) rise: f64,
    /// Its middle on the ground.
    pub(super) ground: (f64, f64),
    /// Half its width, on the ground and in pixels of the image.
    pub(super) radius: (f64, f64),
    pub(super) angle: f64,
}

/// What the renderer needs beside the scene.
#[derive(Debug, Clone)]
pub(crate) struct Arrangement {
    pub(super) camera: Camera,
    /// One per object, in the scene's order.
    pub(super) pieces: Vec<Piece>,
}

/// How many objects images have, from two.
const COUNTS: [f64; 5] = [0.12, 0.24, 0.28, 0.22, 0.14];

/// Tries for all objects of an image; from [`ENOUGH`] on two objects will do.
const TRIES: usize = 240;
const ENOUGH: usize = 150;

/// An arrangement and its scene. Later objects hide earlier ones and lie nearer to the camera than those that they hide.
pub(super) fn arrange(cfg: &SynthConfig, rng: &mut Rng) -> Result<(Scene, Arrangement), MaskError> {
    let short = (f64::from(cfg.size) * rng.range(cfg.min_aspect, 1.0)).round().max(1.0) as u32;
    let (width, height) = if rng.chance(0.7) { (cfg.size, short) } else { (short, cfg.size) };
    let camera = Camera::new(width, height, rng.range(0.7, 0.86), rng.range(0.84, 0.95));
    let wanted = 2 + rng.weighted(&COUNTS[..cfg.max_objects.clamp(2, 6) - 1]);
    let (mut full, mut objects, mut pieces) = (Vec::<Rle>::new(), Vec::<Object>::new(), Vec::new());
    for tries in 0..TRIES {
        if objects.len() == wanted || (tries > ENOUGH && objects.len() >= 2) {
            break;
        }
        let onto = !objects.is_empty() && rng.chance(cfg.occlusion);
        let (mut object, piece) = candidate(cfg, &camera, (width, height), wanted, onto, &objects, rng)?;
        if !in_front(&objects, &object, onto) {
            continue;
        }
        object.mask = silhouette(height, width, &piece)?;
        if fits(&full, &objects, &object.mask, &object, onto)? {
            full.push(object.mask.clone());
            objects.push(object);
            pieces.push(piece);
        }
    }
    Ok((finish(width, height, objects, &full)?, Arrangement { camera, pieces }))
}

/// Whether a new object keeps its distance and lies nearer than what it may touch.
fn in_front(objects: &[Object], new: &Object, onto: bool) -> bool {
    objects.iter().all(|o| {
        let (dx, dy) = (new.centre.0 - o.centre.0, new.centre.1 - o.centre.1);
        let (apart, reach) = (dx.hypot(dy), new.radius + o.radius);
        apart > reach * 0.6 && (apart > reach * 1.1 || (onto && dy > 0.25 * reach))
    })
}

fn candidate(
    cfg: &SynthConfig,
    camera: &Camera,
    (width, height): (u32, u32),
    wanted: usize,
    onto: bool,
    others: &[Object],
    rng: &mut Rng,
) -> Result<(Object, Piece), MaskError> {
    let (w, h) = (f64::from(width), f64::from(height));
    let (shape, colour, texture) = looks(others, rng);
    let big = rng.chance(if wanted <= 3 { 0.5 } else { 0.3 });
    // Wide apart, so that a big object at the far end still looks bigger than a small one at the near end.
    let side = w.max(h) * cfg.scale * if big { rng.range(0.36, 0.46) } else { rng.range(0.18, 0.24) };
    let (mut x, mut y) = (rng.range(0.0, w), rng.range(0.0, h));
    if onto {
        let base = &others[rng.below(others.len())];
        // Towards the camera, to the left or to the right.
        let (a, d) =
            (rng.range(0.06, 0.44) * TAU, (base.radius + side * camera.scale(base.centre.1) / 2.0) * rng.range(0.65, 0.95));
        (x, y) = (base.centre.0 + a.cos() * d, base.centre.1 + a.sin() * d);
    }
    let seen = |y: f64| side / 2.0 * camera.scale(y);
    let inside = |v: f64, r: f64, limit: f64| v.clamp(r + 2.0, (limit - r - 2.0).max(r + 2.0));
    y = inside(y, seen(y.clamp(0.0, h)), h);
    x = inside(x, seen(y), w);
    let (ground, angle) = (camera.ground(x, y), turn(shape, rng));
    let thickness = side * rng.range(0.11, 0.24);
    let (sin, cos) = angle.sin_cos();
    let base = unit_outlines(shape).into_iter().map(|outline| {
        let put = |(u, v): (f64, f64)| {
            let (right, near) = (u * cos - v * sin, u * sin + v * cos);
            camera.pixel((ground.0 + right * side / 2.0, ground.1 - near * side / 2.0))
        };
        outline.into_iter().map(put).flat_map(|(x, y)| [x, y]).collect()
    });
    let rise = (thickness * camera.scale(y) * camera.lean).max(1.0);
    let piece = Piece { base: base.collect(), rise, ground, radius: (side / 2.0, seen(y)), angle };
    let object = Object {
        shape,
        colour,
        texture,
        size: if big { Size::Big } else { Size::Small },
        centre: (x, y - rise / 2.0),
        radius: seen(y),
        angle,
        outlines: Vec::new(),
        mask: Rle::empty(height, width)?,
        whole: true,
    };
    Ok((object, piece))
}

/// Moves that take the lower side to the upper one in steps below a pixel.
pub(super) fn rises(rise: f64) -> impl Iterator<Item = f64> {
    let steps = (rise / 0.8).ceil().max(1.0) as usize;
    (0..=steps).map(move |i| rise * i as f64 / steps as f64)
}

/// Everything that a piece covers: its upper side and its walls.
fn silhouette(height: u32, width: u32, piece: &Piece) -> Result<Rle, MaskError> {
    let moved = |up: f64| -> Vec<Vec<f64>> {
        let point = |p: &[f64]| [p[0], p[1] - up];
        piece.base.iter().map(|outline| outline.chunks_exact(2).flat_map(point).collect()).collect()
    };
    let masks: Result<Vec<Rle>, MaskError> = rises(piece.rise).map(|up| outline_mask(height, width, &moved(up))).collect();
    merge(&masks?, Merge::Union)
}
