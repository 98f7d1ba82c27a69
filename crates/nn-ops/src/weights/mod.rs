//! Strict loading and export of PyTorch and safetensors weights, by official names.
//!
//! [`StateDict`] reads safetensors, sharded safetensors and PyTorch files; [`KeyMap`] maps the paths of our modules to
//! official names; [`load`] fills a module and fails unless every tensor on both sides is accounted for; [`export`]
//! writes the same names back. Nothing is renamed or dropped silently. [`PretrainedFolder`] is `config.json`, weights and
//! tokenizer files in one folder.

mod error;
mod folder;
mod half;
mod hub;
mod key_map;
mod load;
mod lora;
mod nested;
mod state_dict;
mod torchscript;
mod trained;
mod unpickle;

pub use error::WeightsError;
pub use folder::PretrainedFolder;
pub use half::halve;
pub use key_map::{KeyMap, Parameter, parameters};
pub use load::{Allow, LoadReport, export, glob, load, load_formula, load_halving};
pub use lora::attach_lora;
pub use state_dict::StateDict;
pub use trained::{NamedVisitor, Trained, freeze_unless, name_ids, trained, visit_named};
