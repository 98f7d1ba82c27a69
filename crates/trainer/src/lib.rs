//! One trainer for every Saymask model: run plan, loop, EMA, checkpoints, evaluation

pub mod curves;
pub mod journal;
pub mod manifest;
pub mod picture;
pub mod plan;
pub mod run_dir;
pub mod schedule;
