//! One task of attention: tiles of queries, one per vector lane, that meet the keys in passes.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{Job, Token};
use crate::vector::{Pair, dot, each, exp, lanes, pairs, pairs_mut};

/// Keys that a tile meets at a time: their keys and values stay in the second-level cache.
const KEYS_PER_PASS: usize = 256;
/// Below every logit, and finite, so that differences are.
pub(super) const LOWEST: f32 = -1e30;

/// Some queries of a group, in some heads. Its output is [queries, heads * width].
pub(super) struct Task<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) queries: &'a [Token],
    pub(super) keys: &'a [Token],
    pub(super) heads: Range<usize>,
}

impl WithSimd for Task<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Job { head_dim: width, ref sources, .. } = *self.job;
        let channels = self.heads.len() * width;
        let mut out = vec![0.0; self.queries.len() * channels];
        let mut logits = vec![0.0; KEYS_PER_PASS.min(self.keys.len()) * lanes::<S>()];
        let places = self.job.places(self.keys);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (place, head) in self.heads.enumerate() {
            keys.clear();
            values.clear();
            keys.extend(self.keys.iter().map(|token| sources[1].part(token, head, width)));
            values.extend(self.keys.iter().map(|token| sources[2].part(token, head, width)));
            let mut tiles: Vec<Tile> =
                self.queries.chunks(lanes::<S>()).map(|some| Tile::new::<S>(self.job, some, head)).collect();
            for from in (0..keys.len()).step_by(KEYS_PER_PASS) {
                let part = from..(from + KEYS_PER_PASS).min(keys.len());
                for tile in &mut tiles {
                    let logits = &mut logits[..part.len() * lanes::<S>()];
                    tile.attend(simd, &keys[part.clone()], &values[part.clone()], &places[part.clone()], logits);
                }
            }
            for (tile, rows) in tiles.iter().zip(out.chunks_mut(lanes::<S>() * channels)) {
                for (lane, row) in rows.chunks_exact_mut(channels).enumerate() {
                    let sum = 1.0 / tile.sum[lane];
                    for (d, o) in row[place * width..][..width].iter_mut().enumerate() {
                        *o = tile.out[d * lanes::<S>() + lane] * sum;
                    }
                }
            }
        }
        out
    }
}

/// Queries side by side, one per lane, and what they find at each place; every field holds whole pairs of vectors.
pub(super) struct Queries {
    /// [D, lanes], scaled.
    pub(super) values: Vec<f32>,
    /// Relative position of each row and of none, [height + 1, lanes].
    pub(super) by_row: Vec<f32>,
    /// Relative position of each column and of none, [width + 1, lanes].
    pub(super) by_column: Vec<f32>,
}

impl Queries {
    #[inline(always)]
    pub(super) fn new<S: Simd>(job: &Job<'_>, queries: &[Token], head: usize) -> Self {
        let (lanes, width) = (lanes::<S>(), job.head_dim);
        let (height, breadth) = job.relative.map_or((0, 0), |r| (r.rows.side, r.columns.side));
        let mut out = Self {
            values: vec![0.0; width * lanes],
            by_row: vec![0.0; (height + 1) * lanes],
            by_column: vec![0.0; (breadth + 1) * lanes],
        };
        let scale = job.scale();
        let mut offsets = vec![0.0; height.max(breadth)];
        for (lane, token) in queries.iter().enumerate() {
            let query = job.sources[0].part(token, head, width);
            for (d, q) in query.iter().enumerate() {
                out.values[d * lanes + lane] = q * scale;
            }
            let (Some(relative), Some((y, x))) = (job.relative, token.place) else { continue };
            for (table, at, to) in [(&relative.rows, y, &mut out.by_row), (&relative.columns, x, &mut out.by_column)] {
                let offsets = &mut offsets[..table.side];
                table.dot_offsets(query, at, offsets);
                for (place, v) in offsets.iter().enumerate() {
                    to[place * lanes + lane] = *v;
                }
            }
        }
        out
    }

    /// Logits of keys, [keys, lanes], and the largest of them and of `largest`.
    #[inline(always)]
    pub(super) fn logits<S: Simd, const R: usize>(
        &self,
        simd: S,
        keys: &[&[f32]],
        places: &[(usize, usize)],
        mut largest: Pair<S>,
        out: &mut [Pair<S>],
    ) -> Pair<S> {
        let query = pairs::<S>(&self.values);
        let (by_row, by_column) = (pairs::<S>(&self.by_row), pairs::<S>(&self.by_column));
        let (groups, rest) = keys.as_chunks::<R>();
        let whole = groups.len() * R;
        for ((keys, places), out) in groups.iter().zip(places.as_chunks::<R>().0).zip(out.as_chunks_mut::<R>().0) {
            *out = score(simd, query, keys, places, by_row, by_column);
            for logit in out.iter() {
                largest = [simd.max_f32s(largest[0], logit[0]), simd.max_f32s(largest[1], logit[1])];
            }
        }
        for ((key, place), logit) in rest.iter().zip(&places[whole..]).zip(&mut out[whole..]) {
            [*logit] = score(simd, query, &[*key], &[*place], by_row, by_column);
            largest = [simd.max_f32s(largest[0], logit[0]), simd.max_f32s(largest[1], logit[1])];
        }
        largest
    }
}

/// Queries and what they have gathered so far; every field holds whole pairs of vectors.
struct Tile {
    queries: Queries,
    /// Largest logit so far.
    largest: Vec<f32>,
    /// Sum of `e^(logit - largest)`.
    sum: Vec<f32>,
    /// Values weighed by the same, [D, lanes].
    out: Vec<f32>,
}

impl Tile {
    #[inline(always)]
    fn new<S: Simd>(job: &Job<'_>, queries: &[Token], head: usize) -> Self {
        let lanes = lanes::<S>();
        Self {
            queries: Queries::new::<S>(job, queries, head),
            largest: vec![LOWEST; lanes],
            sum: vec![0.0; lanes],
            out: vec![0.0; job.head_dim * lanes],
        }
    }

    /// Takes some more keys and their values into account.
    #[inline(always)]
    fn attend<S: Simd>(&mut self, simd: S, keys: &[&[f32]], values: &[&[f32]], places: &[(usize, usize)], logits: &mut [f32]) {
        // As many sums at once as there are registers for.
        if S::REGISTER_COUNT >= 32 {
            self.attend_by::<S, 8>(simd, keys, values, places, logits);
        } else {
            self.attend_by::<S, 4>(simd, keys, values, places, logits);
        }
    }

    #[inline(always)]
    fn attend_by<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        keys: &[&[f32]],
        values: &[&[f32]],
        places: &[(usize, usize)],
        logits: &mut [f32],
    ) {
        let logits = pairs_mut::<S>(logits);
        let before = pairs::<S>(&self.largest)[0];
        let largest = self.queries.logits::<S, R>(simd, keys, places, before, logits);
        let shrink = [0, 1].map(|i| exp(simd, simd.sub_f32s(before[i], largest[i])));
        let mut sum = [simd.splat_f32s(0.0); 2];
        for logit in logits.iter_mut() {
            *logit = [exp(simd, simd.sub_f32s(logit[0], largest[0])), exp(simd, simd.sub_f32s(logit[1], largest[1]))];
            sum = [simd.add_f32s(sum[0], logit[0]), simd.add_f32s(sum[1], logit[1])];
        }
        let total = &mut pairs_mut::<S>(&mut self.sum)[0];
        *total = [simd.mul_add_e_f32s(total[0], shrink[0], sum[0]), simd.mul_add_e_f32s(total[1], shrink[1], sum[1])];
        pairs_mut::<S>(&mut self.largest)[0] = largest;
        let (groups, rest) = pairs_mut::<S>(&mut self.out).as_chunks_mut::<R>();
        let whole = groups.len() * R;
        for (group, out) in groups.iter_mut().enumerate() {
            weigh(simd, logits, values, group * R, shrink, out);
        }
        for (at, out) in rest.iter_mut().enumerate() {
            weigh(simd, logits, values, whole + at, shrink, std::array::from_mut(out));
        }
    }
}

/// Logits of R keys.
#[inline(always)]
fn score<S: Simd, const R: usize>(
    simd: S,
    query: &[Pair<S>],
    keys: &[&[f32]; R],
    places: &[(usize, usize); R],
    by_row: &[Pair<S>],
    by_column: &[Pair<S>],
) -> [Pair<S>; R] {
    let mut sums = [[simd.splat_f32s(0.0); 2]; R];
    for (sum, place) in sums.iter_mut().zip(places) {
        let (row, column) = (by_row[place.0], by_column[place.1]);
        *sum = [simd.add_f32s(row[0], column[0]), simd.add_f32s(row[1], column[1])];
    }
    dot(simd, keys, query, sums)
}

/// Adds R columns of the values, beginning at `from`, to what was there, which shrinks first.
#[inline(always)]
fn weigh<S: Simd, const R: usize>(
    simd: S,
    weights: &[Pair<S>],
    values: &[&[f32]],
    from: usize,
    shrink: Pair<S>,
    out: &mut [Pair<S>; R],
) {
    let mut sums = *out;
    for sum in &mut sums {
        *sum = [simd.mul_f32s(sum[0], shrink[0]), simd.mul_f32s(sum[1], shrink[1])];
    }
    for (weight, value) in weights.iter().zip(values) {
        let value = &value[from..from + R];
        each!(r < R, {
            let v = simd.splat_f32s(value[r]);
            sums[r] = [simd.mul_add_e_f32s(weight[0], v, sums[r][0]), simd.mul_add_e_f32s(weight[1], v, sums[r][1])];
        });
    }
    *out = sums;
}
