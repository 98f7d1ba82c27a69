//! What fusion crates build on.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use nn_ops::attention::{attention, merge_heads};
use nn_ops::resize::Resize;
use sam_vit::{Block, Grid, ImageEncoderConfig, Output, Prompts, SamConfig, window_partition, window_unpartition};

use crate::toy::{assert_close, config, formula, sam, values};

fn image(batch: usize, height: usize, width: usize) -> Tensor<4> {
    formula("image", [batch, 3, height, width], &Device::flex())
}

#[test]
fn taps_are_the_states_between_blocks() {
    let device = Device::flex();
    let encoder = sam(&config(), &device).image_encoder;
    let input = image(2, 64, 64);
    let (embedding, taps) = encoder.forward_taps(input.clone(), &[2, 0]);
    assert_eq!(taps.len(), 2);
    let mut x = encoder.embed(input.clone());
    let mut states = Vec::new();
    for block in &encoder.blocks {
        x = block.forward(x, &block.grid(4, 4, &device));
        states.push(x.clone());
    }
    assert_close(taps[0].clone(), states[0].clone(), 0.0, "block 0");
    assert_close(taps[1].clone(), states[2].clone(), 0.0, "block 2");
    assert_close(encoder.neck.forward(x), embedding.clone(), 0.0, "neck");
    assert_close(encoder.forward(input), embedding, 0.0, "forward");
    assert!(values(states[0].clone()) != values(states[2].clone()));
}

#[test]
fn tokens_without_a_prefix_equal_global_blocks() {
    let device = Device::flex();
    let mut config = config();
    config.image_encoder.global_blocks = vec![0, 1, 2];
    let encoder = sam(&config, &device).image_encoder;
    let x = encoder.embed(image(2, 48, 64));
    let grid = Grid::new(3, 4, 0, &device);
    let (mut map, mut tokens) = (x.clone(), x.reshape([2, 12, 32]));
    for block in &encoder.blocks {
        map = block.forward(map, &grid);
        tokens = block.forward_tokens(tokens, &grid);
    }
    assert_close(tokens.reshape([2, 3, 4, 32]), map, 0.0, "tokens");
}

/// Windowed weights over tokens: windows are ignored, their tables are resized to the grid. Text changes the image
/// tokens, and its own attention has no positions: swapping two text tokens swaps their outputs.
#[test]
fn text_in_front_has_no_position() {
    let device = Device::flex();
    let encoder = sam(&config(), &device).image_encoder;
    let block = &encoder.blocks[0];
    let grid = Grid::new(4, 4, 3, &device);
    let text = formula::<3>("text", [1, 3, 32], &device);
    let map = formula::<3>("map", [1, 16, 32], &device);
    let out = block.forward_tokens(Tensor::cat(vec![text.clone(), map.clone()], 1), &grid);
    assert_eq!(out.dims(), [1, 19, 32]);
    let row = |i: usize| text.clone().narrow(1, i, 1);
    let swapped = block.forward_tokens(Tensor::cat(vec![row(1), row(0), row(2), map.clone()], 1), &grid);
    assert_close(swapped.clone().narrow(1, 0, 1), out.clone().narrow(1, 1, 1), 1e-5, "text 1");
    assert_close(swapped.narrow(1, 3, 16), out.clone().narrow(1, 3, 16), 1e-5, "image");
    let alone = block.forward_tokens(map, &Grid::new(4, 4, 0, &device));
    assert!(values(alone) != values(out.narrow(1, 3, 16)));
}

#[test]
fn windows_come_back_from_any_grid() {
    let device = Device::flex();
    for (height, width, side) in [(6, 6, 3), (7, 5, 3), (2, 9, 4), (1, 1, 14), (20, 20, 14)] {
        let x = formula::<4>("x", [2, height, width, 3], &device);
        let windows = window_partition(x.clone(), side);
        let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
        assert_eq!(windows.dims(), [2 * rows * columns, side * side, 3]);
        assert_close(window_unpartition(windows.clone(), side, [2, height, width, 3]), x.clone(), 0.0, "round trip");
        // Padding is zero: the sums agree, and the corner of the last window is padding where sizes do not divide.
        assert_close(windows.clone().abs().sum(), x.abs().sum(), 1e-3, "sum");
        if rows * side > height || columns * side > width {
            let last = windows.narrow(0, 2 * rows * columns - 1, 1).narrow(1, side * side - 1, 1);
            assert!(values(last).iter().all(|v| *v == 0.0));
        }
    }
    // The second window of a 2 x 4 map with windows of 2 begins at column 2.
    let x = Tensor::<4>::from_floats([[[[0.0], [1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0], [7.0]]]], &device);
    assert_eq!(values(window_partition(x, 2)), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
}

/// Sheet sec. 4, written out with loops: logits = s q k + q T_h[y - ky + h - 1] + q T_w[x - kx + w - 1].
#[test]
fn wide_queries_equal_the_explicit_bias() {
    let device = Device::flex();
    let (h, w, d, heads, prefix) = (9usize, 7usize, 8usize, 2usize, 2usize);
    let length = prefix + h * w;
    let [q, k, v] = ["q", "k", "v"].map(|n| formula::<4>(n, [1, heads, length, d], &device));
    // The tables are for another grid, so they are resized on the way.
    let (table_h, table_w) = (formula::<2>("h", [27, d], &device), formula::<2>("w", [11, d], &device));
    let (wide_q, wide_k) = Grid::new(h, w, prefix, &device).widen(q.clone(), k.clone(), table_h.clone(), table_w.clone());
    assert_eq!(wide_q.dims(), [1, heads, length, d + h + w]);
    let got = attention(wide_q, wide_k, v.clone(), None, None);

    let rows = values(Resize::BILINEAR.rows(table_h, 2 * h - 1));
    let columns = values(Resize::BILINEAR.rows(table_w, 2 * w - 1));
    let (qs, ks) = (values(q), values(k));
    let mut logits = vec![0.0f32; heads * length * length];
    for head in 0..heads {
        for i in 0..length {
            for j in 0..length {
                let query = &qs[(head * length + i) * d..][..d];
                let dot = |other: &[f32]| query.iter().zip(other).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                let mut logit = dot(&ks[(head * length + j) * d..][..d]) / (d as f64).sqrt();
                if i >= prefix && j >= prefix {
                    let ((y, x), (ky, kx)) = (((i - prefix) / w, (i - prefix) % w), ((j - prefix) / w, (j - prefix) % w));
                    logit += dot(&rows[(y + h - 1 - ky) * d..][..d]) + dot(&columns[(x + w - 1 - kx) * d..][..d]);
                }
                logits[(head * length + i) * length + j] = logit as f32;
            }
        }
    }
    let logits = Tensor::<1>::from_floats(logits.as_slice(), &device).reshape([1, heads, length, length]);
    assert_close(got, softmax(logits, 3).matmul(v), 1e-5, "attention");
}

#[test]
fn images_do_not_see_each_other() {
    let device = Device::flex();
    let encoder = sam(&config(), &device).image_encoder;
    for (height, width) in [(64, 64), (48, 80), (16, 96)] {
        let batch = image(3, height, width);
        let together = encoder.forward(batch.clone());
        assert_eq!(together.dims(), [3, 32, height / 16, width / 16]);
        for i in 0..3 {
            let alone = encoder.forward(batch.clone().narrow(0, i, 1));
            assert_close(together.clone().narrow(0, i, 1), alone, 1e-5, "image");
        }
    }
}

/// A map that is not square keeps its orientation: turning image, patches and both tables turns the result.
#[test]
fn non_square_maps_keep_their_orientation() {
    let device = Device::flex();
    let encoder = sam(&config(), &device).image_encoder;
    let mut turned = encoder.blocks[0].clone();
    std::mem::swap(&mut turned.attn.rel_pos_h, &mut turned.attn.rel_pos_w);
    let x = formula::<4>("map", [1, 5, 7, 32], &device);
    let block = &encoder.blocks[0];
    let straight = block.forward(x.clone(), &block.grid(5, 7, &device));
    let around = turned.forward(x.swap_dims(1, 2), &turned.grid(7, 5, &device));
    assert_close(around.swap_dims(1, 2), straight, 1e-5, "window block");
}

#[test]
fn non_square_inputs_decode() {
    let device = Device::flex();
    let model = sam(&config(), &device);
    let embedding = model.image_encoder.forward(image(1, 48, 80));
    let boxes = Tensor::from_floats([[8.0, 8.0, 40.0, 30.0], [0.0, 0.0, 79.0, 47.0]], &device);
    let tokens = formula::<3>("text", [2, 5, 32], &device);
    let prompts = Prompts { boxes: Some(boxes), tokens: Some(tokens), ..Default::default() };
    let (masks, iou) = model.decode(embedding.clone(), prompts.clone(), (48, 80), Output::Multi);
    assert_eq!((masks.dims(), iou.dims()), ([2, 3, 12, 20], [2, 3]));
    // One embedding for two prompts equals two embeddings.
    let twice = Tensor::cat(vec![embedding.clone(), embedding], 0);
    let (again, _) = model.decode(twice, prompts, (48, 80), Output::Multi);
    assert_close(again, masks, 1e-5, "embeddings");
}

/// The parts of attention are public enough to rebuild it.
#[test]
fn attention_from_its_parts() {
    let device = Device::flex();
    let config = ImageEncoderConfig { global_blocks: vec![0], ..config().image_encoder };
    let block: Block = sam(&SamConfig { image_encoder: config, ..crate::toy::config() }, &device).image_encoder.blocks[0].clone();
    let grid = Grid::new(4, 4, 0, &device);
    let x = formula::<3>("x", [1, 16, 32], &device);
    let [q, k, v] = block.attn.project(x.clone());
    assert_eq!(q.dims(), [1, 2, 16, 16]);
    let (q, k) = grid.widen(q, k, block.attn.rel_pos_h.val(), block.attn.rel_pos_w.val());
    let rebuilt = block.attn.proj.forward(merge_heads(attention(q, k, v, None, None)));
    assert_close(rebuilt, block.attn.forward(x, &grid), 1e-6, "attention");
}
