//! What tests of several crates share. It panics where a test has to fail.

pub mod http;
pub mod kill;
pub mod reliability;
mod session;
mod toy;

pub use session::{Session, json};
pub use toy::toy_toml;
