//! What Burn lacks for text-prompted Segment Anything: exact separable resizes, erf GELU with its own gradient,
//! per-pixel layer norm, attention behind one function, mask losses, strict weight loading by official names, and the
//! formula tensors behind the golden files.
//!
//! Everything here is model-agnostic and takes its device from its arguments; no backend is enabled.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use nn_ops::resize::Resize;
//!
//! let device = Device::flex();
//! let ramp = Tensor::<4>::from_floats([[[[0.0, 1.0, 2.0]]]], &device);
//! let wide = Resize::BILINEAR_ALIGNED.forward(ramp, [1, 5]);
//! assert_eq!(wide.into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.5, 1.0, 1.5, 2.0]);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod activation;
pub mod attention;
pub mod conv;
pub mod formula;
pub mod host;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod precision;
pub mod recompute;
pub mod resize;
pub mod rows;
#[cfg(test)]
mod testing;
pub mod weights;
pub mod windows;
