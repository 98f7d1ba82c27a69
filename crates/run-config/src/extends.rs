//! Configs that build on other configs: `extends = "base.toml"`.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::overrides::remove;
use crate::{ConfigError, EITHER_OR, name, replace_rival};

/// The key that names the config below.
const KEY: &str = "extends";

/// The key that lists keys of the configs below which shall not hold: `unset = ["model.init.sam"]`.
const UNSET: &str = "unset";

/// The config and the configs below it, each as written without `extends`, the nearest first.
pub(crate) fn chain(text: &str, file: Option<&Path>) -> Result<Vec<(Option<PathBuf>, Table)>, ConfigError> {
    let mut found: Vec<(Option<PathBuf>, Table)> = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    let (mut text, mut file) = (text.to_owned(), file.map(Path::to_owned));
    loop {
        let origin = name(file.as_deref());
        let wrong = |found: String, expected: &str| ConfigError::Value {
            key: KEY.to_owned(),
            origin: origin.clone(),
            found,
            expected: expected.to_owned(),
        };
        let mut table = text
            .parse::<Table>()
            .map_err(|error| ConfigError::Syntax { origin: origin.clone(), message: error.to_string().trim_end().to_owned() })?;
        // A file that cannot be resolved is not read from a disk either, so nothing can lead back to it.
        seen.extend(file.as_ref().and_then(|path| path.canonicalize().ok()));
        let base = table.remove(KEY);
        let folder = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        found.push((file, table));
        let base = match base {
            None => return Ok(found),
            Some(Value::String(base)) => base,
            Some(other) => return Err(wrong(other.to_string(), "a text in quotes, the path of a config relative to this file")),
        };
        let path = folder.join(&base);
        if path.canonicalize().is_ok_and(|path| seen.contains(&path)) {
            return Err(wrong(format!("{base:?}, which leads back to this config"), "a config that does not build on this one"));
        }
        text = std::fs::read_to_string(&path).map_err(|error| {
            wrong(
                format!("{base:?}, but {} cannot be read ({error})", path.display()),
                "the path of a config, relative to this file",
            )
        })?;
        file = Some(path);
    }
}

/// Takes what `over` lists under `unset` out of `table`, and the list out of `over`.
pub(crate) fn unset(table: &mut Table, over: &mut Table, origin: &str) -> Result<(), ConfigError> {
    let Some(listed) = over.remove(UNSET) else { return Ok(()) };
    let wrong = |found: String, expected: &str| ConfigError::Value {
        key: UNSET.to_owned(),
        origin: origin.to_owned(),
        found,
        expected: expected.to_owned(),
    };
    let keys: Option<Vec<&str>> = listed.as_array().and_then(|keys| keys.iter().map(Value::as_str).collect());
    let keys = keys.ok_or_else(|| wrong(listed.to_string(), "a list of keys in quotes, such as [\"model.init.sam\"]"))?;
    for key in keys {
        if !says(table, key) {
            return Err(wrong(format!("{key:?}"), "keys that the config named by `extends`, or one below it, sets"));
        }
        remove(table, key);
    }
    Ok(())
}

/// Puts `over` on `table`: tables are merged, everything else is replaced.
pub(crate) fn merge(table: &mut Table, over: &Table) {
    for (a, b) in EITHER_OR {
        for key in [a, b].into_iter().filter(|key| says(over, key)) {
            replace_rival(table, key);
        }
    }
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(over)) => merge(below, over),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Whether a table holds a dotted key, up to an index into a list.
pub(crate) fn says(table: &Table, key: &str) -> bool {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let (first, listed) = first.split_once('[').map_or((first, false), |(first, _)| (first, true));
    match table.get(first) {
        Some(Value::Table(below)) if !rest.is_empty() => says(below, rest),
        Some(_) => rest.is_empty() || listed,
        None => false,
    }
}
