//! The small model that comes with the crate: a DIT of drawn shapes, so that there is something to ask before anything is trained.
//!
//! `small/README.md` is its model card: what it was trained on, by which command, its figures, and what it cannot do. The folder is what
//! `saymask export --hub crates/models/small --half` makes of a run of `saymask train`.

use nn_ops::weights::StateDict;
use run_config::{Init, RunConfig};

use crate::ModelError;
use crate::source::{Found, FoundWeights};
use crate::tokenizer::RunTokenizer;

/// Its config, as TOML.
pub const CONFIG: &str = include_str!("../small/saymask.toml");
/// Its weights in half precision, a safetensors file under official names.
pub const WEIGHTS: &[u8] = include_bytes!("../small/model.safetensors");
/// Its vocabulary.
pub const VOCABULARY: &[u8] = include_bytes!("../small/vocab.txt");

/// What it is, in words.
const LABEL: &str = "the small model that comes with Saymask, which knows drawn shapes only";

/// The model, found; `set` changes its config.
///
/// # Errors
/// Changes that the config does not take.
pub(crate) fn find<S: AsRef<str>>(set: &[S]) -> Result<Found, ModelError> {
    let mut run_config = RunConfig::resolve(CONFIG, None, set)?;
    run_config.model.init = Init::default();
    let tokenizer = RunTokenizer::from_bytes(&run_config, &[("vocab.txt".to_owned(), VOCABULARY.to_vec())])?;
    let weights = FoundWeights::Memory(StateDict::from_bytes("small/model.safetensors", WEIGHTS.to_vec())?);
    Ok(Found { run_config, tokenizer, weights, dir: None, label: LABEL.to_owned() })
}
