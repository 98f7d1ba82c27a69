//! numpy arrays in and out, whatever their order and strides.

use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::errors;

/// A function of numpy.
pub(crate) fn numpy<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = NUMPY.get_or_try_init(py, || py.import("numpy").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// An array of bytes, its own memory or a copy of it: bool becomes uint8, other types are refused.
pub(crate) fn bytes<'py>(object: &Bound<'py, PyAny>, argument: &str, shape: &str) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    if let Ok(array) = object.cast::<PyArrayDyn<u8>>() {
        return Ok(array.clone());
    }
    if object.cast::<PyArrayDyn<bool>>().is_ok() {
        return Ok(object.call_method1("view", ("uint8",))?.cast_into()?);
    }
    match object.cast::<PyUntypedArray>() {
        Ok(array) => Err(errors::value(argument, format!("must be uint8 or bool, not {}", array.dtype()))),
        Err(_) => Err(errors::kind(argument, format!("must be a numpy array {shape}, not {}", type_name(object)))),
    }
}

/// The name of an object's type.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string())
}

/// The array itself if its memory lies in one of the two orders, else a copy in `order` ("C" or "F"). Negative strides are copied, too.
pub(crate) fn contiguous<'py>(array: Bound<'py, PyArrayDyn<u8>>, order: &str) -> PyResult<PyReadonlyArrayDyn<'py, u8>> {
    let in_order = match order {
        "F" => array.is_fortran_contiguous(),
        _ => array.is_c_contiguous(),
    };
    if in_order {
        return Ok(array.try_readonly()?);
    }
    let how = PyDict::new(array.py());
    how.set_item("order", order)?;
    let copy: Bound<'py, PyArrayDyn<u8>> = array.call_method("copy", (), Some(&how))?.cast_into()?;
    Ok(copy.try_readonly()?)
}

/// Numbers of a list, a tuple or an array, flat.
pub(crate) fn floats(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<Vec<f64>> {
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        return object.extract().map_err(|e| errors::value(argument, format!("must hold numbers: {e}")));
    }
    let array = numpy(object.py(), "asarray")?.call1((object, "float64"));
    let array = array.map_err(|e| errors::value(argument, format!("must hold numbers: {e}")))?;
    let flat: Bound<'_, PyArray1<f64>> = array.call_method0("ravel")?.cast_into()?;
    Ok(flat.to_vec()?)
}

/// Whether it is a list or a tuple.
pub(crate) fn is_list(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>()
}

/// Items of a list or a tuple.
pub(crate) fn items<'py>(object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    match object.cast::<PyList>() {
        Ok(list) => Ok(list.iter().collect()),
        Err(_) => Ok(object.cast::<PyTuple>()?.iter().collect()),
    }
}

/// A mask as an array of bool.
///
/// # Shapes
/// output: [height, width], rows contiguous
pub(crate) fn mask<'py>(py: Python<'py>, mask: &coco_mask::Rle) -> PyResult<Bound<'py, PyAny>> {
    let bytes = py.detach(|| mask.to_row_major());
    let shape = (mask.height(), mask.width());
    PyArray1::from_vec(py, bytes).call_method1("reshape", (shape,))?.call_method1("view", ("bool",))
}

/// A box `[x, y, width, height]` as an array of float64.
pub(crate) fn bbox<'py>(py: Python<'py>, bbox: [f64; 4]) -> Bound<'py, PyArray1<f64>> {
    PyArray1::from_slice(py, &bbox)
}
