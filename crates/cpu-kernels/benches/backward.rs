//! Gradients at sizes of a training step: one block of ViT-B on 1,024 image and 20 text tokens.

use cpu_kernels::{Epilogue, Group, Layer, RelativePosition, Token};
use divan::Bencher;

const ROWS: usize = 1044;
const SHAPES: [(usize, usize); 3] = [(768, 2304), (768, 3072), (3072, 768)];

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 0.1).collect()
}

fn main() {
    divan::main();
}

#[divan::bench(args = SHAPES)]
fn linear(bencher: Bencher<'_, '_>, (inputs, outputs): (usize, usize)) {
    let (x, w) = (values(ROWS * inputs), values(inputs * outputs));
    let layer = Layer::new(&w[..], None, [inputs, outputs], Epilogue::None).ok();
    bencher.bench(|| cpu_kernels::linear(&x, layer.as_slice()));
}

#[divan::bench(args = SHAPES)]
fn linear_input(bencher: Bencher<'_, '_>, (inputs, outputs): (usize, usize)) {
    let (g, w) = (values(ROWS * outputs), values(inputs * outputs));
    bencher.bench(|| cpu_kernels::product_transposed(&g, &w, [inputs, outputs]));
}

#[divan::bench(args = SHAPES)]
fn linear_weight(bencher: Bencher<'_, '_>, (inputs, outputs): (usize, usize)) {
    let (x, g) = (values(ROWS * inputs), values(ROWS * outputs));
    bencher.bench(|| cpu_kernels::transposed_product(&x, &g, [inputs, outputs]));
}

#[divan::bench]
fn layer_norm(bencher: Bencher<'_, '_>) {
    let (x, gain) = (values(ROWS * 768), values(768));
    bencher.bench(|| cpu_kernels::layer_norm_backward(&x, &gain, 1e-6, &x));
}

fn tokens() -> [Group; 1] {
    let place = |at: usize| at.checked_sub(20).map(|i| (i / 32, i % 32));
    [Group { tokens: (0..ROWS).map(|at| Token { row: Some(at), place: place(at) }).collect() }]
}

#[divan::bench(args = [false, true])]
fn attention(bencher: Bencher<'_, '_>, backward: bool) {
    let (qkv, padding, table, g) = (values(ROWS * 2304), values(2304), values(63 * 64), values(ROWS * 768));
    let (relative, groups) = (RelativePosition::new(&table, &table, 64).ok(), tokens());
    bencher.bench(|| {
        if backward {
            let found = cpu_kernels::grouped_attention_backward(&qkv, &padding, 12, &groups, relative.as_ref(), &g);
            found.map(|g| g.qkv)
        } else {
            cpu_kernels::grouped_attention(&qkv, &padding, 12, &groups, relative.as_ref())
        }
    });
}

#[divan::bench]
fn adam(bencher: Bencher<'_, '_>) {
    let step =
        cpu_kernels::AdamStep { lr: 1e-3, betas: [0.9, 0.99], eps: 1e-8, decoupled_decay: 0.1, gradient_decay: 0.0, time: 3 };
    let (mut p, g, mut m, mut v) = (values(1 << 22), values(1 << 22), values(1 << 22), vec![1.0; 1 << 22]);
    bencher.bench_local(|| cpu_kernels::adam(&mut p, &g, &mut m, &mut v, &step));
}
