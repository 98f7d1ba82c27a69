//! Weights of a checkpoint, as evaluation and prediction use them.

use std::path::Path;

use burn::module::Module;
use burn::store::ModuleRecord;

use crate::ModelError;
use crate::run_dir::Checkpoint;

/// File of the weights in a checkpoint.
pub const MODEL: &str = "model.bpk";
/// File of the averaged weights in a checkpoint.
pub const AVERAGE: &str = "average.bpk";

/// The weights that a checkpoint is evaluated with: the average if there is one.
///
/// # Errors
/// A file that is missing or does not fit the model.
pub fn evaluated_weights<N: Module>(net: N, checkpoint: &Checkpoint) -> Result<N, ModelError> {
    let name = if checkpoint.manifest.files.contains_key(AVERAGE) { AVERAGE } else { MODEL };
    read_record(net, &checkpoint.file(name)?)
}

/// Fills a module from a record file.
///
/// # Errors
/// A file that is missing or does not fit the model.
pub fn read_record<N: Module>(net: N, path: &Path) -> Result<N, ModelError> {
    let state = |what: String| ModelError::State { path: path.to_owned(), what };
    let record = ModuleRecord::load(path).map_err(|e| state(e.to_string()))?;
    net.try_load_record(record).map_err(|e| state(e.to_string()))
}
