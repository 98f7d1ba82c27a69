//! Weights of a checkpoint, as evaluation and prediction use them.

use std::path::Path;

use burn::module::{Module, Param};
use burn::store::ModuleRecord;
use burn::tensor::Tensor;
use nn_ops::weights::{KeyMap, NamedVisitor, attach_lora, visit_named};
use run_config::Lora;

use crate::ModelError;
use crate::run_dir::Checkpoint;

/// File of the weights in a checkpoint.
pub const MODEL: &str = "model.bpk";
/// File of the averaged weights in a checkpoint.
pub const AVERAGE: &str = "average.bpk";

/// The weights that a checkpoint is evaluated with: the average if there is one. Adapters are added to the weights that they belong
/// to. `names` are the official names of the parameters.
///
/// # Errors
/// A file that is missing or does not fit the model.
pub fn evaluated_weights<N: Module>(net: N, names: &KeyMap, checkpoint: &Checkpoint) -> Result<N, ModelError> {
    let lora = checkpoint.config()?.train.lora;
    let net = match &lora {
        Some(lora) => with_adapters(net, names, lora).0,
        None => net,
    };
    let name = if checkpoint.manifest.files.contains_key(AVERAGE) { AVERAGE } else { MODEL };
    let path = checkpoint.file(name)?;
    let net = read_record(net, &path)?;
    let net = if lora.is_some() { net.materialize() } else { net };
    let mut search = NotFinite::default();
    visit_named(&net, &KeyMap::plain(), &mut search);
    match search.first {
        None => Ok(net),
        Some(tensor) => Err(ModelError::State {
            path,
            what: format!("tensor `{tensor}` holds values that are NaN or infinite; use another checkpoint"),
        }),
    }
}

/// A module with the adapters of `train.lora`, and how many it has.
pub fn with_adapters<N: Module>(net: N, names: &KeyMap, lora: &Lora) -> (N, usize) {
    attach_lora(net, names, lora.rank, lora.alpha, |name| lora.adapts(name))
}

/// The first parameter with values that are not finite.
#[derive(Default)]
struct NotFinite {
    first: Option<String>,
}

impl NamedVisitor for NotFinite {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if self.first.is_some() {
            return;
        }
        // Compared on the host: CUDA kernels are compiled with fast maths, which may take a NaN for a number.
        let data = param.val().detach().into_data();
        let finite = match data.as_slice::<f32>() {
            Ok(values) => values.iter().all(|v| v.is_finite()),
            Err(_) => data.iter::<f32>().all(|v| v.is_finite()),
        };
        if !finite {
            self.first = Some(name.to_owned());
        }
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[test]
    fn a_weight_that_is_not_finite_is_named() {
        let device = Device::flex();
        let mut layers: Vec<Linear> = (0..3).map(|_| LinearConfig::new(2, 2).init(&device)).collect();
        let search = |layers: &Vec<Linear>| {
            let mut search = NotFinite::default();
            visit_named(layers, &KeyMap::plain(), &mut search);
            search.first
        };
        assert_eq!(search(&layers), None);
        for (layer, bad) in [(2, f32::NAN), (1, f32::INFINITY)] {
            layers[layer].weight = layers[layer].weight.clone().map(|w| w * bad);
            assert_eq!(search(&layers), Some(format!("{layer}.weight")));
        }
    }
}
