//! Reads TOML values into Rust types with errors that know the full dotted key.
//!
//! `toml`'s own errors name a line, or after merging overrides nothing at all. This small [`serde::Deserializer`] walks a
//! [`toml::Value`] and pins each error to the key it arose at: `optim.groups[1].lr_scale`.

use serde::de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml::Value;

/// What went wrong at a key, before it is known which file the key came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadError {
    /// Full dotted key; empty until the error has left the value it arose in.
    pub(crate) key: Option<String>,
    pub(crate) kind: ReadErrorKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ReadErrorKind {
    /// A key that the section does not have.
    Unknown { found: String, expected: Vec<&'static str> },
    /// A word that is none of the allowed ones.
    Choice { found: String, expected: Vec<&'static str> },
    /// A key that has no default is not there.
    Missing(&'static str),
    /// A value of another type, or a number that does not fit.
    Wrong { found: String, expected: String },
    /// Anything a hand-written `Deserialize` says.
    Other(String),
}

impl ReadError {
    fn new(kind: ReadErrorKind) -> Self {
        Self { key: None, kind }
    }

    /// Pins the error to `key`, unless a deeper value already did.
    fn at(mut self, key: &str) -> Self {
        if self.key.is_none() {
            self.key = Some(key.to_owned());
        }
        self
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.key.as_deref().unwrap_or("?"), self.kind)
    }
}

impl std::error::Error for ReadError {}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Signed(n) => format!("the number {n}"),
        Unexpected::Unsigned(n) => format!("the number {n}"),
        Unexpected::Float(x) => format!("the number {x}"),
        Unexpected::Bool(b) => format!("{b}"),
        other => other.to_string(),
    }
}

/// Says a serde expectation in the words of a TOML file.
fn expectation(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "f64" | "f32" => "a number".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "a map" => "a table".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" | "a path string" => "a text in quotes".to_owned(),
        _ if text.starts_with("struct ") => "a table".to_owned(),
        _ if text.starts_with("enum ") => "one of the allowed words, in quotes".to_owned(),
        _ => text,
    }
}

impl de::Error for ReadError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::new(ReadErrorKind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(ReadErrorKind::Wrong { found: describe(found), expected: expectation(expected) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(len: usize, expected: &dyn de::Expected) -> Self {
        Self::new(ReadErrorKind::Wrong { found: format!("a list of {len}"), expected: expectation(expected) })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(ReadErrorKind::Unknown { found: field.to_owned(), expected: expected.to_vec() })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(ReadErrorKind::Choice { found: variant.to_owned(), expected: expected.to_vec() })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(ReadErrorKind::Missing(field))
    }
}

/// `section.key`, or `key` at the top.
pub(crate) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// A TOML value together with the dotted key it stands at.
pub(crate) struct At {
    pub(crate) key: String,
    pub(crate) value: Value,
}

impl<'de> de::Deserializer<'de> for At {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Self { key, value } = self;
        match value {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(n) => match u64::try_from(n) {
                Ok(n) => visitor.visit_u64(n),
                Err(_) => visitor.visit_i64(n),
            },
            Value::Float(x) => visitor.visit_f64(x),
            Value::Boolean(b) => visitor.visit_bool(b),
            Value::Datetime(_) => Err(de::Error::invalid_type(Unexpected::Other("a date"), &visitor)),
            Value::Array(items) => {
                let found = items.len();
                let mut items = Items { key: &key, next: 0, items: items.into_iter() };
                visitor.visit_seq(&mut items).and_then(|read| {
                    if items.items.len() == 0 {
                        return Ok(read);
                    }
                    Err(ReadError::new(ReadErrorKind::Wrong {
                        found: format!("a list of {found}"),
                        expected: format!("a list of {}", items.next),
                    }))
                })
            }
            Value::Table(table) => visitor.visit_map(Entries { key: &key, entries: table.into_iter(), value: None }),
        }
        .map_err(|error| error.at(&key))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let key = self.key.clone();
        match self.value {
            Value::String(text) => visitor.visit_enum(IntoDeserializer::<ReadError>::into_deserializer(text)),
            // A variant with contents, written as a table with the variant's name as its only key.
            Value::Table(table) => toml::Value::Table(table).deserialize_enum(name, variants, visitor).map_err(de::Error::custom),
            other => {
                Err(ReadError::new(ReadErrorKind::Wrong { found: describe(unexpected(&other)), expected: one_of(variants) }))
            }
        }
        .map_err(|error| error.at(&key))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::String(text) => Unexpected::Str(text),
        Value::Integer(n) => Unexpected::Signed(*n),
        Value::Float(x) => Unexpected::Float(*x),
        Value::Boolean(b) => Unexpected::Bool(*b),
        Value::Datetime(_) => Unexpected::Other("a date"),
        Value::Array(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}

/// `"a", "b" or "c"`.
pub(crate) fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("\"{}\"", w.as_ref())).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

struct Items<'k> {
    key: &'k str,
    next: usize,
    items: std::vec::IntoIter<Value>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(value) = self.items.next() else {
            return Ok(None);
        };
        let key = format!("{}[{}]", self.key, self.next);
        self.next += 1;
        let pinned = key.clone();
        seed.deserialize(At { key, value }).map(Some).map_err(|error| error.at(&pinned))
    }
}

struct Entries<'k> {
    key: &'k str,
    entries: <toml::Table as IntoIterator>::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((name, value)) = self.entries.next() else {
            return Ok(None);
        };
        let key = join(self.key, &name);
        self.value = Some((key.clone(), value));
        seed.deserialize(name.into_deserializer()).map(Some).map_err(|error: ReadError| error.at(&key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        let Some((key, value)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let pinned = key.clone();
        seed.deserialize(At { key, value }).map_err(|error| error.at(&pinned))
    }
}

/// Number of single-letter edits (insert, delete, replace, swap of neighbours) from `a` to `b`.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + change).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// The word of `known` that `found` most likely meant, if any is close.
pub(crate) fn nearest<'a, S: AsRef<str>>(found: &str, known: &'a [S]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(found);
    known
        .iter()
        .map(|word| {
            let word = word.as_ref();
            (edit_distance(&wanted, &plain(word)), word)
        })
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, word)| distance <= (word.chars().count().max(wanted.len()) / 3).max(1))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("batch_size", "bach_size"), 1);
        assert_eq!(edit_distance("bacth", "batch"), 1);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn nearest_word() {
        let known = ["batch_size", "epochs", "steps", "ema"];
        assert_eq!(nearest("bach_size", &known), Some("batch_size"));
        assert_eq!(nearest("batchsize", &known), Some("batch_size"));
        assert_eq!(nearest("Epoch", &known), Some("epochs"));
        assert_eq!(nearest("colour", &known), None);
    }
}
