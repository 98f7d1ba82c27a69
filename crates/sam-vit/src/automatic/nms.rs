//! Non-maximum suppression of boxes.

/// Goes through boxes (x0, y0, x1, y1) from the highest score down and keeps each whose IoU with every box kept before
/// is at most `threshold`. Equal scores keep their order, so the result is always the same. Areas are
/// (x1 - x0) (y1 - y0); two boxes without area do not suppress each other.
///
/// Indices come back in order of score. Boxes beyond the shorter of the two lists are left out.
pub fn nms(boxes: &[[f64; 4]], scores: &[f64], threshold: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len().min(scores.len())).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut kept: Vec<usize> = Vec::new();
    for candidate in order {
        // An overlap that is no number suppresses nothing.
        if !kept.iter().any(|k| iou(&boxes[*k], &boxes[candidate]) > threshold) {
            kept.push(candidate);
        }
    }
    kept
}

/// Intersection over union; no number where the union is empty.
fn iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |r: &[f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let shared = width * height;
    shared / (area(a) + area(b) - shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_a_heap_stays() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]];
        // IoU of 0 and 1 is 90 / 110, of 0 and 2 is 0.9.
        assert_eq!(nms(&boxes, &[0.5, 0.9, 0.4, 0.1], 0.7), [1, 3]);
        assert_eq!(nms(&boxes, &[0.5, 0.9, 0.4, 0.1], 0.85), [1, 0, 3]);
        assert_eq!(nms(&boxes, &[0.5, 0.9, 0.4, 0.1], 1.0), [1, 0, 2, 3]);
    }

    /// A box suppresses only what overlaps it: the middle of a chain goes, its ends stay.
    #[test]
    fn suppressed_boxes_do_not_suppress() {
        let boxes = [[0.0, 0.0, 10.0, 1.0], [4.0, 0.0, 14.0, 1.0], [8.0, 0.0, 18.0, 1.0]];
        assert_eq!(nms(&boxes, &[0.9, 0.8, 0.7], 0.4), [0, 2]);
    }

    #[test]
    fn ties_keep_their_order_and_the_threshold_itself_stays() {
        let same = [[0.0, 0.0, 4.0, 4.0]; 3];
        assert_eq!(nms(&same, &[0.5; 3], 0.7), [0]);
        let apart = [[9.0, 0.0, 10.0, 1.0], [0.0, 0.0, 1.0, 1.0], [4.0, 0.0, 5.0, 1.0]];
        assert_eq!(nms(&apart, &[0.5; 3], 0.7), [0, 1, 2]);
        // IoU exactly one half.
        assert_eq!(nms(&[[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]], &[1.0, 0.9], 0.5), [0, 1]);
        // No area: no number, no suppression.
        assert_eq!(nms(&[[3.0; 4]; 2], &[1.0, 0.9], 0.7), [0, 1]);
        assert_eq!(nms(&[], &[], 0.7), Vec::<usize>::new());
    }

    #[test]
    fn scores_that_are_no_numbers_do_no_harm() {
        let boxes = [[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]];
        assert_eq!(nms(&boxes, &[f64::NAN, 0.5], 0.7).len(), 2);
    }
}
