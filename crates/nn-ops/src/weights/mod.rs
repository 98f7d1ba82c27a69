//! Weights in and out, by official names.
//!
//! [`Checkpoint`] reads safetensors, sharded safetensors and PyTorch files; [`Names`] maps the paths of our modules to
//! official names; [`load`] fills a module and fails unless every tensor on both sides is accounted for; [`export`]
//! writes the same names back. Nothing is renamed or dropped silently.

mod checkpoint;
mod error;
mod half;
mod load;
mod names;
mod nested;
mod trained;

pub use checkpoint::Checkpoint;
pub use error::WeightsError;
pub use half::halve;
pub use load::{Allow, LoadReport, export, glob, load, load_formula, load_halving};
pub use names::{Names, Parameter, parameters};
pub use trained::{NamedVisitor, Trained, freeze_unless, name_ids, trained, visit_named};
