//! `Prediction`: a mask with its score and box, as Python sees it.

use coco_mask::Rle;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sam_vit::Prediction;

use crate::{arrays, rle};

/// One mask at the image's own size.
#[pyclass(name = "Prediction", module = "saymask", frozen)]
pub(crate) struct PyPrediction {
    sentence: Option<String>,
    mask: Rle,
    score: f32,
}

impl PyPrediction {
    pub(crate) fn of(sentence: Option<String>, prediction: Prediction) -> Self {
        Self { sentence, mask: prediction.mask, score: prediction.score }
    }
}

#[pymethods]
impl PyPrediction {
    #[new]
    fn new(sentence: Option<String>, rle: &Bound<'_, PyAny>, score: f32) -> PyResult<Self> {
        Ok(Self { sentence, mask: rle::from_dict(rle, &|| "rle".into())?, score })
    }

    /// The sentence that was asked; None where points or a box alone were.
    #[getter]
    fn sentence(&self) -> Option<&str> {
        self.sentence.as_deref()
    }

    /// The mask: bool, ``(height, width)``; a new array with every call.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        arrays::mask(py, &self.mask)
    }

    /// The mask as ``{"size": [height, width], "counts": bytes}``, for ``saymask.mask`` and COCO files.
    #[getter]
    fn rle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rle::to_dict(py, &self.mask)
    }

    /// Mean foreground probability inside the mask, 0 to 1; 0 for an empty one.
    #[getter]
    fn score(&self) -> f64 {
        f64::from(self.score)
    }

    /// Tight box ``[x, y, width, height]`` in pixels, float64; zeros for an empty mask.
    #[getter]
    fn r#box<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        arrays::bbox(py, self.mask.bbox())
    }

    /// Foreground pixels.
    #[getter]
    fn area(&self) -> u64 {
        self.mask.area()
    }

    /// Probability that what the sentence means is there at all, where the model has a head for that; else None.
    #[getter]
    #[allow(clippy::unused_self, reason = "a property")]
    fn presence(&self) -> Option<f64> {
        None
    }

    fn __repr__(&self) -> String {
        let (sentence, score, area) = (self.sentence.as_deref().unwrap_or(""), self.score, self.mask.area());
        format!(
            "<saymask.Prediction {sentence:?}: score {score:.3}, {area} of {} x {} pixels>",
            self.mask.height(),
            self.mask.width()
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let args = (self.sentence.as_deref(), self.rle(py)?, self.score).into_pyobject(py)?;
        Ok((py.get_type::<Self>().into_any(), args.into_any()))
    }
}
