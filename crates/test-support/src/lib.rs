//! What tests of several crates share. It panics where a test has to fail.

pub mod http;
pub mod kill;
pub mod reliability;
mod session;

pub use session::{Session, json};
