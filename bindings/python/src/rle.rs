//! Masks as pycocotools has them in Python: `{"size": [height, width], "counts": bytes}`.

use coco_mask::Rle;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use crate::{arrays, errors};

/// A mask as a dictionary with compressed counts.
pub(crate) fn to_dict<'py>(py: Python<'py>, mask: &Rle) -> PyResult<Bound<'py, PyDict>> {
    dict(py, (mask.height(), mask.width()), mask.to_compressed().as_bytes())
}

/// A dictionary of these parts.
pub(crate) fn dict<'py>(py: Python<'py>, size: (u32, u32), counts: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "size"), PyList::new(py, [size.0, size.1])?)?;
    dict.set_item(intern!(py, "counts"), PyBytes::new(py, counts))?;
    Ok(dict)
}

/// A mask from a dictionary; counts are bytes or text (compressed), or a list or an array of numbers (uncompressed).
pub(crate) fn from_dict(object: &Bound<'_, PyAny>, name: &dyn Fn() -> String) -> PyResult<Rle> {
    let py = object.py();
    let Ok(dict) = object.cast::<PyDict>() else {
        let what = format!("must be a dict with `size` and `counts`, not {}", arrays::type_name(object));
        return Err(errors::kind(&name(), what));
    };
    let size = field(dict, intern!(py, "size"), name)?;
    let side = |i: usize| -> PyResult<u32> {
        let wrong = || errors::value(&name(), "`size` must be [height, width], two whole numbers from 1 on");
        size.get_item(i).and_then(|side| side.extract::<u32>()).map_err(|_| wrong())
    };
    let (height, width) = (side(0)?, side(1)?);
    let counts = field(dict, intern!(py, "counts"), name)?;
    let mask = if let Ok(bytes) = counts.cast::<PyBytes>() {
        Rle::from_compressed(height, width, bytes.as_bytes())
    } else if let Ok(text) = counts.cast::<PyString>() {
        Rle::from_compressed(height, width, text.to_cow()?.as_bytes())
    } else {
        Rle::from_counts(height, width, runs(&counts).map_err(|what| errors::kind(&name(), what))?)
    };
    mask.map_err(|e| errors::value(&name(), e))
}

fn field<'py>(dict: &Bound<'py, PyDict>, key: &Bound<'py, PyString>, name: &dyn Fn() -> String) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(key)?.ok_or_else(|| errors::value(&name(), format!("has no `{key}`")))
}

/// Uncompressed counts.
fn runs(counts: &Bound<'_, PyAny>) -> Result<Vec<u32>, String> {
    let list = if arrays::is_list(counts) { Ok(counts.clone()) } else { counts.call_method0("tolist") };
    let numbers = list.and_then(|list| list.extract::<Vec<u32>>());
    numbers.map_err(|_| {
        let found = arrays::type_name(counts);
        format!("`counts` must be bytes, text, or a list of whole numbers from 0 on, not {found} of something else")
    })
}

/// Masks of a list or a tuple.
pub(crate) fn from_list(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<Vec<Rle>> {
    let named = |(i, item): (usize, &Bound<'_, PyAny>)| from_dict(item, &|| format!("{argument}[{i}]"));
    arrays::items(object)?.iter().enumerate().map(named).collect()
}
