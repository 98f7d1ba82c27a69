//! BEiT-3 (EVF-SAM sec. 3.2): one transformer for image and text, with an expert for each.

mod config;
mod layer;
mod model;
mod pretrained;

pub use config::Beit3Config;
pub use model::{Beit3, Beit3Features};
