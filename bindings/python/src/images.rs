//! Images in: arrays, PIL images and paths.

use std::path::PathBuf;

use numpy::{PyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pil_ops::{DecodeError, Image};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::{arrays, errors};

/// An image that was handed over; a path is read later, without the GIL.
pub(crate) enum Given {
    /// A file, turned upright when it is read.
    Path(PathBuf),
    /// Pixels, as they are.
    Pixels(Image),
}

impl Given {
    /// From an array, a PIL image or a path.
    pub(crate) fn read(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() || object.hasattr("__fspath__")? {
            return Ok(Self::Path(object.extract()?));
        }
        if is_pil(object)? {
            let pixels =
                object.call_method1("convert", ("RGB",)).and_then(|rgb| arrays::numpy(object.py(), "asarray")?.call1((rgb,)));
            return pixels_of(&pixels.map_err(|e| with_name(object.py(), e, argument))?, argument).map(Self::Pixels);
        }
        pixels_of(object, argument).map(Self::Pixels)
    }

    /// The pixels.
    pub(crate) fn open(self) -> Result<Image, Unopened> {
        match self {
            Self::Path(path) => Image::open_upright(&path).map_err(|error| Unopened { path, error }),
            Self::Pixels(image) => Ok(image),
        }
    }
}

/// A file that is no image, or none that can be read.
pub(crate) struct Unopened {
    path: PathBuf,
    error: DecodeError,
}

impl Unopened {
    /// The exception of that kind, with the argument's name.
    pub(crate) fn into_error(self, argument: &str) -> PyErr {
        let text = format!("{argument}: {}: {}", self.path.display(), self.error);
        match self.error {
            DecodeError::Read(source) => errors::system(&source, text),
            _ => PyValueError::new_err(text),
        }
    }
}

/// Whether Pillow, if anybody has imported it, calls it an image.
fn is_pil(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let modules = object.py().import("sys")?.getattr("modules")?;
    match modules.call_method1("get", ("PIL.Image",))? {
        pillow if pillow.is_none() => Ok(false),
        pillow => object.is_instance(&pillow.getattr("Image")?),
    }
}

/// Pillow's own exception, with the argument's name in front (a closed file, a truncated one).
fn with_name(py: Python<'_>, error: PyErr, argument: &str) -> PyErr {
    let named = errors::value(argument, error.value(py));
    named.set_cause(py, Some(error));
    named
}

/// The pixels of an array.
///
/// # Shapes
/// [height, width], [height, width, 1] or [height, width, 3], uint8; output: RGB
fn pixels_of(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<Image> {
    const SHAPE: &str = "of shape (height, width, 3) or (height, width)";
    let Ok(array) = object.cast::<PyArrayDyn<u8>>() else {
        return Err(match object.cast::<PyUntypedArray>() {
            Ok(array) => errors::value(argument, format!("must be uint8, levels from 0 to 255, not {}", array.dtype())),
            Err(_) => {
                let what = format!("must be a numpy array {SHAPE}, a PIL image or a path, not {}", arrays::type_name(object));
                errors::kind(argument, what)
            }
        });
    };
    let (height, width, channels) = match *array.shape() {
        [height, width] => (height, width, 1),
        [height, width, channels @ (1 | 3)] => (height, width, channels),
        [_, _, 4] => return Err(errors::value(argument, "has 4 channels: drop the alpha channel, image[..., :3]")),
        [3, _, _] => {
            return Err(errors::value(argument, format!("must be {SHAPE}; channels come last: image.transpose(1, 2, 0)")));
        }
        [_, _, _, _] => return Err(errors::value(argument, "has 4 dimensions: a batch is a list of images, list(image)")),
        ref shape => return Err(errors::value(argument, format!("must be {SHAPE}, not {shape:?}"))),
    };
    let array = arrays::contiguous(array.clone(), "C")?;
    let bytes = array.as_slice()?;
    let rgb = if channels == 1 { bytes.iter().flat_map(|&level| [level; 3]).collect() } else { bytes.to_vec() };
    Image::new(width, height, 3, rgb).map_err(|e| errors::value(argument, e))
}
