//! Errors of the libraries as the exceptions that a Python user expects, with the same sentences.

use pyo3::PyErr;
use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyTypeError, PyValueError};
use refcoco_data::DataError;
use referee::RefereeError;

/// A bad value of an argument.
pub(crate) fn value(argument: &str, what: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{argument}: {what}"))
}

/// An argument of a bad type.
pub(crate) fn kind(argument: &str, what: impl std::fmt::Display) -> PyErr {
    PyTypeError::new_err(format!("{argument}: {what}"))
}

/// A path in an argument that leads nowhere.
#[cfg(feature = "models")]
pub(crate) fn missing(argument: &str, what: impl std::fmt::Display) -> PyErr {
    PyFileNotFoundError::new_err(format!("{argument}: {what}"))
}

/// `FileNotFoundError` for what is missing, `OSError` for what the system refuses, `ValueError` for content.
pub(crate) fn data(error: DataError) -> PyErr {
    let text = error.to_string();
    match error {
        DataError::Missing { .. } => PyFileNotFoundError::new_err(text),
        DataError::Image { path, .. } if !path.exists() => PyFileNotFoundError::new_err(text),
        DataError::Io { source, .. } => system(&source, text),
        _ => PyValueError::new_err(text),
    }
}

/// As [`data`].
pub(crate) fn referee(error: RefereeError) -> PyErr {
    let text = error.to_string();
    match error {
        RefereeError::Read { source, .. } => system(&source, text),
        RefereeError::Data(error) => data(error),
        _ => PyValueError::new_err(text),
    }
}

pub(crate) fn system(source: &std::io::Error, text: String) -> PyErr {
    if source.kind() == std::io::ErrorKind::NotFound { PyFileNotFoundError::new_err(text) } else { PyOSError::new_err(text) }
}

/// As [`data`].
#[cfg(feature = "models")]
pub(crate) fn model(error: models::ModelError) -> PyErr {
    let mut text = error.to_string();
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(&error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return system(error, text);
        }
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    PyValueError::new_err(text)
}

/// What was asked, as a bad value of the argument; what else went wrong as [`model`] has it.
#[cfg(feature = "models")]
pub(crate) fn question(error: models::ModelError, argument: &str) -> PyErr {
    if error.is_about_the_question() { value(argument, error) } else { model(error) }
}
