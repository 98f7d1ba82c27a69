use crate::rle::pixels;
use crate::{MaskError, Merge, Rle, merge};

/// Longest outline of one polygon, in fifths of a pixel (the grid the rasteriser walks).
pub const MAX_OUTLINE: i64 = 1 << 26;

/// The reference samples outlines on a grid five times finer than the pixels.
const SCALE: f64 = 5.0;

impl Rle {
    /// The union of polygons in COCO's flat form `[x0, y0, x1, y1, ..]`, in pixels.
    ///
    /// Within one polygon the even-odd rule holds. A last odd number is ignored. As in pycocotools the first polygon
    /// needs more than 4 numbers, while later ones of one or two points are accepted and cover nothing.
    ///
    /// # Errors
    /// If the size is out of range, the list is empty, a polygon is too short, a coordinate is not finite or at least
    /// 1e8 in size, or an outline is longer than [`MAX_OUTLINE`].
    pub fn from_polygons<P: AsRef<[f64]>>(height: u32, width: u32, polygons: &[P]) -> Result<Self, MaskError> {
        if polygons.is_empty() {
            return Err(MaskError::NoPolygon);
        }
        let parts = polygons
            .iter()
            .enumerate()
            .map(|(i, p)| rasterise(height, width, p.as_ref(), i, if i == 0 { 5 } else { 2 }))
            .collect::<Result<Vec<_>, _>>()?;
        merge(&parts, Merge::Union)
    }

    /// One polygon of one point or more, in COCO's flat form.
    ///
    /// # Errors
    /// As [`Rle::from_polygons`].
    pub fn from_polygon(height: u32, width: u32, polygon: &[f64]) -> Result<Self, MaskError> {
        rasterise(height, width, polygon, 0, 2)
    }

    /// A filled box `[x, y, width, height]` in pixels, rasterised like the polygon of its corners.
    ///
    /// # Errors
    /// As [`Rle::from_polygons`].
    pub fn from_box(height: u32, width: u32, [x, y, w, h]: [f64; 4]) -> Result<Self, MaskError> {
        let (xe, ye) = (x + w, y + h);
        rasterise(height, width, &[x, y, x, ye, xe, ye, xe, y], 0, 5)
    }
}

fn rasterise(height: u32, width: u32, xy: &[f64], polygon: usize, least: usize) -> Result<Rle, MaskError> {
    let n = pixels(height, width)?;
    if xy.len() < least {
        return Err(MaskError::PolygonLength { polygon, found: xy.len(), least });
    }
    if let Some(at) = xy.iter().position(|c| !c.is_finite() || c.abs() >= 1e8) {
        return Err(MaskError::Coordinate { polygon, at, value: xy[at] });
    }
    // `as` truncates toward zero, as the cast in C does; floor would differ for negative coordinates.
    let points: Vec<(i64, i64)> =
        xy.chunks_exact(2).map(|p| ((SCALE * p[0] + 0.5) as i64, (SCALE * p[1] + 0.5) as i64)).collect();
    let edges = || points.iter().zip(points.iter().cycle().skip(1));
    let outline: i64 = edges().map(|(a, b)| (a.0 - b.0).abs().max((a.1 - b.1).abs()) + 1).sum();
    if outline > MAX_OUTLINE {
        return Err(MaskError::Outline { polygon });
    }

    let mut crossings: Vec<u32> = Vec::new();
    let mut previous: Option<(i64, i64)> = None;
    for (&a, &b) in edges() {
        walk(a, b, |u, v| {
            if let Some((pu, pv)) = previous
                && u != pu
            {
                let step = if u < pu { u } else { u - 1 };
                // (step + 0.5) / 5 - 0.5 is a whole column exactly when step is 2 modulo 5.
                let column = (step - 2).div_euclid(5);
                if (step - 2).rem_euclid(5) == 0 && (0..i64::from(width)).contains(&column) {
                    // The ceiling of (y + 0.5) / 5 - 0.5, kept inside the column.
                    let row = (v.min(pv) + 2).div_euclid(5).clamp(0, i64::from(height));
                    crossings.push((column * i64::from(height) + row) as u32);
                }
            }
            previous = Some((u, v));
        });
    }
    Rle::from_counts(height, width, runs(crossings, n))
}

/// The outline from `a` to `b` on the fine grid, one point for each step of the longer axis, ends included.
fn walk(a: (i64, i64), b: (i64, i64), mut emit: impl FnMut(i64, i64)) {
    let ((mut xs, mut ys), (mut xe, mut ye)) = (a, b);
    let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
    // Each edge is computed in one direction only, so that two polygons sharing it agree on every point.
    let flip = (dx >= dy && xs > xe) || (dx < dy && ys > ye);
    if flip {
        (xs, xe, ys, ye) = (xe, xs, ye, ys);
    }
    if dx >= dy {
        // A point repeated: 0 / 0 gives NaN, whose cast is never looked at because the column does not change.
        let slope = (ye - ys) as f64 / dx as f64;
        for d in 0..=dx {
            let t = if flip { dx - d } else { d };
            emit(t + xs, (ys as f64 + slope * t as f64 + 0.5) as i64);
        }
    } else {
        let slope = (xe - xs) as f64 / dy as f64;
        for d in 0..=dy {
            let t = if flip { dy - d } else { d };
            emit((xs as f64 + slope * t as f64 + 0.5) as i64, t + ys);
        }
    }
}

/// Sorted crossings to runs. Two crossings in one place cancel: the runs around them are joined.
fn runs(mut crossings: Vec<u32>, n: u32) -> Vec<u32> {
    crossings.push(n);
    crossings.sort_unstable();
    let mut at = 0;
    let mut lengths = crossings.into_iter().map(|c| {
        let length = c - at;
        at = c;
        length
    });
    let mut out = vec![lengths.next().unwrap_or(n)];
    while let Some(length) = lengths.next() {
        if length > 0 {
            out.push(length);
        } else if let (Some(last), Some(next)) = (out.last_mut(), lengths.next()) {
            *last += next;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(h: u32, w: u32, polygon: &[f64], text: &str, area: u64) {
        let rle = Rle::from_polygons(h, w, &[polygon]).unwrap();
        assert_eq!(rle.to_compressed(), text, "{polygon:?}");
        assert_eq!(rle.area(), area, "{polygon:?}");
        assert_eq!(Rle::from_compressed(h, w, text).unwrap(), rle);
    }

    #[test]
    fn golden_polygons() {
        check(10, 10, &[0., 0., 1., 0., 1., 1., 0., 1.], "01S3", 1);
        check(10, 10, &[0., 0., 10., 0., 10., 10., 0., 10.], "0T3", 100);
        check(10, 10, &[0., 0., 9., 0., 9., 9., 0., 9.], "091000000000000000:", 81);
        check(10, 10, &[0.5, 0.5, 2.5, 0.5, 2.5, 2.5, 0.5, 2.5], ";280U2", 4);
        check(10, 10, &[2.4, 2.4, 4.6, 2.4, 4.6, 4.6, 2.4, 4.6], "f037000`1", 9);
        check(10, 10, &[-5., -5., 20., -5., 20., 20., -5., 20.], "0T3", 100);
        check(10, 10, &[3., 3., 3., 8., 3., 3.], "T3", 0);
        check(10, 10, &[30., 30., 30., 38., 35., 33.], "T3", 0);
        check(10, 10, &[1., 1., 8., 8., 8., 1., 1., 8.], ";65N2N;0E2N2b0", 24);
        check(10, 10, &[2.6, 2.6, 3.4, 2.6, 3.4, 7.4, 2.6, 7.4], "T3", 0);
        check(10, 10, &[2.1, 2.1, 3.1, 2.1, 3.1, 7.1, 2.1, 7.1], "f05Y2", 5);
        check(10, 10, &[2., 2., 2., 2., 7., 2., 7., 7., 2., 7., 2., 2.], "f0550000000l0", 25);
        check(10, 10, &[2., 2., 2., 7., 7., 7., 7., 2.], "f0550000000l0", 25);
        check(8, 8, &[-3.5, -2.2, 4.4, -2.2, 4.4, 3.3, -3.5, 3.3], "03500000P1", 12);
    }

    #[test]
    fn overlapping_polygons_are_united() {
        let rle =
            Rle::from_polygons(10, 10, &[vec![0., 0., 4., 0., 4., 4., 0., 4.], vec![2., 2., 8., 2., 8., 8., 2., 8.]]).unwrap();
        assert_eq!(rle.to_compressed(), "046004L02N000000b0");
        assert_eq!(rle.area(), 48);
    }

    #[test]
    fn dispatch_edge_cases() {
        let none: [&[f64]; 0] = [];
        assert_eq!(Rle::from_polygons(9, 9, &none), Err(MaskError::NoPolygon));
        let short = |p: &[f64]| Rle::from_polygons(9, 9, &[p]);
        assert_eq!(short(&[]), Err(MaskError::PolygonLength { polygon: 0, found: 0, least: 5 }));
        assert_eq!(short(&[1., 2., 3., 4.]), Err(MaskError::PolygonLength { polygon: 0, found: 4, least: 5 }));
        let square = vec![1., 1., 5., 1., 5., 5., 1., 5.];
        let with_line = Rle::from_polygons(9, 9, &[square.clone(), vec![0., 0., 8., 8.]]).unwrap();
        assert_eq!(with_line.area(), 16);
        let odd = Rle::from_polygons(9, 9, &[[square.clone(), vec![7.0]].concat()]).unwrap();
        assert_eq!(odd, Rle::from_polygons(9, 9, std::slice::from_ref(&square)).unwrap());
        assert!(matches!(Rle::from_polygons(9, 9, &[square, vec![]]), Err(MaskError::PolygonLength { polygon: 1, .. })));
        assert_eq!(Rle::from_box(10, 10, [0., 0., 9., 9.]).unwrap().to_compressed(), "091000000000000000:");
    }

    #[test]
    fn hostile_coordinates() {
        let at = |c: f64| Rle::from_polygons(9, 9, &[vec![0., 0., c, 0., 5., 5.]]);
        assert!(matches!(at(f64::NAN), Err(MaskError::Coordinate { at: 2, .. })));
        assert!(matches!(at(f64::INFINITY), Err(MaskError::Coordinate { .. })));
        assert!(matches!(at(-1e300), Err(MaskError::Coordinate { .. })));
        assert!(matches!(at(9.9e7), Err(MaskError::Outline { polygon: 0 })));
        assert!(at(1e5).is_ok());
    }
}
