//! One trainer for every Saymask model: run plan, loop, moving average, checkpoints, evaluation, pictures.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod average;
pub mod batch;
pub mod curves;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod journal;
pub mod manifest;
pub mod models;
pub mod optimise;
pub mod picture;
pub mod plan;
pub mod report;
pub mod run_dir;
pub mod schedule;
pub mod segmenter;
pub mod shards;
pub mod state;
pub mod train;

pub use error::TrainError;
