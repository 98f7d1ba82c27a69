//! The Saymask command line, as a library so that its parts can be tested.

pub mod agree;
pub mod attend;
pub mod bench;
pub mod check;
pub mod data;
pub mod device;
pub mod eval;
pub mod export;
pub mod hub;
pub mod predict;
pub mod progress;
pub mod segment;
pub mod session;
pub mod table;
pub mod test;
pub mod tidy;
pub mod train;
