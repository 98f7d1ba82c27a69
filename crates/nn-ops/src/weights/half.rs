//! Weights kept in half precision.

use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, FloatDType, Tensor};

use super::error::WeightsError;
use super::key_map::{KeyMap, Location};

/// Keeps the weights of the linear layers that `which` names by their module paths in f16: 11 bits per number, nothing above
/// 65504. Only layers that [`crate::linear`] computes may be named; it widens them where they are used, so results differ
/// from those of single precision by the rounding of the weights alone. Weights in f16 stay as they are.
///
/// Parameters that were not initialised yet are, one after the other, so that memory never holds all of them in f32.
///
/// # Errors
/// [`WeightsError::Tensor`], by the official name that `names` gives, for a weight that f16 cannot hold, and on a device without f16.
pub fn halve<M: Module>(module: M, names: &KeyMap, which: impl Fn(&str) -> bool) -> Result<M, WeightsError> {
    struct Halver<'a, F> {
        at: Location,
        names: &'a KeyMap,
        which: F,
        failed: Option<WeightsError>,
    }
    impl<F: Fn(&str) -> bool> ModuleMapper for Halver<'_, F> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.at.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.at.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = self.at.dotted();
            if self.failed.is_some() || !self.at.is_linear_weight() || !(self.which)(&path) {
                return param;
            }
            let (id, value, mapper) = param.consume();
            if value.dtype() == DType::F16 {
                return Param::from_mapped_value(id, value, mapper);
            }
            match rounded(value.clone(), Path::new("the model"), &self.names.official(&path)) {
                Ok(value) => Param::from_mapped_value(id, value, mapper),
                Err(error) => {
                    self.failed = Some(error);
                    Param::from_mapped_value(id, value, mapper)
                }
            }
        }
    }
    let mut halver = Halver { at: Location::default(), names, which, failed: None };
    let module = module.map(&mut halver);
    match halver.failed {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// In f16, if the device has it and it can hold every number.
pub(super) fn rounded<const D: usize>(value: Tensor<D>, path: &Path, name: &str) -> Result<Tensor<D>, WeightsError> {
    let device = value.device();
    if !device.supports_dtype(DType::F16) {
        let what = "the device has no half precision; keep weights in single precision there".into();
        return Err(WeightsError::Tensor { path: path.to_owned(), name: name.to_owned(), what });
    }
    let largest = value.clone().abs().max().into_scalar::<f32>();
    if let Some(what) = beyond_half(largest) {
        return Err(WeightsError::Tensor { path: path.to_owned(), name: name.to_owned(), what });
    }
    Ok(value.cast(FloatDType::F16))
}

/// What is wrong with a tensor whose largest magnitude is this, if f16 cannot hold it.
pub(super) fn beyond_half(largest: f32) -> Option<String> {
    (largest > half::f16::MAX.to_f32()).then(|| format!("holds {largest}, and half precision ends at {}", half::f16::MAX))
}
