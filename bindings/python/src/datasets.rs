//! `saymask.datasets`: splits of published sets, whose images and masks are decoded when they are asked for.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use coco_mask::Rle;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use refcoco_data::{AnnId, Dataset, DatasetSpec, ImageInfo, Item, SynthConfig, sequential};
use referee::Split;

use crate::{arguments, arrays, errors, heavy, rle};

/// Opens and checks a split; nothing is decoded yet.
///
/// Parameters
/// ----------
/// root : path
///     The folder that holds the sets and ``images``.
/// name : str
///     "refcoco", "refcoco+", "refcocog", "grefcoco", "refclef", "phrasecut", or a set of classes: "ade20k", "mapillary",
///     "humanparsing", "partimagenet", "pascal_part", "objects365".
/// split_by : str, optional
///     Who made the splits ("unc", "umd", "google", ...); the set's usual ones where it is left out.
/// split : str
///     "train", "val", "testA", ...
/// limit : int, optional
///     Expressions at most, the first ones.
///
/// Returns
/// -------
/// Dataset
///
/// Raises
/// ------
/// FileNotFoundError
///     A folder or a file that is missing.
/// ValueError
///     An unknown set or split, or files that are damaged; names file and field.
#[pyfunction]
#[pyo3(
    signature = (root, name, split_by=None, split="val".to_owned(), *, limit=None),
    text_signature = "(root, name, split_by=None, split='val', *, limit=None)"
)]
pub(crate) fn open(
    py: Python<'_>,
    #[pyo3(from_py_with = arguments::root)] root: PathBuf,
    #[pyo3(from_py_with = arguments::name)] name: String,
    #[pyo3(from_py_with = arguments::split_by)] split_by: Option<String>,
    #[pyo3(from_py_with = arguments::split)] split: String,
    #[pyo3(from_py_with = arguments::limit)] limit: Option<usize>,
) -> PyResult<PyDataset> {
    let mut spec = DatasetSpec::new(root, &name);
    if let Some(by) = split_by {
        spec.split_by = by;
    }
    let of_limit = limit;
    let opened = heavy::interruptible(py, move |_| {
        let dataset = Dataset::open(&spec, &split)?;
        let items = sequential(&dataset, of_limit)?;
        Ok((dataset, items))
    })?;
    let (dataset, items) = opened.map_err(errors::data)?;
    let mut by_image = vec![Vec::new(); dataset.images.len()];
    for (index, item) in items.iter().enumerate() {
        by_image[dataset.image_index(item)].push(index);
    }
    let opened = Opened { dataset, items, by_image, limit, split: OnceLock::new() };
    Ok(PyDataset { opened: Arc::new(opened) })
}

/// Writes a small generated set in RefCOCO's files: figures of several colours, shapes and sizes, and what tells them apart.
///
/// Parameters
/// ----------
/// root : path
///     A folder, made if it is missing; an older generated set in it is replaced.
/// images : int
///     Images.
/// size : int
///     Their height and width in pixels.
/// seed : int
///     Equal seeds write equal files.
#[pyfunction]
#[pyo3(signature = (root, *, images=8, size=64, seed=0))]
pub(crate) fn generate(
    py: Python<'_>,
    #[pyo3(from_py_with = arguments::root)] root: PathBuf,
    #[pyo3(from_py_with = arguments::images)] images: usize,
    #[pyo3(from_py_with = arguments::size)] size: u32,
    #[pyo3(from_py_with = arguments::seed)] seed: u64,
) -> PyResult<()> {
    let config = SynthConfig { images, size, seed, ..SynthConfig::default() };
    heavy::interruptible(py, move |_| refcoco_data::generate(&config, &root).map(|_| ()))?.map_err(errors::data)
}

struct Opened {
    dataset: Dataset,
    items: Vec<Item>,
    by_image: Vec<Vec<usize>>,
    limit: Option<usize>,
    /// What the referee needs, made once.
    split: OnceLock<Arc<Split>>,
}

/// A split of a data set: a sequence of samples, one per sentence, in the order of the files.
#[pyclass(name = "Dataset", module = "saymask.datasets", frozen)]
pub(crate) struct PyDataset {
    opened: Arc<Opened>,
}

impl PyDataset {
    /// The split as the referee sees it.
    pub(crate) fn split(&self, py: Python<'_>) -> PyResult<Arc<Split>> {
        if let Some(split) = self.opened.split.get() {
            return Ok(split.clone());
        }
        if !self.opened.dataset.class_images.is_empty() {
            let what = format!("{} has classes instead of sentences, which no protocol judges", self.opened.dataset.spec.name);
            return Err(errors::value("dataset", what));
        }
        let opened = self.opened.clone();
        heavy::interruptible(py, move |_| {
            opened.split.get_or_init(|| Arc::new(Split::of(&opened.dataset, &opened.items))).clone()
        })
    }

    fn sample(&self, index: usize) -> Sample {
        Sample { opened: self.opened.clone(), index }
    }
}

#[pymethods]
impl PyDataset {
    /// The set's name, such as "refcocog".
    #[getter]
    fn name(&self) -> &str {
        &self.opened.dataset.spec.name
    }

    /// Who made the splits.
    #[getter]
    fn split_by(&self) -> &str {
        &self.opened.dataset.spec.split_by
    }

    /// The split.
    #[getter(split)]
    fn split_name(&self) -> &str {
        &self.opened.dataset.split
    }

    /// The folder that it was opened in.
    #[getter]
    fn root(&self) -> PathBuf {
        self.opened.dataset.spec.root.clone()
    }

    /// What was passed over when it was opened, one line each.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.opened.dataset.warnings.clone()
    }

    /// Its images, in order of first use.
    #[getter]
    fn images<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let images = (0..self.opened.dataset.images.len()).map(|index| Photograph { opened: self.opened.clone(), index });
        PyList::new(py, images.map(|image| Py::new(py, image)).collect::<PyResult<Vec<_>>>()?)
    }

    fn __len__(&self) -> usize {
        self.opened.items.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<Sample> {
        let count = self.opened.items.len();
        let from_start = if index < 0 { index + count.cast_signed() } else { index };
        let within = usize::try_from(from_start).ok().filter(|&i| i < count);
        within.map(|i| self.sample(i)).ok_or_else(|| PyIndexError::new_err(format!("sample {index} of {count}")))
    }

    fn __repr__(&self) -> String {
        let Dataset { spec, split, images, .. } = &self.opened.dataset;
        format!(
            "<saymask.datasets.Dataset {} ({}) {split}: {} images, {} sentences>",
            spec.name,
            spec.split_by,
            images.len(),
            self.__len__()
        )
    }

    /// Another process opens the files again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let Dataset { spec, split, .. } = &self.opened.dataset;
        let options = PyDict::new(py);
        options.set_item("limit", self.opened.limit)?;
        let open = py.import("saymask._native")?.getattr("open")?;
        let partial = py.import("functools")?.getattr("partial")?.call((open,), Some(&options))?;
        let args = (spec.root.clone(), &spec.name, &spec.split_by, split).into_pyobject(py)?;
        Ok((partial, args.into_any()))
    }
}

/// One sentence about one image, with the mask that it means.
#[pyclass(module = "saymask.datasets", frozen)]
pub(crate) struct Sample {
    opened: Arc<Opened>,
    index: usize,
}

impl Sample {
    fn item(&self) -> &Item {
        &self.opened.items[self.index]
    }

    fn runs(&self, py: Python<'_>) -> PyResult<Rle> {
        let dataset = &self.opened.dataset;
        if let Some((referent, _)) = self.item().sentence() {
            return Ok(dataset.referents[referent].mask.clone());
        }
        let masks = py.detach(|| heavy::in_pool(|| dataset.masks(std::slice::from_ref(self.item()))));
        masks.map_err(errors::data)?.pop().ok_or_else(|| PyValueError::new_err("a sample without a mask"))
    }

    fn referent(&self) -> Option<&refcoco_data::Referent> {
        self.item().sentence().map(|(referent, _)| &self.opened.dataset.referents[referent])
    }
}

#[pymethods]
impl Sample {
    /// The sentence as the set's files have it: lower case, tokens apart; the prompt of a class in sets of classes.
    #[getter]
    fn sentence(&self) -> String {
        self.opened.dataset.text(self.item()).into_owned()
    }

    /// The sentence as it was typed.
    #[getter]
    fn raw(&self) -> String {
        let typed = |(referent, nth): (usize, usize)| self.opened.dataset.referents[referent].sentences[nth].raw.clone();
        self.item().sentence().map_or_else(|| self.sentence(), typed)
    }

    /// ``sent_id``; the number of the class in sets of classes.
    #[getter]
    fn sent_id(&self) -> i64 {
        self.opened.dataset.sent_id(self.item())
    }

    /// ``ref_id``; the number of the image in sets of classes.
    #[getter]
    fn ref_id(&self) -> i64 {
        self.opened.dataset.ref_id(self.item())
    }

    /// Annotations meant; none where nothing is. Text in RefCLEF.
    #[getter]
    fn ann_ids<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let object = |id: &AnnId| match id {
            AnnId::Number(number) => Ok(number.into_pyobject(py)?.into_any()),
            AnnId::Text(text) => Ok(text.into_pyobject(py)?.into_any()),
        };
        self.referent().map_or(&[][..], |referent| &referent.ann_ids).iter().map(object).collect()
    }

    /// Name of the (first) category; empty where nothing is meant.
    #[getter]
    fn category(&self) -> String {
        self.referent().map_or_else(String::new, |referent| referent.category.clone())
    }

    /// ``images[].id``.
    #[getter]
    fn image_id(&self) -> i64 {
        self.opened.dataset.image(self.item()).id
    }

    /// Where the image lies.
    #[getter]
    fn image_path(&self) -> PathBuf {
        self.opened.dataset.image(self.item()).path.clone()
    }

    /// ``(height, width)`` in pixels.
    #[getter]
    fn size(&self) -> (u32, u32) {
        size(self.opened.dataset.image(self.item()))
    }

    /// The image, read now: uint8, ``(height, width, 3)``, its pixels as they are stored.
    #[getter]
    fn image<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pixels(py, self.opened.dataset.image(self.item()))
    }

    /// The mask: bool, ``(height, width)``.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        arrays::mask(py, &self.runs(py)?)
    }

    /// The mask as ``{"size": [height, width], "counts": bytes}``.
    #[getter]
    fn rle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rle::to_dict(py, &self.runs(py)?)
    }

    /// The hull of the annotations' boxes, ``[x, y, width, height]`` in pixels; of a class, the box of its mask.
    #[getter]
    fn r#box<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let bbox = match self.referent() {
            Some(referent) => referent.bbox,
            None => self.runs(py)?.bbox(),
        };
        Ok(arrays::bbox(py, bbox))
    }

    fn __repr__(&self) -> String {
        let (height, width) = self.size();
        format!("<saymask.datasets.Sample {:?} on image {}, {height} x {width}>", self.sentence(), self.image_id())
    }
}

/// An image of a set and everything that is said about it.
#[pyclass(name = "Photograph", module = "saymask.datasets", frozen)]
pub(crate) struct Photograph {
    opened: Arc<Opened>,
    index: usize,
}

impl Photograph {
    fn info(&self) -> &ImageInfo {
        &self.opened.dataset.images[self.index]
    }
}

#[pymethods]
impl Photograph {
    /// ``images[].id``.
    #[getter]
    fn id(&self) -> i64 {
        self.info().id
    }

    /// ``images[].file_name``.
    #[getter]
    fn file_name(&self) -> &str {
        &self.info().file_name
    }

    /// Where it lies.
    #[getter]
    fn path(&self) -> PathBuf {
        self.info().path.clone()
    }

    /// ``(height, width)`` in pixels.
    #[getter]
    fn size(&self) -> (u32, u32) {
        size(self.info())
    }

    /// The image, read now: uint8, ``(height, width, 3)``, its pixels as they are stored.
    #[getter]
    fn image<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pixels(py, self.info())
    }

    /// Its samples, in the order of the data set.
    #[getter]
    fn samples(&self) -> Vec<Sample> {
        self.opened.by_image[self.index].iter().map(|&index| Sample { opened: self.opened.clone(), index }).collect()
    }

    fn __repr__(&self) -> String {
        let (height, width) = self.size();
        format!("<saymask.datasets.Photograph {} ({}), {height} x {width}>", self.id(), self.file_name())
    }
}

fn size(info: &ImageInfo) -> (u32, u32) {
    (info.height, info.width)
}

fn pixels<'py>(py: Python<'py>, info: &ImageInfo) -> PyResult<Bound<'py, PyAny>> {
    let image = py.detach(|| info.decode()).map_err(errors::data)?;
    let shape = (image.height(), image.width(), image.channels());
    Ok(PyArray1::from_vec(py, image.into_data()).reshape([shape.0, shape.1, shape.2])?.into_any())
}
