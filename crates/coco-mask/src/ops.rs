use crate::{MaskError, Rle};

/// How masks are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Foreground in any.
    Union,
    /// Foreground in all.
    Intersection,
}

/// Combines masks of one size, run by run.
///
/// # Errors
/// If there is no mask, or sizes differ (pycocotools answers with an empty 0 x 0 mask there).
pub fn merge(masks: &[Rle], how: Merge) -> Result<Rle, MaskError> {
    let (first, rest) = masks.split_first().ok_or(MaskError::NothingToMerge)?;
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let mut spans: Vec<Span> = first.foreground().collect();
    let mut next = Vec::new();
    for other in rest {
        same_size(first, other)?;
        next.clear();
        match how {
            Merge::Union => unite(&spans, other.foreground(), &mut next),
            Merge::Intersection => intersect(&spans, other.foreground(), &mut next),
        }
        std::mem::swap(&mut spans, &mut next);
    }
    Ok(Rle::from_spans(first.height(), first.width(), &spans))
}

/// Foreground from its first pixel to the one behind its last.
type Span = (u32, u32);

/// Spans that lie in either list, both in order.
fn unite(a: &[Span], b: impl Iterator<Item = Span>, out: &mut Vec<Span>) {
    let mut a = a.iter().copied().peekable();
    let mut add = |span: Span| match out.last_mut() {
        Some(last) if span.0 <= last.1 => last.1 = last.1.max(span.1),
        _ => out.push(span),
    };
    for span in b {
        while let Some(first) = a.next_if(|first| first.0 < span.0) {
            add(first);
        }
        add(span);
    }
    a.for_each(add);
}

/// Spans that lie in both lists, both in order.
fn intersect(a: &[Span], b: impl Iterator<Item = Span>, out: &mut Vec<Span>) {
    let mut at = 0;
    for span in b {
        while at < a.len() && a[at].0 < span.1 {
            let (start, end) = (a[at].0.max(span.0), a[at].1.min(span.1));
            match out.last_mut() {
                // Spans that touch are one.
                Some(last) if start < end && last.1 == start => last.1 = end,
                _ if start < end => out.push((start, end)),
                _ => {}
            }
            if a[at].1 > span.1 {
                break;
            }
            at += 1;
        }
    }
}

/// Pixels in both masks and pixels in either, counted on the runs.
///
/// # Errors
/// If the sizes differ.
pub fn intersection_union(a: &Rle, b: &Rle) -> Result<(u64, u64), MaskError> {
    same_size(a, b)?;
    let mut intersection = 0u64;
    walk_both(a, b, |length, va, vb| {
        if va && vb {
            intersection += u64::from(length);
        }
    });
    Ok((intersection, a.area() + b.area() - intersection))
}

/// Intersection over union of a detection and a ground truth; over the detection's area when the truth is a crowd.
/// Two empty masks give 0, as in pycocotools.
///
/// # Errors
/// If the sizes differ (pycocotools answers -1 there).
pub fn iou(detection: &Rle, truth: &Rle, crowd: bool) -> Result<f64, MaskError> {
    let (intersection, union) = intersection_union(detection, truth)?;
    let over = if crowd { detection.area() } else { union };
    Ok(intersection as f64 / over.max(1) as f64)
}

fn same_size(a: &Rle, b: &Rle) -> Result<(), MaskError> {
    let (first, other) = ((a.height(), a.width()), (b.height(), b.width()));
    if first == other { Ok(()) } else { Err(MaskError::Mismatch { first, other }) }
}

/// Calls `each(length, in a, in b)` for the maximal stretches where neither mask changes.
fn walk_both(a: &Rle, b: &Rle, mut each: impl FnMut(u32, bool, bool)) {
    let (mut ia, mut ib) = (a.counts().iter(), b.counts().iter());
    let (mut va, mut vb) = (true, true);
    let (mut left_a, mut left_b) = (0u32, 0u32);
    loop {
        while left_a == 0 {
            // Both sum to the same number of pixels, so both end together.
            let Some(&next) = ia.next() else { return };
            (left_a, va) = (next, !va);
        }
        while left_b == 0 {
            let Some(&next) = ib.next() else { return };
            (left_b, vb) = (next, !vb);
        }
        let length = left_a.min(left_b);
        each(length, va, vb);
        left_a -= length;
        left_b -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(bits: [u8; 6]) -> Rle {
        Rle::from_row_major(2, 3, &bits).unwrap()
    }

    #[test]
    fn two_masks() {
        let (a, b) = (mask([1, 1, 0, 0, 1, 0]), mask([1, 0, 0, 0, 1, 1]));
        assert_eq!(intersection_union(&a, &b).unwrap(), (2, 4));
        assert_eq!(iou(&a, &b, false).unwrap(), 0.5);
        assert_eq!(iou(&a, &b, true).unwrap(), 2.0 / 3.0);
        let parts = [a, b];
        assert_eq!(merge(&parts, Merge::Union).unwrap(), mask([1, 1, 0, 0, 1, 1]));
        assert_eq!(merge(&parts, Merge::Intersection).unwrap(), mask([1, 0, 0, 0, 1, 0]));
    }

    #[test]
    fn empty_and_mismatched() {
        let e = Rle::empty(2, 3).unwrap();
        assert_eq!(iou(&e, &e, false).unwrap(), 0.0);
        assert_eq!(intersection_union(&e, &e).unwrap(), (0, 0));
        let other = Rle::empty(3, 2).unwrap();
        assert!(matches!(iou(&e, &other, false), Err(MaskError::Mismatch { .. })));
        assert_eq!(merge(&[], Merge::Union), Err(MaskError::NothingToMerge));
    }

    /// Numbers below `below`, the same in every run.
    fn numbers() -> impl FnMut(u32) -> u32 {
        let mut state = 1_u32;
        move |below| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        }
    }

    /// A mask of random runs, a third of which are empty, and its pixels.
    fn runs(height: u32, width: u32, longest: u32, random: &mut impl FnMut(u32) -> u32) -> (Rle, Vec<u8>) {
        let (mut counts, mut left) = (Vec::new(), height * width);
        while left > 0 {
            let run = if random(3) == 0 { 0 } else { 1 + random(longest) }.min(left);
            counts.push(run);
            left -= run;
        }
        counts.extend(vec![0; random(3) as usize]);
        let pixels = counts.iter().enumerate().flat_map(|(i, &run)| vec![(i % 2) as u8; run as usize]).collect();
        (Rle::from_counts(height, width, counts).unwrap(), pixels)
    }

    #[test]
    fn what_masks_give_is_what_their_pixels_give() {
        let mut random = numbers();
        for round in 0..4000 {
            let (height, width, longest) = (1 + random(9), 1 + random(9), 1 + random(20));
            let masks: Vec<(Rle, Vec<u8>)> = (0..4).map(|_| runs(height, width, longest, &mut random)).collect();
            let rles: Vec<Rle> = masks.iter().map(|(rle, _)| rle.clone()).collect();
            for (how, of) in [(Merge::Union, u8::max as fn(u8, u8) -> u8), (Merge::Intersection, u8::min as fn(u8, u8) -> u8)] {
                for count in 2..=4 {
                    let pixel = |i: usize| masks[..count].iter().map(|(_, pixels)| pixels[i]).reduce(of).unwrap();
                    let pixels: Vec<u8> = (0..masks[0].1.len()).map(pixel).collect();
                    let expected = Rle::from_column_major(height, width, &pixels).unwrap();
                    assert_eq!(merge(&rles[..count], how).unwrap(), expected, "round {round}: {how:?} of {count} of {rles:?}");
                }
                assert_eq!(merge(&rles[..1], how).unwrap(), rles[0]);
            }
            let both = |of: fn(u8, u8) -> u8| masks[0].1.iter().zip(&masks[1].1).map(|(&a, &b)| u64::from(of(a, b))).sum::<u64>();
            assert_eq!(
                intersection_union(&rles[0], &rles[1]).unwrap(),
                (both(u8::min), both(u8::max)),
                "round {round}: {rles:?}"
            );
        }
    }

    #[test]
    fn merged_masks_of_pixels() {
        let mut random = numbers();
        for round in 0..2000 {
            let (height, width) = (1 + random(7), 1 + random(7));
            let mut bytes = || -> Vec<u8> { (0..height * width).map(|_| random(2 + round % 3).min(1) as u8).collect() };
            let bytes = [bytes(), bytes()];
            let masks = bytes.clone().map(|b| Rle::from_column_major(height, width, &b).unwrap());
            for (how, of) in [(Merge::Union, u8::max as fn(u8, u8) -> u8), (Merge::Intersection, u8::min as fn(u8, u8) -> u8)] {
                let pixels: Vec<u8> = bytes[0].iter().zip(&bytes[1]).map(|(&a, &b)| of(a, b)).collect();
                let expected = Rle::from_column_major(height, width, &pixels).unwrap();
                assert_eq!(merge(&masks, how).unwrap(), expected, "round {round}: {how:?}");
            }
        }
    }

    #[test]
    fn zero_runs_inside_do_not_end_the_walk() {
        let a = Rle::from_counts(2, 3, vec![1, 0, 0, 2, 0, 3]).unwrap();
        let b = Rle::from_counts(2, 3, vec![0, 0, 0, 6]).unwrap();
        assert_eq!(intersection_union(&a, &b).unwrap(), (5, 6));
        assert_eq!(merge(&[a, b], Merge::Intersection).unwrap().counts(), [1, 5]);
    }
}
