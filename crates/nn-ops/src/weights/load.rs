//! Strict loading of weights: every parameter is accounted for, or nothing is loaded.
//!
//! Burn's stores ignore keys that nothing uses, renumber gaps in lists and give parameters the file's precision.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::error::{WeightsError, few};
use super::half::rounded;
use super::key_map::{KeyMap, Location, parameters};
use super::state_dict::StateDict;
use crate::formula;

/// Names that may be absent, on either side. `*` stands for any run of characters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allow<'a> {
    /// Parameters that keep their initial value when the file lacks them.
    pub missing: &'a [&'a str],
    /// Tensors of the file that the model does not use.
    pub unused: &'a [&'a str],
}

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters that were filled.
    pub matched: Vec<String>,
    /// Parameters that the file lacks, all allowed.
    pub missing: Vec<String>,
    /// Tensors of the file that nothing used, all allowed.
    pub unused: Vec<String>,
}

impl LoadReport {
    /// What both loads of one file did: a tensor that either used counts as used.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.matched.extend(other.matched);
        self.missing.extend(other.missing);
        self.unused.extend(other.unused);
        self.unused.sort();
        self.unused.dedup();
        self.unused.retain(|name| !self.matched.contains(name));
        self
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tensors loaded", self.matched.len())?;
        if !self.missing.is_empty() {
            write!(f, "; not in the file, left as initialised: {}", few(&self.missing, 6))?;
        }
        if !self.unused.is_empty() {
            write!(f, "; in the file, not used: {}", few(&self.unused, 6))?;
        }
        Ok(())
    }
}

/// Fills `module` from `state_dict`.
///
/// # Errors
/// [`WeightsError::Mismatch`] lists every shape that differs (both shapes), every missing parameter and every
/// unused tensor that `allow` does not cover; [`WeightsError::Tensor`] names one with values that are not finite. The module
/// is dropped unchanged then.
pub fn load<M: Module>(
    module: M,
    state_dict: &StateDict,
    names: &KeyMap,
    allow: &Allow<'_>,
) -> Result<(M, LoadReport), WeightsError> {
    load_halving(module, state_dict, names, allow, &|_| false)
}

/// As [`load`], and [`super::halve`] of each weight right after it was read, so that they are never all there in f32.
///
/// # Errors
/// As both.
pub fn load_halving<M: Module>(
    module: M,
    state_dict: &StateDict,
    names: &KeyMap,
    allow: &Allow<'_>,
    which: &dyn Fn(&str) -> bool,
) -> Result<(M, LoadReport), WeightsError> {
    let mut report = LoadReport::default();
    let (mut wrong, mut missing) = (Vec::new(), Vec::new());
    let mut used = BTreeSet::new();
    for parameter in parameters(&module, names) {
        match state_dict.shape(&parameter.name) {
            Some(shape) if shape == parameter.shape.as_slice() => report.matched.push(parameter.name.clone()),
            Some(shape) => {
                wrong.push(format!("`{}` is {shape:?} in the file and {:?} in the model", parameter.name, parameter.shape))
            }
            None if covered(allow.missing, &parameter.name) => report.missing.push(parameter.name.clone()),
            None => missing.push(parameter.name.clone()),
        }
        used.insert(parameter.name);
    }
    let (unused, surplus): (Vec<String>, Vec<String>) =
        state_dict.names().filter(|n| !used.contains(*n)).map(str::to_owned).partition(|n| covered(allow.unused, n));
    report.unused = unused;
    let mut summary = Vec::new();
    if !wrong.is_empty() {
        let rest = wrong.len().saturating_sub(6);
        wrong.truncate(6);
        let more = if rest > 0 { format!(" and {rest} more shapes") } else { String::new() };
        summary.push(format!("{}{more}", wrong.join("; ")));
    }
    if !missing.is_empty() {
        summary.push(format!("missing in the file: {}", few(&missing, 6)));
    }
    if !surplus.is_empty() {
        summary.push(format!("in the file but not in the model: {}", few(&surplus, 6)));
    }
    if !summary.is_empty() {
        return Err(WeightsError::Mismatch { path: state_dict.path().to_owned(), summary: summary.join("; ") });
    }
    let mut filler = Filler {
        at: Location::default(),
        names,
        values: |name: &str, _: &[usize]| state_dict.shape(name).is_some().then(|| state_dict.read_finite(name)).transpose(),
        halved: |path: &str| which(path).then(|| state_dict.path()),
        failed: None,
    };
    let module = module.map(&mut filler);
    match filler.failed {
        Some(error) => Err(error),
        None => Ok((module, report)),
    }
}

/// Fills `module` from the golden formula ([`crate::formula::weight`]) by official names and shapes.
/// Returns it with its number of float parameters, fixed ones included.
pub fn load_formula<M: Module>(module: M, seed: &str, names: &KeyMap) -> (M, usize) {
    let mut count = 0;
    let mut filler = Filler {
        at: Location::default(),
        names,
        values: |name: &str, shape: &[usize]| {
            count += shape.iter().product::<usize>();
            Ok(Some(formula::weight(seed, name, shape)))
        },
        halved: |_: &str| None,
        failed: None,
    };
    let module = module.map(&mut filler);
    (module, count)
}

/// Copies every float parameter out under its official name and in PyTorch's layout.
pub fn export<M: Module>(module: &M, names: &KeyMap, label: &str) -> StateDict {
    struct Exporter<'a> {
        at: Location,
        names: &'a KeyMap,
        out: StateDict,
    }
    impl ModuleVisitor for Exporter<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.at.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.at.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let mut tensor = param.val().detach();
            if self.at.is_linear_weight() {
                tensor = tensor.transpose();
            }
            let dims = tensor.dims();
            let data = tensor.into_data().convert::<f32>();
            let values = data.try_to_vec::<f32>().unwrap_or_default();
            self.out.insert(self.names.official(&self.at.dotted()), &dims, values);
        }
    }
    let mut exporter = Exporter { at: Location::default(), names, out: StateDict::empty(label) };
    module.visit(&mut exporter);
    exporter.out
}

struct Filler<'a, F, H> {
    at: Location,
    names: &'a KeyMap,
    values: F,
    /// The file of a linear layer's weight that is kept in half precision.
    halved: H,
    failed: Option<WeightsError>,
}

impl<'a, F, H> ModuleMapper for Filler<'a, F, H>
where
    F: FnMut(&str, &[usize]) -> Result<Option<Vec<f32>>, WeightsError>,
    H: Fn(&str) -> Option<&'a Path>,
{
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.at.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failed.is_some() {
            return param;
        }
        let dims: [usize; D] = param.lazy_shape().dims();
        let shape = self.at.file_shape(&dims);
        match (self.values)(&self.names.official(&self.at.dotted()), &shape) {
            Ok(Some(values)) => {
                let device = param.lazy_device();
                let mut tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
                if self.at.is_linear_weight() {
                    // A clone makes the transposed weight contiguous once, instead of in every forward.
                    tensor = contiguous_transpose(tensor);
                    let path = self.at.dotted();
                    if let Some(file) = (self.halved)(&path) {
                        match rounded(tensor, file, &self.names.official(&path)) {
                            Ok(rounded) => tensor = rounded,
                            Err(error) => {
                                self.failed = Some(error);
                                return param;
                            }
                        }
                    }
                }
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Ok(None) => param,
            Err(error) => {
                self.failed = Some(error);
                param
            }
        }
    }
}

/// [out, in] -> [in, out] with its own contiguous memory.
fn contiguous_transpose<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let device = tensor.device();
    Tensor::from_data(tensor.transpose().into_data(), &device)
}

/// Whether one of the patterns covers the name.
fn covered(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|p| glob(p, name))
}

/// `*` matches any run of characters, everything else itself.
pub fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            let Some(rest) = name.strip_prefix(head) else { return false };
            (0..=rest.len()).any(|i| rest.is_char_boundary(i) && glob(tail, &rest[i..]))
        }
    }
}
