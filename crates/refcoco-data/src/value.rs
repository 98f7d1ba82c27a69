//! Reading loosely typed records with errors that name file and field.

use std::path::Path;

use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use crate::DataError;

/// A value together with where it stands.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) path: &'a Path,
    pub(crate) field: String,
    pub(crate) value: &'a Value,
}

impl<'a> At<'a> {
    pub(crate) fn new(path: &'a Path, field: impl Into<String>, value: &'a Value) -> Self {
        Self { path, field: field.into(), value }
    }

    pub(crate) fn wrong(&self, expected: &str) -> DataError {
        DataError::field(self.path, &self.field, expected, describe(self.value))
    }

    /// A key of a dictionary, if present and not null.
    pub(crate) fn optional(&self, key: &str) -> Result<Option<At<'a>>, DataError> {
        let map = self.value.as_object().ok_or_else(|| self.wrong("a dictionary"))?;
        Ok(map.get(key).filter(|v| !v.is_null()).map(|v| At::new(self.path, format!("{}.{key}", self.field), v)))
    }

    pub(crate) fn key(&self, key: &str) -> Result<At<'a>, DataError> {
        self.optional(key)?.ok_or_else(|| {
            let field = format!("{}.{key}", self.field);
            DataError::field(self.path, field, "a value", "nothing (the key is missing)")
        })
    }

    pub(crate) fn items(&self) -> Result<Vec<At<'a>>, DataError> {
        let list = self.value.as_array().ok_or_else(|| self.wrong("a list"))?;
        Ok(list.iter().enumerate().map(|(i, v)| At::new(self.path, format!("{}[{i}]", self.field), v)).collect())
    }

    pub(crate) fn text(&self) -> Result<String, DataError> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.wrong("text"))
    }

    /// A whole number; text that spells one counts (RefCLEF writes some ids so).
    pub(crate) fn integer(&self) -> Result<i64, DataError> {
        let whole = self.value.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9e15);
        (self.value.as_i64())
            .or(whole.map(|v| v as i64))
            .or_else(|| self.value.as_str().and_then(|s| s.parse().ok()))
            .ok_or_else(|| self.wrong("a whole number"))
    }

    /// As [`Self::integer`], but written as one.
    pub(crate) fn whole(&self) -> Result<i64, DataError> {
        self.value.as_i64().ok_or_else(|| self.wrong("a whole number"))
    }

    pub(crate) fn number(&self) -> Result<f64, DataError> {
        self.value.as_f64().ok_or_else(|| self.wrong("a number"))
    }
}

/// A short account of a value for error messages.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(map) => format!("a dictionary of {} keys", map.len()),
        Value::String(text) => format!("text \"{}\"", text.chars().take(40).collect::<String>()),
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
    }
}

/// Hands over the rows of a JSON list one by one; when it fails, the rows before the bad one have been handed over.
pub(crate) fn read_list<T: DeserializeOwned>(bytes: &[u8], each: impl FnMut(T)) -> Result<(), serde_json::Error> {
    struct Rows<T, F>(F, std::marker::PhantomData<T>);
    impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for Rows<T, F> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<(), A::Error> {
            while let Some(row) = rows.next_element()? {
                (self.0)(row);
            }
            Ok(())
        }
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    json.deserialize_seq(Rows(each, std::marker::PhantomData))?;
    json.end()
}
