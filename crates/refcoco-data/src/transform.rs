//! Training's and evaluation's transforms: augmentations, and the letterbox of image and mask.

use pil_ops::{Fit, Image, Letterbox};
use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::text::{flip_substrings, flip_words};
use crate::{DataError, ImageInfo};

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

/// A sample ready for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transformed {
    /// RGB at its size in the canvas, [height, width, 3]: what [`Letterbox::normalise`] takes. None where
    /// [`Transform::without_canvas`] asks for none.
    pub image: Option<Image>,
    /// The whole photograph with the same colours and the same flip, for methods with a second input; none unless
    /// [`Transform::with_photo`] asks for it.
    pub photo: Option<Image>,
    /// `[S, S]`, 0 to 255: soft at the edges, since it is resized bilinearly like the image; 0 outside of it.
    pub mask: Vec<u8>,
    /// `[h, w]` of the file, 0 or 255, mirrored as the image is; empty unless [`Transform::with_full_masks`] asks for it.
    pub full_mask: Vec<u8>,
    /// Where the image lies.
    pub letterbox: Letterbox,
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
    photo: bool,
    canvas_image: bool,
}

impl Transform {
    /// Training: the recipe's augmentations.
    ///
    /// # Errors
    /// If the canvas is not 16 to 4096 pixels or an augmentation is out of range.
    pub fn train(canvas: usize, fit: Fit, augment: Augment) -> Result<Self, DataError> {
        augment.check(canvas)?;
        if fit.is_stretched() && !augment.long_sides.is_empty() {
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
        Ok(Self { canvas, fit, augment: None, full_masks: false, photo: false, canvas_image: true })
    }

    /// Also keeps masks at the file's own size, for a loss that is taken there.
    #[must_use]
    pub fn with_full_masks(self, full_masks: bool) -> Self {
        Self { full_masks, ..self }
    }

    /// Also hands over the photograph itself, for a second input that is made from it (BEiT-3 in EVF-SAM).
    #[must_use]
    pub fn with_photo(self, photo: bool) -> Self {
        Self { photo, ..self }
    }

    /// Leaves out the image in the canvas, for methods whose features of it are kept.
    #[must_use]
    pub fn without_canvas(self) -> Self {
        Self { canvas_image: false, ..self }
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
        let (h, w) = (image.height(), image.width());
        if image.channels() != 3 || mask.len() != h * w {
            return Err(bad(format!(
                "{w} x {h} with {} channels against a mask of {} pixels; must be RGB and of one size",
                image.channels(),
                mask.len()
            )));
        }
        let bad = |e: pil_ops::ImageError| bad(e.to_string());
        let mut rng = Rng::keyed(&[key, 3]);
        let long = match &self.augment {
            Some(a) if !a.long_sides.is_empty() => a.long_sides[rng.below(a.long_sides.len())] as usize,
            _ => self.canvas,
        };
        let letterbox = Letterbox::with_long_side(h, w, long, self.canvas, self.fit).map_err(bad)?;
        let scaled = mask.iter().map(|&m| if m == 0 { 0 } else { 255 }).collect();
        let full = Image::new(w, h, 1, scaled).map_err(bad)?;
        let mut parts = Parts {
            photo: self.photo.then(|| image.clone()),
            canvas: None,
            soft: letterbox.resize(&full).map_err(bad)?,
            full,
            sentence: sentence.to_owned(),
        };
        // Colours follow the resize, as in DIT's recipe, unless a second input must have the same ones.
        if self.canvas_image && parts.photo.is_none() {
            parts.canvas = Some(letterbox.resize_with(image, self.fit.filter()).map_err(bad)?);
        }
        if let Some(a) = &self.augment {
            // Only one of them is there before the photograph is resized.
            if let Some(image) = parts.canvas.as_mut().or(parts.photo.as_mut()) {
                colours(a, image, &mut rng).map_err(bad)?;
            }
            if rng.chance(a.flip) {
                parts.flip(a.flip_text);
            }
        }
        if self.canvas_image && parts.canvas.is_none() {
            parts.canvas =
                parts.photo.as_ref().map(|photo| letterbox.resize_with(photo, self.fit.filter())).transpose().map_err(bad)?;
        }
        let mask = letterbox.place(&parts.soft).map_err(bad)?.into_data();
        let full_mask = if self.full_masks { parts.full.into_data() } else { Vec::new() };
        Ok(Transformed { image: parts.canvas, photo: parts.photo, mask, full_mask, letterbox, sentence: parts.sentence })
    }
}

/// What changes together.
struct Parts {
    photo: Option<Image>,
    canvas: Option<Image>,
    soft: Image,
    full: Image,
    sentence: String,
}

impl Parts {
    /// Mirrors everything, the sentence's words as well.
    fn flip(&mut self, text: FlipText) {
        let images = [self.photo.as_mut(), self.canvas.as_mut(), Some(&mut self.soft), Some(&mut self.full)];
        images.into_iter().flatten().for_each(pil_ops::flip_horizontal);
        match text {
            FlipText::Word => self.sentence = flip_words(&self.sentence),
            FlipText::Substring => self.sentence = flip_substrings(&self.sentence),
            FlipText::None => {}
        }
    }
}

/// The recipe's colour jitter and blur.
fn colours(a: &Augment, image: &mut Image, rng: &mut Rng) -> Result<(), pil_ops::ImageError> {
    if rng.chance(a.jitter) {
        let mut steps = [0, 1, 2];
        rng.shuffle(&mut steps);
        for step in steps {
            let factor = rng.range(1.0 - a.jitter_strength, 1.0 + a.jitter_strength) as f32;
            match step {
                0 => pil_ops::brightness(image, factor),
                1 => pil_ops::contrast(image, factor),
                _ => pil_ops::saturation(image, factor),
            }
        }
    }
    if rng.chance(a.blur) {
        let sigma = rng.range(a.blur_sigma[0], a.blur_sigma[1]) as f32;
        *image = pil_ops::gaussian_blur(image, sigma)?;
    }
    Ok(())
}
