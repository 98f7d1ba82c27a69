//! One binary: every integration test links Burn once.

mod evaluation;
mod goldens;
mod precision;
mod prompts;
mod recipes;
mod recompute;
mod skips;
mod training;
