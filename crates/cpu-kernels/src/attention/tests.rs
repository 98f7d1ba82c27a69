//! Attention against its definition in double precision.

use super::*;
use crate::testing::{arches, assert_close, values};

fn scaled(name: &str, count: usize, factor: f32) -> Vec<f32> {
    values(name, count).iter().map(|v| v * factor).collect()
}

/// The definition for one query: softmax of `logit(key)` over the keys, then the weighted sum of `value(key, d)`.
fn attend(keys: &[usize], width: usize, logit: impl Fn(usize) -> f64, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let largest = keys.iter().map(|&k| logit(k)).fold(f64::MIN, f64::max);
    let weights: Vec<f64> = keys.iter().map(|&k| (logit(k) - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..width).map(|d| keys.iter().zip(&weights).map(|(&k, a)| a * value(k, d)).sum::<f64>() / total).collect()
}

fn reference(query: &[f32], key: &[f32], value: &[f32], hidden: Option<&[bool]>, shape: AttentionShape) -> Vec<f64> {
    let AttentionShape { batch, queries, keys, heads, head_dim } = shape;
    let channels = heads * head_dim;
    let mut out = vec![0.0; batch * queries * channels];
    for (row, head) in (0..batch * queries).flat_map(|row| (0..heads).map(move |head| (row, head))) {
        let item = row / queries;
        let visible: Vec<usize> = (item * keys..(item + 1) * keys).filter(|&k| hidden.is_none_or(|h| !h[k])).collect();
        let at = |x: &[f32], row: usize, d: usize| f64::from(x[row * channels + head * head_dim + d]);
        let logit = |k| (0..head_dim).map(|d| at(query, row, d) * at(key, k, d)).sum::<f64>() / (head_dim as f64).sqrt();
        let mixed = attend(&visible, head_dim, logit, |k, d| at(value, k, d));
        out[row * channels + head * head_dim..][..head_dim].copy_from_slice(&mixed);
    }
    out
}

/// Few queries and many, several items, fewer keys than a vector has lanes, lengths around a pass and a task.
#[test]
fn equals_the_definition() {
    let shape = |batch, queries, keys, heads, head_dim| AttentionShape { batch, queries, keys, heads, head_dim };
    for shape in [shape(1, 7, 300, 8, 4), shape(3, 260, 7, 2, 5), shape(2, 1, 1, 1, 3), shape(1, 130, 600, 1, 20)] {
        let AttentionShape { batch, queries, keys, heads, head_dim } = shape;
        let (q, k, v) = (
            scaled("q", batch * queries * heads * head_dim, 2.0),
            scaled("k", batch * keys * heads * head_dim, 2.0),
            scaled("v", batch * keys * heads * head_dim, 2.0),
        );
        for arch in arches() {
            assert_close(&attention_by(arch, &q, &k, &v, None, shape).unwrap(), &reference(&q, &k, &v, None, shape), 1e-5);
        }
    }
}

/// Keys hidden for each item on its own.
#[test]
fn hidden_keys_take_no_part() {
    let shape = AttentionShape { batch: 2, queries: 4, keys: 9, heads: 2, head_dim: 3 };
    let (q, k, v) = (scaled("q", 2 * 4 * 6, 2.0), scaled("k", 2 * 9 * 6, 2.0), scaled("v", 2 * 9 * 6, 2.0));
    let hidden: Vec<bool> = (0..18).map(|i| i % 4 == 1 || i > 15).collect();
    let got = attention(&q, &k, &v, Some(&hidden), shape).unwrap();
    assert_close(&got, &reference(&q, &k, &v, Some(&hidden), shape), 1e-5);
}

/// Two groups, one with padding in it, and relative position for some tokens only; then many tokens in one group.
#[test]
fn groups_equal_the_definition() {
    let (heads, width, height, breadth) = (2, 5, 2, 3);
    let token = |row: Option<usize>, at: Option<usize>| Token { row, place: at.map(|i| (i / breadth, i % breadth)) };
    let first = [(Some(7), None), (Some(0), Some(0)), (None, Some(4)), (Some(3), Some(5))];
    let small = vec![
        Group { tokens: first.map(|(row, at)| token(row, at)).to_vec() },
        Group { tokens: (4..7).map(|r| token(Some(r), Some(r - 3))).collect() },
    ];
    let large = vec![Group { tokens: (0..600).map(|row| token(Some(row), Some(row % 6))).collect() }];
    let tables = [("h", 2 * height - 1), ("w", 2 * breadth - 1)].map(|(name, length)| values(name, length * width));
    let relative = RelativePosition::new(&tables[0], &tables[1], width).unwrap();
    for (rows, groups, relative) in [(9, &small, Some(&relative)), (9, &small, None), (600, &large, Some(&relative))] {
        let (qkv, padding) = (values("qkv", rows * 30), values("padding", 30));
        let mut want = vec![0.0; rows * 10];
        for (group, head) in groups.iter().flat_map(|group| (0..heads).map(move |head| (group, head))) {
            let part = |t: &Token, which: usize, d: usize| {
                let at = which * 10 + head * width + d;
                f64::from(t.row.map_or(padding[at], |row| qkv[row * 30 + at]))
            };
            let all: Vec<usize> = (0..group.tokens.len()).collect();
            for query in group.tokens.iter().filter(|t| t.row.is_some()) {
                let dot = |f: &dyn Fn(usize) -> f64| (0..width).map(|d| part(query, 0, d) * f(d)).sum::<f64>();
                let logit = |key: usize| {
                    let key = &group.tokens[key];
                    let mut sum = dot(&|d| part(key, 1, d)) / (width as f64).sqrt();
                    if let (Some((y, x)), Some((ky, kx)), Some(_)) = (query.place, key.place, relative) {
                        sum += dot(&|d| f64::from(tables[0][(y + height - 1 - ky) * width + d]));
                        sum += dot(&|d| f64::from(tables[1][(x + breadth - 1 - kx) * width + d]));
                    }
                    sum
                };
                let mixed = attend(&all, width, logit, |key, d| part(&group.tokens[key], 2, d));
                want[query.row.unwrap() * 10 + head * width..][..width].copy_from_slice(&mixed);
            }
        }
        for arch in arches() {
            assert_close(&grouped_attention_by(arch, &qkv, &padding, heads, groups, relative).unwrap(), &want, 1e-6);
        }
    }
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    let shape = AttentionShape { batch: 1, queries: 2, keys: 3, heads: 2, head_dim: 2 };
    let (two, three) = ([0.0; 8], [1.0; 12]);
    assert!(attention(&two, &three, &three, None, shape).is_ok());
    assert!(attention(&three, &three, &three, None, shape).is_err());
    assert!(attention(&two, &two, &three, None, shape).is_err());
    assert!(attention(&two, &three, &three, Some(&[false; 2]), shape).is_err());
    assert!(attention(&[], &[], &[], None, AttentionShape { heads: 0, ..shape }).is_err());
    let group = |row, place| [Group { tokens: vec![Token { row: Some(row), place: Some(place) }] }];
    let relative = RelativePosition::new(&[0.0; 6], &[0.0; 10], 2).unwrap();
    let run = |group: &[Group], heads| grouped_attention(&[0.5; 24], &[0.0; 12], heads, group, Some(&relative));
    assert!(run(&group(1, (1, 2)), 2).is_ok());
    assert_eq!(run(&group(2, (1, 2)), 2), Err(KernelError::Row { row: 2, rows: 2 }));
    assert_eq!(run(&group(1, (2, 0)), 2), Err(KernelError::Place { place: (2, 0), grid: (2, 3) }));
    assert!(run(&group(1, (0, 0)), 3).is_err());
    assert!(run(&group(1, (0, 0)), 1).is_err(), "tables of heads of width 2 on heads of width 4");
    assert!(RelativePosition::new(&[0.0; 8], &[0.0; 10], 2).is_err());
    assert!(RelativePosition::new(&[], &[0.0; 10], 2).is_err());
    assert!(RelativePosition::new(&[0.0; 6], &[0.0; 10], 0).is_err());
}
