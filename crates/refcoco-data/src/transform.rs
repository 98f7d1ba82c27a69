use pil_ops::{Filter, Image, resize};
use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::text::{flip_substrings, flip_words};
use crate::{DataError, ImageInfo};

/// Where an image lies in its square canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// In the middle, `top = floor((S - h) / 2)` (DIT).
    #[default]
    Centre,
    /// In the top left corner (SAM).
    TopLeft,
    /// Over the whole canvas, whatever its aspect (Swin, EfficientSAM, SAM-2).
    Stretch,
    /// The same with Pillow's bicubic filter (CLIP).
    StretchBicubic,
}

impl Fit {
    /// Whether the image fills its canvas.
    #[must_use]
    pub fn stretches(self) -> bool {
        matches!(self, Self::Stretch | Self::StretchBicubic)
    }
}

/// How a sentence follows a mirrored image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlipText {
    /// Whole words and their compounds: "leftmost", "left-hand".
    #[default]
    Word,
    /// Any "left" or "right", inside words as well ("bright" becomes "bleft"): DIT's code, for comparison only.
    Substring,
    /// The sentence stays as it is.
    None,
}

/// Random changes of the training images. The defaults change nothing; [`Augment::dit`] is DIT's released recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Long sides to choose from, in pixels; none means the canvas.
    pub long_sides: Vec<u32>,
    /// Probability of the colour jitter.
    pub jitter: f64,
    /// Brightness, contrast and saturation factors are drawn from 1 - strength to 1 + strength.
    pub jitter_strength: f64,
    /// Probability of the blur.
    pub blur: f64,
    /// Range of the blur's standard deviation in pixels.
    pub blur_sigma: [f64; 2],
    /// Probability of the horizontal flip.
    pub flip: f64,
    /// What a flip does to the sentence.
    pub flip_text: FlipText,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            long_sides: Vec::new(),
            jitter: 0.0,
            jitter_strength: 0.4,
            blur: 0.0,
            blur_sigma: [0.1, 2.0],
            flip: 0.0,
            flip_text: FlipText::Word,
        }
    }
}

impl Augment {
    /// DIT's released recipe on its canvas of 512 pixels.
    #[must_use]
    pub fn dit() -> Self {
        Self { long_sides: (0..=6).map(|k| 512 - 32 * k).collect(), jitter: 0.8, flip: 0.5, ..Self::default() }
    }

    fn check(&self, canvas: usize) -> Result<(), DataError> {
        let wrong = |key, found: String, expected| Err(DataError::Setting { key, found, expected });
        for (key, p) in [("jitter", self.jitter), ("blur", self.blur), ("flip", self.flip)] {
            if !(0.0..=1.0).contains(&p) {
                return wrong(key, p.to_string(), "must be a probability, 0 to 1");
            }
        }
        if !(0.0..=1.0).contains(&self.jitter_strength) {
            return wrong("jitter_strength", self.jitter_strength.to_string(), "must be 0 to 1");
        }
        let side = u32::try_from(canvas).unwrap_or(u32::MAX);
        if self.long_sides.iter().any(|s| !(1..=side).contains(s)) {
            let found = format!("{:?}", self.long_sides);
            return wrong("long_sides", found, "must be 1 to the canvas, in pixels");
        }
        let [low, high] = self.blur_sigma;
        if !(0.0..=100.0).contains(&low) || !(low..=100.0).contains(&high) {
            let found = format!("{:?}", self.blur_sigma);
            return wrong("blur_sigma", found, "must be [low, high] with 0 <= low <= high <= 100");
        }
        Ok(())
    }
}

/// Where the image lies in the canvas; enough to bring a prediction back to the original size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Side of the canvas.
    pub canvas: usize,
    /// First row of the image.
    pub top: usize,
    /// First column of the image.
    pub left: usize,
    /// Rows of the image in the canvas.
    pub height: usize,
    /// Columns of the image in the canvas.
    pub width: usize,
    /// (height, width) of the file.
    pub original: (usize, usize),
}

impl Placement {
    /// The part of a canvas-sized map that holds the image: what to resize to `original` for a prediction.
    ///
    /// # Shapes
    /// `[canvas, canvas]` to `[height, width]`; none if the map has another length.
    #[must_use]
    pub fn crop<T: Copy>(&self, map: &[T]) -> Option<Vec<T>> {
        if map.len() != self.canvas * self.canvas {
            return None;
        }
        let rows = map.chunks_exact(self.canvas).skip(self.top).take(self.height);
        Some(rows.flat_map(|row| row.iter().skip(self.left).take(self.width).copied()).collect())
    }
}

/// A sample ready for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transformed {
    /// RGB, `[S, S, 3]`, row after row; 0 outside the image. Pad *after* normalising: where the placement says there
    /// is no image, the network's input is 0.
    pub image: Vec<u8>,
    /// `[S, S]`, 0 to 255: soft at the edges, since it is resized bilinearly like the image.
    pub mask: Vec<u8>,
    /// `[h, w]` of the file, 0 or 255, mirrored as the image is; empty unless [`Transform::with_full_masks`] asks for it.
    pub full_mask: Vec<u8>,
    /// Where the image lies.
    pub placement: Placement,
    /// The sentence, left and right swapped if the image was mirrored.
    pub sentence: String,
}

/// Brings samples into a square canvas.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    canvas: usize,
    fit: Fit,
    augment: Option<Augment>,
    full_masks: bool,
}

impl Transform {
    /// Training: the recipe's augmentations.
    ///
    /// # Errors
    /// If the canvas is not 16 to 4096 pixels or an augmentation is out of range.
    pub fn train(canvas: usize, fit: Fit, augment: Augment) -> Result<Self, DataError> {
        augment.check(canvas)?;
        if fit.stretches() && !augment.long_sides.is_empty() {
            let (found, expected) = (format!("{:?}", augment.long_sides), "must be empty where images fill their canvas");
            return Err(DataError::Setting { key: "long_sides", found, expected });
        }
        Ok(Self { augment: Some(augment), ..Self::eval(canvas, fit)? })
    }

    /// Evaluation: long side, or both, to the canvas (small images are enlarged), nothing random.
    ///
    /// # Errors
    /// If the canvas is not 16 to 4096 pixels.
    pub fn eval(canvas: usize, fit: Fit) -> Result<Self, DataError> {
        if !(16..=4096).contains(&canvas) {
            let expected = "must be 16 to 4096 pixels";
            return Err(DataError::Setting { key: "canvas", found: canvas.to_string(), expected });
        }
        Ok(Self { canvas, fit, augment: None, full_masks: false })
    }

    /// Also keeps masks at the file's own size, for a loss that is taken there.
    #[must_use]
    pub fn with_full_masks(self, full_masks: bool) -> Self {
        Self { full_masks, ..self }
    }

    /// Applies the transform. The same key gives the same result on any thread.
    ///
    /// # Shapes
    /// Image `[h, w, 3]`, mask `[h, w]` of 0 and 1 (row-major), to the shapes of [`Transformed`].
    ///
    /// # Errors
    /// If image and mask do not fit the record; the message names the file.
    pub fn apply(
        &self,
        info: &ImageInfo,
        image: &Image,
        mask: &[u8],
        sentence: &str,
        key: u64,
    ) -> Result<Transformed, DataError> {
        let bad = |reason: String| DataError::Image { path: info.path.clone(), reason };
        let (h, w) = (image.height, image.width);
        if image.channels != 3 || mask.len() != h * w {
            return Err(bad(format!(
                "{w} x {h} with {} channels against a mask of {} pixels; must be RGB and of one size",
                image.channels,
                mask.len()
            )));
        }
        let mut rng = Rng::keyed(&[key, 3]);
        let long = match &self.augment {
            Some(a) if !a.long_sides.is_empty() => f64::from(a.long_sides[rng.below(a.long_sides.len())]),
            _ => self.canvas as f64,
        };
        let (nh, nw) = fitted(h, w, long, self.canvas, self.fit);
        let filter = if self.fit == Fit::StretchBicubic { Filter::Bicubic } else { Filter::Bilinear };
        let mut picture = resize(image, nw, nh, filter).map_err(|e| bad(e.to_string()))?;
        let scaled = mask.iter().map(|&m| if m == 0 { 0 } else { 255 }).collect();
        let mut full = Image { width: w, height: h, channels: 1, data: scaled };
        let mut soft = resize(&full, nw, nh, Filter::Bilinear).map_err(|e| bad(e.to_string()))?;
        let mut sentence = sentence.to_owned();
        if let Some(a) = &self.augment {
            self.colours(a, &mut picture, &mut rng).map_err(|e| bad(e.to_string()))?;
            if rng.chance(a.flip) {
                pil_ops::flip_horizontal(&mut picture).map_err(|e| bad(e.to_string()))?;
                pil_ops::flip_horizontal(&mut soft).map_err(|e| bad(e.to_string()))?;
                pil_ops::flip_horizontal(&mut full).map_err(|e| bad(e.to_string()))?;
                sentence = match a.flip_text {
                    FlipText::Word => flip_words(&sentence),
                    FlipText::Substring => flip_substrings(&sentence),
                    FlipText::None => sentence,
                };
            }
        }
        let (top, left) = match self.fit {
            Fit::Centre => ((self.canvas - nh) / 2, (self.canvas - nw) / 2),
            Fit::TopLeft | Fit::Stretch | Fit::StretchBicubic => (0, 0),
        };
        let placement = Placement { canvas: self.canvas, top, left, height: nh, width: nw, original: (h, w) };
        let (image, mask) = (place(&picture, &placement), place(&soft, &placement));
        let full_mask = if self.full_masks { full.data } else { Vec::new() };
        Ok(Transformed { image, mask, full_mask, placement, sentence })
    }

    fn colours(&self, a: &Augment, picture: &mut Image, rng: &mut Rng) -> Result<(), pil_ops::ImageError> {
        if rng.chance(a.jitter) {
            let mut steps = [0, 1, 2];
            rng.shuffle(&mut steps);
            for step in steps {
                let factor = rng.range(1.0 - a.jitter_strength, 1.0 + a.jitter_strength) as f32;
                match step {
                    0 => pil_ops::brightness(picture, factor)?,
                    1 => pil_ops::contrast(picture, factor)?,
                    _ => pil_ops::saturation(picture, factor)?,
                }
            }
        }
        if rng.chance(a.blur) {
            let sigma = rng.range(a.blur_sigma[0], a.blur_sigma[1]) as f32;
            *picture = pil_ops::gaussian_blur(picture, sigma)?;
        }
        Ok(())
    }
}

/// New (height, width). DIT rounds half to even (Python's `round`), SAM half up.
fn fitted(h: usize, w: usize, long: f64, canvas: usize, fit: Fit) -> (usize, usize) {
    if fit.stretches() {
        return (canvas, canvas);
    }
    let ratio = long / h.max(w) as f64;
    let side = |n: usize| {
        let exact = n as f64 * ratio;
        let whole = match fit {
            Fit::Centre => exact.round_ties_even(),
            _ => (exact + 0.5).floor(),
        };
        (whole as usize).clamp(1, canvas)
    };
    (side(h), side(w))
}

fn place(image: &Image, p: &Placement) -> Vec<u8> {
    let c = image.channels;
    let mut out = vec![0; p.canvas * p.canvas * c];
    for (y, row) in image.data.chunks_exact(p.width * c).enumerate() {
        let at = ((p.top + y) * p.canvas + p.left) * c;
        out[at..at + row.len()].copy_from_slice(row);
    }
    out
}
