//! Fused CPU kernels for attention, linear layers and GELU.
//!
//! Forward passes on plain slices, vectorised for AVX-512, AVX2 and NEON and spread over rayon's global pool. No tensor
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
//!
//! # Limits
//! There is no backward pass. Numbers differ from an unfused computation by rounding; they do not depend on the number of
//! threads, but on the width of the processor's vectors. On a processor without such vectors ([`is_vectorized`]) results
//! are right, and slower than a good library's.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod attention;
mod error;
mod gelu;
mod linear;
#[cfg(test)]
mod testing;
mod vector;

pub use attention::{AttentionShape, Group, RelativePosition, Token, attention, grouped_attention};
pub use error::KernelError;
pub use gelu::gelu;
pub use linear::{Epilogue, Layer, Weight, linear};
pub use vector::is_vectorized;
