//! One binary: every integration test links Burn once.

mod goldens;
mod recipes;
mod training;
