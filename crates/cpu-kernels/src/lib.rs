//! Fused CPU kernels for attention, linear layers, GELU, layer norm and Adam, forward and backward.
//!
//! Functions on plain slices, vectorised for AVX-512, AVX2 and NEON and spread over rayon's global pool. No tensor
//! library is needed: values are row-major `f32`, weights `f32`, `f16` or `bf16`.
//!
//! ```
//! use cpu_kernels::{Epilogue, Layer, gelu, linear};
//!
//! // Two rows of two values through one layer of three outputs.
//! let layer = Layer::new(&[1.0, 0.0, 1.0, 0.0, 1.0, 1.0][..], Some(&[0.0, 0.0, 1.0]), [2, 3], Epilogue::None)?;
//! let mut y = linear(&[1.0, 2.0, 3.0, 4.0], &[layer])?;
//! assert_eq!(y, [1.0, 2.0, 4.0, 3.0, 4.0, 8.0]);
//! gelu(&mut y);
//! # Ok::<(), cpu_kernels::KernelError>(())
//! ```
//!
//! | kernel | what is fused | spread over threads by |
//! |---|---|---|
//! | [`attention`] | logits, softmax and weighted sum; no logit leaves the cache | image, queries, heads |
//! | [`grouped_attention`] | as [`attention`], inside groups of tokens, with decomposed relative position | group, queries, heads |
//! | [`linear`] | bias, GELU or softmax, and layer after layer | rows |
//! | [`gelu`] | | values |
//! | [`layer_norm`] | statistics, gain and bias | rows |
//! | [`adam`] | both moments, decay and update | values |
//!
//! Gradients: [`attention_backward`] and [`grouped_attention_backward`] make the logits again and keep none; those of a linear layer
//! are [`product_transposed`], [`transposed_product`] and [`column_sums`]; [`gelu_backward`]; [`layer_norm_backward`].
//!
//! # Limits
//! Attention's gradients are shared out by groups and heads, which is little to share for one image on many cores. Numbers differ from an unfused computation by rounding; they do not depend on the number of
//! threads, but on the width of the processor's vectors. On a processor without such vectors ([`is_vectorized`]) results
//! are right, and slower than a good library's.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod adam;
mod attention;
mod error;
mod gelu;
mod layer_norm;
mod linear;
#[cfg(test)]
mod testing;
mod vector;

pub use adam::{AdamStep, adam, blend, sum_of_squares};
pub use attention::{
    AttentionShape, Group, GroupedGradients, RelativePosition, Token, attention, attention_backward, grouped_attention,
    grouped_attention_backward,
};
pub use error::KernelError;
pub use gelu::{gelu, gelu_backward};
pub use layer_norm::{LayerNormGradients, layer_norm, layer_norm_backward};
pub use linear::{Epilogue, Layer, Weight, column_sums, linear, product_transposed, transposed_product};
pub use vector::is_vectorized;
