//! `saymask.load`, `Model` and `Embedding`: `models` as Python sees it.

use std::path::PathBuf;

use burn::tensor::Device;
use models::{AnyEmbedding, AnyModel, ModelError, Question, Source};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::heavy::{Cancelled, interruptible};
use crate::images::{Given, Unopened};
use crate::prediction::PyPrediction;
use crate::questions::{Asked, asked};
use crate::{arguments, arrays, errors};

/// What a run's folder holds, and what a checkpoint's does.
const RUN_FILES: [&str; 2] = ["config.toml", "manifest.json"];

/// Opens a model.
///
/// Parameters
/// ----------
/// source : path or str, optional
///     A run's folder or one of its checkpoints, a folder with ``config.json`` (as ``saymask export`` and EVF-SAM's authors write
///     them), ``"hf:OWNER/REPO"``, or a weight file together with ``config``. Without it, the small model that comes with the
///     package, which knows drawn shapes only.
/// config : path, optional
///     The config of a weight file.
/// device : str
///     "cpu".
/// set : list of str
///     Changes of the config, such as ``["eval.threshold=0.4"]``.
///
/// Returns
/// -------
/// Model
///
/// Raises
/// ------
/// FileNotFoundError
///     No such folder or file. What the system refuses to read is an OSError.
/// ValueError
///     What cannot be opened, and what would be right.
#[pyfunction]
#[pyo3(
    signature = (source=None, config=None, *, device="cpu".to_owned(), set=Vec::new()),
    text_signature = "(source=None, config=None, *, device='cpu', set=[])"
)]
pub(crate) fn load(
    py: Python<'_>,
    source: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = arguments::config)] config: Option<PathBuf>,
    #[pyo3(from_py_with = arguments::device)] device: String,
    #[pyo3(from_py_with = arguments::set)] set: Vec<String>,
) -> PyResult<Model> {
    if device != "cpu" {
        return Err(errors::value("device", format!("{device:?} is none of this package's: it computes on the \"cpu\"")));
    }
    let source = find(source, config)?;
    let opened = interruptible(py, move |_| {
        let found = source.find(&set)?;
        let label = found.label.clone();
        Ok((found.model(&Device::flex())?, label))
    })?;
    let (model, label) = opened.map_err(errors::model)?;
    Ok(Model { model, label, device })
}

/// What a source is, by what lies there.
fn find(source: Option<&Bound<'_, PyAny>>, config: Option<PathBuf>) -> PyResult<Source> {
    let Some(source) = source else {
        return match config {
            None => Ok(Source::Shipped),
            Some(_) => Err(errors::value("source", "is missing: a config needs its weight file")),
        };
    };
    let path: PathBuf = source.extract().map_err(|_| {
        let what = format!("must be a path or \"hf:OWNER/REPO\", not {}", arrays::type_name(source));
        errors::kind("source", what)
    })?;
    let weights = path.to_string_lossy().into_owned();
    if let Some(config) = config.as_ref().filter(|config| !config.is_file()) {
        return Err(errors::missing("config", format!("{}: no such file", config.display())));
    }
    let (of_hub, is_run) = (weights.starts_with("hf:"), RUN_FILES.iter().any(|file| path.join(file).is_file()));
    if !of_hub && !path.exists() {
        let what = format!("{weights}: no such folder or file; a model of the Hugging Face hub is \"hf:OWNER/REPO\"");
        return Err(errors::missing("source", what));
    }
    if config.is_none() && path.is_file() {
        return Err(errors::value("config", format!("{weights} is a weight file: pass its config, config=\"model.toml\"")));
    }
    Ok(if config.is_none() && is_run { Source::Run(path) } else { Source::Weights { weights, config } })
}

/// A text-prompted segmenter; made by ``saymask.load``. Called with an image and sentences, it gives one mask per sentence.
///
/// Parameters
/// ----------
/// image : numpy.ndarray, PIL.Image.Image, path, or list of these
///     uint8 of shape ``(height, width, 3)`` or ``(height, width)``, or a file, which is turned upright. A list is a batch.
/// sentences : str, list of str, or for a batch a list of lists
///     What to look for. For a batch, a list of str is asked about every image.
///
/// Returns
/// -------
/// Prediction, list of Prediction, or list of lists
///     One for a str, a list for a list; for a batch, a list with one of these per image.
///
/// Raises
/// ------
/// FileNotFoundError, OSError
///     A file that is missing or cannot be read.
/// TypeError, ValueError
///     What is no image or no sentence, an image without pixels, a sentence without words.
///
/// Examples
/// --------
/// >>> import numpy as np, saymask
/// >>> model = saymask.load()
/// >>> image = np.zeros((48, 64, 3), np.uint8)
/// >>> model(image, "the red circle").mask.shape
/// (48, 64)
/// >>> [len(found) for found in model([image, image], ["the red circle", "the star"])]
/// [2, 2]
#[pyclass(module = "saymask", frozen)]
pub(crate) struct Model {
    model: AnyModel,
    label: String,
    device: String,
}

#[pymethods]
impl Model {
    /// What it computes on.
    #[getter]
    fn device(&self) -> &str {
        &self.device
    }

    /// The method: "dit", "evf" or "risam".
    #[getter]
    fn method(&self) -> &'static str {
        match self.model {
            AnyModel::Dit(_) => "dit",
            AnyModel::Evf(_) => "evf",
            AnyModel::Risam(_) => "risam",
        }
    }

    /// Whether ``Embedding.ask`` takes points and a box.
    #[getter]
    fn takes_points(&self) -> bool {
        self.model.takes_points()
    }

    // Python shows no docstring of `__call__`: it is in the type's.
    #[pyo3(signature = (image, sentences))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        sentences: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if !arrays::is_list(image) {
            let asked = asked(Some(sentences), None, None, "sentences")?;
            let given = vec![(Given::read(image, "image")?, asked.questions.clone())];
            let names = [Names { image: "image".to_owned(), sentences: "sentences".to_owned() }];
            let mut answers = self.predict(py, given, &names)?;
            return asked.objects(py, answers.pop().unwrap_or_default());
        }
        let images = arrays::items(image)?;
        let (all, lists): (Vec<Asked>, Vec<String>) = per_image(sentences, images.len())?.into_iter().unzip();
        let name = |(i, sentences)| Names { image: format!("image[{i}]"), sentences };
        let names: Vec<Names> = lists.into_iter().enumerate().map(name).collect();
        let given = images
            .iter()
            .zip(&names)
            .zip(&all)
            .map(|((image, names), asked)| Ok((Given::read(image, &names.image)?, asked.questions.clone())));
        let answers = self.predict(py, given.collect::<PyResult<Vec<_>>>()?, &names)?;
        let lists = all.iter().zip(answers).map(|(asked, answers)| asked.objects(py, answers));
        Ok(PyList::new(py, lists.collect::<PyResult<Vec<_>>>()?)?.into_any())
    }

    /// Encodes an image once, to be asked as often as wanted.
    ///
    /// Parameters
    /// ----------
    /// image : numpy.ndarray, PIL.Image.Image or path
    ///     As for a call of the model.
    ///
    /// Returns
    /// -------
    /// Embedding
    ///
    /// Raises
    /// ------
    /// FileNotFoundError, OSError, TypeError, ValueError
    ///     As there.
    fn embed(&self, py: Python<'_>, image: &Bound<'_, PyAny>) -> PyResult<Embedding> {
        let (given, model) = (Given::read(image, "image")?, self.model.clone());
        let embedded = interruptible(py, move |_| {
            let image = given.open()?;
            let size = (image.height(), image.width());
            Ok((model.embed(&image)?, size))
        })?;
        let (embedding, size) = embedded.map_err(|failed: Failed| failed.into_error("image", "sentences"))?;
        Ok(Embedding { model: self.model.clone(), embedding, size })
    }

    /// The words of a sentence that the model does not read because it is too long.
    ///
    /// Parameters
    /// ----------
    /// sentence : str
    ///
    /// Returns
    /// -------
    /// str
    ///     Empty if it reads all of it.
    fn unread(&self, #[pyo3(from_py_with = arguments::sentence)] sentence: String) -> PyResult<String> {
        let cut = self.model.truncation(&sentence).map_err(|e| errors::question(e, "sentence"))?;
        Ok(cut.map_or_else(String::new, |cut| cut.dropped))
    }

    fn __repr__(&self) -> String {
        format!("<saymask.Model {} of {} on {}>", self.method(), self.label, self.device)
    }
}

/// Why an image has no answer.
enum Failed {
    /// It cannot be opened.
    Image(Unopened),
    /// The model refuses it.
    Embed(ModelError),
    /// The model refuses what was asked.
    Ask(ModelError),
}

impl From<Unopened> for Failed {
    fn from(error: Unopened) -> Self {
        Self::Image(error)
    }
}

impl From<ModelError> for Failed {
    fn from(error: ModelError) -> Self {
        Self::Embed(error)
    }
}

impl Failed {
    /// The exception, which names the argument at fault.
    fn into_error(self, image: &str, sentences: &str) -> PyErr {
        match self {
            Self::Image(error) => error.into_error(image),
            Self::Embed(error) => errors::question(error, image),
            Self::Ask(error) => errors::question(error, sentences),
        }
    }
}

impl Model {
    /// Answers per image; images are read one after the other, so that a batch needs the memory of one.
    fn predict(&self, py: Python<'_>, images: Vec<(Given, Vec<Question>)>, names: &[Names]) -> PyResult<Vec<Vec<PyPrediction>>> {
        let model = self.model.clone();
        let work = move |cancelled: &Cancelled| -> Result<Vec<Vec<PyPrediction>>, (usize, Box<Failed>)> {
            let mut out = Vec::with_capacity(images.len());
            for (i, (given, questions)) in images.into_iter().enumerate() {
                if cancelled.is_set() {
                    break;
                }
                out.push(answered(&model, given, &questions).map_err(|failed| (i, Box::new(failed)))?);
            }
            Ok(out)
        };
        interruptible(py, work)?.map_err(|(i, failed)| failed.into_error(&names[i].image, &names[i].sentences))
    }
}

/// What an image and its sentences are called in an error.
struct Names {
    image: String,
    sentences: String,
}

fn answered(model: &AnyModel, given: Given, questions: &[Question]) -> Result<Vec<PyPrediction>, Failed> {
    let embedding = model.embed(&given.open()?)?;
    answers(model, &embedding, questions).map_err(Failed::Ask)
}

fn answers(model: &AnyModel, embedding: &AnyEmbedding, questions: &[Question]) -> Result<Vec<PyPrediction>, ModelError> {
    let found = model.ask_with(embedding, questions)?;
    Ok(questions.iter().zip(found).map(|(question, found)| PyPrediction::of(question.sentence.clone(), found)).collect())
}

/// The sentences of each image of a batch, with their name: one list per image, or one for all.
fn per_image(sentences: &Bound<'_, PyAny>, images: usize) -> PyResult<Vec<(Asked, String)>> {
    let named = |list, name: String| Ok((asked(Some(list), None, None, &name)?, name));
    let nested = arrays::is_list(sentences) && arrays::items(sentences)?.iter().any(|item| !item.is_instance_of::<PyString>());
    if !nested {
        return (0..images).map(|_| named(sentences, "sentences".to_owned())).collect();
    }
    let lists = arrays::items(sentences)?;
    if lists.len() != images {
        let what = format!("must be one list per image, {images}, not {}", lists.len());
        return Err(errors::value("sentences", what));
    }
    lists.iter().enumerate().map(|(i, list)| named(list, format!("sentences[{i}]"))).collect()
}

/// An image, encoded; made by ``Model.embed``.
#[pyclass(module = "saymask", frozen)]
pub(crate) struct Embedding {
    model: AnyModel,
    embedding: AnyEmbedding,
    size: (usize, usize),
}

#[pymethods]
impl Embedding {
    /// The image's ``(height, width)`` in pixels.
    #[getter]
    fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Bytes of the features that are kept.
    #[getter]
    fn nbytes(&self) -> usize {
        self.embedding.bytes()
    }

    /// One mask per sentence, corrected by points and boxes where the model takes them.
    ///
    /// Parameters
    /// ----------
    /// sentences : str, list of str, or None
    ///     What to look for; None where points or a box alone say what is meant.
    /// points : sequence of (x, y) or (x, y, label), optional
    ///     In the image's own pixels; label 1 on the object (as without a label), 0 beside it. For a list of sentences, a list with one
    ///     such sequence, or None, per sentence.
    /// box : (x0, y0, x1, y1), optional
    ///     In the image's own pixels; for a list of sentences, a list with one, or None, per sentence.
    ///
    /// Returns
    /// -------
    /// Prediction or list of Prediction
    ///     One for a str or None, a list for a list.
    ///
    /// Raises
    /// ------
    /// TypeError, ValueError
    ///     What is no sentence, no point or no box; points or a box where ``Model.takes_points`` is False; nothing asked at all.
    #[pyo3(signature = (sentences=None, *, points=None, r#box=None))]
    fn ask<'py>(
        &self,
        py: Python<'py>,
        sentences: Option<&Bound<'py, PyAny>>,
        points: Option<&Bound<'py, PyAny>>,
        r#box: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asked = asked(sentences, points, r#box, "sentences")?;
        if !self.model.takes_points() {
            for (given, argument) in [(points, "points"), (r#box, "box")] {
                if given.is_some_and(|given| !given.is_none()) {
                    let what = "must be None: this method's decoder takes sentences alone (`model.takes_points`)";
                    return Err(errors::value(argument, what));
                }
            }
        }
        let (model, embedding, questions) = (self.model.clone(), self.embedding.clone(), asked.questions.clone());
        let found = interruptible(py, move |_| answers(&model, &embedding, &questions))?;
        asked.objects(py, found.map_err(|e| errors::question(e, "sentences"))?)
    }

    fn __repr__(&self) -> String {
        format!("<saymask.Embedding of an image of {} x {} pixels (height x width)>", self.size.0, self.size.1)
    }
}

impl Asked {
    /// One object for one question, a list for a list.
    fn objects<'py>(&self, py: Python<'py>, answers: Vec<PyPrediction>) -> PyResult<Bound<'py, PyAny>> {
        let mut objects = answers.into_iter().map(|answer| Py::new(py, answer)).collect::<PyResult<Vec<_>>>()?;
        if self.many {
            return Ok(PyList::new(py, objects)?.into_any());
        }
        let only = objects.pop().ok_or_else(|| PyValueError::new_err("sentences: no answer"))?;
        Ok(only.into_bound(py).into_any())
    }
}
