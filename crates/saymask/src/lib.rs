//! The Saymask command line as a library: one module per command, so that tests and benches can call them.

pub mod agree;
pub mod attend;
pub mod check;
pub mod compare;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod images;
mod kinds;
pub mod origin;
pub mod output;
pub mod outputs;
pub mod paper;
pub mod predict;
pub mod progress;
pub mod report;
pub mod segment;
pub mod serve;
pub mod session;
pub mod shards;
pub mod table;
pub mod track;
pub mod train;
pub mod weights;
