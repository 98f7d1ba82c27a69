//! Runs the cases of golden files, so that tests and the command line share one reading of them.
//!
//! A golden file holds what a reference implementation puts out; weights and inputs come from formula tensors. Sizes
//! are read from the file's metadata. Comparing is left to the caller, see [`CaseOutput::error`].

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::formula;
use nn_ops::weights::{Names, load_formula};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bert::BertConfig;
use crate::{TextBatch, TextError};

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

#[derive(Debug, Clone)]
enum Spec {
    Bert(BertCase),
}

#[derive(Debug, Clone, Deserialize)]
struct Input(Vec<usize>, f64, f64);

#[derive(Debug, Clone, Deserialize)]
struct BertCase {
    vocab: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    ffn: usize,
    max_pos: usize,
    token_ids: Vec<Vec<u32>>,
    mask: Vec<Vec<u8>>,
    parameters: usize,
    prefix: String,
}

/// The cases of a file of kind `text-encoders`, or the `beit3_*` and resize cases of kind `evf`, in the file's order.
///
/// # Errors
/// On metadata of another form. Cases of a name that starts with no known family are an error, not skipped.
pub fn cases(metadata: &BTreeMap<String, String>) -> Result<Vec<Case>, CheckError> {
    let text = |key: &str| metadata.get(key).ok_or_else(|| wrong(key, "is missing"));
    let seed = text("seed")?.clone();
    let inputs: BTreeMap<String, Input> = parse("inputs", metadata.get("inputs").map_or("{}", String::as_str))?;
    match text("kind")?.as_str() {
        "text-encoders" => {
            let specs: BTreeMap<String, Value> = parse("cases", text("cases")?)?;
            specs
                .into_iter()
                .map(|(name, value)| {
                    let thin = value.get("thin").cloned().unwrap_or_else(|| Value::Object(Default::default()));
                    let thin: BTreeMap<String, usize> = from_value(&name, thin)?;
                    let thin = thin.into_iter().map(|(output, k)| (format!("{name}.{output}"), k)).collect();
                    let spec = spec_of(&name, value)?;
                    Ok(Case { name, spec, seed: seed.clone(), inputs: inputs.clone(), thin })
                })
                .collect()
        }
        other => Err(wrong("kind", &format!("is {other:?}; expected \"text-encoders\" or \"evf\""))),
    }
}

fn spec_of(name: &str, value: Value) -> Result<Spec, CheckError> {
    if name.starts_with("bert") {
        Ok(Spec::Bert(from_value(name, value)?))
    } else {
        Err(wrong(name, "belongs to no family; expected bert*, clip_text*, openclip_text*, clip_vision* or vilt*"))
    }
}

impl Case {
    /// Name of the case; outputs are called `name.output`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Builds the model on `device`, fills it from the formula, runs it and drops it.
    ///
    /// # Errors
    /// When the number of weights differs from the reference's, or inputs do not fit.
    pub fn run(&self, device: &Device) -> Result<Vec<CaseOutput>, CheckError> {
        match &self.spec {
            Spec::Bert(spec) => self.bert(spec, device),
        }
    }

    fn bert(&self, spec: &BertCase, device: &Device) -> Result<Vec<CaseOutput>, CheckError> {
        let config = BertConfig {
            vocab_size: spec.vocab,
            hidden: spec.hidden,
            layers: spec.layers,
            heads: spec.heads,
            ffn: spec.ffn,
            max_positions: spec.max_pos,
            ..BertConfig::default()
        };
        config.validate().map_err(|e| self.text(e))?;
        let names = crate::bert::Bert::names().with_prefix(&spec.prefix);
        let model = self.fill(config.init(device), &names, spec.parameters)?;
        let batch = self.batch(&spec.token_ids, &spec.mask)?;
        let layers = model.layer_outputs(&batch, spec.layers).map_err(|e| self.text(e))?;
        let mut outputs = Vec::new();
        if let (Some(first), Some(last)) = (layers.first(), layers.last()) {
            outputs.push(self.output("layer1", first.clone())?);
            outputs.push(self.output("last", last.clone())?);
        }
        Ok(outputs)
    }

    fn fill<M: Module>(&self, model: M, names: &Names, expected: usize) -> Result<M, CheckError> {
        let (model, found) = load_formula(model, &self.seed, names);
        if found == expected {
            Ok(model)
        } else {
            Err(CheckError::Parameters { case: self.name.clone(), found, expected })
        }
    }

    /// Ids with a right-padding mask of ones and zeros.
    fn batch(&self, ids: &[Vec<u32>], mask: &[Vec<u8>]) -> Result<TextBatch, CheckError> {
        let lengths: Vec<usize> = mask.iter().map(|row| row.iter().take_while(|m| **m == 1).count()).collect();
        if mask.iter().zip(&lengths).any(|(row, &length)| row[length..].contains(&1)) {
            return Err(wrong(&self.name, "has a mask with padding before a token"));
        }
        TextBatch::from_padded(ids, &lengths).map_err(|e| self.text(e))
    }

    fn text(&self, source: TextError) -> CheckError {
        CheckError::Text { case: self.name.clone(), source }
    }

    fn output<const D: usize>(&self, name: &str, tensor: Tensor<D>) -> Result<CaseOutput, CheckError> {
        let name = format!("{}.{name}", self.name);
        let shape = tensor.dims().to_vec();
        let data = tensor.into_data().convert::<f32>();
        let values = data.try_to_vec::<f32>().map_err(|e| CheckError::Read { name: name.clone(), what: format!("{e:?}") })?;
        let step = self.thin.get(&name).copied().unwrap_or(1).max(1);
        Ok(CaseOutput { name, shape, values: values.into_iter().step_by(step).collect() })
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
