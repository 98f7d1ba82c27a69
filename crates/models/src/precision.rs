//! Computing in bf16 on parameters that stay in f32.
//!
//! Parameters, gradients, optimiser states, the moving average and checkpoints are f32. A forward pass in bf16 sees the
//! module through casts that keep every parameter's identity and are leaves themselves: their gradients are cast back. Norms keep
//! f32 parameters and compute their statistics in f32 ([`nn_ops::norm`]); softmax ([`nn_ops::attention`]), positions, losses
//! and whatever leaves a network do, too. bf16 has the range of f32, so no loss scale is needed.

use std::sync::{Mutex, OnceLock, PoisonError};

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Gradients, Tensor};
use nn_ops::precision::to_f32;
use nn_ops::recompute::lifted;

use run_config::{ConfigError, Precision, RunConfig};

/// Modules whose parameters stay in single precision: norms, and the frequencies of positions, whose sines and cosines have
/// arguments of tens. A norm that is missing here still computes in f32, on rounded parameters.
const SINGLE: [&str; 5] =
    ["Struct:LayerNorm", "Struct:LayerNorm2d", "Struct:BatchNorm", "Struct:StdNorm", "Struct:PositionEmbedding"];

/// Fails when the config asks for a precision of training or evaluation that the device does not have, or for training in half weights.
///
/// # Errors
/// [`ConfigError::Value`] with the config's key.
pub fn check_training(run_config: &RunConfig, device: &Device) -> Result<(), ConfigError> {
    if run_config.eval.half_weights {
        let expected = "false in training, which needs its weights in single precision";
        return Err(run_config.value_error("eval.half_weights", true, expected));
    }
    check(run_config, "train.precision", run_config.train.precision, |kind| device.supports_dtype(kind))?;
    check_evaluation(run_config, device)
}

/// As [`check_training`], of `eval.precision` alone.
///
/// # Errors
/// [`ConfigError::Value`] with the config's key.
pub fn check_evaluation(run_config: &RunConfig, device: &Device) -> Result<(), ConfigError> {
    check(run_config, "eval.precision", run_config.eval.precision, |kind| device.supports_dtype(kind))
}

fn check(run_config: &RunConfig, key: &str, precision: Precision, has: impl Fn(DType) -> bool) -> Result<(), ConfigError> {
    if precision == Precision::F32 || has(DType::BF16) {
        return Ok(());
    }
    let expected = format!("\"f32\", for the device {} has no bf16", run_config.run.device);
    Err(run_config.value_error(key, format!("{:?}", precision.name()), expected))
}

/// A module as evaluation and prediction see it.
pub fn seen<M: Module>(net: &M, precision: Precision) -> M {
    match precision {
        Precision::F32 => net.clone(),
        Precision::Bf16 => net.clone().map(&mut Lower { path: Vec::new(), frozen: &GradientsParams::new() }),
    }
}

/// How training sees its module: the frozen parameters are cast once, the others in every step.
///
/// Frozen parameters must not change between calls.
#[derive(Debug)]
pub struct View {
    precision: Precision,
    /// Casts of the frozen parameters, outside of any graph, from the first call on.
    frozen: OnceLock<Mutex<GradientsParams>>,
}

impl View {
    /// A view in this precision.
    pub fn new(precision: Precision) -> Self {
        Self { precision, frozen: OnceLock::new() }
    }

    /// The module as one forward pass is to see it: its values as new leaves, of which no graph knows yet.
    ///
    /// What a pass leaves unused stays in the graph of the leaves that it hangs on, as long as these live. `Module::fork` would
    /// register a copy of every parameter in the graph of the original leaves, which parts of a batch would then share.
    pub fn of<M: Module>(&self, net: &M) -> M {
        if self.precision == Precision::F32 {
            return net.clone().map(&mut Leaves);
        }
        let frozen = self.frozen.get_or_init(|| {
            let mut collector = Frozen { path: Vec::new(), tensors: GradientsParams::new() };
            net.visit(&mut collector);
            Mutex::new(collector.tensors)
        });
        let frozen = frozen.lock().unwrap_or_else(PoisonError::into_inner);
        net.clone().map(&mut Lower { path: Vec::new(), frozen: &frozen })
    }

    /// Gradients of a module that [`View::of`] gave, in f32.
    pub fn gradients<M: Module>(&self, seen: &M, grads: Gradients) -> GradientsParams {
        let mut grads = GradientsParams::from_grads(grads, seen);
        if self.precision != Precision::F32 {
            seen.visit(&mut Raise(&mut grads));
        }
        grads
    }
}

fn lowers<const D: usize>(path: &[String], value: &Tensor<D>) -> bool {
    value.dtype() == DType::F32 && !path.last().is_some_and(|container| SINGLE.contains(&container.as_str()))
}

/// Collects the casts of parameters without gradients.
struct Frozen {
    path: Vec<String>,
    tensors: GradientsParams,
}

impl burn::module::ModuleVisitor for Frozen {
    fn enter_module(&mut self, _: &str, container: &str) {
        self.path.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !param.is_require_grad() && lowers(&self.path, &value) {
            self.tensors.register(param.id, value.inner().cast(DType::BF16));
        }
    }
}

/// `value` as a leaf that gets a gradient where `like` does.
fn leaf<const D: usize>(value: Tensor<D>, like: &Tensor<D>) -> Tensor<D> {
    let value = lifted(value, like);
    if like.is_require_grad() { value.require_grad() } else { value }
}

/// Makes new leaves.
struct Leaves;

impl ModuleMapper for Leaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let fresh = leaf(value.clone(), &value);
        Param::from_mapped_value(id, fresh, mapper)
    }
}

/// Casts gradients back.
struct Raise<'a>(&'a mut GradientsParams);

impl burn::module::ModuleVisitor for Raise<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.remove::<D>(param.id) {
            self.0.register(param.id, to_f32(grad));
        }
    }
}

/// Casts parameters, taking those that are at hand.
struct Lower<'a> {
    path: Vec<String>,
    frozen: &'a GradientsParams,
}

impl ModuleMapper for Lower<'_> {
    fn enter_module(&mut self, _: &str, container: &str) {
        self.path.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let value = match self.frozen.get::<D>(id) {
            Some(low) => lifted(low, &value),
            None if lowers(&self.path, &value) => leaf(value.clone().inner().cast(DType::BF16), &value),
            None => leaf(value.clone(), &value),
        };
        Param::from_mapped_value(id, value, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_bf16_is_refused() {
        let run_config = RunConfig::from_toml_str("[run]\ndevice = \"webgpu\"\n[train]\nprecision = \"bf16\"").unwrap();
        let error = check(&run_config, "train.precision", run_config.train.precision, |_| false).unwrap_err().to_string();
        assert!(error.contains("`train.precision`") && error.contains("\"f32\", for the device webgpu"), "{error}");
        assert!(check(&run_config, "eval.precision", run_config.eval.precision, |_| false).is_ok());
        assert!(check_training(&run_config, &Device::flex()).is_ok());
        let error = RunConfig::from_toml_str("[eval]\nprecision = \"bf61\"").unwrap_err().to_string();
        assert!(error.contains("\"f32\" or \"bf16\""), "{error}");
    }
}
