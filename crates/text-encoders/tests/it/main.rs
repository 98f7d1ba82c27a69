//! Tests across the modules of this crate, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests fail loudly and print errors measured")]

mod checkpoints;
mod clip_taps;
mod encoders;
mod golden;
mod tokenizers;

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::formula;
use text_encoders::TextBatch;

/// A formula tensor in [-1, 1).
fn input(name: &str, shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(formula::tensor("test", name, &shape, 0.0, 1.0), shape), device)
}

/// Largest difference of two tensors of one shape.
fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).abs().max().into_scalar::<f32>()
}

/// Rows of ids as a batch of `width` places filled up with `pad`.
fn batch(rows: &[&[u32]], width: usize, pad: u32) -> TextBatch {
    let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
    let fill = |row: &&[u32]| row.iter().copied().chain(std::iter::repeat_n(pad, width - row.len())).collect();
    TextBatch::from_padded(&rows.iter().map(fill).collect::<Vec<Vec<u32>>>(), &lengths).unwrap()
}
