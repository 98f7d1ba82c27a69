//! What a user of the crate relies on, on toy sizes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod automatic;
mod predictor;
mod preprocess;
mod seams;
mod toy;
mod weights;
