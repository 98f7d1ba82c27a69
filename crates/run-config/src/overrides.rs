//! Overrides such as `train.batch_size=8`.

use toml::{Table, Value};

use crate::ConfigError;

/// Splits `key=value` and reads the value as TOML, or as a bare text.
pub(crate) fn parse_override(text: &str) -> Result<(String, Value), ConfigError> {
    let refuse = |problem: &str| ConfigError::Override { text: text.to_owned(), problem: problem.to_owned() };
    let (key, value) = text.split_once('=').ok_or_else(|| refuse("has no `=`"))?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
        return Err(refuse("has an empty key"));
    }
    let parsed = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value) => Ok((key.to_owned(), value)),
        None if value.starts_with(['[', '{', '"', '\'']) => Err(refuse("has a value that looks like TOML but is not")),
        None => Ok((key.to_owned(), Value::String(value.to_owned()))),
    }
}

/// Sets the value at a dotted key, making tables on the way.
pub(crate) fn insert(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let inner = table.entry(first.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => insert(inner, rest, value),
        Value::Array(_) => Err(format!("reaches into the list `{first}`; give the whole list")),
        _ => Err(format!("reaches into `{first}`, which is a single value")),
    }
}

/// Takes the value at a dotted key away, if it is there.
pub(crate) fn remove(table: &mut Table, key: &str) {
    match key.split_once('.') {
        None => {
            table.remove(key);
        }
        Some((first, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}
