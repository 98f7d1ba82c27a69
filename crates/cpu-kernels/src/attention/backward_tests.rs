//! Gradients of attention against differences of its definition in double precision.

use super::*;
use crate::testing::{arches, assert_close, values};

/// What is attended to, in double precision: queries, keys and values of a row or of padding, and both tables.
struct Inputs {
    qkv: Vec<f64>,
    padding: Vec<f64>,
    tables: [Vec<f64>; 2],
}

/// Weighs the output of the definition, so that its slopes are gradients.
fn loss(inputs: &Inputs, heads: usize, width: usize, groups: &[Group], grid: Option<(usize, usize)>, weights: &[f32]) -> f64 {
    let channels = heads * width;
    let part = |t: &Token, which: usize, head: usize, d: usize| {
        let at = which * channels + head * width + d;
        t.row.map_or(inputs.padding[at], |row| inputs.qkv[row * 3 * channels + at])
    };
    let mut total = 0.0;
    for (group, head) in groups.iter().flat_map(|group| (0..heads).map(move |head| (group, head))) {
        for query in group.tokens.iter().filter(|t| t.row.is_some()) {
            let logit = |key: &Token| -> f64 {
                let plain: f64 = (0..width).map(|d| part(query, 0, head, d) * part(key, 1, head, d)).sum();
                let mut logit = plain / (width as f64).sqrt();
                if let (Some((y, x)), Some((ky, kx)), Some((h, w))) = (query.place, key.place, grid) {
                    let offsets = [(0, y + h - 1 - ky), (1, x + w - 1 - kx)];
                    for (table, offset) in offsets {
                        logit +=
                            (0..width).map(|d| part(query, 0, head, d) * inputs.tables[table][offset * width + d]).sum::<f64>();
                    }
                }
                logit
            };
            let logits: Vec<f64> = group.tokens.iter().map(logit).collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            for d in 0..width {
                let out: f64 = group.tokens.iter().zip(&logits).map(|(key, l)| l.exp() / sum * part(key, 2, head, d)).sum();
                let at = query.row.unwrap_or(0) * channels + head * width + d;
                total += out * f64::from(weights[at]);
            }
        }
    }
    total
}

fn slopes(inputs: &mut Inputs, pick: impl Fn(&mut Inputs) -> &mut Vec<f64>, loss: impl Fn(&Inputs) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    (0..pick(inputs).len())
        .map(|at| {
            let mut moved = |by: f64| {
                pick(inputs)[at] += by;
                let loss = loss(inputs);
                pick(inputs)[at] -= by;
                loss
            };
            (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
        })
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

/// Padding, tokens without a place, rows of no group, more queries than a vector has lanes, heads wider than a pair of vectors.
#[test]
fn grouped_gradients_are_slopes_of_the_definition() {
    for (heads, width, extra) in [(2, 3, 0), (1, 5, 40), (1, 35, 0)] {
        let (height, breadth) = (2, 3);
        let token = |row: Option<usize>, at: Option<usize>| Token { row, place: at.map(|i| (i / breadth, i % breadth)) };
        let first = [(Some(7), None), (Some(0), Some(0)), (None, Some(4)), (Some(3), Some(5))];
        let groups = vec![
            Group { tokens: first.map(|(row, at)| token(row, at)).to_vec() },
            Group { tokens: (4..7).chain(9..9 + extra).map(|r| token(Some(r), Some(r % 6))).collect() },
        ];
        let (rows, channels) = (9 + extra, heads * width);
        let (qkv, padding) = (values("qkv", rows * 3 * channels), values("padding", 3 * channels));
        let tables = [("h", 2 * height - 1), ("w", 2 * breadth - 1)].map(|(name, length)| values(name, length * width));
        let gradient = values("g", rows * channels);
        let relative = RelativePosition::new(&tables[0], &tables[1], width).unwrap();
        for relative in [Some(&relative), None] {
            let grid = relative.map(|_| (height, breadth));
            let mut inputs =
                Inputs { qkv: wide(&qkv), padding: wide(&padding), tables: tables.each_ref().map(|table| wide(table)) };
            let loss = |inputs: &Inputs| loss(inputs, heads, width, &groups, grid, &gradient);
            let want_qkv = slopes(&mut inputs, |i| &mut i.qkv, loss);
            let want_padding = slopes(&mut inputs, |i| &mut i.padding, loss);
            let want_tables = [0, 1].map(|which| slopes(&mut inputs, move |i| &mut i.tables[which], loss));
            for arch in arches() {
                let got = grouped_attention_backward_by(arch, &qkv, &padding, heads, &groups, relative, &gradient).unwrap();
                assert_close(&got.qkv, &want_qkv, 2e-5);
                assert_close(&got.padding, &want_padding, 2e-5);
                assert_eq!(got.tables.is_some(), relative.is_some());
                for (got, want) in got.tables.iter().flatten().zip(&want_tables) {
                    assert_close(got, want, 5e-5);
                }
            }
        }
    }
}

/// Queries and keys apart, several items, hidden keys: as one group per item of the tokens that take part.
#[test]
fn gradients_of_queries_keys_and_values_apart() {
    let shape = AttentionShape { batch: 2, queries: 5, keys: 7, heads: 2, head_dim: 3 };
    let channels = 6;
    let (q, k, v) = (values("q", 2 * 5 * 6), values("k", 2 * 7 * 6), values("v", 2 * 7 * 6));
    let (gradient, hidden): (_, Vec<bool>) = (values("g", q.len()), (0..14).map(|i| i % 4 == 1 || i > 11).collect());
    // Rows 0 to 9 are queries, the others keys; a group's queries are not its keys, so the definition is written out here.
    let definition = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
        let mut total = 0.0;
        for (row, head) in (0..10).flat_map(|row| (0..2).map(move |head| (row, head))) {
            let item = row / 5;
            let seen: Vec<usize> = (item * 7..item * 7 + 7).filter(|key| !hidden[*key]).collect();
            let at = |row: usize, d: usize| row * channels + head * 3 + d;
            let logits: Vec<f64> =
                seen.iter().map(|&key| (0..3).map(|d| q[at(row, d)] * k[at(key, d)]).sum::<f64>() / 3f64.sqrt()).collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            for d in 0..3 {
                let out: f64 = seen.iter().zip(&logits).map(|(&key, l)| l.exp() / sum * v[at(key, d)]).sum();
                total += out * f64::from(gradient[at(row, d)]);
            }
        }
        total
    };
    let mut inputs = [wide(&q), wide(&k), wide(&v)];
    let want: Vec<Vec<f64>> = (0..3)
        .map(|which| {
            (0..inputs[which].len())
                .map(|at| {
                    let mut moved = |by: f64| {
                        inputs[which][at] += by;
                        let loss = definition(&inputs[0], &inputs[1], &inputs[2]);
                        inputs[which][at] -= by;
                        loss
                    };
                    (moved(1e-5) - moved(-1e-5)) / 2e-5
                })
                .collect()
        })
        .collect();
    for arch in arches() {
        let got = attention_backward_by(arch, &q, &k, &v, Some(&hidden), shape, &gradient).unwrap();
        for (got, want) in got.iter().zip(&want) {
            assert_close(got, want, 2e-5);
        }
    }
    assert!(attention_backward(&q, &k, &v, None, shape, &gradient[1..]).is_err());
}
