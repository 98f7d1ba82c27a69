//! A golden file: expected outputs, and the config of the weights and inputs behind them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use models::precision::seen;
use nn_ops::formula;
use nn_ops::weights::{KeyMap, StateDict, glob, load_formula};
use run_config::Precision;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Largest error in f32 on the CPU, relative to the largest expected value where that exceeds 1.
pub const BOUND: f32 = 1e-4;

/// One output compared.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Name in the file.
    pub name: String,
    /// `max |got - want|`, in bf16 its root mean square.
    pub error: f32,
    /// What it may be.
    pub bound: f32,
    /// Why the comparison was impossible, when it was.
    pub fault: Option<String>,
}

impl Outcome {
    /// Whether the output is right.
    pub fn passed(&self) -> bool {
        self.fault.is_none() && self.error <= self.bound
    }
}

/// A golden file being checked.
pub struct Golden {
    file: StateDict,
    meta: BTreeMap<String, Value>,
    /// Device of inputs and models.
    pub device: Device,
    precision: Precision,
    tolerance: f32,
    outcomes: Vec<Outcome>,
}

impl Golden {
    /// Reads a golden file.
    pub fn open(path: &Path, device: &Device, precision: Precision, tolerance: f32) -> Result<Self> {
        let file = StateDict::open(path)?;
        let meta = file
            .metadata()
            .iter()
            .map(|(key, text)| (key.clone(), serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))))
            .collect();
        Ok(Self { file, meta, device: device.clone(), precision, tolerance, outcomes: Vec::new() })
    }

    /// The kind of model, when the file is a golden.
    pub fn kind(&self) -> Option<&str> {
        self.meta.get("kind").and_then(Value::as_str)
    }

    /// Metadata as the file states it.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    /// A metadata entry.
    pub fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let value = self.meta.get(key).with_context(|| format!("metadata has no `{key}`"))?;
        serde_json::from_value(value.clone()).with_context(|| format!("metadata `{key}` has the wrong form"))
    }

    /// Whether a metadata entry exists.
    pub fn has(&self, key: &str) -> bool {
        self.meta.contains_key(key)
    }

    /// Seed of weights and inputs. Numbers are taken as written.
    pub fn seed(&self) -> Result<String> {
        self.file.metadata().get("seed").cloned().ok_or_else(|| anyhow!("metadata has no `seed`"))
    }

    /// A model with the formula's weights under official names, as evaluation in the asked precision sees it, and its number
    /// of parameters.
    pub fn model<M: Module>(&self, fresh: M, names: &KeyMap) -> Result<(M, usize)> {
        let (model, count) = load_formula(fresh, &self.seed()?, names);
        Ok((seen(&model, self.precision), count))
    }

    /// An input to the inside of a network, in its precision. Images and what becomes of them find theirs alone.
    pub fn features<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let input = self.input(name)?;
        Ok(if self.precision == Precision::Bf16 { input.cast(DType::BF16) } else { input })
    }

    /// Shape of an input.
    pub fn input_shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.input_spec(name)?.0)
    }

    fn input_spec(&self, name: &str) -> Result<(Vec<usize>, f64, f64)> {
        let inputs: BTreeMap<String, (Vec<usize>, f64, f64)> = self.meta("inputs")?;
        inputs.get(name).cloned().with_context(|| format!("metadata `inputs` has no `{name}`"))
    }

    /// Values of an input; binarised, of bytes or rounded to bf16 where the file says so.
    pub fn input_values(&self, name: &str) -> Result<Vec<f32>> {
        let (shape, center, amp) = self.input_spec(name)?;
        let mut values = formula::tensor(&self.seed()?, name, &shape, center, amp);
        if self.has("binarise")
            && let Some(threshold) = self.meta::<BTreeMap<String, f64>>("binarise")?.get(name)
        {
            for v in &mut values {
                *v = f32::from(f64::from(*v) > *threshold);
            }
        }
        if self.lists("u8", name) {
            values.iter_mut().for_each(|v| *v = v.floor());
        }
        if self.lists("bf16", name) {
            values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32());
        }
        Ok(values)
    }

    /// Whether a list of patterns in the metadata names an input.
    fn lists(&self, key: &str, name: &str) -> bool {
        let patterns = self.meta.get(key).and_then(Value::as_array);
        patterns.into_iter().flatten().filter_map(Value::as_str).any(|pattern| glob(pattern, name))
    }

    /// An input on the device.
    pub fn input<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let shape = self.input_shape(name)?;
        if shape.len() != D {
            bail!("input `{name}` has {} axes, expected {D}", shape.len());
        }
        Ok(Tensor::from_data(TensorData::new(self.input_values(name)?, shape), &self.device))
    }

    /// Names of the expected outputs.
    pub fn expected(&self) -> Vec<String> {
        self.file.names().map(str::to_owned).collect()
    }

    /// Compares a tensor with the expected output of that name, if the file has it.
    pub fn compare<const D: usize>(&mut self, name: &str, got: Tensor<D>) {
        let fault = match got.try_into_vec_as::<f32>() {
            Ok(values) => return self.compare_values(name, &values),
            Err(error) => format!("cannot be read back: {error}"),
        };
        self.fail(name, fault);
    }

    /// As [`Golden::compare`], for values on the host.
    pub fn compare_values(&mut self, name: &str, got: &[f32]) {
        let kept: Vec<f32> = got.iter().copied().step_by(self.thinning(name)).collect();
        self.compare_thinned(name, &kept);
    }

    /// As [`Golden::compare_values`], for values that are thinned already.
    pub fn compare_thinned(&mut self, name: &str, got: &[f32]) {
        if self.file.shape(name).is_none() {
            return;
        }
        let want = match self.file.read(name) {
            Ok(want) => want,
            Err(error) => return self.fail(name, error.to_string()),
        };
        if got.len() != want.len() {
            return self.fail(name, format!("{} values instead of {}", got.len(), want.len()));
        }
        let difference = got.iter().zip(&want).map(|(g, w): (&f32, &f32)| g - w);
        let (error, scale) = match self.precision {
            // `max` drops NaN, so a NaN is turned into an infinite error.
            Precision::F32 => (
                difference.fold(0.0f32, |m, e| if e.is_nan() { f32::INFINITY } else { m.max(e.abs()) }),
                want.iter().fold(1.0f32, |m, v| m.max(v.abs())),
            ),
            // One value of thousands says little where all are rounded to 7 bits.
            Precision::Bf16 => (mean_square(difference), mean_square(want.iter().copied())),
        };
        let bound = self.tolerance * self.looser(name) * scale;
        self.outcomes.push(Outcome { name: name.to_owned(), error, bound, fault: None });
    }

    /// Compares a number of parameters with the stated one.
    pub fn compare_count(&mut self, name: &str, got: usize, want: usize) {
        if got == want {
            self.outcomes.push(Outcome { name: name.to_owned(), error: 0.0, bound: 0.0, fault: None });
        } else {
            self.fail(name, format!("{got} parameters instead of {want}"));
        }
    }

    /// Notes a failure that has no numbers.
    pub fn fail(&mut self, name: &str, fault: String) {
        self.outcomes.push(Outcome { name: name.to_owned(), error: f32::INFINITY, bound: 0.0, fault: Some(fault) });
    }

    /// How much further than others an output may be off: what the file allows it in f32 on the CPU, beside [`BOUND`]. Of the
    /// patterns that match a name, the longest counts.
    fn looser(&self, name: &str) -> f32 {
        let stated = self.meta.get("tolerance").and_then(Value::as_object);
        let matching = stated.into_iter().flatten().filter(|(pattern, _)| glob(pattern, name));
        let longest = matching.max_by_key(|(pattern, _)| pattern.len()).and_then(|(_, bound)| bound.as_f64());
        longest.map_or(1.0, |bound| bound as f32 / BOUND)
    }

    fn thinning(&self, name: &str) -> usize {
        let find = |map: &Value| {
            map.as_object().and_then(|m| m.iter().find(|(pattern, _)| glob(pattern, name)).and_then(|(_, k)| k.as_u64()))
        };
        // A file states thinning for all of it, or case by case under the case's own output names.
        let whole = self.meta.get("thin").and_then(find);
        let per_case = || {
            let (case, output) = name.split_once('.')?;
            let thin = self.meta.get("cases")?.get(case)?.get("thin")?;
            thin.as_object()?.iter().find(|(pattern, _)| glob(pattern, output)).and_then(|(_, k)| k.as_u64())
        };
        whole.or_else(per_case).map_or(1, |k| usize::try_from(k).unwrap_or(1).max(1))
    }

    /// All outcomes; expected outputs that nothing computed are failures.
    pub fn finish(mut self) -> Vec<Outcome> {
        for name in self.expected() {
            if !self.outcomes.iter().any(|o| o.name == name) {
                self.fail(&name, "was not computed".into());
            }
        }
        self.outcomes
    }
}

/// Root of the mean square.
fn mean_square(values: impl Iterator<Item = f32>) -> f32 {
    let (count, sum) = values.fold((0usize, 0.0f64), |(n, sum), v| (n + 1, sum + f64::from(v) * f64::from(v)));
    (sum / count.max(1) as f64).sqrt() as f32
}
