//! One binary: every integration test links Burn once.

mod configs;
mod evaluation;
mod goldens;
mod held_out;
mod mutations;
mod precision;
mod prompts;
mod ranks;
mod recompute;
mod same_masks;
mod skips;
mod training;
mod unreadable;
