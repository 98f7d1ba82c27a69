//! Kernels at the sizes of SAM ViT-B with an input of 1024 pixels: `cargo bench -p cpu-kernels`.

use cpu_kernels::{AttentionShape, Epilogue, Group, Layer, RelativePosition, Token, attention, gelu, grouped_attention, linear};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

/// Width of a token, heads and width of a head.
const WIDTH: usize = 768;
const HEADS: usize = 12;
const HEAD_DIM: usize = 64;

fn main() {
    divan::main();
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 2048) as f32 / 1024.0 - 1.0).collect()
}

fn grid(side: usize) -> Group {
    Group { tokens: (0..side * side).map(|i| Token { row: Some(i), place: Some((i / side, i % side)) }).collect() }
}

/// Self-attention with relative position over one grid: a window (14) and the whole image (64). Items are multiply-adds.
#[divan::bench(args = [14, 64])]
fn grouped(bencher: Bencher<'_, '_>, side: usize) {
    let rows = side * side;
    let (qkv, padding, table) = (values(rows * 3 * WIDTH), values(3 * WIDTH), values((2 * side - 1) * HEAD_DIM));
    let (Ok(relative), groups) = (RelativePosition::new(&table, &table, HEAD_DIM), [grid(side)]) else { return };
    bencher
        .counter(ItemsCount::new(2 * rows * rows * WIDTH))
        .bench(|| grouped_attention(black_box(&qkv), &padding, HEADS, &groups, Some(&relative)));
}

/// The mask decoder's tokens attend to the image: 7 queries, 4096 keys. Items are multiply-adds.
#[divan::bench]
fn token_to_image(bencher: Bencher<'_, '_>) {
    let shape = AttentionShape { batch: 1, queries: 7, keys: 4096, heads: 8, head_dim: 16 };
    let (query, key) = (values(7 * 128), values(4096 * 128));
    bencher.counter(ItemsCount::new(2usize * 7 * 4096 * 128)).bench(|| attention(black_box(&query), &key, &key, None, shape));
}

/// The fused projection of queries, keys and values. Items are multiply-adds.
#[divan::bench]
fn qkv(bencher: Bencher<'_, '_>) {
    let (x, weight, bias) = (values(4096 * WIDTH), values(WIDTH * 3 * WIDTH), values(3 * WIDTH));
    let Ok(layer) = Layer::new(&weight[..], Some(&bias), [WIDTH, 3 * WIDTH], Epilogue::None) else { return };
    bencher.counter(ItemsCount::new(4096 * WIDTH * 3 * WIDTH)).bench(|| linear(black_box(&x), &[layer]));
}

/// The MLP of a block, its hidden layer never whole in memory. Items are multiply-adds.
#[divan::bench]
fn mlp(bencher: Bencher<'_, '_>) {
    let hidden = 4 * WIDTH;
    let (x, up, down) = (values(4096 * WIDTH), values(WIDTH * hidden), values(hidden * WIDTH));
    let first = Layer::new(&up[..], None, [WIDTH, hidden], Epilogue::Gelu);
    let second = Layer::new(&down[..], None, [hidden, WIDTH], Epilogue::None);
    let (Ok(first), Ok(second)) = (first, second) else { return };
    bencher.counter(ItemsCount::new(2 * 4096 * WIDTH * hidden)).bench(|| linear(black_box(&x), &[first, second]));
}

/// GELU by itself. Items are values.
#[divan::bench]
fn erf_gelu(bencher: Bencher<'_, '_>) {
    let count = 4096 * 4 * WIDTH;
    bencher.counter(ItemsCount::new(count)).with_inputs(|| values(count)).bench_refs(|x| gelu(x));
}
