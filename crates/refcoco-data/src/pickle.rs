//! Python pickles as plain values.

use std::path::Path;

use serde_json::{Map, Value};
use serde_pickle::{DeOptions, HashableValue};

use crate::{DataError, pickle_guard};

/// Reads a pickled list, one record at a time as a JSON-like value.
///
/// Protocols 0 to 5 are understood. Python 2's `str` arrives as bytes and is decoded as UTF-8 with replacement
/// characters; nothing in the file is ever executed.
pub(crate) fn read_list(path: &Path, bytes: &[u8]) -> Result<Vec<Value>, DataError> {
    let fail = |reason: String| DataError::Pickle {
        path: path.into(),
        reason,
    };
    // Protocol 0 is text, so a careless transfer may "fix" its line ends. Parts of such a file still decode, with stray
    // carriage returns in the text, so it is refused as a whole.
    let first_line = bytes.iter().position(|&b| b == b'\n').unwrap_or(0);
    if !bytes.starts_with(&[0x80]) && first_line > 0 && bytes[first_line - 1] == b'\r' {
        return Err(fail(
            "its line ends were changed to CRLF; fetch the file again in binary mode".into(),
        ));
    }
    const HINT: &str = "(the file may be cut short; compare its size or fetch it again)";
    pickle_guard::check(bytes).map_err(|what| fail(format!("{what} {HINT}")))?;
    let value = serde_pickle::value_from_slice(bytes, DeOptions::new())
        .map_err(|e| fail(format!("{e} {HINT}")))?;
    let serde_pickle::Value::List(list) = value else {
        return Err(DataError::field(
            path,
            "(top level)",
            "a list of records",
            "another kind of object",
        ));
    };
    list.into_iter()
        .map(|v| convert(v).map_err(|what| fail(what.into())))
        .collect()
}

fn convert(value: serde_pickle::Value) -> Result<Value, &'static str> {
    use serde_pickle::Value as P;
    Ok(match value {
        P::None => Value::Null,
        P::Bool(b) => b.into(),
        P::I64(i) => i.into(),
        P::Int(_) => return Err("holds a whole number beyond 64 bits"),
        P::F64(f) => f.into(),
        P::Bytes(b) => text(&b).into(),
        P::String(s) => s.into(),
        P::List(l) | P::Tuple(l) => l
            .into_iter()
            .map(convert)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        P::Set(_) | P::FrozenSet(_) => {
            return Err("holds a set; only lists, dictionaries, text and numbers belong here");
        }
        P::Dict(d) => {
            let mut map = Map::new();
            for (key, value) in d {
                let key = match key {
                    HashableValue::Bytes(b) => text(&b),
                    HashableValue::String(s) => s,
                    HashableValue::I64(i) => i.to_string(),
                    _ => {
                        return Err(
                            "holds a dictionary whose keys are neither text nor whole numbers",
                        );
                    }
                };
                map.insert(key, convert(value)?);
            }
            map.into()
        }
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
