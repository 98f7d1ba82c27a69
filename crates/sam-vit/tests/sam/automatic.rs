//! The automatic mask generator on a toy model. Its masks mean nothing, so filters are opened or closed by hand.

use burn::tensor::Device;
use sam_vit::{AutomaticConfig, Output, PromptSet, SamError, nms};

use crate::toy::{config, sam, test_image};

/// Nothing is filtered but duplicates.
fn open() -> AutomaticConfig {
    AutomaticConfig {
        points_per_side: 3,
        points_per_batch: 4,
        pred_iou_thresh: -1e9,
        stability_score_thresh: -1.0,
        box_nms_thresh: 0.7,
        ..AutomaticConfig::default()
    }
}

#[test]
fn defaults_are_the_published_ones() {
    let c = AutomaticConfig::default();
    assert_eq!((c.points_per_side, c.points_per_batch, c.crop_n_layers, c.crop_n_points_downscale_factor), (32, 64, 0, 1));
    assert_eq!((c.pred_iou_thresh, c.stability_score_thresh, c.stability_score_offset), (0.88, 0.95, 1.0));
    assert_eq!((c.box_nms_thresh, c.crop_nms_thresh, c.min_mask_region_area), (0.7, 0.7, 0));
    assert_eq!(c.crop_overlap_ratio, 512.0 / 1500.0);
}

#[test]
fn regions_are_the_predictors_masks() {
    let sam = sam(&config(), &Device::flex());
    let image = test_image(48, 80);
    let regions = sam.segment_everything(&image, &open()).unwrap();
    assert!(!regions.is_empty());
    assert!(regions.windows(2).all(|w| w[0].predicted_iou >= w[1].predicted_iou));
    let embedding = sam.embed(&image).unwrap();
    for region in &regions {
        let [x, y] = region.point;
        let masks = sam.predict(&embedding, &PromptSet::click(x, y), Output::Multi).unwrap();
        let same = masks.iter().find(|m| (m.iou - region.predicted_iou).abs() < 1e-5).expect("a mask of that click");
        assert_eq!(same.mask, region.mask);
        assert_eq!((region.area, region.crop_box), (region.mask.area(), [0.0, 0.0, 80.0, 48.0]));
        if region.area > 0 {
            let [bx, by, w, h] = region.mask.bbox();
            assert_eq!(region.bbox, [bx, by, w - 1.0, h - 1.0]);
        }
    }
    // No two boxes that remain overlap by more than 0.7, and a second run gives the same.
    let boxes: Vec<[f64; 4]> =
        regions.iter().map(|r| [r.bbox[0], r.bbox[1], r.bbox[0] + r.bbox[2], r.bbox[1] + r.bbox[3]]).collect();
    let scores: Vec<f64> = regions.iter().map(|r| f64::from(r.predicted_iou)).collect();
    assert_eq!(nms(&boxes, &scores, 0.7).len(), regions.len());
    assert_eq!(sam.segment_everything(&image, &open()).unwrap(), regions);
}

#[test]
fn filters_close() {
    let sam = sam(&config(), &Device::flex());
    let image = test_image(48, 80);
    let all = sam.segment_everything(&image, &open()).unwrap();
    let middle = all[all.len() / 2].predicted_iou;
    let some = sam.segment_everything(&image, &AutomaticConfig { pred_iou_thresh: middle, ..open() }).unwrap();
    assert!(some.iter().all(|r| r.predicted_iou > middle) && some.len() < all.len());
    let stable = AutomaticConfig { stability_score_thresh: 1.1, ..open() };
    assert!(sam.segment_everything(&image, &stable).unwrap().is_empty());
    let wide = AutomaticConfig { stability_score_thresh: 0.5, stability_score_offset: 0.05, ..open() };
    assert!(sam.segment_everything(&image, &wide).unwrap().iter().all(|r| r.stability >= 0.5));
}

#[test]
fn crops_find_masks_inside_themselves() {
    let sam = sam(&config(), &Device::flex());
    let image = test_image(200, 260);
    let config = AutomaticConfig { points_per_side: 2, crop_n_layers: 1, crop_nms_thresh: 1.0, ..open() };
    let regions = sam.segment_everything(&image, &config).unwrap();
    assert!(!regions.is_empty());
    for region in &regions {
        let [x, y, w, h] = region.crop_box;
        assert!(x + w <= 260.0 && y + h <= 200.0);
        assert!((x..x + w).contains(&region.point[0]) && (y..y + h).contains(&region.point[1]));
        assert_eq!((region.mask.height(), region.mask.width()), (200, 260));
        if region.area > 0 {
            let [bx, by, bw, bh] = region.mask.bbox();
            assert!(bx >= x && by >= y && bx + bw <= x + w && by + bh <= y + h);
        }
    }
}

#[test]
fn small_parts_go() {
    let sam = sam(&config(), &Device::flex());
    let image = test_image(48, 80);
    let clean = AutomaticConfig { min_mask_region_area: 40, ..open() };
    for region in sam.segment_everything(&image, &clean).unwrap() {
        let bytes = region.mask.to_row_major();
        let (_, sizes) = sam_vit::components(&bytes, 80);
        assert!(sizes.len() <= 1 || sizes.iter().all(|s| *s >= 40), "{sizes:?}");
        assert_eq!(region.area, sizes.iter().sum::<u64>());
    }
}

#[test]
fn wrong_settings_are_errors() {
    let sam = sam(&config(), &Device::flex());
    let none = AutomaticConfig { points_per_batch: 0, ..open() };
    assert!(matches!(sam.segment_everything(&test_image(9, 9), &none), Err(SamError::Config(_))));
}
