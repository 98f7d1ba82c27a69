//! Outlines of masks as polygons, simplified so that no point of an outline moves further than is allowed.

use std::collections::HashMap;

use crate::Rle;

/// A corner of pixels, (x, y).
type Corner = (i64, i64);

impl Rle {
    /// The outlines of the mask's parts along the borders of pixels, each `[x0, y0, x1, y1, ..]`, without those of holes: COCO's
    /// and YOLO's polygons cannot have any, so that whoever draws these fills them. Parts that touch at a corner are one.
    ///
    /// Vertices are left out as long as no point of the outline is further than `tolerance` pixels from what is drawn instead
    /// (Douglas and Peucker, 1973); with 0 the outline is exact.
    #[must_use]
    pub fn to_polygons(&self, tolerance: f64) -> Vec<Vec<f64>> {
        let loops = loops(self);
        let outer = loops.into_iter().filter(|corners| area(corners) > 0);
        let flat = |corners: Vec<Corner>| corners.into_iter().flat_map(|(x, y)| [x as f64, y as f64]).collect();
        outer.map(|corners| flat(simplified(&straightened(&corners), tolerance))).collect()
    }
}

/// All closed borders between inside and outside, the inside on the right of the way.
fn loops(mask: &Rle) -> Vec<Vec<Corner>> {
    let (height, width) = (i64::from(mask.height()), i64::from(mask.width()));
    let pixels = mask.to_row_major();
    let inside = |x: i64, y: i64| {
        (0..width).contains(&x) && (0..height).contains(&y) && pixels.get((y * width + x) as usize).is_some_and(|v| *v != 0)
    };
    // The steps that begin at a corner: one, or two where parts touch.
    let mut steps: HashMap<Corner, Vec<Corner>> = HashMap::new();
    let mut starts = Vec::new();
    for y in 0..height {
        for x in (0..width).filter(|x| inside(*x, y)) {
            let sides = [
                (inside(x, y - 1), (x, y), (x + 1, y)),
                (inside(x + 1, y), (x + 1, y), (x + 1, y + 1)),
                (inside(x, y + 1), (x + 1, y + 1), (x, y + 1)),
                (inside(x - 1, y), (x, y + 1), (x, y)),
            ];
            for (_, from, to) in sides.into_iter().filter(|side| !side.0) {
                steps.entry(from).or_default().push(to);
                starts.push(from);
            }
        }
    }
    let mut out = Vec::new();
    for start in starts {
        let Some(mut to) = steps.get_mut(&start).and_then(Vec::pop) else { continue };
        let (mut corners, mut from) = (vec![start], start);
        while to != start {
            corners.push(to);
            let Some(ways) = steps.get_mut(&to) else { break };
            // Where two ways lead on, the left one keeps what touches at the corner together.
            let left = (to.1 - from.1, from.0 - to.0);
            let at = ways.iter().position(|next| (next.0 - to.0, next.1 - to.1) == left).unwrap_or(0);
            if ways.is_empty() {
                break;
            }
            let next = ways.swap_remove(at);
            (from, to) = (to, next);
        }
        out.push(corners);
    }
    out
}

/// Twice the signed area: positive for the outline of a part, negative for that of a hole.
fn area(corners: &[Corner]) -> i64 {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum()
}

/// Without corners in the middle of straight lines.
fn straightened(corners: &[Corner]) -> Vec<Corner> {
    let n = corners.len();
    let bends = |i: &usize| {
        let (a, b, c) = (corners[(i + n - 1) % n], corners[*i], corners[(i + 1) % n]);
        (b.0 - a.0) * (c.1 - b.1) != (b.1 - a.1) * (c.0 - b.0)
    };
    (0..n).filter(bends).map(|i| corners[i]).collect()
}

/// Douglas and Peucker's on a closed line, cut at its first corner and the one that is furthest from it.
fn simplified(corners: &[Corner], tolerance: f64) -> Vec<Corner> {
    if tolerance <= 0.0 || corners.len() < 4 {
        return corners.to_vec();
    }
    let square = |a: Corner, b: Corner| (a.0 - b.0).pow(2) + (a.1 - b.1).pow(2);
    let far = (0..corners.len()).max_by_key(|i| square(corners[0], corners[*i])).unwrap_or(0);
    let mut line = corners.to_vec();
    line.push(corners[0]);
    let mut keep = vec![false; line.len()];
    (keep[0], keep[far]) = (true, true);
    // Two ends and what lies between them, without recursion: outlines are long.
    let mut open = vec![(0, far), (far, line.len() - 1)];
    while let Some((first, last)) = open.pop() {
        let furthest =
            (first + 1..last).map(|i| (i, distance(line[i], line[first], line[last]))).max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((at, away)) = furthest
            && away > tolerance
        {
            keep[at] = true;
            open.extend([(first, at), (at, last)]);
        }
    }
    let kept: Vec<Corner> = line.iter().zip(&keep).take(corners.len()).filter(|(_, keep)| **keep).map(|(c, _)| *c).collect();
    // Two corners cover nothing: what is smaller than the tolerance keeps its outline.
    if kept.len() < 3 { corners.to_vec() } else { kept }
}

/// From a point to a stretch of a line.
fn distance(point: Corner, from: Corner, to: Corner) -> f64 {
    let float = |c: Corner| (c.0 as f64, c.1 as f64);
    let ((px, py), (ax, ay), (bx, by)) = (float(point), float(from), float(to));
    let (dx, dy) = (bx - ax, by - ay);
    let length = dx * dx + dy * dy;
    let share = if length == 0.0 { 0.0 } else { (((px - ax) * dx + (py - ay) * dy) / length).clamp(0.0, 1.0) };
    (px - ax - share * dx).hypot(py - ay - share * dy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iou;

    fn mask(rows: &[&str]) -> Rle {
        let bytes: Vec<u8> = rows.concat().bytes().map(|b| u8::from(b == b'#')).collect();
        Rle::from_row_major(rows.len() as u32, rows[0].len() as u32, &bytes).unwrap()
    }

    #[test]
    fn outlines_follow_pixels() {
        assert_eq!(mask(&["....", ".##.", ".##."]).to_polygons(0.0), [vec![1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]]);
        assert!(mask(&["..", ".."]).to_polygons(0.0).is_empty());
        // Two parts; a hole is passed over; a corner joins.
        assert_eq!(mask(&["#.#"]).to_polygons(0.0).len(), 2);
        assert_eq!(mask(&["###", "#.#", "###"]).to_polygons(0.0), [vec![0.0, 0.0, 3.0, 0.0, 3.0, 3.0, 0.0, 3.0]]);
        assert_eq!(mask(&["#.", ".#"]).to_polygons(0.0).len(), 1);
    }

    /// Masks without holes come back to the pixel; simplified ones within their tolerance.
    #[test]
    fn polygons_draw_the_mask_again() {
        let disc = |x: i64, y: i64| (x - 30).pow(2) + (y - 25).pow(2) < 400 || (x - 60).abs() + (y - 40).abs() < 14;
        let bytes: Vec<u8> = (0..60 * 80).map(|i| u8::from(disc(i % 80, i / 80))).collect();
        let mask = Rle::from_row_major(60, 80, &bytes).unwrap();
        let exact = mask.to_polygons(0.0);
        assert_eq!(Rle::from_polygons(60, 80, &exact).unwrap().canonical(), mask.canonical());
        let mut corners = usize::MAX;
        for tolerance in [0.5, 1.0, 2.0, 4.0] {
            let simple = mask.to_polygons(tolerance);
            let count = simple.iter().map(Vec::len).sum();
            assert!(count <= corners, "{tolerance}: {count}");
            corners = count;
            // Every corner of the exact outline is that near to the simpler one.
            for (exact, simple) in exact.iter().zip(&simple) {
                let at = |flat: &[f64], i: usize| {
                    (flat[2 * (i % (flat.len() / 2))] as i64, flat[2 * (i % (flat.len() / 2)) + 1] as i64)
                };
                for i in 0..exact.len() / 2 {
                    let near = (0..simple.len() / 2).map(|k| distance(at(exact, i), at(simple, k), at(simple, k + 1)));
                    assert!(near.fold(f64::MAX, f64::min) <= tolerance);
                }
            }
            let drawn = Rle::from_polygons(60, 80, &simple).unwrap();
            assert!(iou(&drawn, &mask, false).unwrap() > 1.0 - 0.1 * tolerance, "{tolerance}");
        }
        assert!(corners < exact.iter().map(Vec::len).sum::<usize>() / 4);
    }
}
