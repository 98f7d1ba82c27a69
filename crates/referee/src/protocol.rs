//! The protocols: what each code base does to thresholds, sizes, overlapping polygons and empty masks, as data.

use coco_mask::Rle;
use metrics::{Confusion, EvalProfile, Sample};
use pil_ops::resize_bilinear;

use crate::RefereeError;
use crate::mask::{Answer, SoftMap};
use crate::resample::{MapFilter, resize_map, resize_nearest};
use crate::truth::Truth;

/// Side of the square at which LAVT and ReLA compare.
const SQUARE: u32 = 480;

/// The size at which prediction and truth meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The image's own.
    Image,
    /// A square of this side.
    Square(u32),
}

/// What the truth is where the polygons of one annotation overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Foreground: the union.
    Union,
    /// Background: polygons are added up, and 2 is not the class 1.
    Background,
    /// Foreground; polygons are scaled to the frame and drawn there.
    Redrawn,
}

/// What becomes of a mask that has another size than the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherSize {
    /// The protocol cannot judge it.
    Refuse,
    /// Nearest pixels.
    Nearest,
    /// Any positive share of foreground counts: bilinear, above 0.
    AnyShare,
    /// The filter of the protocol's probabilities, and their threshold.
    Filter,
}

/// What becomes of a map of probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soft {
    /// Resized to the frame, then compared with the threshold.
    ResizeThenThreshold(MapFilter),
    /// Compared with the threshold, then treated as a mask of its size.
    ThresholdThenResize,
}

/// How one code base judges.
#[derive(Debug, Clone, PartialEq)]
pub struct Protocol {
    /// Its name.
    pub name: &'static str,
    /// Whose it is.
    pub whose: &'static str,
    /// Where prediction and truth meet.
    pub frame: Frame,
    /// Overlapping polygons.
    pub overlap: Overlap,
    /// Masks of another size.
    pub other_size: OtherSize,
    /// Maps of probabilities.
    pub soft: Soft,
    /// A probability above this is foreground.
    pub threshold: f64,
    /// Signs, empty masks, targets that are none, smoothing.
    pub profile: EvalProfile,
    /// What is a reading of ours, not of the source.
    pub reading: &'static str,
}

impl Protocol {
    fn of(name: &'static str, whose: &'static str, profile: EvalProfile) -> Self {
        let soft = Soft::ResizeThenThreshold(MapFilter::Bilinear);
        Self {
            name,
            whose,
            frame: Frame::Image,
            overlap: Overlap::Union,
            other_size: OtherSize::Refuse,
            soft,
            threshold: 0.5,
            profile,
            reading: "",
        }
    }

    /// All protocols, in the order of tables.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let probabilities = "The code resizes logits, here probabilities are; it prints no P@X.";
        let square =
            "A mask of another size is brought to the square by nearest pixels; the code's network answers at that size.";
        vec![
            Self::of("saymask", "Saymask", EvalProfile::saymask()),
            Self {
                other_size: OtherSize::AnyShare,
                soft: Soft::ThresholdThenResize,
                threshold: 0.35,
                reading: "SimREC's sums are the same without oIoU.",
                ..Self::of("dit", "DIT test.py, SimREC", EvalProfile::dit())
            },
            Self {
                overlap: Overlap::Background,
                reading: probabilities,
                ..Self::of("evf", "EVF-SAM eval.py", EvalProfile::evf())
            },
            Self {
                overlap: Overlap::Background,
                reading: probabilities,
                ..Self::of("lisa", "LISA validation", EvalProfile::lisa())
            },
            Self {
                threshold: 0.35,
                reading: "No code is published: sections 4.2 and 4.3 of the paper. Overlaps, empty masks and the strict sign are chosen.",
                ..Self::of("risam", "RISAM", EvalProfile::risam())
            },
            Self {
                frame: Frame::Square(SQUARE),
                overlap: Overlap::Background,
                other_size: OtherSize::Nearest,
                reading: square,
                ..Self::of("lavt", "LAVT test.py", EvalProfile::lavt())
            },
            Self {
                other_size: OtherSize::Filter,
                soft: Soft::ResizeThenThreshold(MapFilter::Bicubic),
                threshold: 0.35,
                reading: "The code warps a letterbox of 416 with cubics, here the map covers the image; it prints no oIoU.",
                ..Self::of("cris", "CRIS", EvalProfile::cris())
            },
            Self {
                soft: Soft::ThresholdThenResize,
                reading: "The toolkit holds masks and has no evaluator of them: the sums are those of the code bases built on it.",
                ..Self::of("refer", "REFER toolkit's masks", EvalProfile::refer())
            },
            Self {
                reading: "The 50 pixels are the paper's, counted at the image's size; ReLA's code has a head instead.",
                ..Self::of("gres", "GRES' rule at the image's size", EvalProfile::gres())
            },
            Self {
                frame: Frame::Square(SQUARE),
                overlap: Overlap::Redrawn,
                other_size: OtherSize::Nearest,
                reading: "As gres and lavt; annotations without polygons are brought to the square by nearest pixels.",
                ..Self::of("rela", "ReLA (GRES) evaluator", EvalProfile::rela())
            },
            Self {
                soft: Soft::ThresholdThenResize,
                reading: "A missing phrase adds its region to the union; the tool scales its mean alone.",
                ..Self::of("phrasecut", "PhraseCut's evaluator", EvalProfile::phrasecut())
            },
        ]
    }

    /// A protocol by its name.
    ///
    /// # Errors
    /// A name that none of them has.
    pub fn named(name: &str) -> Result<Self, RefereeError> {
        let all = Self::all();
        let known = || all.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|p| p.name == name).cloned();
        found.ok_or_else(|| RefereeError::Protocol { found: name.into(), known: known() })
    }

    /// A prediction against its truth, or why the protocol cannot judge it.
    ///
    /// `head` is the answer of a model's own head for "there is no target", where it has one.
    ///
    /// # Errors
    /// [`Refusal`]: a size that the protocol does not take, or masks that cannot be drawn.
    pub fn judge(&self, answer: &Answer, head: Option<bool>, truth: &Truth) -> Result<Sample, Refusal> {
        let image = (truth.union().height(), truth.union().width());
        let frame = self.frame(image);
        let mut prediction = self.prediction(answer, frame)?;
        let says_none = self.profile.no_target.is_some() && {
            let pixels = if frame == image { prediction.area() } else { self.pixels(answer, image)? };
            self.profile.says_none(pixels, head)
        };
        if says_none && head.is_none() {
            prediction = Rle::empty(frame.0, frame.1)?;
        }
        let confusion = match (self.frame, self.overlap) {
            (Frame::Image, Overlap::Union) => Confusion::from_rle(&prediction, truth.union()),
            (Frame::Image, Overlap::Background) => Confusion::from_rle(&prediction, &truth.covered_once()?),
            (_, Overlap::Redrawn) => Confusion::from_rle(&prediction, &truth.redrawn(frame.0, frame.1)?),
            (_, Overlap::Union) => Confusion::from_rle(&prediction, &resize_nearest(truth.union(), frame.0, frame.1)?),
            (_, Overlap::Background) => {
                Confusion::from_rle(&prediction, &resize_nearest(&truth.covered_once()?, frame.0, frame.1)?)
            }
        };
        let confusion = confusion.map_err(|e| Refusal::Mask(e.to_string()))?;
        Ok(Sample { says_none, ..Sample::new(confusion, truth.union().area()) })
    }

    /// What is counted where nothing was answered: an empty mask that earns nothing.
    ///
    /// # Errors
    /// As [`Protocol::judge`].
    pub fn missing(&self, truth: &Truth) -> Result<Sample, Refusal> {
        let (height, width) = self.frame((truth.union().height(), truth.union().width()));
        let sample = self.judge(&Answer::Mask(Rle::empty(height, width)?), Some(false), truth)?;
        Ok(Sample { missing: true, ..sample })
    }

    /// (height, width) at which prediction and truth meet.
    pub(crate) fn frame(&self, image: (u32, u32)) -> (u32, u32) {
        match self.frame {
            Frame::Image => image,
            Frame::Square(side) => (side, side),
        }
    }

    /// The mask in the frame.
    fn prediction(&self, answer: &Answer, frame: (u32, u32)) -> Result<Rle, Refusal> {
        match (answer, self.soft) {
            (Answer::Mask(mask), _) => self.resized(mask, frame),
            (Answer::Soft(map), Soft::ThresholdThenResize) => {
                let on: Vec<u8> = map.probabilities().iter().map(|v| u8::from(f64::from(*v) > self.threshold)).collect();
                self.resized(&Rle::from_row_major(map.height, map.width, &on)?, frame)
            }
            (Answer::Soft(map), Soft::ResizeThenThreshold(filter)) => above(map, frame, filter, self.threshold),
        }
    }

    fn resized(&self, mask: &Rle, frame: (u32, u32)) -> Result<Rle, Refusal> {
        let size = (mask.height(), mask.width());
        if size == frame {
            return Ok(mask.clone());
        }
        let filter = match self.soft {
            Soft::ResizeThenThreshold(filter) => filter,
            Soft::ThresholdThenResize => MapFilter::Bilinear,
        };
        let map = || mask.to_row_major().into_iter().map(f32::from).collect::<Vec<_>>();
        let (from, to) = (sides(size), sides(frame));
        let on = match self.other_size {
            OtherSize::Refuse => return Err(Refusal::Size { found: size, wanted: frame }),
            OtherSize::Nearest => return Ok(resize_nearest(mask, frame.0, frame.1)?),
            OtherSize::AnyShare => bytes(&resize_bilinear(&map(), from, to)?, 0.0),
            OtherSize::Filter => bytes(&resize_map(&map(), from, to, filter)?, self.threshold),
        };
        Ok(Rle::from_row_major(frame.0, frame.1, &on)?)
    }

    /// Foreground pixels at the image's size, for the rule of 50 pixels.
    fn pixels(&self, answer: &Answer, image: (u32, u32)) -> Result<u64, Refusal> {
        Ok(match answer {
            Answer::Mask(mask) => resize_nearest(mask, image.0, image.1)?.area(),
            Answer::Soft(map) => above(map, image, MapFilter::Bilinear, self.threshold)?.area(),
        })
    }
}

fn sides((height, width): (u32, u32)) -> (usize, usize) {
    (height as usize, width as usize)
}

fn bytes(map: &[f32], threshold: f64) -> Vec<u8> {
    map.iter().map(|v| u8::from(f64::from(*v) > threshold)).collect()
}

fn above(map: &SoftMap, frame: (u32, u32), filter: MapFilter, threshold: f64) -> Result<Rle, Refusal> {
    let resized = resize_map(&map.probabilities(), (map.height as usize, map.width as usize), sides(frame), filter)?;
    Ok(Rle::from_row_major(frame.0, frame.1, &bytes(&resized, threshold))?)
}

/// Why a protocol cannot judge a prediction.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The mask has another size, and the protocol knows no way to change it.
    #[error("{}", size(*found, *wanted))]
    Size {
        /// The mask's.
        found: (u32, u32),
        /// The frame's.
        wanted: (u32, u32),
    },
    /// A mask that cannot be drawn.
    #[error("{0}")]
    Mask(String),
}

fn size(found: (u32, u32), wanted: (u32, u32)) -> String {
    let turned = found.0 != found.1 && found == (wanted.1, wanted.0);
    let hint = if turned { "; height and width may have been exchanged" } else { "" };
    format!("a mask of {} x {} where {} x {} (height x width) is needed{hint}", found.0, found.1, wanted.0, wanted.1)
}

impl From<coco_mask::MaskError> for Refusal {
    fn from(error: coco_mask::MaskError) -> Self {
        Self::Mask(error.to_string())
    }
}

impl From<pil_ops::ImageError> for Refusal {
    fn from(error: pil_ops::ImageError) -> Self {
        Self::Mask(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_profiles() {
        let all = Protocol::all();
        assert!(all.len() >= 8);
        for protocol in &all {
            assert_eq!(Protocol::named(protocol.name).unwrap(), *protocol);
            assert_eq!(EvalProfile::named(protocol.name).unwrap(), protocol.profile);
        }
        assert!(Protocol::named("mcn").unwrap_err().to_string().contains("saymask, dit"));
    }

    #[test]
    fn another_size_is_refused_or_resized() {
        let truth = Truth::new(Rle::from_row_major(4, 4, &[1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap());
        let small = Answer::Mask(Rle::from_row_major(2, 2, &[1, 0, 0, 0]).unwrap());
        let judge = |name: &str| Protocol::named(name).unwrap().judge(&small, None, &truth);
        for name in ["saymask", "evf", "lisa", "risam", "refer", "gres", "phrasecut"] {
            let said = judge(name).unwrap_err().to_string();
            assert!(said.contains("2 x 2") && said.contains("4 x 4"), "{name}: {said}");
        }
        let turned = Refusal::Size { found: (3, 4), wanted: (4, 3) }.to_string();
        assert!(turned.contains("exchanged"), "{turned}");
        // DIT grows the corner to 3 x 3.
        assert_eq!(judge("dit").unwrap().confusion, Confusion { intersection: 4, union: 9 });
        assert_eq!(judge("lavt").unwrap().confusion, Confusion { intersection: 240 * 240, union: 240 * 240 });
    }

    #[test]
    fn a_missing_answer_earns_nothing_anywhere() {
        for protocol in Protocol::all() {
            let nothing = protocol.missing(&Truth::new(Rle::empty(3, 3).unwrap())).unwrap();
            assert!(nothing.missing && !nothing.says_none, "{}", protocol.name);
            assert_eq!(metrics::Meter::new(protocol.profile).add(&nothing), 0.0);
        }
    }
}
