//! What is in an image: objects with attributes and places, and how they hide one another.

use std::f64::consts::TAU;

use coco_mask::{MaskError, Merge, Rle, intersection_union, merge};

use super::SynthConfig;
use crate::rng::Rng;

/// Defines an attribute with its values and their names in files and sentences.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $($value),+ }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$value),+];

            #[allow(dead_code, reason = "sizes have names only in sentences and tests")]
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }
    };
}

attribute!(Shape {
    Circle = "circle",
    Square = "square",
    Triangle = "triangle",
    Star = "star",
    Ring = "ring",
    Cross = "cross",
    Hexagon = "hexagon",
    Heart = "heart",
});
attribute!(Colour {
    Red = "red",
    Orange = "orange",
    Yellow = "yellow",
    Green = "green",
    Blue = "blue",
    Purple = "purple",
    White = "white",
    Black = "black",
});
attribute!(Texture {
    Plain = "plain",
    Striped = "striped",
    Dotted = "dotted",
    Checkered = "checkered",
});
attribute!(
    /// Share of the image's longer side: small 0.18 to 0.24, big 0.33 to 0.45. The gap keeps the word unmistakable.
    Size { Small = "small", Big = "big" }
);

/// One object. Lengths are pixels.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) shape: Shape,
    pub(crate) colour: Colour,
    pub(crate) texture: Texture,
    pub(crate) size: Size,
    pub(crate) centre: (f64, f64),
    pub(crate) radius: f64,
    pub(crate) angle: f64,
    /// Closed outlines, even-odd, rounded to hundredths as annotators' tools do. Empty where no outline says what the mask is.
    pub(crate) outlines: Vec<Vec<f64>>,
    /// Visible pixels.
    pub(crate) mask: Rle,
    /// Whether nothing lies on top of it.
    pub(crate) whole: bool,
}

/// An image's content; later objects lie on top of earlier ones.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) objects: Vec<Object>,
    /// `hidden[i][j]`: the share of object i that object j covers.
    pub(crate) hidden: Vec<Vec<f64>>,
}

/// Least visible share of an object.
const VISIBLE: f64 = 0.62;

impl Scene {
    /// Centre of an object in [0, 1] x [0, 1], from the left and from the top.
    pub(crate) fn place(&self, i: usize) -> (f64, f64) {
        let (x, y) = self.objects[i].centre;
        (x / f64::from(self.width), y / f64::from(self.height))
    }

    pub(crate) fn random(cfg: &SynthConfig, rng: &mut Rng) -> Result<Self, MaskError> {
        let long = f64::from(cfg.size);
        let short = (long * rng.range(cfg.min_aspect, 1.0)).round().max(1.0) as u32;
        let (width, height) = if rng.chance(0.6) { (cfg.size, short) } else { (short, cfg.size) };
        let wanted = 2 + rng.weighted(&[0.3, 0.36, 0.24, 0.1][..cfg.max_objects.clamp(2, 5) - 1]);
        let mut full: Vec<Rle> = Vec::new();
        let mut objects: Vec<Object> = Vec::new();
        let mut tries = 0;
        while objects.len() < wanted && tries < 200 {
            tries += 1;
            // A crowded image that cannot take its last objects is fine with two.
            if tries > 120 && objects.len() >= 2 {
                break;
            }
            let onto = !objects.is_empty() && rng.chance(cfg.occlusion);
            let object = candidate(cfg, (width, height), wanted, onto, &objects, rng)?;
            let mask = outline_mask(height, width, &object.outlines)?;
            if fits(&full, &objects, &mask, &object, onto)? {
                full.push(mask);
                objects.push(object);
            }
        }
        finish(width, height, objects, &full)
    }
}

fn candidate(
    cfg: &SynthConfig,
    (width, height): (u32, u32),
    wanted: usize,
    onto: bool,
    others: &[Object],
    rng: &mut Rng,
) -> Result<Object, MaskError> {
    let (w, h) = (f64::from(width), f64::from(height));
    let long = w.max(h);
    let (shape, colour, texture) = looks(others, rng);
    let big = rng.chance(if wanted <= 3 { 0.5 } else { 0.3 });
    let side = long * cfg.scale * if big { rng.range(0.33, 0.45) } else { rng.range(0.18, 0.24) };
    let radius = side / 2.0;
    let inside = |v: f64, limit: f64| v.clamp(radius + 1.0, (limit - radius - 1.0).max(radius + 1.0));
    let centre = if onto {
        let base = &others[rng.below(others.len())];
        let (a, d) = (rng.range(0.0, TAU), (base.radius + radius) * rng.range(0.62, 0.95));
        (inside(base.centre.0 + a.cos() * d, w), inside(base.centre.1 + a.sin() * d, h))
    } else {
        (inside(rng.range(0.0, w), w), inside(rng.range(0.0, h), h))
    };
    let angle = turn(shape, rng);
    Ok(Object {
        shape,
        colour,
        texture,
        size: if big { Size::Big } else { Size::Small },
        centre,
        radius,
        angle,
        outlines: outlines(shape, centre, radius, angle),
        mask: Rle::empty(height, width)?,
        whole: true,
    })
}

/// Shape, colour and texture of a new object. Shared ones make sentences necessary: without them every image is solved by one
/// word.
pub(super) fn looks(others: &[Object], rng: &mut Rng) -> (Shape, Colour, Texture) {
    let like = (!others.is_empty()).then(|| rng.below(others.len()));
    let mut inherit = |p: f64| like.filter(|_| rng.chance(p)).map(|i| &others[i]);
    let (as_shape, as_colour, as_texture) = (inherit(0.5), inherit(0.4), inherit(0.5));
    let shape = as_shape.map_or_else(|| rng.pick(Shape::ALL), |o| o.shape);
    let colour = as_colour.map_or_else(|| rng.pick(Colour::ALL), |o| o.colour);
    let texture = as_texture.map_or_else(|| rng.pick(Texture::ALL), |o| o.texture);
    (shape, colour, texture)
}

/// A turn that leaves the shape's name fitting.
pub(super) fn turn(shape: Shape, rng: &mut Rng) -> f64 {
    let tilt = match shape {
        Shape::Square | Shape::Cross => 0.2,
        Shape::Heart | Shape::Triangle => 0.3,
        _ => TAU,
    };
    rng.range(-tilt, tilt)
}

pub(super) fn outline_mask(height: u32, width: u32, outlines: &[Vec<f64>]) -> Result<Rle, MaskError> {
    let mut parts = outlines.iter().map(|o| Rle::from_polygons(height, width, std::slice::from_ref(o)));
    let outer = parts.next().unwrap_or_else(|| Rle::empty(height, width))?;
    parts.try_fold(outer, |mask, hole| minus(&mask, &hole?))
}

/// a without b, as a intersected with the complement of b.
pub(super) fn minus(a: &Rle, b: &Rle) -> Result<Rle, MaskError> {
    let mut counts = vec![0];
    counts.extend_from_slice(b.counts());
    let outside = Rle::from_counts(b.height(), b.width(), counts)?;
    merge(&[a.clone(), outside], Merge::Intersection)
}

pub(super) fn fits(full: &[Rle], objects: &[Object], mask: &Rle, object: &Object, onto: bool) -> Result<bool, MaskError> {
    for (i, (below, other)) in full.iter().zip(objects).enumerate() {
        let (shared, _) = intersection_union(below, mask)?;
        // Neither a stray touch that says nothing about depth, nor a new object in a ring's hole.
        let distance = (object.centre.0 - other.centre.0).hypot(object.centre.1 - other.centre.1);
        if distance < (object.radius + other.radius) * 0.6 || (shared > 0 && !onto) {
            return Ok(false);
        }
        let above: Vec<Rle> = full[i + 1..].iter().chain(std::iter::once(mask)).cloned().collect();
        let visible = minus(below, &merge(&above, Merge::Union)?)?;
        if (visible.area() as f64) < VISIBLE * below.area() as f64 {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn finish(width: u32, height: u32, mut objects: Vec<Object>, full: &[Rle]) -> Result<Scene, MaskError> {
    let n = objects.len();
    let mut hidden = vec![vec![0.0; n]; n];
    for i in 0..n {
        let mut mask = full[i].clone();
        for j in i + 1..n {
            let (shared, _) = intersection_union(&full[i], &full[j])?;
            hidden[i][j] = shared as f64 / full[i].area().max(1) as f64;
            if shared > 0 {
                mask = minus(&mask, &full[j])?;
                objects[i].whole = false;
            }
        }
        objects[i].mask = mask;
    }
    Ok(Scene { width, height, objects, hidden })
}

/// Outlines of a shape as large as the circle of its radius.
fn outlines(shape: Shape, (cx, cy): (f64, f64), r: f64, angle: f64) -> Vec<Vec<f64>> {
    let (sin, cos) = angle.sin_cos();
    let put = |points: Vec<(f64, f64)>| -> Vec<f64> {
        points
            .into_iter()
            .flat_map(|(x, y)| [cx + r * (x * cos - y * sin), cy + r * (x * sin + y * cos)])
            .map(|v| (v * 100.0).round() / 100.0)
            .collect()
    };
    unit_outlines(shape).into_iter().map(put).collect()
}

/// Outlines in the frame of the unit circle, y down.
pub(super) fn unit_outlines(shape: Shape) -> Vec<Vec<(f64, f64)>> {
    let regular = |n: usize, radius: f64| -> Vec<(f64, f64)> {
        (0..n).map(|i| TAU * i as f64 / n as f64 - TAU / 4.0).map(|a| (radius * a.cos(), radius * a.sin())).collect()
    };
    match shape {
        Shape::Circle => vec![regular(36, 1.0)],
        Shape::Hexagon => vec![regular(6, 1.0)],
        Shape::Triangle => vec![regular(3, 1.05)],
        Shape::Ring => vec![regular(36, 1.0), regular(28, 0.52)],
        Shape::Square => vec![vec![(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]],
        Shape::Star => {
            let (tips, dents) = (regular(5, 1.05), regular(10, 0.46));
            vec![(0..5).flat_map(|i| [tips[i], dents[2 * i + 1]]).collect()]
        }
        Shape::Cross => {
            let (a, b) = (0.32, 0.98);
            let arm = [(-a, -b), (a, -b), (a, -a)];
            let turn = |(x, y): (f64, f64), k: usize| match k {
                0 => (x, y),
                1 => (-y, x),
                2 => (-x, -y),
                _ => (y, -x),
            };
            vec![(0..4).flat_map(|k| arm.map(|p| turn(p, k))).collect()]
        }
        Shape::Heart => vec![
            (0..32)
                .map(|i| TAU * f64::from(i) / 32.0)
                .map(|t| {
                    let y = 13.0 * t.cos() - 5.0 * (2.0 * t).cos() - 2.0 * (3.0 * t).cos() - (4.0 * t).cos();
                    (t.sin().powi(3), -(y + 2.5) / 16.0)
                })
                .collect(),
        ],
    }
}
