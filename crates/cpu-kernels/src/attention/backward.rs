//! Gradients of attention, without the logits of the forward pass.
//!
//! A tile of queries, one per vector lane, meets all keys of its group: logits are made again, and with the probabilities P, the
//! gradient G of the output and δ = Σ P (G Vᵀ) the logits' gradient is `P (G Vᵀ - δ)` (Dao et al., "FlashAttention", 2022,
//! appendix B.4). What exists at once is [keys, lanes] per thread, never tokens x tokens.

use pulp::{Simd, WithSimd};

use super::tile::{LOWEST, Queries};
use super::{Job, RelativePosition, Source, Token};
use crate::vector::{Pair, dot, each, exp, lanes, pairs, pairs_mut};

/// Probabilities below are taken as 0.
const LEAST: f32 = 1e-20;

/// One head of one group.
pub(super) struct Task<'a> {
    pub(super) job: &'a Job<'a>,
    /// Gradient of the output, [rows, C].
    pub(super) gradient: &'a Source<'a>,
    pub(super) queries: &'a [Token],
    pub(super) keys: &'a [Token],
    pub(super) head: usize,
}

/// Gradients of what a [`Task`] read.
pub(super) struct Parts {
    /// [queries, D]
    pub(super) query: Vec<f32>,
    /// [keys, D]
    pub(super) key: Vec<f32>,
    /// [keys, D]
    pub(super) value: Vec<f32>,
    /// Of both tables, [2 side - 1, D].
    pub(super) tables: [Vec<f32>; 2],
}

impl WithSimd for Task<'_> {
    type Output = Parts;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Parts {
        // As many sums at once as there are registers for.
        match lanes::<S>() {
            8.. if S::REGISTER_COUNT >= 32 => self.run::<S, 8>(simd),
            4.. => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) -> Parts {
        let Job { head_dim: width, relative, ref sources, .. } = *self.job;
        let (lanes, panels) = (lanes::<S>(), width.div_ceil(lanes::<S>()));
        let places = self.job.places(self.keys);
        let rows = |which: usize| -> Vec<&[f32]> { self.keys.iter().map(|t| sources[which].part(t, self.head, width)).collect() };
        let (keys, values) = (rows(1), rows(2));
        let key_panels = pack(&keys, panels, lanes);
        let mut weights = vec![0.0f32; keys.len() * lanes];
        let mut slopes = vec![0.0f32; keys.len() * lanes];
        // Sums over all tiles, by panels of columns: [panels, keys, lanes].
        let (mut of_key, mut of_value) = (vec![0.0f32; key_panels.len()], vec![0.0f32; key_panels.len()]);
        let mut parts = Parts {
            query: vec![0.0; self.queries.len() * width],
            key: Vec::new(),
            value: Vec::new(),
            tables: relative
                .map_or([const { Vec::new() }; 2], |r| [&r.rows, &r.columns].map(|table| vec![0.0; table.rows.len()])),
        };
        for (queries, out) in self.queries.chunks(lanes).zip(parts.query.chunks_mut(lanes * width)) {
            let tile = Tile::new::<S>(&self, queries, panels);
            tile.probabilities::<S, R>(simd, &keys, &places, pairs_mut::<S>(&mut weights));
            tile.slopes::<S, R>(simd, &values, pairs::<S>(&weights), pairs_mut::<S>(&mut slopes));
            add_outer::<S, R>(simd, &weights, &tile.gradient_rows, &mut of_value);
            add_outer::<S, R>(simd, &slopes, &tile.query_rows, &mut of_key);
            tile.query_gradient::<S, R>(simd, &slopes, &key_panels, width, out);
            if let Some(relative) = relative {
                let sums = tile.sums_by_place::<S>(simd, &slopes, &places);
                add_relative(&self, relative, lanes, queries, &sums, out, &mut parts.tables);
            }
        }
        (parts.key, parts.value) = (unpack(&of_key, keys.len(), width, lanes), unpack(&of_value, keys.len(), width, lanes));
        parts
    }
}

/// Rows [rows, D] as panels [panels, rows, lanes], padded with zeros.
#[inline(always)]
fn pack(rows: &[&[f32]], panels: usize, lanes: usize) -> Vec<f32> {
    let mut out = vec![0.0f32; panels * rows.len() * lanes];
    for (panel, to) in out.chunks_exact_mut((rows.len() * lanes).max(1)).enumerate() {
        for (to, row) in to.chunks_exact_mut(lanes).zip(rows) {
            let columns = &row[panel * lanes..row.len().min((panel + 1) * lanes)];
            to[..columns.len()].copy_from_slice(columns);
        }
    }
    out
}

/// Undoes [`pack`].
#[inline(always)]
fn unpack(panels: &[f32], rows: usize, width: usize, lanes: usize) -> Vec<f32> {
    let mut out = vec![0.0f32; rows * width];
    for (panel, from) in panels.chunks_exact((rows * lanes).max(1)).enumerate() {
        let columns = panel * lanes..width.min((panel + 1) * lanes);
        for (to, from) in out.chunks_exact_mut(width).zip(from.chunks_exact(lanes)) {
            to[columns.clone()].copy_from_slice(&from[..columns.len()]);
        }
    }
    out
}

/// Queries side by side, one per lane, and their part of the output's gradient.
struct Tile {
    scale: f32,
    queries: Queries,
    /// Queries, scaled, [panels, lanes (of queries), lanes (of columns)].
    query_rows: Vec<f32>,
    /// [D, lanes]
    gradient: Vec<f32>,
    /// [panels, lanes (of queries), lanes (of columns)]
    gradient_rows: Vec<f32>,
}

impl Tile {
    #[inline(always)]
    fn new<S: Simd>(task: &Task<'_>, queries: &[Token], panels: usize) -> Self {
        let (lanes, width) = (lanes::<S>(), task.job.head_dim);
        let mut tile = Self {
            scale: task.job.scale(),
            queries: Queries::new::<S>(task.job, queries, task.head),
            query_rows: vec![0.0; panels * lanes * lanes],
            gradient: vec![0.0; width * lanes],
            gradient_rows: vec![0.0; panels * lanes * lanes],
        };
        for (lane, token) in queries.iter().enumerate() {
            let query = task.job.sources[0].part(token, task.head, width);
            let gradient = task.gradient.part(token, task.head, width);
            for (d, (q, g)) in query.iter().zip(gradient).enumerate() {
                let row = d / lanes * lanes * lanes + lane * lanes + d % lanes;
                tile.query_rows[row] = q * tile.scale;
                (tile.gradient[d * lanes + lane], tile.gradient_rows[row]) = (*g, *g);
            }
        }
        tile
    }

    /// Probabilities of all keys, [keys, lanes].
    #[inline(always)]
    fn probabilities<S: Simd, const R: usize>(&self, simd: S, keys: &[&[f32]], places: &[(usize, usize)], out: &mut [Pair<S>]) {
        let lowest = [simd.splat_f32s(LOWEST); 2];
        let largest = self.queries.logits::<S, R>(simd, keys, places, lowest, out);
        let mut sum = [simd.splat_f32s(0.0); 2];
        for logit in out.iter_mut() {
            *logit = [exp(simd, simd.sub_f32s(logit[0], largest[0])), exp(simd, simd.sub_f32s(logit[1], largest[1]))];
            sum = add_pair(simd, sum, *logit);
        }
        let (one, zero) = (simd.splat_f32s(1.0), [simd.splat_f32s(0.0); 2]);
        let shrink = [simd.div_f32s(one, sum[0]), simd.div_f32s(one, sum[1])];
        for weight in out.iter_mut() {
            // Denormals would take the processor many times as long, and are nothing beside a sum of 1.
            let least = simd.splat_f32s(-LEAST);
            *weight = [
                simd.max_f32s(simd.mul_add_e_f32s(weight[0], shrink[0], least), zero[0]),
                simd.max_f32s(simd.mul_add_e_f32s(weight[1], shrink[1], least), zero[1]),
            ];
        }
    }

    /// The logits' gradient, `P (G Vᵀ - δ)`, [keys, lanes].
    #[inline(always)]
    fn slopes<S: Simd, const R: usize>(&self, simd: S, values: &[&[f32]], weights: &[Pair<S>], out: &mut [Pair<S>]) {
        let gradient = pairs::<S>(&self.gradient);
        let (groups, rest) = values.as_chunks::<R>();
        let whole = groups.len() * R;
        let zero = [simd.splat_f32s(0.0); 2];
        for (values, out) in groups.iter().zip(out.as_chunks_mut::<R>().0) {
            *out = dot(simd, values, gradient, [zero; R]);
        }
        for (value, out) in rest.iter().zip(&mut out[whole..]) {
            [*out] = dot(simd, &[*value], gradient, [zero]);
        }
        let mut delta = zero;
        for (weight, slope) in weights.iter().zip(out.iter()) {
            delta = [simd.mul_add_e_f32s(weight[0], slope[0], delta[0]), simd.mul_add_e_f32s(weight[1], slope[1], delta[1])];
        }
        for (weight, slope) in weights.iter().zip(out.iter_mut()) {
            *slope = [
                simd.mul_f32s(weight[0], simd.sub_f32s(slope[0], delta[0])),
                simd.mul_f32s(weight[1], simd.sub_f32s(slope[1], delta[1])),
            ];
        }
    }

    /// The queries' gradient, `scale slopesᵀ K`.
    #[inline(always)]
    fn query_gradient<S: Simd, const R: usize>(
        &self,
        simd: S,
        slopes: &[f32],
        key_panels: &[f32],
        width: usize,
        out: &mut [f32],
    ) {
        let lanes = lanes::<S>();
        let scale = simd.splat_f32s(self.scale);
        for (panel, values) in key_panels.chunks_exact(slopes.len().max(1)).enumerate() {
            let values = pairs::<S>(values);
            let columns = panel * lanes..width.min((panel + 1) * lanes);
            for from in (0..out.len() / width).step_by(R) {
                let mut sums = [[simd.splat_f32s(0.0); 2]; R];
                for (value, slope) in values.iter().zip(slopes.chunks_exact(lanes)) {
                    let slope = &slope[from..from + R];
                    each!(r < R, {
                        let factor = simd.splat_f32s(slope[r]);
                        sums[r] = [
                            simd.mul_add_e_f32s(value[0], factor, sums[r][0]),
                            simd.mul_add_e_f32s(value[1], factor, sums[r][1]),
                        ];
                    });
                }
                for (sum, row) in sums.iter().zip(out[from * width..].chunks_exact_mut(width)) {
                    let to = &mut row[columns.clone()];
                    let (low, high) = to.split_at_mut(to.len().min(S::F32_LANES));
                    simd.partial_store_f32s(low, simd.mul_f32s(sum[0], scale));
                    simd.partial_store_f32s(high, simd.mul_f32s(sum[1], scale));
                }
            }
        }
    }

    /// The logits' gradient, added up over the keys of each row and of each column of the grid: [height + 1, lanes] and
    /// [width + 1, lanes].
    #[inline(always)]
    fn sums_by_place<S: Simd>(&self, simd: S, slopes: &[f32], places: &[(usize, usize)]) -> [Vec<f32>; 2] {
        let mut sums = [vec![0.0f32; self.queries.by_row.len()], vec![0.0f32; self.queries.by_column.len()]];
        let [rows, columns] = sums.each_mut().map(|sums| pairs_mut::<S>(sums));
        for (slope, place) in pairs::<S>(slopes).iter().zip(places) {
            for sum in [&mut rows[place.0], &mut columns[place.1]] {
                *sum = add_pair(simd, *sum, *slope);
            }
        }
        sums
    }
}

#[inline(always)]
fn add_pair<S: Simd>(simd: S, a: Pair<S>, b: Pair<S>) -> Pair<S> {
    [simd.add_f32s(a[0], b[0]), simd.add_f32s(a[1], b[1])]
}

/// Adds `left · rows` to sums over tiles: `left` is [keys, lanes], `rows` [panels, lanes, lanes], `sums` [panels, keys, lanes].
#[inline(always)]
fn add_outer<S: Simd, const R: usize>(simd: S, left: &[f32], rows: &[f32], sums: &mut [f32]) {
    let lanes = lanes::<S>();
    for (rows, sums) in rows.chunks_exact(lanes * lanes).zip(sums.chunks_exact_mut(left.len().max(1))) {
        let rows = pairs::<S>(rows);
        let (groups, rest) = pairs_mut::<S>(sums).as_chunks_mut::<R>();
        let whole = groups.len() * R;
        for (group, sums) in groups.iter_mut().enumerate() {
            let mut cut = [&left[..0]; R];
            each!(r < R, { cut[r] = &left[(group * R + r) * lanes..][..lanes] });
            *sums = dot(simd, &cut, rows, *sums);
        }
        for (at, sum) in rest.iter_mut().enumerate() {
            [*sum] = dot(simd, &[&left[(whole + at) * lanes..][..lanes]], rows, [*sum]);
        }
    }
}

/// What the relative position adds to the gradients of queries, `out`, and of the tables.
#[inline(always)]
fn add_relative(
    task: &Task<'_>,
    relative: &RelativePosition,
    lanes: usize,
    queries: &[Token],
    sums: &[Vec<f32>; 2],
    out: &mut [f32],
    tables: &mut [Vec<f32>; 2],
) {
    let width = task.job.head_dim;
    let mut slopes = Vec::new();
    for (lane, (token, out)) in queries.iter().zip(out.chunks_exact_mut(width)).enumerate() {
        let Some((y, x)) = token.place else { continue };
        let query = task.job.sources[0].part(token, task.head, width);
        let sides = [(&relative.rows, y), (&relative.columns, x)];
        for (((table, at), sums), of_table) in sides.into_iter().zip(sums).zip(tables.iter_mut()) {
            slopes.clear();
            slopes.extend((0..table.side).map(|place| sums[place * lanes + lane]));
            table.add_gradients(query, at, &slopes, out, of_table);
        }
    }
}
