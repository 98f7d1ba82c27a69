//! The run config: TOML, extended files and overrides become one checked value before any device is touched.
//!
//! Use it to read, check, compare and write what decides a training run. A wrong key, path or value is an error that names the
//! key, the file that wrote it, what was found and what would be right. It knows no Burn and no model: a method's own section is
//! read by whoever knows its type ([`RunConfig::section`]).
//!
//! ```
//! use run_config::RunConfig;
//!
//! let config = RunConfig::resolve("[train]\nbatch_size = 16\nepochs = 25", None, &["optim.lr=2e-4"])?;
//! assert_eq!(config.train.batch_size, 16);
//! assert_eq!(config.optim.lr, 2e-4);
//! let error = RunConfig::from_toml_str("[train]\nbach_size = 16").unwrap_err();
//! assert!(error.to_string().contains("did you mean `train.batch_size`?"));
//! # Ok::<(), run_config::ConfigError>(())
//! ```
//!
//! Paths and names of splits are checked by whoever opens them; a config only promises that its values make sense together.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod check;
mod difference;
mod error;
mod every;
mod extends;
mod overrides;
mod pattern;
mod precision;
mod read;
mod recompute;
mod sections;
mod training;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use refcoco_data::{DatasetSpec, OwnFormat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

pub use difference::Difference;
use difference::flatten;
pub use error::ConfigError;
pub use every::Every;
use overrides::{insert, parse_override, remove};
pub use pattern::pattern_matches;
pub use precision::Precision;
use read::{At, ReadError, ReadErrorKind, join, nearest, one_of};
pub use recompute::Recompute;
pub use sections::{DataSection, DataSource, Init, Method, ModelSection, RunSection, TextSection, Tokenizer};
pub use training::{
    BatchNorms, Ema, EvalSection, Group, Lora, LossSize, OptimSection, Optimizer, Profile, PromptKind, ScheduleKind,
    ScheduleSection, Select, TrainSection,
};

/// Everything that decides a run. Made by [`RunConfig::resolve`] and its short forms, which check it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct RunConfig {
    /// Where the run is kept and what it runs on.
    pub run: RunSection,
    /// What is read.
    pub data: DataSection,
    /// The method and its first weights.
    pub model: ModelSection,
    /// From sentence to token ids.
    pub text: TextSection,
    /// The optimiser.
    pub optim: OptimSection,
    /// The learning rate over the steps.
    pub schedule: ScheduleSection,
    /// The loop.
    pub train: TrainSection,
    /// How predictions are judged.
    pub eval: EvalSection,
    #[serde(skip)]
    origin: Origin,
}

/// Where the values were written, for errors, and as they were written, for further overrides.
#[derive(Debug, Clone, Default)]
struct Origin {
    /// The file, then the base files that it extends, each with what it says itself.
    files: Vec<(PathBuf, Table)>,
    written: Table,
    overridden: Vec<String>,
}

impl Origin {
    fn document(&self) -> String {
        name(self.files.first().map(|(path, _)| path.as_path()))
    }

    /// Who wrote `key`.
    fn of(&self, key: &str) -> String {
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if self.overridden.iter().any(|o| below(key, o) || below(o, key)) {
            return "the command line's overrides".to_owned();
        }
        match self.files.iter().find(|(_, written)| extends::says(written, key)) {
            Some((path, _)) => path.display().to_string(),
            None => self.document(),
        }
    }
}

/// A file's name in errors.
fn name(file: Option<&Path>) -> String {
    file.map_or_else(|| "the run config".to_owned(), |path| path.display().to_string())
}

/// Keys that do not change what a run computes: a run may be resumed with other values.
const NOT_DECIDING: [&str; 10] = [
    "run.name",
    "run.dir",
    "run.device",
    "run.threads",
    "data.prefetch",
    "data.max_unreadable",
    "train.keep",
    "train.recompute",
    "train.time_limit_minutes",
    "train.stop_after",
];

/// Pairs of keys of which one replaces the other.
const EITHER_OR: [(&str, &str); 2] = [("train.epochs", "train.steps"), ("schedule.warmup_epochs", "schedule.warmup_steps")];

/// Takes away the key that `key` replaces.
fn replace_rival(written: &mut Table, key: &str) {
    for (a, b) in EITHER_OR {
        if key == a {
            remove(written, b);
        } else if key == b {
            remove(written, a);
        }
    }
}

impl RunConfig {
    /// Reads a config from TOML text.
    ///
    /// # Errors
    /// [`ConfigError`] when the text, a key or a value is wrong.
    pub fn from_toml_str(text: &str) -> Result<Self, ConfigError> {
        Self::resolve(text, None, &[] as &[&str])
    }

    /// Reads a config from a TOML file. Its key `extends` may name another config, relative to it, whose values hold where it says
    /// nothing itself; those that its key `unset` lists do not (`unset = ["model.init.sam"]`).
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or its text, a key or a value is wrong.
    pub fn from_path(path: &Path) -> Result<Self, ConfigError> {
        Self::load(path, &[] as &[&str])
    }

    /// Reads a config from a TOML file and puts `overrides` over it before anything is checked.
    ///
    /// # Errors
    /// As [`RunConfig::from_path`].
    pub fn load<S: AsRef<str>>(path: &Path, overrides: &[S]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::resolve(&text, Some(path), overrides)
    }

    /// Reads a config from TOML text that came from `file` (which `extends` is relative to), with `overrides` such as `train.batch_size=8` put over it.
    ///
    /// An override's value is TOML (`0.5`, `true`, `["val", "testA"]`, `"a text"`); anything that is not TOML is taken as a
    /// bare text (`data.dataset=refcoco+`). An override of one of `train.epochs` and `train.steps` replaces the other.
    ///
    /// # Errors
    /// [`ConfigError`] when the text, an override, a key or a value is wrong.
    pub fn resolve<S: AsRef<str>>(text: &str, file: Option<&Path>, overrides: &[S]) -> Result<Self, ConfigError> {
        let mut files = extends::chain(text, file)?;
        let mut origin = Origin::default();
        for (path, table) in files.iter_mut().rev() {
            extends::unset(&mut origin.written, table, &name(path.as_deref()))?;
            extends::merge(&mut origin.written, table);
        }
        origin.files = files.into_iter().filter_map(|(path, table)| Some((path?, table))).collect();
        Self::overlay(origin, overrides)
    }

    /// The same config with `overrides` put over it, as in [`RunConfig::resolve`].
    ///
    /// # Errors
    /// [`ConfigError`] when an override, or the config that it gives, is wrong.
    pub fn with_overrides<S: AsRef<str>>(&self, overrides: &[S]) -> Result<Self, ConfigError> {
        Self::overlay(self.origin.clone(), overrides)
    }

    fn overlay<S: AsRef<str>>(mut origin: Origin, overrides: &[S]) -> Result<Self, ConfigError> {
        let mut given = Vec::new();
        for text in overrides {
            let (key, value) = parse_override(text.as_ref())?;
            replace_rival(&mut origin.written, &key);
            insert(&mut origin.written, &key, value)
                .map_err(|problem| ConfigError::Override { text: text.as_ref().to_owned(), problem })?;
            given.push(key);
        }
        // A profile brings its own threshold, unless one is given by hand beside it.
        if given.iter().any(|key| key == "eval.profile") && !given.iter().any(|key| key == "eval.threshold") {
            remove(&mut origin.written, "eval.threshold");
        }
        origin.overridden.extend(given);
        let mut config: Self = read(&origin, "", Value::Table(origin.written.clone()))?;
        config.origin = origin;
        config.fill();
        config.check()?;
        Ok(config)
    }

    /// Defaults that depend on other values.
    fn fill(&mut self) {
        let data = &mut self.data;
        // Published sets have makers of splits; nobody has to say that their own data are their own.
        if OwnFormat::named(&data.dataset).is_some() && data.split_by == DataSection::default().split_by {
            data.split_by = DatasetSpec::new(&data.root, &data.dataset).split_by;
        }
        let train = &mut self.train;
        if train.epochs.is_none() && train.steps.is_none() {
            train.epochs = Some(40);
        }
        let schedule = &mut self.schedule;
        let given = schedule.warmup_epochs.is_some() || schedule.warmup_steps.is_some();
        if schedule.kind.warms_up() && !given {
            match (train.steps, train.epochs) {
                (Some(steps), _) => schedule.warmup_steps = Some(steps / 10),
                (None, epochs) => {
                    let epochs = epochs.unwrap_or(0);
                    schedule.warmup_epochs = Some(if epochs > 3 { 3 } else { epochs / 10 });
                }
            }
        }
    }

    /// The table at a dotted key (`model.dit`) as the type of whoever knows it; a table that was not written reads as empty.
    ///
    /// # Errors
    /// [`ConfigError`] with the full dotted key when the type refuses it.
    pub fn section<T: DeserializeOwned>(&self, key: &str) -> Result<T, ConfigError> {
        let mut value = Value::Table(self.to_table()?);
        for part in key.split('.') {
            value = match value {
                Value::Table(mut table) => table.remove(part).unwrap_or_else(|| Value::Table(Table::new())),
                _ => Value::Table(Table::new()),
            };
        }
        read(&self.origin, key, value)
    }

    /// The chosen method's own table, as [`RunConfig::section`].
    ///
    /// # Errors
    /// [`ConfigError`] with the full dotted key when the type refuses it.
    pub fn method_section<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.section(&format!("model.{}", self.model.method.name()))
    }

    /// An error about `key` for whoever checks a value that only they understand.
    #[must_use]
    pub fn value_error(&self, key: &str, found: impl ToString, expected: impl ToString) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            origin: self.origin.of(key),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    /// The resolved config, every default included, as TOML that reads back as the same config.
    ///
    /// # Errors
    /// [`ConfigError::Write`] when a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Write { message: error.to_string() })
    }

    fn to_table(&self) -> Result<Table, ConfigError> {
        Table::try_from(self).map_err(|error| ConfigError::Write { message: error.to_string() })
    }

    /// Every deciding value as dotted key and TOML text, in the order of the keys.
    fn flat(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut all = BTreeMap::new();
        flatten("", &Value::Table(self.to_table()?), &mut all);
        all.retain(|key, _| !NOT_DECIDING.contains(&key.as_str()));
        Ok(all)
    }

    /// SHA-256, in hexadecimal, of everything that decides what the run computes. The run's name and folder, device, threads,
    /// prefetch depth, recomputation, checkpoints kept and early stops do not count.
    ///
    /// # Errors
    /// [`ConfigError::Write`] when a value has no TOML form.
    pub fn hash(&self) -> Result<String, ConfigError> {
        let mut hash = Sha256::new();
        for (key, value) in self.flat()? {
            hash.update(format!("{key} = {value}\n"));
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The deciding keys in which two configs differ, in order, with both values.
    ///
    /// # Errors
    /// [`ConfigError::Write`] when a value has no TOML form.
    pub fn differences(&self, other: &Self) -> Result<Vec<Difference>, ConfigError> {
        let (here, there) = (self.flat()?, other.flat()?);
        let mut keys: Vec<&String> = here.keys().chain(there.keys()).collect();
        keys.sort();
        keys.dedup();
        Ok(keys
            .into_iter()
            .filter(|&key| here.get(key) != there.get(key))
            .map(|key| Difference { key: key.clone(), here: here.get(key).cloned(), there: there.get(key).cloned() })
            .collect())
    }
}

/// Reads the value at `key` and turns errors into the reader's.
fn read<T: DeserializeOwned>(origin: &Origin, key: &str, value: Value) -> Result<T, ConfigError> {
    T::deserialize(At { key: key.to_owned(), value }).map_err(|ReadError { key: at, kind }| {
        let key = at.unwrap_or_else(|| key.to_owned());
        match kind {
            ReadErrorKind::Unknown { found, expected } => {
                ConfigError::UnknownKey { hint: hint(&key, &found, &expected), origin: origin.of(&key), key }
            }
            ReadErrorKind::Choice { found, expected } => ConfigError::Value {
                origin: origin.of(&key),
                expected: match nearest(&found, &expected) {
                    Some(word) => format!("{}; did you mean \"{word}\"?", one_of(&expected)),
                    None => one_of(&expected),
                },
                found: format!("the text {found:?}"),
                key,
            },
            ReadErrorKind::Missing(field) => {
                let key = join(&key, field);
                ConfigError::MissingKey { origin: origin.of(&key), key }
            }
            ReadErrorKind::Wrong { found, expected } => ConfigError::Value { origin: origin.of(&key), key, found, expected },
            ReadErrorKind::Other(message) => {
                ConfigError::Value { origin: origin.of(&key), key, found: "not usable".to_owned(), expected: message }
            }
        }
    })
}

/// What may have been meant by the unknown key `full`, whose last part is `found`.
fn hint(full: &str, found: &str, expected: &[&str]) -> String {
    let parent = full.strip_suffix(found).map_or("", |parent| parent.trim_end_matches('.'));
    if let Some(word) = nearest(found, expected) {
        return format!("did you mean `{}`?", join(parent, word));
    }
    let elsewhere: Vec<String> = Table::try_from(RunConfig::default())
        .into_iter()
        .flatten()
        .filter(|(_, section)| section.get(found).is_some())
        .map(|(name, _)| format!("`{name}.{found}`"))
        .collect();
    if !elsewhere.is_empty() {
        return format!("did you mean {}?", elsewhere.join(" or "));
    }
    match (expected, parent) {
        ([], _) => format!("`{parent}` has no keys"),
        (_, "") => format!("the sections are {}", expected.join(", ")),
        _ => format!("the keys of `{parent}` are {}", expected.join(", ")),
    }
}

#[cfg(test)]
mod tests;
