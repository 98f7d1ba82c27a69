//! Runs the cases of golden files, so that tests and the command line share one reading of them.
//!
//! A golden file holds what a reference implementation puts out; weights and inputs come from formula tensors. Sizes
//! are read from the file's metadata. Comparing is left to the caller, see [`CaseOutput::error`].

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::TextError;

mod run;
mod spec;

use spec::Spec;

/// Why a golden cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Metadata of an unknown form.
    #[error("metadata `{key}`: {what}")]
    Metadata {
        /// The entry.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The model has another number of weights than the reference.
    #[error("case `{case}` has {found} weights, the reference {expected}")]
    Parameters {
        /// The case.
        case: String,
        /// Ours.
        found: usize,
        /// The reference's.
        expected: usize,
    },
    /// An input that the metadata does not describe.
    #[error("case `{case}` needs {what}")]
    Input {
        /// The case.
        case: String,
        /// What is missing.
        what: String,
    },
    /// The encoder refused its input.
    #[error("case `{case}`: {source}")]
    Text {
        /// The case.
        case: String,
        /// The reason.
        source: TextError,
    },
    /// An output that cannot be read back.
    #[error("output `{name}` cannot be read back: {what}")]
    Read {
        /// The output.
        name: String,
        /// The reason.
        what: String,
    },
}

/// One output, thinned as the golden file stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseOutput {
    /// Name of the tensor in the golden file.
    pub name: String,
    /// Shape before thinning.
    pub shape: Vec<usize>,
    /// Every k-th value, row-major.
    pub values: Vec<f32>,
}

impl CaseOutput {
    /// `max |got - want| / max(1, max |want|)`; infinite if lengths differ or a value is not finite.
    pub fn error(&self, want: &[f32]) -> f64 {
        if self.values.len() != want.len() {
            return f64::INFINITY;
        }
        let scale = want.iter().fold(1.0f64, |most, w| most.max(f64::from(w.abs())));
        let differences = self.values.iter().zip(want).map(|(g, w)| (f64::from(*g) - f64::from(*w)).abs());
        // A NaN must not vanish in `max`.
        differences.fold(0.0f64, |most, d| if d.is_finite() { most.max(d) } else { f64::INFINITY }) / scale
    }
}

/// A case of a golden file.
#[derive(Debug, Clone)]
pub struct Case {
    name: String,
    spec: Spec,
    seed: String,
    inputs: BTreeMap<String, Input>,
    thin: BTreeMap<String, usize>,
}

/// Shape, centre and amplitude of a formula input.
#[derive(Debug, Clone, Deserialize)]
struct Input(Vec<usize>, f64, f64);

/// The cases of a file of kind `text-encoders`, or the `beit3_*` and resize cases of kind `evf`.
///
/// # Errors
/// On metadata of another form. A case whose name starts with no known family is an error, not skipped.
pub fn cases(metadata: &BTreeMap<String, String>) -> Result<Vec<Case>, CheckError> {
    let text = |key: &str| metadata.get(key).ok_or_else(|| wrong(key, "is missing"));
    let seed = text("seed")?.clone();
    let inputs: BTreeMap<String, Input> = parse("inputs", metadata.get("inputs").map_or("{}", String::as_str))?;
    let case = |name: &str, spec, thin| Case { name: name.to_owned(), spec, seed: seed.clone(), inputs: inputs.clone(), thin };
    match text("kind")?.as_str() {
        "text-encoders" => {
            let specs: BTreeMap<String, Value> = parse("cases", text("cases")?)?;
            let build = |(name, value): (String, Value)| {
                let thin = value.get("thin").cloned().unwrap_or_else(|| Value::Object(Default::default()));
                let thin: BTreeMap<String, usize> = from_value(&name, thin)?;
                let thin = thin.into_iter().map(|(output, k)| (format!("{name}.{output}"), k)).collect();
                Ok(case(&name, Spec::of_text_encoders(&name, value)?, thin))
            };
            specs.into_iter().map(build).collect()
        }
        "evf" => {
            let thin: BTreeMap<String, usize> = parse("thin", metadata.get("thin").map_or("{}", String::as_str))?;
            let mut found = Vec::new();
            for (key, value) in metadata.iter().filter(|(key, _)| key.starts_with("beit3_")) {
                found.push(case(key, Spec::Beit3(parse(key, value)?), thin.clone()));
            }
            if inputs.contains_key(spec::PHOTO) {
                found.push(case(spec::RESIZE, Spec::Resize, thin));
            }
            Ok(found)
        }
        other => Err(wrong("kind", &format!("is {other:?}; expected \"text-encoders\" or \"evf\""))),
    }
}

impl Case {
    /// Name of the case; its outputs are called so, or begin so before a dot.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a tensor of the golden file belongs to this case.
    pub fn owns(&self, tensor: &str) -> bool {
        tensor.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Builds the model on `device`, fills it from the formula, runs it and drops it. Only outputs that `stored` knows
    /// are computed.
    ///
    /// # Errors
    /// When the number of weights differs from the reference's, or inputs do not fit.
    pub fn run(&self, device: &Device, stored: impl Fn(&str) -> bool) -> Result<Vec<CaseOutput>, CheckError> {
        run::run(self, device, &stored)
    }
}

fn wrong(key: &str, what: &str) -> CheckError {
    CheckError::Metadata { key: key.to_owned(), what: what.to_owned() }
}

fn parse<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, CheckError> {
    serde_json::from_str(text).map_err(|e| wrong(key, &e.to_string()))
}

fn from_value<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, CheckError> {
    serde_json::from_value(value).map_err(|e| wrong(key, &e.to_string()))
}
