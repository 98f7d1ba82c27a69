//! Layers for vision transformers on Burn: attention, relative position, windows, linear layers, exact resizes, mask
//! losses, strict loading of PyTorch weights, recomputation.
//!
//! What Burn lacks for text-prompted Segment Anything. Everything is model-agnostic and takes its device from its
//! arguments; no backend is enabled.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use nn_ops::resize::Resize;
//!
//! let device = Device::flex();
//! let ramp = Tensor::<4>::from_floats([[[[0.0, 1.0, 2.0]]]], &device);
//! let resized = Resize::BILINEAR_ALIGNED.forward(ramp, [1, 5]);
//! assert_eq!(resized.into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.5, 1.0, 1.5, 2.0]);
//! ```
//!
//! # The CPU
//! Enable the feature `flex` wherever the program enables `burn/flex`. Outside of training, attention, linear layers and
//! GELU on that device then run as the fused kernels of the crate `cpu-kernels`; without the feature all of it works the
//! same, several times slower. Callers need not choose: they call [`linear`], [`attention`] and so on, and the choice is
//! made inside.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod activation;
pub mod attention;
pub mod config;
pub mod conv;
mod cpu;
pub mod formula;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod optim;
pub mod precision;
pub mod projected_attention;
pub mod recompute;
pub mod relative_position;
pub mod resize;
pub mod rows;
pub mod synchronised;
#[cfg(test)]
mod testing;
pub mod weights;
pub mod window;

pub use config::ConfigError;
