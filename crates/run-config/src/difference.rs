//! Configs compared key by key.

use std::collections::BTreeMap;

use toml::Value;

use crate::join;

/// A key in which two configs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Full dotted key.
    pub key: String,
    /// TOML text of the first config's value, if it has one.
    pub here: Option<String>,
    /// TOML text of the other config's value, if it has one.
    pub there: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let say = |value: &Option<String>| value.clone().unwrap_or_else(|| "not given".to_owned());
        write!(f, "{}: {} here, {} there", self.key, say(&self.here), say(&self.there))
    }
}

/// Every single value below `value`, by dotted key.
pub(crate) fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&join(prefix, key), value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&format!("{prefix}[{index}]"), value, into);
            }
        }
        value => {
            into.insert(prefix.to_owned(), value.to_string());
        }
    }
}
