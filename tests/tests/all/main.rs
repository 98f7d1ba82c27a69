//! One binary: every integration test links Burn once.

mod clicks;
mod evaluation;
mod goldens;
mod precision;
mod recipes;
mod recompute;
mod skips;
mod training;
