//! The Python package `saymask`: thin functions over `coco-mask`, `refcoco-data`, `referee` and `models`.
//!
//! Python's side lies in `python/saymask`; what is here is its module `_native`, whose types are in `_native.pyi`.

mod arguments;
mod arrays;
mod datasets;
mod errors;
mod evaluate;
mod heavy;
#[cfg(feature = "models")]
mod images;
mod json;
mod masks;
#[cfg(feature = "models")]
mod model;
#[cfg(feature = "models")]
mod prediction;
#[cfg(feature = "models")]
mod questions;
mod rle;

use pyo3::prelude::*;

/// What the package `saymask` is made of.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(masks::encode, module)?)?;
    module.add_function(wrap_pyfunction!(masks::decode, module)?)?;
    module.add_function(wrap_pyfunction!(masks::area, module)?)?;
    module.add_function(wrap_pyfunction!(masks::to_bbox, module)?)?;
    module.add_function(wrap_pyfunction!(masks::iou, module)?)?;
    module.add_function(wrap_pyfunction!(masks::merge, module)?)?;
    module.add_function(wrap_pyfunction!(masks::fr_py_objects, module)?)?;
    module.add_class::<datasets::PyDataset>()?;
    module.add_class::<datasets::Sample>()?;
    module.add_class::<datasets::Photograph>()?;
    module.add_function(wrap_pyfunction!(datasets::open, module)?)?;
    module.add_function(wrap_pyfunction!(datasets::generate, module)?)?;
    module.add_function(wrap_pyfunction!(evaluate::evaluate, module)?)?;
    #[cfg(feature = "models")]
    {
        module.add_class::<model::Model>()?;
        module.add_class::<model::Embedding>()?;
        module.add_class::<prediction::PyPrediction>()?;
        module.add_function(wrap_pyfunction!(model::load, module)?)?;
    }
    Ok(())
}
