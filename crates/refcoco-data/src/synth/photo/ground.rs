//! The table: wood, marble, cloth, brushed metal, stone or paper, in colours that no object has.

use super::noise::{fractal, hash, noise};
use crate::rng::Rng;

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Material {
    Wood,
    Marble,
    Cloth,
    Metal,
    Stone,
    Paper,
}

const MATERIALS: [Material; 6] =
    [Material::Wood, Material::Marble, Material::Cloth, Material::Metal, Material::Stone, Material::Paper];

/// A table's surface over ground points.
#[derive(Debug)]
pub(super) struct Ground {
    material: Material,
    /// Darkest and brightest colour.
    colours: [[f64; 3]; 2],
    /// Ground pixels per unit of the texture.
    unit: f64,
    sin_cos: (f64, f64),
    key: u64,
}

impl Ground {
    /// `long` is the longer side of the image in pixels.
    pub(super) fn random(long: f64, rng: &mut Rng) -> Self {
        let material = rng.pick(&MATERIALS);
        let (dark, bright) = match material {
            // Browns are duller than the orange of objects.
            Material::Wood => rng.pick(&[
                ([96.0, 70.0, 50.0], [150.0, 118.0, 88.0]),
                ([120.0, 94.0, 70.0], [178.0, 150.0, 120.0]),
                ([74.0, 58.0, 48.0], [118.0, 96.0, 80.0]),
            ]),
            Material::Marble => {
                rng.pick(&[([112.0, 114.0, 120.0], [182.0, 182.0, 180.0]), ([92.0, 98.0, 98.0], [150.0, 154.0, 150.0])])
            }
            Material::Cloth => rng.pick(&[
                ([104.0, 110.0, 122.0], [146.0, 152.0, 164.0]),
                ([128.0, 120.0, 108.0], [172.0, 164.0, 150.0]),
                ([106.0, 112.0, 104.0], [148.0, 154.0, 144.0]),
            ]),
            Material::Metal => ([110.0, 114.0, 120.0], [166.0, 170.0, 176.0]),
            Material::Stone => {
                rng.pick(&[([100.0, 98.0, 96.0], [152.0, 148.0, 144.0]), ([86.0, 90.0, 96.0], [138.0, 142.0, 148.0])])
            }
            Material::Paper => ([150.0, 146.0, 138.0], [184.0, 180.0, 172.0]),
        };
        let angle = rng.range(-0.5, 0.5) + if rng.chance(0.5) { 0.0 } else { std::f64::consts::FRAC_PI_2 };
        Self { material, colours: [dark, bright], unit: long * rng.range(0.08, 0.16), sin_cos: angle.sin_cos(), key: rng.next() }
    }

    /// The colour of a ground point, 0 to 255, as evenly lit.
    pub(super) fn colour(&self, (x, y): (f64, f64)) -> [f64; 3] {
        let (sin, cos) = self.sin_cos;
        let (u, v) = ((x * cos + y * sin) / self.unit, (y * cos - x * sin) / self.unit);
        let level = self.level(u, v).clamp(0.0, 1.0);
        let [dark, bright] = self.colours;
        std::array::from_fn(|k| dark[k] + (bright[k] - dark[k]) * level)
    }

    /// 0, the darkest, to 1.
    fn level(&self, u: f64, v: f64) -> f64 {
        let key = self.key;
        match self.material {
            Material::Wood => wood(u, v, key),
            Material::Marble => {
                // Veins are where a warped noise crosses 0.
                let bent = fractal(u * 0.45 + 0.8 * noise(u * 0.3, v * 0.3, key), v * 0.45, key ^ 9);
                let vein = 1.0 - (bent.abs() * 5.0).min(1.0);
                0.8 - 0.65 * vein * vein + 0.16 * fractal(u * 1.3, v * 1.3, key ^ 5)
            }
            Material::Cloth => {
                let thread = std::f64::consts::TAU * 3.2;
                let weave = (u * thread).sin() * (v * thread).sin();
                0.5 + 0.16 * weave
                    + 0.3 * fractal(u * 0.3, v * 0.3, key)
                    + 0.12 * hash((u * 14.0).floor(), (v * 14.0).floor(), key)
            }
            Material::Metal => {
                0.5 + 0.2 * noise(u * 0.35, v * 16.0, key)
                    + 0.14 * noise(u * 0.8, v * 37.0, key ^ 1)
                    + 0.3 * noise(u * 0.12, v * 0.2, key ^ 2)
            }
            Material::Stone => {
                0.5 + 0.35 * fractal(u * 0.6, v * 0.6, key)
                    + 0.22 * noise(u * 9.0, v * 9.0, key ^ 1)
                    + 0.15 * noise(u * 23.0, v * 23.0, key ^ 2)
            }
            Material::Paper => 0.6 + 0.25 * fractal(u * 0.5, v * 0.5, key) + 0.1 * noise(u * 20.0, v * 20.0, key ^ 3),
        }
    }
}

/// Planks with grain along them, dark at their seams.
fn wood(u: f64, v: f64, key: u64) -> f64 {
    const PLANK: f64 = 2.6;
    let plank = (v / PLANK).floor();
    let across = v / PLANK - plank;
    let tone = 0.16 * hash(plank, 0.0, key);
    let along = u * 0.16 + 40.0 * hash(plank, 1.0, key);
    let rings = (9.0 * (noise(along, v * 0.55, key ^ 3) + 0.35 * v)).sin();
    let fibre = noise(u * 0.9, v * 13.0, key ^ 4);
    let seam = (across.min(1.0 - across) * 22.0).min(1.0);
    (0.55 + tone + 0.2 * rings + 0.16 * fibre) * (0.55 + 0.45 * seam)
}
