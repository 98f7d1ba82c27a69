//! Text-prompted Segment Anything in browsers and Node: the crates of Saymask as WebAssembly.
//!
//! JavaScript sees three classes: [`Model`] is loaded from the files that `saymask export` writes, [`Embedding`] is an image that it has
//! read, [`Mask`] is an answer. Every call runs to its end on the calling thread: call them in a worker, and the page stays awake.
//! What is wrong with an input is thrown as an `Error` whose message says what would be right.
//!
//! ```js
//! const model = Model.load({ 'model.safetensors': weights, 'config.json': config, 'vocab.txt': vocabulary });
//! const embedding = model.embed(rgba, width, height);
//! const [mask] = model.ask(embedding, [{ sentence: 'the red circle', points: [[60, 70, 1]] }]);
//! mask.pixels(); // a Uint8Array of 0 and 1, row by row
//! ```

mod input;
mod model;

pub use model::{Embedding, Mask, Model};

use wasm_bindgen::prelude::wasm_bindgen;

/// A defect of ours reaches JavaScript with its words, not as "unreachable".
#[wasm_bindgen(start)]
pub fn start() {
    if cfg!(target_arch = "wasm32") {
        std::panic::set_hook(Box::new(|info| wasm_bindgen::throw_str(&format!("a defect of Saymask: {info}"))));
    }
}

/// The version of the package.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
