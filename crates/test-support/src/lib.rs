//! What tests of several crates share. It panics where a test has to fail.

mod session;

pub use session::{Session, json};
