//! Attention on the CPU, straight from the projections.
//!
//! No logit leaves the cache: a tile of queries, one a vector lane, meets the keys a few hundred at a time and keeps
//! running maxima and sums (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Decomposed
//! relative position goes into the logits as they are made, so neither a bias tensor nor widened vectors exist.

use std::ops::Range;

use burn::tensor::{Bool, Tensor, TensorData};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::vector::{Pair, dot, each, exp, lanes, pairs, pairs_mut};
use super::{open, values};

/// Keys that a tile meets at a time: their keys and values stay in the second-level cache.
const KEYS_A_PASS: usize = 256;
/// Queries of one task: a pass of keys serves all of them.
const QUERIES_A_TASK: usize = 128;
/// Queries of one task, at least: a tile of the widest vectors.
const LEAST_QUERIES: usize = 32;
/// Below every logit, and finite, so that differences are.
const LOWEST: f32 = -1e30;

/// A token of a [`Group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its row in the projection; a token without one is padding, whose projection is the bias.
    pub row: Option<usize>,
    /// Its row and column in the grid of relative positions, for a token that has a place.
    pub place: Option<(usize, usize)>,
}

/// Tokens that attend to each other.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// All of them; those with a row are queries too.
    pub tokens: Vec<Token>,
}

/// Decomposed relative position over a grid: `q . h[y - ky + height - 1] + q . w[x - kx + width - 1]` is added to a logit.
#[derive(Debug)]
pub struct Relative {
    rows: Table,
    columns: Table,
}

impl Relative {
    /// From tables of 2 height - 1 and 2 width - 1 rows.
    ///
    /// # Shapes
    /// `rows`: [2 height - 1, D]; `columns`: [2 width - 1, D]
    pub fn new(rows: Tensor<2>, columns: Tensor<2>) -> Self {
        Self { rows: Table::new(rows), columns: Table::new(columns) }
    }
}

/// A table turned around, so that the offsets from one place to all others lie side by side: [D, 2 n - 1].
#[derive(Debug)]
struct Table {
    side: usize,
    values: Vec<f32>,
}

impl Table {
    fn new(table: Tensor<2>) -> Self {
        let [length, width] = table.dims();
        let data = open(table);
        let rows = values(&data);
        let turned = (0..width * length).map(|at| rows[(length - 1 - at % length) * width + at / length]).collect();
        Self { side: length.div_ceil(2), values: turned }
    }

    /// `out[k] = q . T[i - k + n - 1]`.
    #[inline(always)]
    fn look(&self, query: &[f32], i: usize, out: &mut [f32]) {
        out.fill(0.0);
        let length = 2 * self.side - 1;
        for (q, row) in query.iter().zip(self.values.chunks_exact(length)) {
            for (o, t) in out.iter_mut().zip(&row[self.side - 1 - i..][..self.side]) {
                *o += q * t;
            }
        }
    }
}

/// Multi-head self-attention inside each group, heads merged; see [`super::applies`] for where it may be called.
///
/// # Shapes
/// - `qkv`: [rows, 3 C], ordered (q | k | v) x head x width; `padding`: \[3 C\]
/// - output: [rows, C]; rows of no group are zero
pub fn fused_attention(
    qkv: Tensor<2>,
    padding: Tensor<1>,
    heads: usize,
    groups: &[Group],
    relative: Option<&Relative>,
) -> Tensor<2> {
    fused_attention_by(Arch::new(), qkv, padding, heads, groups, relative)
}

fn fused_attention_by(
    arch: Arch,
    qkv: Tensor<2>,
    padding: Tensor<1>,
    heads: usize,
    groups: &[Group],
    relative: Option<&Relative>,
) -> Tensor<2> {
    let device = qkv.device();
    let [rows, triple] = qkv.dims();
    let channels = triple / 3;
    let (qkv, padding) = (open(qkv), open(padding));
    let source = |which| Source { values: values(&qkv), padding: values(&padding), stride: triple, from: which * channels };
    let job = Job { sources: [0, 1, 2].map(source), channels, width: channels / heads, relative };
    let queries: Vec<Vec<Token>> =
        groups.iter().map(|g| g.tokens.iter().filter(|t| t.row.is_some()).copied().collect()).collect();
    let groups: Vec<(&[Token], &[Token])> = queries.iter().zip(groups).map(|(q, g)| (&q[..], &g.tokens[..])).collect();
    Tensor::from_data(TensorData::new(job.run(arch, rows, &groups), [rows, channels]), &device)
}

/// Multi-head attention of some tokens to others, heads side by side in the last axis; see [`super::applies`] for where
/// it may be called.
///
/// # Shapes
/// `q`: [B, Sq, C]; `k`, `v`: [B, Sk, C]; `mask`: [B or 1, 1, 1, Sk], `true` for keys that take no part; output: [B, Sq, C]
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
    attention_by(Arch::new(), q, k, v, heads, mask)
}

fn attention_by(arch: Arch, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
    let device = q.device();
    let [batch, queries, channels] = q.dims();
    let keys = k.dims()[1];
    let data = [q, k, v].map(open);
    let sources = data.each_ref().map(|d| Source { values: values(d), padding: &[], stride: channels, from: 0 });
    let job = Job { sources, channels, width: channels / heads, relative: None };
    let tokens = |count: usize| -> Vec<Token> { (0..batch * count).map(|row| Token { row: Some(row), place: None }).collect() };
    let (from, to) = (tokens(queries), tokens(keys));
    let hidden = mask.map(|mask| mask.expand([batch, 1, 1, keys]).into_data().iter::<bool>().collect::<Vec<_>>());
    let seen = |image: usize| -> Vec<Token> {
        let all = image * keys..(image + 1) * keys;
        all.filter(|&key| hidden.as_ref().is_none_or(|hidden| !hidden[key])).map(|key| to[key]).collect()
    };
    let seen: Vec<Vec<Token>> = (0..batch).map(seen).collect();
    let groups: Vec<_> = from.chunks(queries.max(1)).zip(seen.iter().map(Vec::as_slice)).collect();
    Tensor::from_data(TensorData::new(job.run(arch, batch * queries, &groups), [batch, queries, channels]), &device)
}

/// Projected tokens, a row each.
struct Source<'a> {
    values: &'a [f32],
    /// What stands for a token without a row.
    padding: &'a [f32],
    /// From one row to the next.
    stride: usize,
    /// Where in a row the channels begin.
    from: usize,
}

impl<'a> Source<'a> {
    /// A head's part of a token.
    #[inline(always)]
    fn part(&self, token: &Token, head: usize, width: usize) -> &'a [f32] {
        let (values, row) = token.row.map_or((self.padding, 0), |row| (self.values, row));
        &values[row * self.stride + self.from + head * width..][..width]
    }
}

/// What all tasks share.
struct Job<'a> {
    /// Queries, keys, values.
    sources: [Source<'a>; 3],
    channels: usize,
    /// Of a head.
    width: usize,
    relative: Option<&'a Relative>,
}

impl Job<'_> {
    /// Rows [rows, C] of the queries of each (queries, keys); other rows are zero.
    fn run(&self, arch: Arch, rows: usize, groups: &[(&[Token], &[Token])]) -> Vec<f32> {
        let heads = self.channels / self.width.max(1);
        let threads = rayon::current_num_threads();
        // A task is worth it from a tile's queries on.
        let all: usize = groups.iter().map(|(queries, _)| queries.len()).sum::<usize>() * heads;
        let most = (all / threads.max(1)).next_multiple_of(LEAST_QUERIES).clamp(LEAST_QUERIES, QUERIES_A_TASK);
        let parts = groups.iter().flat_map(|&(queries, keys)| queries.chunks(most).map(move |some| (some, keys)));
        let parts: Vec<(&[Token], &[Token])> = parts.collect();
        // Few queries are shared out by their heads.
        let share = if parts.len() < 2 * threads { 1 } else { heads.max(1) };
        let tasks: Vec<(&[Token], &[Token], Range<usize>)> = parts
            .iter()
            .flat_map(|&(queries, keys)| {
                (0..heads).step_by(share).map(move |from| (queries, keys, from..(from + share).min(heads)))
            })
            .collect();
        let done: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|(queries, keys, heads)| arch.dispatch(Task { job: self, queries, keys, heads: heads.clone() }))
            .collect();
        let mut out = vec![0.0f32; rows * self.channels];
        for ((queries, _, heads), block) in tasks.iter().zip(done) {
            let columns = heads.start * self.width..heads.end * self.width;
            for (token, from) in queries.iter().zip(block.chunks_exact(columns.len().max(1))) {
                if let Some(row) = token.row {
                    out[row * self.channels..][columns.clone()].copy_from_slice(from);
                }
            }
        }
        out
    }
}

/// Some queries of a group, in some heads. Its output is [queries, heads * width].
struct Task<'a> {
    job: &'a Job<'a>,
    queries: &'a [Token],
    keys: &'a [Token],
    heads: Range<usize>,
}

impl WithSimd for Task<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Job { width, relative, ref sources, .. } = *self.job;
        let channels = self.heads.len() * width;
        let (height, breadth) = relative.map_or((0, 0), |r| (r.rows.side, r.columns.side));
        let mut out = vec![0.0; self.queries.len() * channels];
        let mut logits = vec![0.0; KEYS_A_PASS.min(self.keys.len()) * lanes::<S>()];
        // A key without a place takes the zeros behind the last row and column.
        let places: Vec<(usize, usize)> = self.keys.iter().map(|t| t.place.unwrap_or((height, breadth))).collect();
        let (mut keys, mut weighed) = (Vec::new(), Vec::new());
        for (place, head) in self.heads.enumerate() {
            keys.clear();
            weighed.clear();
            keys.extend(self.keys.iter().map(|token| sources[1].part(token, head, width)));
            weighed.extend(self.keys.iter().map(|token| sources[2].part(token, head, width)));
            let mut tiles: Vec<Tile> =
                self.queries.chunks(lanes::<S>()).map(|some| Tile::new::<S>(self.job, some, head)).collect();
            for from in (0..keys.len()).step_by(KEYS_A_PASS) {
                let part = from..(from + KEYS_A_PASS).min(keys.len());
                for tile in &mut tiles {
                    let logits = &mut logits[..part.len() * lanes::<S>()];
                    tile.meet(simd, &keys[part.clone()], &weighed[part.clone()], &places[part.clone()], logits);
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

/// Queries side by side, one a lane; every field holds whole pairs of vectors.
struct Tile {
    /// [D, lanes], scaled.
    query: Vec<f32>,
    /// Relative position of each row and of none, [height + 1, lanes].
    by_row: Vec<f32>,
    /// Relative position of each column and of none, [width + 1, lanes].
    by_column: Vec<f32>,
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
        let (lanes, width) = (lanes::<S>(), job.width);
        let (height, breadth) = job.relative.map_or((0, 0), |r| (r.rows.side, r.columns.side));
        let mut tile = Self {
            query: vec![0.0; width * lanes],
            by_row: vec![0.0; (height + 1) * lanes],
            by_column: vec![0.0; (breadth + 1) * lanes],
            largest: vec![LOWEST; lanes],
            sum: vec![0.0; lanes],
            out: vec![0.0; width * lanes],
        };
        let scale = 1.0 / (width as f32).sqrt();
        let mut seen = vec![0.0; height.max(breadth)];
        for (lane, token) in queries.iter().enumerate() {
            let query = job.sources[0].part(token, head, width);
            for (d, q) in query.iter().enumerate() {
                tile.query[d * lanes + lane] = q * scale;
            }
            let (Some(relative), Some((y, x))) = (job.relative, token.place) else { continue };
            for (table, at, to) in [(&relative.rows, y, &mut tile.by_row), (&relative.columns, x, &mut tile.by_column)] {
                let seen = &mut seen[..table.side];
                table.look(query, at, seen);
                for (place, v) in seen.iter().enumerate() {
                    to[place * lanes + lane] = *v;
                }
            }
        }
        tile
    }

    /// Takes some more keys and their values into account.
    #[inline(always)]
    fn meet<S: Simd>(&mut self, simd: S, keys: &[&[f32]], weighed: &[&[f32]], places: &[(usize, usize)], logits: &mut [f32]) {
        // As many sums at once as there are registers for.
        if S::REGISTER_COUNT >= 32 {
            self.meet_by::<S, 8>(simd, keys, weighed, places, logits);
        } else {
            self.meet_by::<S, 4>(simd, keys, weighed, places, logits);
        }
    }

    #[inline(always)]
    fn meet_by<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        keys: &[&[f32]],
        weighed: &[&[f32]],
        places: &[(usize, usize)],
        logits: &mut [f32],
    ) {
        let query = pairs::<S>(&self.query);
        let (by_row, by_column) = (pairs::<S>(&self.by_row), pairs::<S>(&self.by_column));
        let logits = pairs_mut::<S>(logits);
        let before = pairs::<S>(&self.largest)[0];
        let mut largest = before;
        let (groups, rest) = keys.as_chunks::<R>();
        let whole = groups.len() * R;
        for ((keys, places), logits) in groups.iter().zip(places.as_chunks::<R>().0).zip(logits.as_chunks_mut::<R>().0) {
            *logits = score(simd, query, keys, places, by_row, by_column);
            for logit in logits.iter() {
                largest = [simd.max_f32s(largest[0], logit[0]), simd.max_f32s(largest[1], logit[1])];
            }
        }
        for ((key, place), logit) in rest.iter().zip(&places[whole..]).zip(&mut logits[whole..]) {
            [*logit] = score(simd, query, &[*key], &[*place], by_row, by_column);
            largest = [simd.max_f32s(largest[0], logit[0]), simd.max_f32s(largest[1], logit[1])];
        }
        let shrink = [0, 1].map(|i| exp(simd, simd.sub_f32s(before[i], largest[i])));
        let mut sum = [simd.splat_f32s(0.0); 2];
        for logit in logits.iter_mut() {
            *logit = [exp(simd, simd.sub_f32s(logit[0], largest[0])), exp(simd, simd.sub_f32s(logit[1], largest[1]))];
            sum = [simd.add_f32s(sum[0], logit[0]), simd.add_f32s(sum[1], logit[1])];
        }
        let total = &mut pairs_mut::<S>(&mut self.sum)[0];
        *total = [simd.mul_add_f32s(total[0], shrink[0], sum[0]), simd.mul_add_f32s(total[1], shrink[1], sum[1])];
        pairs_mut::<S>(&mut self.largest)[0] = largest;
        let (groups, rest) = pairs_mut::<S>(&mut self.out).as_chunks_mut::<R>();
        let whole = groups.len() * R;
        for (group, out) in groups.iter_mut().enumerate() {
            weigh(simd, logits, weighed, group * R, shrink, out);
        }
        for (at, out) in rest.iter_mut().enumerate() {
            weigh(simd, logits, weighed, whole + at, shrink, std::array::from_mut(out));
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
            sums[r] = [simd.mul_add_f32s(weight[0], v, sums[r][0]), simd.mul_add_f32s(weight[1], v, sums[r][1])];
        });
    }
    *out = sums;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{attention, merge_heads};
    use crate::testing::{arches, assert_close, formula};
    use burn::tensor::Device;

    fn everyone(rows: Range<usize>) -> Group {
        Group { tokens: rows.map(|row| Token { row: Some(row), place: None }).collect() }
    }

    fn parts(qkv: Tensor<2>, heads: usize) -> [Tensor<4>; 3] {
        let [rows, triple] = qkv.dims();
        let all = qkv.reshape([rows, 3, heads, triple / 3 / heads]).permute([1, 2, 0, 3]);
        [0, 1, 2].map(|i| all.clone().narrow(0, i, 1))
    }

    /// Lengths around a pass and a task, widths that no register count divides.
    #[test]
    fn equals_plain_attention() {
        let device = Device::flex();
        for (rows, heads, width) in [(5, 2, 3), (130, 1, 20), (600, 3, 16)] {
            let qkv = formula::<2>("qkv", [rows, 3 * heads * width], &device) * 3.0;
            let [q, k, v] = parts(qkv.clone(), heads);
            let want = merge_heads(attention(q, k, v, None, None)).squeeze_dim::<2>(0);
            let padding = Tensor::zeros([3 * heads * width], &device);
            for arch in arches() {
                let got = fused_attention_by(arch, qkv.clone(), padding.clone(), heads, &[everyone(0..rows)], None);
                assert_close(got, want.clone(), 1e-5);
            }
        }
    }

    /// Few queries and many, several images, fewer keys than a vector has lanes.
    #[test]
    fn tokens_attend_to_others() {
        let device = Device::flex();
        for (batch, queries, keys, heads, width) in [(1, 7, 300, 8, 4), (3, 260, 7, 2, 5), (2, 1, 1, 1, 3)] {
            let c = heads * width;
            let [q, k, v] =
                [("q", queries), ("k", keys), ("v", keys)].map(|(n, s)| formula::<3>(n, [batch, s, c], &device) * 2.0);
            let split = |x: Tensor<3>| crate::attention::split_heads(x, heads);
            let want = merge_heads(attention(split(q.clone()), split(k.clone()), split(v.clone()), None, None));
            for arch in arches() {
                assert_close(attention_by(arch, q.clone(), k.clone(), v.clone(), heads, None), want.clone(), 1e-5);
            }
        }
    }

    /// Keys hidden for each image on its own, and for all images alike.
    #[test]
    fn hidden_keys_take_no_part() {
        let device = Device::flex();
        let [q, k, v] = [("q", 4), ("k", 9), ("v", 9)].map(|(n, s)| formula::<3>(n, [2, s, 6], &device) * 2.0);
        for rows in [1, 2] {
            let hidden: Vec<bool> = (0..rows * 9).map(|i| i % 4 == 1 || i > 15).collect();
            let mask = Tensor::<4, Bool>::from_data(TensorData::new(hidden, [rows, 1, 1, 9]), &device);
            let split = |x: &Tensor<3>| crate::attention::split_heads(x.clone(), 2);
            let want = merge_heads(attention(split(&q), split(&k), split(&v), Some(mask.clone()), None));
            let got = crate::attention::multi_head_attention([q.clone(), k.clone(), v.clone()], 2, Some(mask));
            assert_close(got, want, 1e-5);
        }
    }

    /// Two groups, one with padding in it, and relative position for some tokens only.
    #[test]
    fn equals_the_definition_with_groups_and_places() {
        let device = Device::flex();
        let (heads, width) = (2, 5);
        let (height, breadth) = (2, 3);
        let qkv = formula::<2>("qkv", [9, 30], &device);
        let padding = formula::<1>("padding", [30], &device);
        let tables = [("h", 2 * height - 1), ("w", 2 * breadth - 1)].map(|(n, l)| formula::<2>(n, [l, width], &device));
        let token = |row: Option<usize>, at: Option<usize>| Token { row, place: at.map(|i| (i / breadth, i % breadth)) };
        let first = [(Some(7), None), (Some(0), Some(0)), (None, Some(4)), (Some(3), Some(5))];
        let groups = [
            Group { tokens: first.map(|(row, at)| token(row, at)).to_vec() },
            Group { tokens: (4..7).map(|r| token(Some(r), Some(r - 3))).collect() },
        ];
        let relative = Relative::new(tables[0].clone(), tables[1].clone());
        let got = values(&fused_attention(qkv.clone(), padding.clone(), heads, &groups, Some(&relative)).into_data()).to_vec();
        let read = |t: TensorData| values(&t).to_vec();
        let (qkv, padding) = (read(qkv.into_data()), read(padding.into_data()));
        let [h, w] = tables.map(|t| read(t.into_data()));
        let mut want = vec![0.0f32; 90];
        for group in &groups {
            for head in 0..heads {
                let part = |t: &Token, which: usize, d: usize| {
                    let at = which * 10 + head * width + d;
                    f64::from(t.row.map_or(padding[at], |row| qkv[row * 30 + at]))
                };
                for query in group.tokens.iter().filter(|t| t.row.is_some()) {
                    let logit = |key: &Token| {
                        let dot = |f: &dyn Fn(usize) -> f64| (0..width).map(|d| part(query, 0, d) * f(d)).sum::<f64>();
                        let mut sum = dot(&|d| part(key, 1, d)) / (width as f64).sqrt();
                        if let (Some((y, x)), Some((ky, kx))) = (query.place, key.place) {
                            sum += dot(&|d| f64::from(h[(y + height - 1 - ky) * width + d]));
                            sum += dot(&|d| f64::from(w[(x + breadth - 1 - kx) * width + d]));
                        }
                        sum
                    };
                    let weights: Vec<f64> = group.tokens.iter().map(|k| logit(k).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for d in 0..width {
                        let value: f64 = group.tokens.iter().zip(&weights).map(|(k, a)| a * part(k, 2, d)).sum();
                        want[query.row.unwrap() * 10 + head * width + d] = (value / total) as f32;
                    }
                }
            }
        }
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            assert!((g - w).abs() < 1e-6, "value {i}: {g} against {w}");
        }
    }
}
