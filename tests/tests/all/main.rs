//! One binary: every integration test links Burn once.

mod configs;
mod evaluation;
mod goldens;
mod precision;
mod prompts;
mod recompute;
mod skips;
mod training;
