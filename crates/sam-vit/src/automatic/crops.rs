//! Point grids and crops of automatic mask generation.

/// A part of the image, (x0, y0) inside and (x1, y1) just outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First column.
    pub x0: usize,
    /// First row.
    pub y0: usize,
    /// Column after the last.
    pub x1: usize,
    /// Row after the last.
    pub y1: usize,
    /// 0 for the whole image, then one more a layer.
    pub layer: usize,
}

impl CropBox {
    /// Columns.
    pub fn width(&self) -> usize {
        self.x1 - self.x0
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.y1 - self.y0
    }

    /// Whether a box (x0, y0, x1, y1) comes within `near` pixels of an edge of this crop that is not also an edge of
    /// the image of (height, width) pixels: the object goes on outside.
    pub fn cuts(&self, bbox: [f64; 4], (height, width): (usize, usize), near: f64) -> bool {
        let crop = [self.x0, self.y0, self.x1, self.y1];
        let image = [0, 0, width, height];
        (0..4).any(|i| {
            let at = |edge: usize| (bbox[i] - edge as f64).abs() <= near;
            at(crop[i]) && !at(image[i])
        })
    }
}

/// The whole image, then `layers` layers of overlapping crops; layer i has 2^i a side, column by column.
///
/// Crops overlap by `overlap` of the short side in the first layer and by half as much in each further one.
pub fn crop_boxes(height: usize, width: usize, layers: usize, overlap: f64) -> Vec<CropBox> {
    let mut boxes = vec![CropBox { x0: 0, y0: 0, x1: width, y1: height, layer: 0 }];
    for layer in 1..=layers {
        let number = 1usize << layer;
        let shared = (overlap * height.min(width) as f64 * (2.0 / number as f64)) as usize;
        let side = |whole: usize| (shared * (number - 1) + whole).div_ceil(number);
        let (wide, tall) = (side(width), side(height));
        for column in 0..number {
            for row in 0..number {
                let (x0, y0) = ((wide - shared) * column, (tall - shared) * row);
                let (x1, y1) = ((x0 + wide).min(width), (y0 + tall).min(height));
                // Rounding up can push the last crop of a tiny image outside.
                if x0 < x1 && y0 < y1 {
                    boxes.push(CropBox { x0, y0, x1, y1, layer });
                }
            }
        }
    }
    boxes
}

/// `side * side` points (x, y) in the middle of equal cells of the unit square, row by row.
pub fn point_grid(side: usize) -> Vec<[f64; 2]> {
    let at = |i: usize| (i as f64 + 0.5) / side as f64;
    (0..side * side).map(|i| [at(i % side), at(i / side)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_lie_in_cell_centres() {
        assert_eq!(point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]);
        assert_eq!(point_grid(32).len(), 1024);
        assert_eq!(point_grid(0), Vec::<[f64; 2]>::new());
    }

    /// 1500 x 1000: overlap 341 (512/1500 of 1000), so crops of (1500 + 341) / 2 by (1000 + 341) / 2, rounded up.
    #[test]
    fn crops_overlap_and_cover() {
        let boxes = crop_boxes(1000, 1500, 2, 512.0 / 1500.0);
        assert_eq!(boxes.len(), 1 + 4 + 16);
        assert_eq!(boxes[0], CropBox { x0: 0, y0: 0, x1: 1500, y1: 1000, layer: 0 });
        assert_eq!(boxes[1], CropBox { x0: 0, y0: 0, x1: 921, y1: 671, layer: 1 });
        assert_eq!(boxes[2], CropBox { x0: 0, y0: 330, x1: 921, y1: 1000, layer: 1 });
        assert_eq!(boxes[4], CropBox { x0: 580, y0: 330, x1: 1500, y1: 1000, layer: 1 });
        // Layer 2: overlap 170, crops of 503 (2010 / 4 = 502.5) x 378 (1510 / 4 = 377.5).
        assert_eq!(boxes[5], CropBox { x0: 0, y0: 0, x1: 503, y1: 378, layer: 2 });
        assert_eq!(boxes[20], CropBox { x0: 999, y0: 624, x1: 1500, y1: 1000, layer: 2 });
    }

    #[test]
    fn tiny_images_have_no_empty_crops() {
        for (height, width) in [(1, 1), (3, 2), (5, 9)] {
            for b in crop_boxes(height, width, 6, 0.34) {
                assert!(b.x0 < b.x1 && b.x1 <= width && b.y0 < b.y1 && b.y1 <= height, "{b:?}");
            }
        }
    }

    #[test]
    fn edges_of_the_image_do_not_count() {
        let crop = CropBox { x0: 0, y0: 0, x1: 500, y1: 400, layer: 1 };
        let image = (800, 1000);
        assert!(!crop.cuts([0.0, 3.0, 300.0, 300.0], image, 20.0));
        assert!(crop.cuts([0.0, 3.0, 480.0, 300.0], image, 20.0));
        assert!(!crop.cuts([0.0, 3.0, 479.0, 300.0], image, 20.0));
        assert!(crop.cuts([50.0, 50.0, 60.0, 399.0], image, 20.0));
        let whole = CropBox { x0: 0, y0: 0, x1: 1000, y1: 800, layer: 0 };
        assert!(!whole.cuts([0.0, 0.0, 999.0, 799.0], image, 20.0));
    }
}
