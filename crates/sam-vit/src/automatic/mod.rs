//! Automatic mask generation: masks for a grid of points, filtered (Segment Anything, appendix B).

mod components;
mod crops;
mod model;
mod nms;

use burn::tensor::{Int, Tensor, TensorData};
use coco_mask::Rle;
use nn_ops::ConfigError;
use pil_ops::Image;
use serde::{Deserialize, Serialize};

pub use components::{Small, components, remove_small};
pub use crops::{CropBox, crop_boxes, point_grid};
pub use model::ClickModel;
pub use nms::nms;

use crate::error::SamError;
use crate::prediction::{encode, read_back};
use crate::predictor::{MASK_THRESHOLD, masks_at_full_size};
use crate::sam::Sam;

/// How close to a crop's edge a box may come, in pixels.
const EDGE: f64 = 20.0;

/// Settings of the automatic mask generator; the default is the published one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutomaticConfig {
    /// Points along each side of the image.
    pub points_per_side: usize,
    /// Points that share a decoder call.
    pub points_per_batch: usize,
    /// Masks must have a higher predicted IoU.
    pub pred_iou_thresh: f32,
    /// Masks must be at least this stable ([`stability`]).
    pub stability_score_thresh: f64,
    /// Shift of the threshold by which stability is measured.
    pub stability_score_offset: f32,
    /// Of two boxes of a crop with a higher IoU, one goes.
    pub box_nms_thresh: f64,
    /// Layers of crops beside the whole image; layer i has (2^i)^2.
    pub crop_n_layers: usize,
    /// Of two boxes of different crops with a higher IoU, the larger crop's goes.
    pub crop_nms_thresh: f64,
    /// How far crops of the first layer overlap, as a part of the image's short side.
    pub crop_overlap_ratio: f64,
    /// Each layer has this many times fewer points along a side than the one before.
    pub crop_n_points_downscale_factor: usize,
    /// Holes and islands of fewer pixels are removed; 0 leaves all.
    pub min_mask_region_area: u64,
}

impl Default for AutomaticConfig {
    fn default() -> Self {
        Self {
            points_per_side: 32,
            points_per_batch: 64,
            pred_iou_thresh: 0.88,
            stability_score_thresh: 0.95,
            stability_score_offset: 1.0,
            box_nms_thresh: 0.7,
            crop_n_layers: 0,
            crop_nms_thresh: 0.7,
            crop_overlap_ratio: 512.0 / 1500.0,
            crop_n_points_downscale_factor: 1,
            min_mask_region_area: 0,
        }
    }
}

impl AutomaticConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first setting out of range, with its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |name: &str, value: usize, low: usize, high: usize| {
            let right = (low..=high).contains(&value);
            right.then_some(()).ok_or_else(|| ConfigError::new(name, value, format!("from {low} to {high}")))
        };
        within("points_per_side", self.points_per_side, 1, 1024)?;
        within("points_per_batch", self.points_per_batch, 1, 4096)?;
        within("crop_n_layers", self.crop_n_layers, 0, 6)?;
        within("crop_n_points_downscale_factor", self.crop_n_points_downscale_factor, 1, 1024)?;
        let numbers = [
            ("pred_iou_thresh", f64::from(self.pred_iou_thresh)),
            ("stability_score_thresh", self.stability_score_thresh),
            ("stability_score_offset", f64::from(self.stability_score_offset)),
            ("box_nms_thresh", self.box_nms_thresh),
            ("crop_nms_thresh", self.crop_nms_thresh),
        ];
        if let Some((name, value)) = numbers.iter().find(|(_, v)| !v.is_finite()) {
            return Err(ConfigError::new(*name, value, "finite"));
        }
        if !(0.0..1.0).contains(&self.crop_overlap_ratio) {
            return Err(ConfigError::new("crop_overlap_ratio", self.crop_overlap_ratio, "from 0 to below 1"));
        }
        if self.points_in(self.crop_n_layers) == 0 {
            let least = (0..self.crop_n_layers).fold(1, |n: usize, _| n.saturating_mul(self.crop_n_points_downscale_factor));
            let expected = format!("at least {least}, or the last layer of crops has no point");
            return Err(ConfigError::new("points_per_side", self.points_per_side, expected));
        }
        Ok(())
    }

    fn points_in(&self, layer: usize) -> usize {
        (0..layer).fold(self.points_per_side, |n, _| n / self.crop_n_points_downscale_factor)
    }
}

/// A mask that the generator found.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// The mask at the image's size, as COCO's column-major runs.
    pub mask: Rle,
    /// Its pixels.
    pub area: u64,
    /// Box (x, y, width, height) as published: the width is the last column less the first, one below that of
    /// [`Rle::bbox`], and so is the height.
    pub bbox: [f64; 4],
    /// IoU with the true mask as the network predicts it.
    pub predicted_iou: f32,
    /// The point (x, y) that found it.
    pub point: [f64; 2],
    /// How little the mask depends on the threshold ([`stability`]).
    pub stability: f64,
    /// Crop (x, y, width, height) that it was found in.
    pub crop_box: [f64; 4],
}

/// A mask on its way through the filters; the box is (x0, y0, x1, y1) of its first and last columns and rows.
struct Candidate {
    mask: Rle,
    bbox: [f64; 4],
    iou: f32,
    point: [f64; 2],
    stability: f64,
    crop: CropBox,
}

impl Sam {
    /// Finds masks all over an image, the best of a crop first.
    ///
    /// # Errors
    /// Settings out of range, or a device that fails.
    pub fn segment_everything(&self, image: &Image, config: &AutomaticConfig) -> Result<Vec<Region>, SamError> {
        config.segment_everything(self, image)
    }
}

impl AutomaticConfig {
    /// [`Sam::segment_everything`] with any model that answers clicks.
    ///
    /// # Errors
    /// As there.
    pub fn segment_everything<M: ClickModel>(&self, model: &M, image: &Image) -> Result<Vec<Region>, SamError> {
        self.validate()?;
        let crops = crop_boxes(image.height(), image.width(), self.crop_n_layers, self.crop_overlap_ratio);
        let mut found = Vec::new();
        for crop in &crops {
            found.extend(self.segment_crop(model, image, crop)?);
        }
        if crops.len() > 1 {
            let scores: Vec<f64> = found.iter().map(|c| 1.0 / (c.crop.width() * c.crop.height()) as f64).collect();
            found = keep(found, &scores, self.crop_nms_thresh);
        }
        if self.min_mask_region_area > 0 {
            found = clean(found, self)?;
        }
        Ok(found.into_iter().map(Region::from).collect())
    }

    fn segment_crop<M: ClickModel>(&self, model: &M, image: &Image, crop: &CropBox) -> Result<Vec<Candidate>, SamError> {
        let cut = cut(image, crop)?;
        let embedding = model.embed(&cut)?;
        let size = [cut.width() as f64, cut.height() as f64];
        let grid: Vec<[f64; 2]> =
            point_grid(self.points_in(crop.layer)).iter().map(|[x, y]| [x * size[0], y * size[1]]).collect();
        let mut found = Vec::new();
        for points in grid.chunks(self.points_per_batch) {
            self.segment_points(model, &embedding, points, crop, (image.height(), image.width()), &mut found)?;
        }
        let scores: Vec<f64> = found.iter().map(|c| f64::from(c.iou)).collect();
        Ok(keep(found, &scores, self.box_nms_thresh))
    }

    /// One decoder call and its filters.
    fn segment_points<M: ClickModel>(
        &self,
        model: &M,
        embedding: &M::Embedding,
        points: &[[f64; 2]],
        crop: &CropBox,
        whole: (usize, usize),
        found: &mut Vec<Candidate>,
    ) -> Result<(), SamError> {
        let (count, letterbox) = (points.len(), M::letterbox(embedding));
        let device = model.device();
        let coordinates: Vec<f32> = points.iter().flat_map(|p| letterbox.point(*p)).collect();
        let coordinates = Tensor::from_data(TensorData::new(coordinates, [count, 1, 2]), &device);
        let (low_res, iou) = model.click(embedding, coordinates)?;
        let [_, number, tall, broad] = low_res.dims();
        let iou = read_back(iou)?;
        // Masks that fail on quality are never brought to full size.
        let good: Vec<usize> = (0..iou.len()).filter(|i| iou[*i] > self.pred_iou_thresh).collect();
        if good.is_empty() {
            return Ok(());
        }
        let chosen =
            Tensor::<1, Int>::from_data(TensorData::new(good.iter().map(|i| *i as i64).collect(), [good.len()]), &device);
        let low_res = low_res.reshape([count * number, tall, broad]).select(0, chosen);
        let masks = masks_at_full_size(
            &low_res,
            letterbox,
            |low_res| model.restore(low_res, letterbox),
            |logits, height, width| {
                let stability = stability(logits, MASK_THRESHOLD, self.stability_score_offset);
                if stability < self.stability_score_thresh {
                    return Ok(None);
                }
                let bytes: Vec<u8> = logits.iter().map(|v| u8::from(*v > MASK_THRESHOLD)).collect();
                let [x0, y0, x1, y1] = tight_box(&bytes, width);
                let bbox = [x0 + crop.x0, y0 + crop.y0, x1 + crop.x0, y1 + crop.y0].map(|v| v as f64);
                if crop.cuts(bbox, whole, EDGE) {
                    return Ok(None);
                }
                Ok(Some((paste(&bytes, (height, width), crop, whole)?, bbox, stability)))
            },
        )?;
        for (at, kept) in good.into_iter().zip(masks) {
            let Some((mask, bbox, stability)) = kept else { continue };
            let [x, y] = points[at / number];
            let point = [x + crop.x0 as f64, y + crop.y0 as f64];
            found.push(Candidate { mask, bbox, iou: iou[at], point, stability, crop: *crop });
        }
        Ok(())
    }
}

impl From<Candidate> for Region {
    fn from(c: Candidate) -> Self {
        let [x0, y0, x1, y1] = c.bbox;
        Self {
            area: c.mask.area(),
            mask: c.mask,
            bbox: [x0, y0, x1 - x0, y1 - y0],
            predicted_iou: c.iou,
            point: c.point,
            stability: c.stability,
            crop_box: [c.crop.x0, c.crop.y0, c.crop.width(), c.crop.height()].map(|v| v as f64),
        }
    }
}

/// How little a mask changes when its threshold moves: pixels above `threshold + offset` over pixels above
/// `threshold - offset`; 0 where there are none.
pub fn stability(logits: &[f32], threshold: f32, offset: f32) -> f64 {
    let above = |t: f32| logits.iter().filter(|v| **v > t).count();
    let wide = above(threshold - offset);
    if wide == 0 { 0.0 } else { above(threshold + offset) as f64 / wide as f64 }
}

/// First and last columns and rows (x0, y0, x1, y1) of a row-major mask; zeros for an empty one.
fn tight_box(mask: &[u8], width: usize) -> [usize; 4] {
    let (mut x0, mut y0, mut x1, mut y1) = (usize::MAX, usize::MAX, 0, 0);
    for (y, row) in mask.chunks_exact(width).enumerate() {
        let Some(first) = row.iter().position(|v| *v != 0) else { continue };
        let last = row.iter().rposition(|v| *v != 0).unwrap_or(first);
        (x0, x1) = (x0.min(first), x1.max(last));
        (y0, y1) = (y0.min(y), y);
    }
    if x0 == usize::MAX { [0; 4] } else { [x0, y0, x1, y1] }
}

/// The part of an image inside a crop.
fn cut(image: &Image, crop: &CropBox) -> Result<Image, SamError> {
    let channels = image.channels();
    let rows = image.data().chunks_exact(image.width() * channels).skip(crop.y0).take(crop.height());
    let data = rows.flat_map(|row| &row[crop.x0 * channels..crop.x1 * channels]).copied().collect();
    Ok(Image::new(crop.width(), crop.height(), channels, data)?)
}

/// A crop's mask in the whole image.
fn paste(mask: &[u8], size: (usize, usize), crop: &CropBox, whole: (usize, usize)) -> Result<Rle, SamError> {
    if size == whole {
        return encode(mask, whole.0, whole.1);
    }
    let mut full = vec![0u8; whole.0 * whole.1];
    for (row, line) in mask.chunks_exact(size.1).zip(full.chunks_exact_mut(whole.1).skip(crop.y0)) {
        line[crop.x0..crop.x0 + size.1].copy_from_slice(row);
    }
    encode(&full, whole.0, whole.1)
}

/// The candidates that survive [`nms`], in its order.
fn keep(candidates: Vec<Candidate>, scores: &[f64], threshold: f64) -> Vec<Candidate> {
    let boxes: Vec<[f64; 4]> = candidates.iter().map(|c| c.bbox).collect();
    let mut slots: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    nms(&boxes, scores, threshold).into_iter().filter_map(|i| slots[i].take()).collect()
}

/// Removes small holes, then small islands, then duplicates among the results; untouched masks win.
fn clean(mut candidates: Vec<Candidate>, config: &AutomaticConfig) -> Result<Vec<Candidate>, SamError> {
    let mut scores = Vec::with_capacity(candidates.len());
    for c in &mut candidates {
        let (height, width) = (c.mask.height() as usize, c.mask.width() as usize);
        let mut bytes = c.mask.to_row_major();
        let filled = remove_small(&mut bytes, width, config.min_mask_region_area, Small::Holes);
        let cleared = remove_small(&mut bytes, width, config.min_mask_region_area, Small::Islands);
        if filled || cleared {
            c.mask = encode(&bytes, height, width)?;
            c.bbox = tight_box(&bytes, width).map(|v| v as f64);
        }
        scores.push(if filled || cleared { 0.0 } else { 1.0 });
    }
    Ok(keep(candidates, &scores, config.box_nms_thresh.max(config.crop_nms_thresh)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stability_counts_both_thresholds() {
        let logits = [3.0, 1.5, 1.0, 0.2, -0.5, -1.0, -4.0];
        // Above 1: two. Above -1: five.
        assert_eq!(stability(&logits, 0.0, 1.0), 0.4);
        assert_eq!(stability(&[-9.0; 4], 0.0, 1.0), 0.0);
    }

    #[test]
    fn tight_boxes_name_the_last_column() {
        assert_eq!(tight_box(&[0, 0, 0, 0, 1, 0, 0, 1, 1], 3), [1, 1, 2, 2]);
        assert_eq!(tight_box(&[0; 6], 3), [0; 4]);
        assert_eq!(tight_box(&[1], 1), [0; 4]);
    }

    #[test]
    fn crops_are_cut_and_pasted() {
        let image = Image::new(4, 3, 1, (0..12).collect()).unwrap();
        let crop = CropBox { x0: 1, y0: 1, x1: 3, y1: 3, layer: 1 };
        assert_eq!(cut(&image, &crop).unwrap().data(), [5, 6, 9, 10]);
        let pasted = paste(&[1, 0, 1, 1], (2, 2), &crop, (3, 4)).unwrap();
        assert_eq!(pasted.to_row_major(), [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0]);
    }

    fn candidate(mask: [u8; 25]) -> Candidate {
        let bbox = tight_box(&mask, 5).map(|v| v as f64);
        let crop = CropBox { x0: 0, y0: 0, x1: 5, y1: 5, layer: 0 };
        Candidate { mask: encode(&mask, 5, 5).unwrap(), bbox, iou: 1.0, point: [0.0; 2], stability: 1.0, crop }
    }

    #[test]
    fn cleaning_prefers_untouched_masks() {
        #[rustfmt::skip]
        let speckled = [
            1, 1, 1, 0, 0,
            1, 0, 1, 0, 0,
            1, 1, 1, 0, 0,
            0, 0, 0, 0, 0,
            0, 0, 0, 0, 1];
        #[rustfmt::skip]
        let solid = [
            1, 1, 1, 0, 0,
            1, 1, 1, 0, 0,
            1, 1, 1, 0, 0,
            0, 0, 0, 0, 0,
            0, 0, 0, 0, 0];
        let config = AutomaticConfig { min_mask_region_area: 3, ..AutomaticConfig::default() };
        let alone = clean(vec![candidate(speckled)], &config).unwrap();
        assert_eq!((alone[0].mask.to_row_major(), alone[0].bbox), (solid.to_vec(), [0.0, 0.0, 2.0, 2.0]));
        let mut first = candidate(speckled);
        first.iou = 2.0;
        let both = clean(vec![first, candidate(solid)], &config).unwrap();
        assert_eq!((both.len(), both[0].iou), (1, 1.0));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let bad = [
            (AutomaticConfig { points_per_side: 0, ..Default::default() }, "points_per_side"),
            (AutomaticConfig { points_per_batch: 0, ..Default::default() }, "points_per_batch"),
            (AutomaticConfig { crop_n_layers: 40, ..Default::default() }, "crop_n_layers"),
            (AutomaticConfig { box_nms_thresh: f64::NAN, ..Default::default() }, "box_nms_thresh"),
            (AutomaticConfig { crop_overlap_ratio: 1.0, ..Default::default() }, "crop_overlap_ratio"),
            (
                AutomaticConfig { points_per_side: 3, crop_n_layers: 2, crop_n_points_downscale_factor: 2, ..Default::default() },
                "has no point",
            ),
        ];
        for (config, word) in bad {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        assert!(AutomaticConfig::default().validate().is_ok());
    }
}
