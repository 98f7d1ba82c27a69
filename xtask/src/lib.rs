//! The Saymask command line, as a library so that its parts can be tested.

pub mod check;
pub mod device;
pub mod progress;
pub mod table;
pub mod train;
