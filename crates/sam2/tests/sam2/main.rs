//! What a user of the crate relies on, on toy sizes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod precision;
mod predictor;
mod toy;
mod video;
mod weights;
