//! A mask's outlines as polygons along the edges of its pixels.

use coco_mask::Rle;

/// Steps to the right, down, left and up.
const STEPS: [(isize, isize); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];

/// The outer outlines of a mask as `[x0, y0, x1, y1, ..]` in corners of pixels, clockwise, the largest first. Pixels that touch at
/// a corner alone are apart. Holes are left out, which COCO's polygons cannot say: rasterising fills them.
pub fn outlines(mask: &Rle) -> Vec<Vec<f64>> {
    let mut edges = Edges::of(mask);
    let mut found = Vec::new();
    for start in 0..edges.out.len() {
        while let Some(first) = edges.direction(start, [0, 1, 2, 3]) {
            let corners = edges.follow(start, first);
            let area = doubled_area(&corners);
            // Holes run the other way around.
            if area > 0 {
                found.push((area, corners));
            }
        }
    }
    found.sort_by_key(|(area, _)| std::cmp::Reverse(*area));
    found.into_iter().map(|(_, corners)| corners.into_iter().flat_map(|(x, y)| [x as f64, y as f64]).collect()).collect()
}

/// Edges between foreground and background by the corner that they leave, foreground on their right.
struct Edges {
    /// A bit per direction.
    out: Vec<u8>,
    /// Corners per row.
    stride: usize,
}

impl Edges {
    fn of(mask: &Rle) -> Self {
        let (width, height) = (mask.width() as usize, mask.height() as usize);
        let bytes = mask.to_row_major();
        let stride = width + 1;
        let mut out = vec![0u8; stride * (height + 1)];
        let at = |x: usize, y: usize| x < width && y < height && bytes[y * width + x] != 0;
        for (y, row) in bytes.chunks_exact(width.max(1)).enumerate() {
            for x in (0..row.len()).filter(|x| row[*x] != 0) {
                let corner = y * stride + x;
                let above = y > 0 && at(x, y - 1);
                let left = x > 0 && at(x - 1, y);
                out[corner] |= u8::from(!above);
                out[corner + 1] |= u8::from(!at(x + 1, y)) << 1;
                out[corner + stride + 1] |= u8::from(!at(x, y + 1)) << 2;
                out[corner + stride] |= u8::from(!left) << 3;
            }
        }
        Self { out, stride }
    }

    /// The first of `directions` in which an edge leaves a corner.
    fn direction(&self, corner: usize, directions: [usize; 4]) -> Option<usize> {
        directions.into_iter().find(|d| self.out[corner] >> d & 1 == 1)
    }

    /// Takes the edges of one outline out; its corners, where it turns.
    fn follow(&mut self, start: usize, first: usize) -> Vec<(i64, i64)> {
        let (mut corner, mut direction) = (start, first);
        let mut corners = Vec::new();
        let mut came = None;
        while self.out[corner] >> direction & 1 == 1 {
            self.out[corner] &= !(1 << direction);
            if came != Some(direction) {
                corners.push(((corner % self.stride) as i64, (corner / self.stride) as i64));
            }
            came = Some(direction);
            let (x, y) = STEPS[direction];
            corner = corner.wrapping_add_signed(x + y * self.stride as isize);
            // To the right first: the outline stays with its own pixel where two touch at a corner.
            let next = [direction + 1, direction, direction + 3, direction].map(|d| d % 4);
            let Some(next) = self.direction(corner, next) else { break };
            direction = next;
        }
        // The first corner was taken as a turn before it was known to be one.
        if came == Some(first) && corners.len() > 1 {
            corners.remove(0);
        }
        corners
    }
}

/// Twice the area inside, positive for outlines that run clockwise as an image is seen.
fn doubled_area(corners: &[(i64, i64)]) -> i64 {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|((ax, ay), (bx, by))| ax * by - bx * ay).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Rle {
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.bytes().map(|b| u8::from(b == b'#'))).collect();
        Rle::from_row_major(rows.len() as u32, rows[0].len() as u32, &bytes).unwrap()
    }

    #[test]
    fn a_square_has_four_corners_and_corners_do_not_connect() {
        assert_eq!(outlines(&mask(&["....", ".##.", ".##.", "...."])), [[1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]]);
        assert_eq!(outlines(&mask(&["#.", ".#"])).len(), 2);
        assert_eq!(outlines(&mask(&["..", ".."])).len(), 0);
        // The hole is left out, what lies in it is not.
        let ring = outlines(&mask(&["#####", "#...#", "#.#.#", "#...#", "#####"]));
        assert_eq!(ring, [vec![0.0, 0.0, 5.0, 0.0, 5.0, 5.0, 0.0, 5.0], vec![2.0, 2.0, 3.0, 2.0, 3.0, 3.0, 2.0, 3.0]]);
    }

    /// Rasterised again by COCO's rule, outlines give the mask.
    #[test]
    fn outlines_are_the_mask() {
        let mut state = 7u32;
        for (width, height) in [(1, 1), (9, 5), (16, 23)] {
            for _ in 0..40 {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 24
                };
                // Columns that begin and end somewhere have no holes.
                let mut bytes = vec![0u8; width * height];
                for x in 0..width {
                    let (from, to) = (next() as usize % (height + 1), next() as usize % (height + 1));
                    (from..to).for_each(|y| bytes[y * width + x] = 1);
                }
                let mask = Rle::from_row_major(height as u32, width as u32, &bytes).unwrap();
                let polygons = outlines(&mask);
                if polygons.is_empty() {
                    assert!(mask.is_empty());
                } else {
                    assert_eq!(Rle::from_polygons(height as u32, width as u32, &polygons).unwrap().canonical(), mask.canonical());
                }
            }
        }
    }
}
