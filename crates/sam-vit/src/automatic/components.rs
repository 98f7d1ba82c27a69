//! Connected components, and the removal of small ones.

/// What [`remove_small`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Small {
    /// Background inside or beside the mask: it is filled.
    Holes,
    /// Parts of the mask: they are cleared.
    Islands,
}

/// Labels the connected parts (8 neighbours) of the pixels that are not 0, in two passes. Label 0 is background; parts
/// are numbered from 1 in the order of their first pixel. Also returns the pixels of each part.
///
/// # Shapes
/// `mask`: height * `width` bytes, row-major; labels alike
pub fn components(mask: &[u8], width: usize) -> (Vec<u32>, Vec<u64>) {
    let mut labels = vec![0u32; mask.len()];
    // parent[0] stands for background; a root is its own parent and always the smallest label of its part.
    let mut parent = vec![0u32];
    if width == 0 {
        return (labels, Vec::new());
    }
    for at in (0..mask.len()).filter(|at| mask[*at] != 0) {
        let (y, x) = (at / width, at % width);
        let (left, right) = (x > 0, x + 1 < width);
        let above = at.wrapping_sub(width);
        let seen = [
            (left, at.wrapping_sub(1)),
            (y > 0 && left, above.wrapping_sub(1)),
            (y > 0, above),
            (y > 0 && right, above.wrapping_add(1)),
        ];
        let mut here = 0;
        for (_, neighbour) in seen.into_iter().filter(|(exists, _)| *exists) {
            if labels[neighbour] > 0 {
                let other = root(&mut parent, labels[neighbour]);
                here = if here == 0 { other } else { join(&mut parent, here, other) };
            }
        }
        if here == 0 {
            here = parent.len() as u32;
            parent.push(here);
        }
        labels[at] = here;
    }
    let mut number = vec![0u32; parent.len()];
    let mut sizes = Vec::new();
    for label in &mut labels {
        if *label == 0 {
            continue;
        }
        let root = root(&mut parent, *label) as usize;
        if number[root] == 0 {
            sizes.push(0);
            number[root] = sizes.len() as u32;
        }
        *label = number[root];
        sizes[number[root] as usize - 1] += 1;
    }
    (labels, sizes)
}

fn root(parent: &mut [u32], mut label: u32) -> u32 {
    while parent[label as usize] != label {
        // Halving the path keeps trees flat.
        let above = parent[parent[label as usize] as usize];
        parent[label as usize] = above;
        label = above;
    }
    label
}

fn join(parent: &mut [u32], a: u32, b: u32) -> u32 {
    let (low, high) = (a.min(b), a.max(b));
    parent[high as usize] = low;
    low
}

/// Fills holes or clears islands of fewer than `area` pixels; of islands that are all small the largest (the first of
/// equals) stays. Returns whether the mask changed.
///
/// # Shapes
/// `mask`: height * `width` bytes, row-major
pub fn remove_small(mask: &mut [u8], width: usize, area: u64, what: Small) -> bool {
    let parts: Vec<u8> = match what {
        Small::Holes => mask.iter().map(|v| u8::from(*v == 0)).collect(),
        Small::Islands => mask.to_vec(),
    };
    let (labels, sizes) = components(&parts, width);
    let mut small: Vec<bool> = sizes.iter().map(|s| *s < area).collect();
    if !small.contains(&true) {
        return false;
    }
    if what == Small::Islands && !small.contains(&false) {
        let largest = (0..sizes.len()).rev().max_by_key(|i| sizes[*i]);
        if let Some(i) = largest {
            small[i] = false;
        }
    }
    for (value, label) in mask.iter_mut().zip(labels) {
        if label > 0 && small[label as usize - 1] {
            *value = u8::from(what == Small::Holes);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(drawing: &str) -> (Vec<u8>, usize) {
        let width = drawing.lines().next().map_or(0, |l| l.trim().len());
        (drawing.lines().flat_map(|l| l.trim().bytes()).map(|b| u8::from(b == b'#')).collect(), width)
    }

    #[test]
    fn diagonals_connect_and_forks_are_one() {
        let (mask, width) = parse("#.#.#\n.#..#\n#...#\n..#..\n####.");
        let (labels, sizes) = components(&mask, width);
        assert_eq!(sizes, [4, 3, 5]);
        #[rustfmt::skip]
        assert_eq!(labels, [
            1, 0, 1, 0, 2,
            0, 1, 0, 0, 2,
            1, 0, 0, 0, 2,
            0, 0, 3, 0, 0,
            3, 3, 3, 3, 0]);
    }

    /// A comb's teeth meet in the last row only; a spiral turns inward.
    #[test]
    fn late_meetings_are_one_part() {
        let (comb, width) = parse("#.#.#.#\n#.#.#.#\n#######");
        assert_eq!(components(&comb, width).1, [15]);
        let (spiral, width) = parse("#######\n......#\n#####.#\n#...#.#\n#.###.#\n#.....#\n#######");
        assert_eq!(components(&spiral, width).1, [31]);
        // Rows do not wrap around.
        let (ends, width) = parse("...##\n.....\n#....");
        assert_eq!(components(&ends, width).1, [2, 1]);
        assert_eq!(components(&[], 0), (vec![], vec![]));
        assert_eq!(components(&[0; 6], 3).1, Vec::<u64>::new());
    }

    /// The slow way: spread each label until nothing changes.
    #[test]
    fn random_masks_equal_flooding() {
        let mut state = 1u32;
        for width in [1usize, 2, 7, 16] {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                u8::from(state >> 24 > 128)
            };
            let mask: Vec<u8> = (0..width * 11).map(|_| next()).collect();
            let mut flood: Vec<usize> = (0..mask.len()).map(|i| if mask[i] == 0 { usize::MAX } else { i }).collect();
            loop {
                let before = flood.clone();
                for at in (0..mask.len()).filter(|at| mask[*at] != 0) {
                    for other in (0..mask.len()).filter(|o| mask[*o] != 0) {
                        let near = (at / width).abs_diff(other / width) <= 1 && (at % width).abs_diff(other % width) <= 1;
                        if near {
                            flood[at] = flood[at].min(flood[other]);
                        }
                    }
                }
                if flood == before {
                    break;
                }
            }
            let mut firsts: Vec<usize> = flood.iter().copied().filter(|f| *f != usize::MAX).collect();
            firsts.sort_unstable();
            firsts.dedup();
            let want: Vec<u32> = flood.iter().map(|f| firsts.iter().position(|g| g == f).map_or(0, |p| p as u32 + 1)).collect();
            assert_eq!(components(&mask, width).0, want);
        }
    }

    #[test]
    fn holes_fill_and_islands_go() {
        let (mask, width) = parse("####..\n#.##..\n####..\n.....#\n......");
        let mut holes = mask.clone();
        assert!(remove_small(&mut holes, width, 2, Small::Holes));
        assert_eq!(holes, parse("####..\n####..\n####..\n.....#\n......").0);
        assert!(!remove_small(&mut holes, width, 2, Small::Holes));
        let mut islands = mask.clone();
        // The single pixel touches nothing: (3, 5) against (2, 3).
        assert!(remove_small(&mut islands, width, 2, Small::Islands));
        assert_eq!(islands, parse("####..\n#.##..\n####..\n......\n......").0);
        assert!(!remove_small(&mut islands, width, 2, Small::Islands));
    }

    #[test]
    fn the_largest_island_stays_when_all_are_small() {
        let (mut mask, width) = parse("#..##..##");
        assert!(remove_small(&mut mask, width, 100, Small::Islands));
        assert_eq!(mask, parse("...##....").0);
        let mut empty = vec![0; 6];
        assert!(!remove_small(&mut empty, 3, 100, Small::Islands));
        assert!(remove_small(&mut empty, 3, 100, Small::Holes));
        assert_eq!(empty, [1; 6]);
    }
}
