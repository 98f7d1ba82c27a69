//! Fused multi-head attention, with groups of tokens and decomposed relative position.
//!
//! No logit leaves the cache: a tile of queries, one per vector lane, meets the keys a few hundred at a time and keeps
//! running maxima and sums (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Decomposed
//! relative position goes into the logits as they are made, so neither a bias tensor nor widened vectors exist.

mod backward;
mod tile;

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::error::{KernelError, check_divisor, check_length};
use crate::vector::add_scaled;
use backward::Parts;
use tile::Task;

/// Queries of one task: a pass of keys serves all of them.
const QUERIES_PER_TASK: usize = 128;
/// Queries of one task, at least: a tile of the widest vectors.
const LEAST_QUERIES: usize = 32;

/// A token of a [`Group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its row in the projection; a token without one is padding, whose projection is given apart.
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

/// Decomposed relative position over a grid: `q . h[y - ky + height - 1] + q . w[x - kx + width - 1]` is added to a logit,
/// with the unscaled query `q` (Li et al., "MViTv2", 2022, sec. 4.1; the form of Segment Anything's image encoder).
#[derive(Debug, Clone)]
pub struct RelativePosition {
    rows: Table,
    columns: Table,
    head_dim: usize,
}

impl RelativePosition {
    /// From tables of 2 height - 1 and 2 width - 1 rows.
    ///
    /// # Shapes
    /// `rows`: [2 height - 1, D]; `columns`: [2 width - 1, D]
    ///
    /// # Errors
    /// Where a table is no odd number of rows.
    pub fn new(rows: &[f32], columns: &[f32], head_dim: usize) -> Result<Self, KernelError> {
        Ok(Self { rows: Table::new(rows, head_dim)?, columns: Table::new(columns, head_dim)?, head_dim })
    }
}

/// A table of relative positions both ways: as it is, and turned around so that the offsets from one place to all others lie side
/// by side.
#[derive(Debug, Clone)]
struct Table {
    side: usize,
    /// [2 side - 1, D]
    rows: Vec<f32>,
    /// [D, 2 side - 1], its columns in the order of places.
    turned: Vec<f32>,
}

impl Table {
    fn new(table: &[f32], width: usize) -> Result<Self, KernelError> {
        check_divisor("a head's width in a table of relative positions", width, table.len())?;
        let length = table.len() / width;
        if length.is_multiple_of(2) {
            let expected = (length + 1) * width;
            return Err(KernelError::Length { what: "a table of relative positions", found: table.len(), expected });
        }
        let turned = (0..width * length).map(|at| table[(length - 1 - at % length) * width + at / length]).collect();
        Ok(Self { side: length.div_ceil(2), rows: table.to_vec(), turned })
    }

    /// `out[k] = query . T[place - k + side - 1]`.
    #[inline(always)]
    fn dot_offsets(&self, query: &[f32], place: usize, out: &mut [f32]) {
        out.fill(0.0);
        let length = 2 * self.side - 1;
        for (q, row) in query.iter().zip(self.turned.chunks_exact(length)) {
            add_scaled(out, &row[self.side - 1 - place..][..self.side], *q);
        }
    }

    /// Adds the gradients of [`Table::dot_offsets`] from those of its `out`; `of_rows` is [2 side - 1, D].
    #[inline(always)]
    fn add_gradients(&self, query: &[f32], place: usize, gradient: &[f32], of_query: &mut [f32], of_rows: &mut [f32]) {
        let width = query.len();
        let (from, length) = (place * width, self.side * width);
        let rows = self.rows[from..][..length].chunks_exact(width).zip(of_rows[from..][..length].chunks_exact_mut(width));
        for ((row, of_row), g) in rows.rev().zip(gradient) {
            add_scaled(of_query, row, *g);
            add_scaled(of_row, query, *g);
        }
    }
}

/// Multi-head self-attention inside each group, heads merged; the scale is `1 / sqrt(D)`.
///
/// # Shapes
/// - `qkv`: [rows, 3 C], ordered (q | k | v) x head x width; `padding`, the projection of tokens without a row: \[3 C\]
/// - output: [rows, C]; rows of no group are zero
///
/// # Threads
/// Tasks of at most 128 queries of one group, by head where there are few, on rayon's global pool.
///
/// # Errors
/// Where `qkv` is no whole number of rows of `padding`'s length, heads do not divide C, a token's row or place does not
/// exist, or the tables are of another head width.
pub fn grouped_attention(
    qkv: &[f32],
    padding: &[f32],
    heads: usize,
    groups: &[Group],
    relative: Option<&RelativePosition>,
) -> Result<Vec<f32>, KernelError> {
    grouped_attention_by(Arch::new(), qkv, padding, heads, groups, relative)
}

fn grouped_attention_by(
    arch: Arch,
    qkv: &[f32],
    padding: &[f32],
    heads: usize,
    groups: &[Group],
    relative: Option<&RelativePosition>,
) -> Result<Vec<f32>, KernelError> {
    let (job, rows) = grouped_job(qkv, padding, heads, groups, relative)?;
    let queries = queries(groups);
    Ok(job.run(arch, rows, &pair(&queries, groups)))
}

/// What tasks of grouped attention share, checked, and the number of rows.
fn grouped_job<'a>(
    qkv: &'a [f32],
    padding: &'a [f32],
    heads: usize,
    groups: &[Group],
    relative: Option<&'a RelativePosition>,
) -> Result<(Job<'a>, usize), KernelError> {
    let triple = padding.len();
    check_divisor("the number of projections", 3, triple)?;
    let channels = triple / 3;
    check_divisor("the width of a projected token", triple, qkv.len())?;
    let (rows, head_dim) = (qkv.len() / triple, head_dim(channels, heads)?);
    if let Some(relative) = relative.filter(|relative| relative.head_dim != head_dim) {
        return Err(KernelError::Divisor {
            what: "a head's width in a table of relative positions",
            found: relative.head_dim,
            whole: head_dim,
        });
    }
    let grid = relative.map(|relative| (relative.rows.side, relative.columns.side));
    for token in groups.iter().flat_map(|group| &group.tokens) {
        if let Some(row) = token.row.filter(|row| *row >= rows) {
            return Err(KernelError::Row { row, rows });
        }
        if let (Some(place), Some(grid)) = (token.place, grid)
            && (place.0 >= grid.0 || place.1 >= grid.1)
        {
            return Err(KernelError::Place { place, grid });
        }
    }
    let source = |which| Source { values: qkv, padding, stride: triple, from: which * channels };
    Ok((Job { sources: [0, 1, 2].map(source), channels, head_dim, relative }, rows))
}

/// The tokens of each group that have a row.
fn queries(groups: &[Group]) -> Vec<Vec<Token>> {
    groups.iter().map(|g| g.tokens.iter().filter(|t| t.row.is_some()).copied().collect()).collect()
}

/// Queries and keys of each group.
fn pair<'a>(queries: &'a [Vec<Token>], groups: &'a [Group]) -> Vec<(&'a [Token], &'a [Token])> {
    queries.iter().zip(groups).map(|(q, g)| (&q[..], &g.tokens[..])).collect()
}

/// Gradients of [`grouped_attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedGradients {
    /// Of the projection, [rows, 3 C]; rows of no group are zero.
    pub qkv: Vec<f32>,
    /// Of the projection of tokens without a row, \[3 C\].
    pub padding: Vec<f32>,
    /// Of the tables, where there are: [2 height - 1, D] and [2 width - 1, D].
    pub tables: Option<[Vec<f32>; 2]>,
}

/// Gradients of [`grouped_attention`] from that of its output, `gradient`: [rows, C].
///
/// # Threads
/// A task per group and head, on rayon's global pool; their sums are taken in order.
///
/// # Errors
/// As [`grouped_attention`], or a gradient of another size.
pub fn grouped_attention_backward(
    qkv: &[f32],
    padding: &[f32],
    heads: usize,
    groups: &[Group],
    relative: Option<&RelativePosition>,
    gradient: &[f32],
) -> Result<GroupedGradients, KernelError> {
    grouped_attention_backward_by(Arch::new(), qkv, padding, heads, groups, relative, gradient)
}

fn grouped_attention_backward_by(
    arch: Arch,
    qkv: &[f32],
    padding: &[f32],
    heads: usize,
    groups: &[Group],
    relative: Option<&RelativePosition>,
    gradient: &[f32],
) -> Result<GroupedGradients, KernelError> {
    let (job, rows) = grouped_job(qkv, padding, heads, groups, relative)?;
    let (channels, width) = (job.channels, job.head_dim);
    check_length("the gradient of attention", gradient, rows * channels)?;
    let queries = queries(groups);
    let done = job.backward(arch, gradient, &pair(&queries, groups));
    let mut sums = GroupedGradients { qkv: vec![0.0; qkv.len()], padding: vec![0.0; padding.len()], tables: None };
    let mut tables: [Vec<f32>; 2] = Default::default();
    for (group, head, parts) in &done {
        let keys = &groups[*group].tokens;
        for (which, tokens, from) in [(0, &queries[*group], &parts.query), (1, keys, &parts.key), (2, keys, &parts.value)] {
            for (token, from) in tokens.iter().zip(from.chunks_exact(width)) {
                let (to, row) = token.row.map_or((&mut sums.padding, 0), |row| (&mut sums.qkv, row));
                add(&mut to[row * 3 * channels + which * channels + head * width..][..width], from);
            }
        }
        for (sum, part) in tables.iter_mut().zip(&parts.tables) {
            sum.resize(part.len(), 0.0);
            add(sum, part);
        }
    }
    sums.tables = relative.map(|_| tables);
    Ok(sums)
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}

/// Sizes of [`attention`]: B, Sq, Sk, heads and D.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Images (or other items) that attend each to itself.
    pub batch: usize,
    /// Queries of an item.
    pub queries: usize,
    /// Keys of an item.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Multi-head attention of queries to keys, heads side by side in the last axis; the scale is `1 / sqrt(D)`.
///
/// Every query needs a key that is not hidden.
///
/// # Shapes
/// - `query`: [B, Sq, heads D]; `key`, `value`: [B, Sk, heads D]
/// - `hidden`: [B, Sk], `true` for keys that take no part
/// - output: [B, Sq, heads D]
///
/// # Threads
/// Tasks of at most 128 queries of one item, by head where there are few, on rayon's global pool.
///
/// # Errors
/// [`KernelError::Length`] where a slice does not have the length of its shape, [`KernelError::Divisor`] for no heads or
/// heads of no width.
pub fn attention(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    hidden: Option<&[bool]>,
    shape: AttentionShape,
) -> Result<Vec<f32>, KernelError> {
    attention_by(Arch::new(), query, key, value, hidden, shape)
}

fn attention_by(
    arch: Arch,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    hidden: Option<&[bool]>,
    shape: AttentionShape,
) -> Result<Vec<f32>, KernelError> {
    let (job, tokens) = attention_job(query, key, value, hidden, shape)?;
    Ok(job.run(arch, shape.batch * shape.queries, &tokens.groups()))
}

/// What tasks of [`attention`] share, checked, and its tokens.
fn attention_job<'a>(
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    hidden: Option<&[bool]>,
    AttentionShape { batch, queries, keys, heads, head_dim: width }: AttentionShape,
) -> Result<(Job<'a>, Tokens), KernelError> {
    let channels = heads * width;
    let head_dim = head_dim(channels, heads)?;
    check_length("the queries", query, batch * queries * channels)?;
    check_length("the keys", key, batch * keys * channels)?;
    check_length("the values", value, batch * keys * channels)?;
    if let Some(hidden) = hidden {
        check_length("the mask of keys", hidden, batch * keys)?;
    }
    let sources = [query, key, value].map(|values| Source { values, padding: &[], stride: channels, from: 0 });
    let job = Job { sources, channels, head_dim, relative: None };
    let tokens = |count: usize| -> Vec<Token> { (0..batch * count).map(|row| Token { row: Some(row), place: None }).collect() };
    let (from, to) = (tokens(queries), tokens(keys));
    let visible = |item: usize| -> Vec<Token> {
        let all = item * keys..(item + 1) * keys;
        all.filter(|&key| hidden.is_none_or(|hidden| !hidden[key])).map(|key| to[key]).collect()
    };
    let visible = (0..batch).map(visible).collect();
    Ok((job, Tokens { queries: from, per_item: queries, visible }))
}

/// Queries of all items, and the keys of each that take part.
struct Tokens {
    queries: Vec<Token>,
    per_item: usize,
    visible: Vec<Vec<Token>>,
}

impl Tokens {
    fn groups(&self) -> Vec<(&[Token], &[Token])> {
        self.queries.chunks(self.per_item.max(1)).zip(self.visible.iter().map(Vec::as_slice)).collect()
    }
}

/// Gradients of [`attention`]'s queries, keys and values from that of its output, `gradient`: [B, Sq, heads D]. Those of hidden
/// keys are zero.
///
/// # Threads
/// A task per item and head, on rayon's global pool.
///
/// # Errors
/// As [`attention`], or a gradient of another size.
pub fn attention_backward(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    hidden: Option<&[bool]>,
    shape: AttentionShape,
    gradient: &[f32],
) -> Result<[Vec<f32>; 3], KernelError> {
    attention_backward_by(Arch::new(), query, key, value, hidden, shape, gradient)
}

fn attention_backward_by(
    arch: Arch,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    hidden: Option<&[bool]>,
    shape: AttentionShape,
    gradient: &[f32],
) -> Result<[Vec<f32>; 3], KernelError> {
    let (job, tokens) = attention_job(query, key, value, hidden, shape)?;
    check_length("the gradient of attention", gradient, query.len())?;
    let (channels, width, groups) = (job.channels, job.head_dim, tokens.groups());
    let mut sums = [query, key, value].map(|values| vec![0.0f32; values.len()]);
    for (group, head, parts) in job.backward(arch, gradient, &groups) {
        let (queries, keys) = groups[group];
        for ((sum, tokens), part) in sums.iter_mut().zip([queries, keys, keys]).zip([parts.query, parts.key, parts.value]) {
            for (row, from) in tokens.iter().filter_map(|token| token.row).zip(part.chunks_exact(width)) {
                sum[row * channels + head * width..][..width].copy_from_slice(from);
            }
        }
    }
    Ok(sums)
}

/// The width of a head, if there are heads and they have one.
fn head_dim(channels: usize, heads: usize) -> Result<usize, KernelError> {
    check_divisor("the number of channels", channels, channels)?;
    check_divisor("the number of heads", heads, channels)?;
    Ok(channels / heads)
}

/// Projected tokens, one row each.
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
    head_dim: usize,
    relative: Option<&'a RelativePosition>,
}

impl Job<'_> {
    /// `1 / sqrt(D)`.
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Where keys lie in the grid; those without a place take the zeros behind the last row and column.
    fn places(&self, keys: &[Token]) -> Vec<(usize, usize)> {
        let none = self.relative.map_or((0, 0), |r| (r.rows.side, r.columns.side));
        keys.iter().map(|token| self.relative.and(token.place).unwrap_or(none)).collect()
    }

    /// Rows [rows, C] of the queries of each (queries, keys); other rows are zero.
    fn run(&self, arch: Arch, rows: usize, groups: &[(&[Token], &[Token])]) -> Vec<f32> {
        let heads = self.channels / self.head_dim;
        let threads = rayon::current_num_threads();
        // A task is worth it from a tile's queries on.
        let all: usize = groups.iter().map(|(queries, _)| queries.len()).sum::<usize>() * heads;
        let most = (all / threads.max(1)).next_multiple_of(LEAST_QUERIES).clamp(LEAST_QUERIES, QUERIES_PER_TASK);
        let parts = groups.iter().flat_map(|&(queries, keys)| queries.chunks(most).map(move |some| (some, keys)));
        let parts: Vec<(&[Token], &[Token])> = parts.collect();
        // Few queries are shared out by their heads.
        let share = if parts.len() < 2 * threads { 1 } else { heads };
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
            let columns = heads.start * self.head_dim..heads.end * self.head_dim;
            for (token, from) in queries.iter().zip(block.chunks_exact(columns.len())) {
                if let Some(row) = token.row {
                    out[row * self.channels..][columns.clone()].copy_from_slice(from);
                }
            }
        }
        out
    }

    /// Gradients per group and head, in order.
    fn backward(&self, arch: Arch, gradient: &[f32], groups: &[(&[Token], &[Token])]) -> Vec<(usize, usize, Parts)> {
        let gradient = Source { values: gradient, padding: &[], stride: self.channels, from: 0 };
        let heads = self.channels / self.head_dim;
        let tasks: Vec<(usize, usize)> = (0..groups.len()).flat_map(|group| (0..heads).map(move |head| (group, head))).collect();
        let run = |(group, head): (usize, usize)| {
            let (queries, keys) = groups[group];
            (group, head, arch.dispatch(backward::Task { job: self, gradient: &gradient, queries, keys, head }))
        };
        tasks.into_par_iter().map(run).collect()
    }
}

#[cfg(test)]
mod backward_tests;
#[cfg(test)]
mod tests;
