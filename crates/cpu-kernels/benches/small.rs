//! Kernels at the sizes of the demonstrations: eight samples of 64 image and 14 text tokens, width 64, four heads.

use cpu_kernels::{Epilogue, Group, Layer, RelativePosition, Token};
use divan::Bencher;

const GROUPS: usize = 8;
const TOKENS: usize = 78;
const WIDTH: usize = 64;
const HEADS: usize = 4;

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 0.5).collect()
}

fn main() {
    divan::main();
}

fn groups() -> Vec<Group> {
    let place = |at: usize| at.checked_sub(14).map(|i| (i / 8, i % 8));
    let group =
        |g: usize| Group { tokens: (0..TOKENS).map(|at| Token { row: Some(g * TOKENS + at), place: place(at) }).collect() };
    (0..GROUPS).map(group).collect()
}

#[divan::bench(args = [false, true], consts = [false, true])]
fn attention<const RELATIVE: bool>(bencher: Bencher<'_, '_>, backward: bool) {
    let rows = GROUPS * TOKENS;
    let (qkv, padding, g) = (values(rows * 3 * WIDTH), values(3 * WIDTH), values(rows * WIDTH));
    let table = values(15 * WIDTH / HEADS);
    let relative = RELATIVE.then(|| RelativePosition::new(&table, &table, WIDTH / HEADS).ok()).flatten();
    let groups = groups();
    bencher.bench(|| {
        if backward {
            let found = cpu_kernels::grouped_attention_backward(&qkv, &padding, HEADS, &groups, relative.as_ref(), &g);
            found.map(|g| g.qkv)
        } else {
            cpu_kernels::grouped_attention(&qkv, &padding, HEADS, &groups, relative.as_ref())
        }
    });
}

const SHAPES: [(usize, usize); 3] = [(WIDTH, 3 * WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)];

#[divan::bench(args = SHAPES)]
fn linear(bencher: Bencher<'_, '_>, (inputs, outputs): (usize, usize)) {
    let (x, w) = (values(GROUPS * TOKENS * inputs), values(inputs * outputs));
    let layer = Layer::new(&w[..], None, [inputs, outputs], Epilogue::None).ok();
    bencher.bench(|| cpu_kernels::linear(&x, layer.as_slice()));
}

#[divan::bench(args = SHAPES)]
fn linear_input(bencher: Bencher<'_, '_>, (inputs, outputs): (usize, usize)) {
    let (g, w) = (values(GROUPS * TOKENS * outputs), values(inputs * outputs));
    bencher.bench(|| cpu_kernels::product_transposed(&g, &w, [inputs, outputs]));
}

#[divan::bench(args = SHAPES)]
fn linear_weight(bencher: Bencher<'_, '_>, (inputs, outputs): (usize, usize)) {
    let (x, g) = (values(GROUPS * TOKENS * inputs), values(GROUPS * TOKENS * outputs));
    bencher.bench(|| cpu_kernels::transposed_product(&x, &g, [inputs, outputs]));
}

#[divan::bench]
fn layer_norm(bencher: Bencher<'_, '_>) {
    let (x, gain) = (values(GROUPS * TOKENS * WIDTH), values(WIDTH));
    bencher.bench(|| cpu_kernels::layer_norm_backward(&x, &gain, 1e-6, &x));
}
