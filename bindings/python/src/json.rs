//! Python's objects as JSON values, and back.

use coco_mask::Rle;
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString};
use serde_json::{Map, Value, json};

use crate::{arrays, errors};

/// Lists in lists in lists.
const DEEPEST: usize = 32;

/// An object as JSON: run lengths with counts as bytes, arrays of shape (height, width) of uint8 or bool and predictions become masks,
/// other arrays lists.
pub(crate) fn value(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Value> {
    below(object, name, 0)
}

fn below(object: &Bound<'_, PyAny>, name: &str, depth: usize) -> PyResult<Value> {
    if depth > DEEPEST {
        return Err(errors::value(name, "is nested too deep"));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    if object.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(object.extract()?));
    }
    if object.is_instance_of::<PyInt>() {
        return object.extract::<i64>().map(Value::from).map_err(|_| errors::value(name, "is a number beyond 64 bits"));
    }
    if object.is_instance_of::<PyFloat>() {
        let number = object.extract::<f64>()?;
        let finite = serde_json::Number::from_f64(number).map(Value::Number);
        return finite.ok_or_else(|| errors::value(name, format!("is {number}: must be finite")));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(text.to_cow()?.into_owned()));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::String(String::from_utf8_lossy(bytes.as_bytes()).into_owned()));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let field = |(key, item): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            let key = key.str()?.to_cow()?.into_owned();
            let item = below(&item, &format!("{name}.{key}"), depth + 1)?;
            Ok((key, item))
        };
        return dict.iter().map(field).collect::<PyResult<Map<String, Value>>>().map(Value::Object);
    }
    if arrays::is_list(object) {
        let item = |(i, item): (usize, &Bound<'_, PyAny>)| below(item, &format!("{name}[{i}]"), depth + 1);
        return arrays::items(object)?.iter().enumerate().map(item).collect::<PyResult<Vec<_>>>().map(Value::Array);
    }
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return if array.ndim() == 2 { mask(object, name) } else { below(&object.call_method0("tolist")?, name, depth + 1) };
    }
    if object.hasattr("rle")? {
        return below(&object.getattr("rle")?, name, depth + 1);
    }
    // numpy's numbers.
    if object.hasattr("item")? {
        return below(&object.call_method0("item")?, name, depth + 1);
    }
    Err(errors::kind(name, format!("cannot be of type {}", arrays::type_name(object))))
}

fn mask(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Value> {
    let array = arrays::contiguous(arrays::bytes(object, name, "of shape (height, width)")?, "C")?;
    let side = |axis: usize| u32::try_from(array.shape()[axis]).unwrap_or(u32::MAX);
    let (height, width) = (side(0), side(1));
    let mask = Rle::from_row_major(height, width, array.as_slice()?).map_err(|e| errors::value(name, e))?;
    Ok(json!({"size": [height, width], "counts": mask.to_compressed()}))
}

/// A JSON value as Python's own types.
pub(crate) fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}
