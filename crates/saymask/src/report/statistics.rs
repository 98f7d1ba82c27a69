//! Figures with bootstrap intervals: images are drawn with replacement, for the sentences of an image are not independent.

use std::collections::BTreeMap;

use super::items::Row;

/// Times that the images are drawn.
const DRAWS: usize = 1000;

/// A figure with the interval that 95 of 100 draws lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// In per cent: `61.2 (58.0 to 64.1)`.
    pub(super) fn text(self) -> String {
        format!("{:.1} ({:.1} to {:.1})", 100.0 * self.value, 100.0 * self.low, 100.0 * self.high)
    }
}

/// Sums over the expressions of an image.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: f64,
    iou: f64,
    intersection: f64,
    union: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.iou += other.iou;
        self.intersection += other.intersection;
        self.union += other.union;
    }

    fn miou(&self) -> f64 {
        if self.count > 0.0 { self.iou / self.count } else { 0.0 }
    }

    fn oiou(&self) -> f64 {
        if self.union > 0.0 { self.intersection / self.union } else { 0.0 }
    }
}

fn by_image<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Sums> {
    let mut images: BTreeMap<usize, Sums> = BTreeMap::new();
    for row in rows {
        let one = Sums { count: 1.0, iou: row.iou, intersection: row.intersection as f64, union: row.union as f64 };
        images.entry(row.image).or_default().add(&one);
    }
    images.into_values().collect()
}

/// Mean and overall IoU of some expressions.
pub(super) fn figures<'a>(rows: impl Iterator<Item = &'a Row>) -> [Interval; 2] {
    let images = by_image(rows);
    let mut whole = Sums::default();
    images.iter().for_each(|image| whole.add(image));
    let mut draws = [Vec::with_capacity(DRAWS), Vec::with_capacity(DRAWS)];
    let mut random = Random(images.len() as u64);
    for _ in 0..DRAWS {
        let mut drawn = Sums::default();
        images.iter().for_each(|_| drawn.add(&images[random.below(images.len())]));
        draws[0].push(drawn.miou());
        draws[1].push(drawn.oiou());
    }
    let [miou, oiou] = draws.map(interval);
    [Interval { value: whole.miou(), ..miou }, Interval { value: whole.oiou(), ..oiou }]
}

/// The gain in mean IoU from one set of answers to another, over the expressions that both have.
pub(super) fn gain(before: &[Row], after: &[Row]) -> Option<Interval> {
    let old: BTreeMap<(i64, i64), f64> = before.iter().map(|row| (row.key, row.iou)).collect();
    let mut images: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for row in after {
        let Some(before) = old.get(&row.key) else { continue };
        let entry = images.entry(row.image).or_default();
        *entry = (entry.0 + row.iou - before, entry.1 + 1.0);
    }
    let images: Vec<(f64, f64)> = images.into_values().collect();
    if images.is_empty() {
        return None;
    }
    let mean = |all: &mut dyn Iterator<Item = (f64, f64)>| {
        let (sum, count) = all.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let mut random = Random(images.len() as u64);
    let draws = (0..DRAWS).map(|_| mean(&mut (0..images.len()).map(|_| images[random.below(images.len())]))).collect();
    Some(Interval { value: mean(&mut images.iter().copied()), ..interval(draws) })
}

fn interval(mut draws: Vec<f64>) -> Interval {
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| draws.get((share * draws.len() as f64) as usize).or(draws.last()).copied().unwrap_or(0.0);
    Interval { value: at(0.5), low: at(0.025), high: at(0.975) }
}

/// SplitMix64 with a fixed beginning: a report of the same results is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((u128::from(z ^ (z >> 31))) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coco_mask::Rle;

    fn row(image: usize, key: i64, intersection: u64) -> Row {
        let mask = Rle::empty(10, 10).unwrap();
        Row {
            key: (key, 0),
            sentence: String::new(),
            truth: mask.clone(),
            mask,
            image,
            iou: intersection as f64 / 100.0,
            score: 0.0,
            intersection,
            union: 100,
            groups: BTreeMap::new(),
        }
    }

    /// The interval of a mean of n equal halves of 0 and 1 is 1.96 times its standard error on both sides.
    #[test]
    fn intervals_are_those_of_the_mean() {
        let rows: Vec<Row> = (0..400).map(|i| row(i as usize, i, if i % 2 == 0 { 0 } else { 100 })).collect();
        let [miou, oiou] = figures(rows.iter());
        assert_eq!((miou.value, oiou.value), (0.5, 0.5));
        let half = 1.96 * 0.5 / 20.0;
        assert!((miou.high - miou.value - half).abs() < 0.01 && (miou.value - miou.low - half).abs() < 0.01, "{miou:?}");
        // Sentences of one image stand or fall together: a wider interval.
        let rows: Vec<Row> = (0..400).map(|i| row(i as usize / 100, i, if i / 100 % 2 == 0 { 0 } else { 100 })).collect();
        let [wide, _] = figures(rows.iter());
        assert!(wide.high - wide.low > 2.0 * (miou.high - miou.low), "{wide:?}");
        assert_eq!(figures(rows.iter()), figures(rows.iter()));
    }

    #[test]
    fn a_gain_is_paired() {
        let before: Vec<Row> = (0..50).map(|i| row(i as usize, i, i as u64)).collect();
        let after: Vec<Row> = (10..60).map(|i| row(i as usize, i, i as u64 + 20)).collect();
        let gain = gain(&before, &after).unwrap();
        assert!([gain.value, gain.low, gain.high].iter().all(|v| (v - 0.2).abs() < 1e-12), "{gain:?}");
        assert!(super::gain(&[], &after).is_none());
    }
}
