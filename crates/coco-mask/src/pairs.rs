//! Overlaps of every detection with every truth, as pycocotools' `iou` has them: masks and boxes.

use crate::Rle;

/// A mask as `iou_pairs` reads it, once per mask instead of once per pair.
struct Spans {
    size: (u32, u32),
    /// Foreground, column-major; some may touch.
    spans: Vec<(u32, u32)>,
    area: u64,
    bbox: [f64; 4],
}

impl Spans {
    fn new(mask: &Rle) -> Self {
        let size = (mask.height(), mask.width());
        Self { size, spans: mask.foreground().collect(), area: mask.area(), bbox: mask.bbox() }
    }
}

/// Intersection over union of every detection with every truth; over the detection's area where `crowd` says that the truth is one
/// (a truth beyond its end is none). -1 where sizes differ and the boxes meet, as in pycocotools.
///
/// # Shapes
/// output: `detections * truths` values, all of the first truth first
#[must_use]
pub fn iou_pairs(detections: &[Rle], truths: &[Rle], crowd: &[bool]) -> Vec<f64> {
    let detections: Vec<Spans> = detections.iter().map(Spans::new).collect();
    let mut out = Vec::with_capacity(detections.len() * truths.len());
    for (i, truth) in truths.iter().enumerate() {
        let (truth, crowd) = (Spans::new(truth), crowd.get(i) == Some(&true));
        out.extend(detections.iter().map(|detection| iou(detection, &truth, crowd)));
    }
    out
}

fn iou(detection: &Spans, truth: &Spans, crowd: bool) -> f64 {
    if box_intersection(&detection.bbox, &truth.bbox) <= 0.0 {
        return 0.0;
    }
    if detection.size != truth.size {
        return -1.0;
    }
    let intersection = common(&detection.spans, &truth.spans);
    let over = if crowd { detection.area } else { detection.area + truth.area - intersection };
    if intersection == 0 { 0.0 } else { intersection as f64 / over as f64 }
}

/// Pixels in both lists.
fn common(a: &[(u32, u32)], b: &[(u32, u32)]) -> u64 {
    let (Some(first_a), Some(first_b)) = (a.first(), b.first()) else { return 0 };
    let mut i = a.partition_point(|span| span.1 <= first_b.0);
    let mut j = b.partition_point(|span| span.1 <= first_a.0);
    let mut pixels = 0;
    // Without branches on the data: which span ends first cannot be guessed.
    while i < a.len() && j < b.len() {
        let ((start_a, end_a), (start_b, end_b)) = (a[i], b[j]);
        pixels += u64::from(end_a.min(end_b).saturating_sub(start_a.max(start_b)));
        i += usize::from(end_a <= end_b);
        j += usize::from(end_b <= end_a);
    }
    pixels
}

fn box_intersection(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i]);
    let (w, h) = (side(0), side(1));
    if w <= 0.0 || h <= 0.0 { 0.0 } else { w * h }
}

/// As [`iou_pairs`] for boxes `[x, y, width, height]`.
#[must_use]
pub fn box_iou_pairs(detections: &[[f64; 4]], truths: &[[f64; 4]], crowd: &[bool]) -> Vec<f64> {
    let mut out = Vec::with_capacity(detections.len() * truths.len());
    for (i, truth) in truths.iter().enumerate() {
        let crowd = crowd.get(i) == Some(&true);
        out.extend(detections.iter().map(|detection| {
            let intersection = box_intersection(detection, truth);
            let area = detection[2] * detection[3];
            let over = if crowd { area } else { area + truth[2] * truth[3] - intersection };
            if intersection == 0.0 { 0.0 } else { intersection / over }
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iou as iou_of_two;

    #[test]
    fn every_pair_is_the_pair_alone() {
        let masks: Vec<Rle> = [vec![3, 2, 5, 4, 6], vec![0, 20], vec![20], vec![4, 1, 0, 2, 13], vec![18, 2]]
            .into_iter()
            .map(|counts| Rle::from_counts(4, 5, counts).unwrap())
            .collect();
        let crowd = [false, true, true, false];
        let all = iou_pairs(&masks, &masks, &crowd);
        assert_eq!(all.len(), 25);
        for (t, truth) in masks.iter().enumerate() {
            for (d, detection) in masks.iter().enumerate() {
                let alone = iou_of_two(detection, truth, crowd.get(t) == Some(&true)).unwrap();
                assert_eq!(all[t * 5 + d], alone, "detection {d}, truth {t}");
            }
        }
        assert_eq!(iou_pairs(&[], &masks, &crowd), []);
    }

    #[test]
    fn other_sizes_are_minus_one_where_boxes_meet() {
        let (small, large) = (Rle::from_counts(2, 2, vec![0, 4]).unwrap(), Rle::from_counts(4, 4, vec![0, 16]).unwrap());
        assert_eq!(iou_pairs(std::slice::from_ref(&small), std::slice::from_ref(&large), &[]), [-1.0]);
        let corner = Rle::from_counts(4, 4, vec![15, 1]).unwrap();
        assert_eq!(iou_pairs(&[small], &[corner], &[]), [0.0]);
    }

    #[test]
    fn boxes() {
        let (a, b) = ([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]);
        assert_eq!(box_iou_pairs(&[a], &[b, b, [5.0, 5.0, 1.0, 1.0]], &[false, true]), [2.0 / 6.0, 0.5, 0.0]);
    }
}
