//! `MaskLogits`: a mask before its threshold, at the image's own size, and the instances in it.

use burn::tensor::Tensor;
use coco_mask::Rle;
use pil_ops::Letterbox;
use rayon::prelude::*;

use crate::automatic::components;
use crate::error::SamError;
use crate::prediction::{Prediction, read_back};

/// Logits of one mask at the image's own size.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskLogits {
    values: Vec<f32>,
    height: usize,
    width: usize,
    threshold: f32,
}

impl MaskLogits {
    /// Of every row of a batch on a device; see [`Prediction::from_batch`].
    ///
    /// # Shapes
    /// `logits`: [N, 1, canvas, canvas]; output: N maps
    ///
    /// # Errors
    /// As [`Prediction::from_batch`].
    pub fn from_batch(logits: Tensor<4>, letterbox: &Letterbox, threshold: f32) -> Result<Vec<Self>, SamError> {
        let [_, _, rows, columns] = logits.dims();
        let values = read_back(logits)?;
        let (height, width) = letterbox.original;
        let one = |map| Ok(Self { values: letterbox.restore(map)?, height, width, threshold });
        values.par_chunks((rows * columns).max(1)).map(one).collect()
    }

    /// `height * width` logits, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// (height, width) in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// The mask with its score and box.
    ///
    /// # Errors
    /// As [`Prediction::from_map`].
    pub fn prediction(&self) -> Result<Prediction, SamError> {
        Prediction::from_map(&self.values, self.height, self.width, self.threshold)
    }

    /// The connected parts of the mask (8 neighbours), each with its own score and box, the largest first.
    ///
    /// # Errors
    /// As [`Prediction::from_map`].
    pub fn instances(&self) -> Result<Vec<Prediction>, SamError> {
        let scored = |mask: Rle| {
            let score = self.mean_probability(&mask);
            Prediction { bbox: mask.bbox(), score, mask }
        };
        Ok(connected_parts(&self.prediction()?.mask)?.into_iter().map(scored).collect())
    }

    /// Mean foreground probability inside a mask of the same size.
    fn mean_probability(&self, mask: &Rle) -> f32 {
        let (mut at, mut sum, mut count) = (0usize, 0.0f64, 0u64);
        for (index, run) in mask.counts().iter().enumerate() {
            let end = at + *run as usize;
            if index % 2 == 1 {
                // Runs go down the columns, logits along the rows.
                let logits = (at..end).filter_map(|i| self.values.get(i % self.height * self.width + i / self.height));
                sum += logits.map(|logit| 1.0 / (1.0 + f64::from(-logit).exp())).sum::<f64>();
                count += u64::from(*run);
            }
            at = end;
        }
        if count == 0 { 0.0 } else { (sum / count as f64) as f32 }
    }
}

/// The connected parts of a mask (8 neighbours), the largest first.
///
/// # Errors
/// None for masks that exist; what builds runs can refuse sizes.
pub fn connected_parts(mask: &Rle) -> Result<Vec<Rle>, SamError> {
    let (height, width) = (mask.height() as usize, mask.width() as usize);
    let (labels, sizes) = components(&mask.to_row_major(), width);
    // Each part's runs so far, and where the last of them ended.
    let mut parts: Vec<(Vec<u32>, usize)> = vec![(Vec::new(), 0); sizes.len()];
    let label_at = |i: usize| labels[i % height * width + i / height];
    let mut at = 0;
    while at < labels.len() {
        let label = label_at(at);
        let begin = at;
        while at < labels.len() && label_at(at) == label {
            at += 1;
        }
        if label > 0 {
            let (counts, end) = &mut parts[label as usize - 1];
            counts.extend([(begin - *end) as u32, (at - begin) as u32]);
            *end = at;
        }
    }
    let finish = |(mut counts, end): (Vec<u32>, usize)| {
        if end < labels.len() {
            counts.push((labels.len() - end) as u32);
        }
        Ok(Rle::from_counts(mask.height(), mask.width(), counts)?)
    };
    let mut masks = parts.into_iter().map(finish).collect::<Result<Vec<_>, SamError>>()?;
    masks.sort_by_key(|mask| std::cmp::Reverse(mask.area()));
    Ok(masks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coco_mask::{Merge, merge};

    fn mask(rows: &[&str]) -> Rle {
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.bytes().map(|b| u8::from(b == b'#'))).collect();
        Rle::from_row_major(rows.len() as u32, rows[0].len() as u32, &bytes).unwrap()
    }

    #[test]
    fn parts_are_apart_and_together_the_mask() {
        let whole = mask(&["##..#", "#...#", "...##", ".#...", "#...."]);
        let parts = connected_parts(&whole).unwrap();
        let want = [
            mask(&["....#", "....#", "...##", ".....", "....."]),
            mask(&["##...", "#....", ".....", ".....", "....."]),
            mask(&[".....", ".....", ".....", ".#...", "#...."]),
        ];
        assert_eq!(parts, want);
        assert_eq!(merge(&parts, Merge::Union).unwrap(), whole);
        assert_eq!(connected_parts(&mask(&["...", "..."])).unwrap(), []);
        assert_eq!(connected_parts(&mask(&["##", "##"])).unwrap(), [mask(&["##", "##"])]);
    }

    #[test]
    fn each_instance_has_its_own_score_and_box() {
        let ln3 = 3.0f32.ln();
        // Left: certain; right: 0.75 and 0.75.
        let values = vec![30.0, -5.0, -5.0, ln3, -5.0, -5.0, -5.0, ln3];
        let logits = MaskLogits { values, height: 2, width: 4, threshold: 0.0 };
        let found = logits.instances().unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].bbox, found[1].bbox), ([3.0, 0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 1.0]));
        assert!((found[0].score - 0.75).abs() < 1e-6 && (found[1].score - 1.0).abs() < 1e-6);
        assert!((logits.prediction().unwrap().score - 2.5 / 3.0).abs() < 1e-6);
    }
}
