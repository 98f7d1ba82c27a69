use std::collections::HashMap;

use crate::{Image, ImageError};

/// Largest coordinate of a polygon, in pixels, either way from 0.
pub const MAX_COORDINATE: i32 = 1 << 24;
/// Most crossings of edges and rows that one polygon may have inside its image.
pub const MAX_CROSSINGS: u64 = 1 << 26;

/// An edge that is not level.
struct Edge {
    /// Where it begins, as given; Pillow measures from here, and so do its rounding errors.
    x0: i32,
    y0: i32,
    top: i32,
    bottom: i32,
    slope: f32,
}

impl Edge {
    fn at(&self, y: i32) -> f32 {
        (y - self.y0) as f32 * self.slope + self.x0 as f32
    }
}

/// Fills a polygon with `ink` in every channel, as `ImageDraw.polygon(points, fill=ink)` does; an outline of the same ink
/// adds nothing to it.
///
/// Points are (x, y) pixels and may lie outside the image. The even-odd rule holds, and the outline itself is filled. One
/// point draws nothing, two draw their line.
///
/// # Errors
/// If the image is inconsistent, a coordinate is beyond [`MAX_COORDINATE`], or the outline crosses more than
/// [`MAX_CROSSINGS`] rows of the image.
pub fn fill_polygon(image: &mut Image, points: &[(i32, i32)], ink: u8) -> Result<(), ImageError> {
    if let Some(at) = points.iter().position(|&(x, y)| x.abs().max(y.abs()) > MAX_COORDINATE) {
        return Err(ImageError::Point { at, x: points[at].0, y: points[at].1 });
    }
    let mut edges = Vec::new();
    for (i, &a) in points.iter().enumerate() {
        let b = points[(i + 1) % points.len()];
        // A last point that repeats the first has closed the polygon already.
        if i + 1 == points.len() && a == b {
            break;
        }
        if a.1 == b.1 {
            span(image, a.1, a.0.min(b.0), a.0.max(b.0), ink);
        } else {
            let slope = (b.0 - a.0) as f32 / (b.1 - a.1) as f32;
            edges.push(Edge { x0: a.0, y0: a.1, top: a.1.min(b.1), bottom: a.1.max(b.1), slope });
        }
    }
    let height = image.height() as i32;
    let crossings = edges.iter().map(|e| i64::from(e.bottom.min(height)) - i64::from(e.top.max(0)) + 1);
    if crossings.map(|n| n.max(0) as u64).sum::<u64>() > MAX_CROSSINGS {
        return Err(ImageError::Outline);
    }
    scan(image, &edges, points.iter().map(|p| p.1).max().unwrap_or(0).clamp(0, height), ink);
    Ok(())
}

/// Row after row, from the crossings of the edges; `last` is the polygon's last row, at most one below the image.
fn scan(image: &mut Image, edges: &[Edge], last: i32, ink: u8) {
    let mut order: Vec<usize> = (0..edges.len()).collect();
    order.sort_by_key(|&i| edges[i].top.max(0));
    let mut waiting = order.into_iter().peekable();
    let mut active: Vec<usize> = Vec::new();
    let mut crossings: Vec<f32> = Vec::new();
    // First edge with an end here, by column and by whether it comes from above: what a later edge may share a corner with.
    let mut corners: HashMap<(i64, bool), usize> = HashMap::new();
    for y in 0..last.saturating_add(1).min(image.height() as i32) {
        active.retain(|&i| edges[i].bottom >= y);
        let before = active.len();
        while let Some(i) = waiting.next_if(|&i| edges[i].top <= y) {
            active.push(i);
        }
        if active.len() > before {
            active.retain(|&i| edges[i].bottom >= y);
            active.sort_unstable();
        }
        crossings.clear();
        corners.clear();
        for &i in &active {
            let edge = &edges[i];
            let x = edge.at(y);
            let ends = y == edge.bottom;
            if ends && y < last {
                // The edge ends here and the next begins: both sides of the joint count.
                crossings.extend([x, x]);
            } else if (ends || y == edge.top) && edge.slope != 0.0 {
                let other = corners.get(&(x.round() as i64, ends)).map(|&k| &edges[k]);
                crossings.push(other.map_or(x, |other| tip(edge, other, x, if ends { y - 1 } else { y + 1 })));
            } else {
                crossings.push(x);
            }
            if (ends || y == edge.top) && edge.slope != 0.0 {
                corners.entry((x.round() as i64, ends)).or_insert(i);
            }
        }
        crossings.sort_unstable_by(f32::total_cmp);
        for pair in crossings.chunks_exact(2) {
            span(image, y, round_up(pair[0]), round_down(pair[1]), ink);
        }
    }
}

/// Where two flat edges leave a shared corner on the same side, the corner's row reaches to where the next row begins.
fn tip(edge: &Edge, other: &Edge, x: f32, next: i32) -> f32 {
    let (a, b) = (edge.at(next), other.at(next));
    if x > a + 1.0 && x > b + 1.0 {
        a.max(b).round() + 1.0
    } else if x < a - 1.0 && x < b - 1.0 {
        a.min(b).round() - 1.0
    } else {
        x
    }
}

/// Halves go away from zero.
fn round_up(x: f32) -> i32 {
    if x >= 0.0 { (x + 0.5).floor() as i32 } else { -((f64::from(-x) + 0.5).floor() as i32) }
}

/// Halves go towards zero.
fn round_down(x: f32) -> i32 {
    if x >= 0.0 { (x - 0.5).ceil() as i32 } else { -((f64::from(-x) - 0.5).ceil() as i32) }
}

/// Columns `from` to `to` of row `y`, both included, as far as they lie in the image.
fn span(image: &mut Image, y: i32, from: i32, to: i32, ink: u8) {
    let (w, c) = (image.width() as i32, image.channels());
    if (0..image.height() as i32).contains(&y) && from < w && to >= 0 && from.max(0) <= to.min(w - 1) {
        let start = y as usize * image.width();
        let (from, to) = (from.max(0) as usize, to.min(w - 1) as usize);
        image.data_mut()[(start + from) * c..(start + to + 1) * c].fill(ink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, height: usize, points: &[(i32, i32)]) -> Vec<String> {
        let mut image = Image::new(width, height, 1, vec![0; width * height]).unwrap();
        fill_polygon(&mut image, points, 1).unwrap();
        image.data().chunks(width).map(|r| r.iter().map(|v| if *v == 1 { '#' } else { '.' }).collect()).collect()
    }

    #[test]
    fn the_outline_is_inside() {
        assert_eq!(rows(5, 4, &[(1, 1), (3, 1), (3, 2), (1, 2)]), [".....", ".###.", ".###.", "....."]);
        assert_eq!(rows(3, 2, &[(1, 0)]), ["...", "..."]);
        assert_eq!(rows(3, 2, &[(1, 0), (2, 0)]), [".##", "..."]);
        assert_eq!(rows(3, 2, &[]), ["...", "..."]);
        assert_eq!(rows(2, 2, &[(-9, -9), (9, -9), (9, 9), (-9, 9)]), ["##", "##"]);
    }

    #[test]
    fn refuses_what_cannot_be_drawn_in_reasonable_time() {
        let mut image = Image::new(4, 60_000, 1, vec![0; 240_000]).unwrap();
        let error = fill_polygon(&mut image, &[(0, 0), (1 << 25, 3)], 1).unwrap_err().to_string();
        assert!(error.contains("point 1") && error.contains("33554432"), "{error}");
        let zigzag: Vec<(i32, i32)> = (0..2000).map(|i| (i % 5, if i % 2 == 0 { -5 } else { 70_000 })).collect();
        assert_eq!(fill_polygon(&mut image, &zigzag, 1), Err(ImageError::Outline));
    }
}
