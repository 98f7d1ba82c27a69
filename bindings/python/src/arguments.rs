//! Arguments of plain types. PyO3 puts the name of one that does not fit into a note behind the error, which Python 3.10 does not have;
//! here it stands in front.

use std::path::PathBuf;

use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

use crate::{arrays, errors};

/// A value, or what it `must be`.
pub(crate) fn read<'py, T: FromPyObjectOwned<'py>>(object: &Bound<'py, PyAny>, name: &str, must_be: &str) -> PyResult<T> {
    object.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        if error.is_instance_of::<PyOverflowError>(object.py()) {
            let number = object.str().map_or_else(|_| "this".into(), |number| number.to_string());
            return errors::value(name, format!("must be {must_be}, not {number}"));
        }
        errors::kind(name, format!("must be {must_be}, not {}", arrays::type_name(object)))
    })
}

/// A reader per argument, for `from_py_with`.
macro_rules! arguments {
    ($($(#[$attribute:meta])* $name:ident: $of:ty, $must_be:literal;)*) => {$(
        $(#[$attribute])*
        pub(crate) fn $name(object: &Bound<'_, PyAny>) -> PyResult<$of> {
            read(object, stringify!($name), $must_be)
        }
    )*};
}

arguments! {
    root: PathBuf, "a path";
    name: String, "a str";
    split_by: Option<String>, "a str or None";
    split: String, "a str";
    limit: Option<usize>, "a whole number from 0 on, or None";
    images: usize, "a whole number from 0 on";
    size: u32, "a whole number from 0 on";
    seed: u64, "a whole number from 0 on";
    soft: bool, "a bool";
    h: u32, "a whole number from 1 on";
    w: u32, "a whole number from 1 on";
    #[cfg(feature = "models")]
    config: Option<PathBuf>, "a path or None";
    #[cfg(feature = "models")]
    device: String, "a str";
    #[cfg(feature = "models")]
    set: Vec<String>, "a list of str such as [\"eval.threshold=0.4\"]";
    #[cfg(feature = "models")]
    sentence: String, "a str";
}
