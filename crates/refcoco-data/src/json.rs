//! JSON files as Python's `json` reads them: byte order marks, NaN and Infinity, numbers in other spellings; and files that are
//! something else, named as what they are.

use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

use crate::DataError;

/// The text of a JSON file, without a byte order mark.
///
/// # Errors
/// A file that cannot be read, or that is plainly something else: a web page, a pointer of git-lfs, a compressed file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = std::fs::read(path).map_err(|e| DataError::io(path, "read", e))?;
    if let Some(what) = other_kind(&bytes) {
        return Err(DataError::Json { path: path.into(), reason: what.into() });
    }
    Ok(decode(bytes))
}

/// A JSON file as a value; NaN and its like are texts in it.
///
/// # Errors
/// As [`read`], or text that is no JSON.
pub(crate) fn parse(path: &Path) -> Result<serde_json::Value, DataError> {
    let bytes = read(path)?;
    let parsed = serde_json::from_slice(&bytes).or_else(|error| match without_nan(&bytes) {
        Some(plain) => serde_json::from_slice(&plain),
        None => Err(error),
    });
    parsed.map_err(|e| DataError::Json { path: path.into(), reason: e.to_string() })
}

/// What a file is that was expected to be JSON or a pickle.
pub(crate) fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).map_or(&bytes[..0], |at| &bytes[at..]);
    let lower = start[..start.len().min(64)].to_ascii_lowercase();
    if start.is_empty() {
        Some("the file is empty")
    } else if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        Some("it is an HTML page: the download went to a web page (a login or an error) instead of the file")
    } else if lower.starts_with(b"version https://git-lfs") {
        Some("it is a pointer of git-lfs, not the file itself: run `git lfs pull` where it came from")
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        Some("it is compressed with gzip: unpack it first (gunzip)")
    } else if bytes.starts_with(b"PK\x03\x04") {
        Some("it is a zip archive: unpack it first (unzip)")
    } else {
        None
    }
}

/// UTF-8 without its mark; UTF-16 with one, as some editors save it, becomes UTF-8.
fn decode(bytes: Vec<u8>) -> Vec<u8> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        String::from_utf16_lossy(&units).into_bytes()
    };
    match bytes.as_slice() {
        [0xEF, 0xBB, 0xBF, rest @ ..] => rest.to_vec(),
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => bytes,
    }
}

/// The same text with Python's `NaN`, `Infinity` and `-Infinity` as texts, so that fields which do not matter are passed over and
/// those that do are named with what they hold; none where there is none of them.
pub(crate) fn without_nan(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let (mut at, mut quoted, mut changed) = (0, false, false);
    while at < bytes.len() {
        let byte = bytes[at];
        if quoted {
            let taken = if byte == b'\\' { 2 } else { 1 };
            quoted = byte != b'"';
            out.extend_from_slice(&bytes[at..(at + taken).min(bytes.len())]);
            at += taken;
            continue;
        }
        quoted = byte == b'"';
        let word = [&b"NaN"[..], b"-Infinity", b"Infinity"].into_iter().find(|word| bytes[at..].starts_with(word));
        if let Some(word) = word {
            out.push(b'"');
            out.extend_from_slice(word);
            out.push(b'"');
            (at, changed) = (at + word.len(), true);
        } else {
            out.push(byte);
            at += 1;
        }
    }
    changed.then_some(out)
}

/// A whole number, written as one, as a float without a fraction (`36.0`), or as text (`"36"`).
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D) -> Result<T, D::Error> {
    struct Whole<T>(std::marker::PhantomData<T>);
    impl<T: TryFrom<i64>> Visitor<'_> for Whole<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_i64<E: Error>(self, v: i64) -> Result<T, E> {
            T::try_from(v).map_err(|_| E::invalid_value(Unexpected::Signed(v), &self))
        }

        fn visit_u64<E: Error>(self, v: u64) -> Result<T, E> {
            i64::try_from(v)
                .ok()
                .and_then(|v| T::try_from(v).ok())
                .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(v), &self))
        }

        fn visit_f64<E: Error>(self, v: f64) -> Result<T, E> {
            // Beyond 2^53 a float no longer says which whole number is meant.
            if v.fract() == 0.0 && v.abs() < 9e15 {
                self.visit_i64(v as i64)
            } else {
                Err(E::invalid_value(Unexpected::Float(v), &self))
            }
        }

        fn visit_str<E: Error>(self, v: &str) -> Result<T, E> {
            match v.trim().parse::<i64>() {
                Ok(v) => self.visit_i64(v),
                Err(_) => Err(E::invalid_value(Unexpected::Str(v), &self)),
            }
        }
    }
    from.deserialize_any(Whole(std::marker::PhantomData))
}

/// [`whole`] in a list or an array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeU32(pub(crate) u32);

impl<'de> serde::Deserialize<'de> for WholeU32 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        whole(from).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_text_outside_of_texts_only() {
        let text = br#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" Infinity", "d": 1}"#;
        let got = String::from_utf8(without_nan(text).unwrap()).unwrap();
        assert_eq!(got, r#"{"a": "NaN", "b": ["-Infinity", "Infinity"], "c": "NaN \" Infinity", "d": 1}"#);
        assert!(without_nan(br#"{"c": "NaN"}"#).is_none());
        // Whatever the bytes, nothing is read beyond them.
        for end in 0..text.len() {
            without_nan(&text[..end]);
        }
    }

    #[test]
    fn marks_are_taken_off_and_wide_text_is_read() {
        assert_eq!(decode(b"\xEF\xBB\xBF[1]".to_vec()), b"[1]");
        let wide: Vec<u8> = [0xFEFFu16].into_iter().chain("[1]".encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(wide), b"[1]");
        assert_eq!(decode(b"[1]".to_vec()), b"[1]");
    }

    #[test]
    fn other_files_are_named() {
        for (bytes, word) in [
            (&b"\n<!DOCTYPE html><html>"[..], "HTML"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"PK\x03\x04", "zip"),
            (b"  ", "empty"),
        ] {
            assert!(other_kind(bytes).unwrap().contains(word));
        }
        assert!(other_kind(b"{\"a\": 1}").is_none() && other_kind(b"\x80\x04").is_none());
    }
}
