//! `saymask.evaluate`: the referee, as `eval --from` calls it.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;
use pyo3::types::PyString;
use referee::{Joined, Protocol, RefereeError, Results, Score, Split, score};
use serde_json::{Map, Value, json};

use crate::datasets::PyDataset;
use crate::{arguments, arrays, errors, heavy, json};

/// Results, expressions or records that are named when something is wrong with them, as in the program.
const NAMED: usize = 3;

/// Where results come from.
enum Given {
    Path(PathBuf),
    Records(Vec<Value>),
}

/// Scores masks of any program under the protocols of published code bases.
///
/// Parameters
/// ----------
/// dataset : Dataset
///     A split, from ``saymask.datasets.open``.
/// results : path or list of dict
///     A file or folder that ``saymask eval --from`` reads, or records such as
///     ``{"sent_id": 7, "segmentation": mask}``. A mask is run lengths, polygons, an array of uint8 or bool of shape
///     ``(height, width)``, a ``Prediction``, or None where nothing was found. An expression is named by ``sent_id``, by ``ref_id`` or
///     ``ann_id``, or by ``image_id`` or ``file_name`` with a ``sentence``.
/// protocol : str or list of str
///     Names of protocols ("saymask", "dit", "evf", "lisa", "gres", ...), or "all".
/// soft : bool
///     Grey levels of image files are probabilities times 255.
///
/// Returns
/// -------
/// dict
///     ``"protocols"`` holds a report per protocol (``oiou``, ``miou``, ``precision``, ``samples``, ... as shares from 0 to 1),
///     ``"refused"`` why a protocol has none; ``"missing"``, ``"doubled"`` and ``"unknown"`` count results. What is missing, doubled or
///     unknown is also warned of.
///
/// Raises
/// ------
/// FileNotFoundError
///     No such results.
/// ValueError
///     Results that cannot be read or belong to another data set; a data set of classes; an unknown protocol.
#[pyfunction]
#[pyo3(signature = (dataset, results, protocol=None, *, soft=false))]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    dataset: &Bound<'py, PyAny>,
    results: &Bound<'py, PyAny>,
    protocol: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = arguments::soft)] soft: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let dataset = dataset.cast::<PyDataset>().map_err(|_| {
        let what = format!("must be a split that saymask.datasets.open gives, not {}", arrays::type_name(dataset));
        errors::kind("dataset", what)
    })?;
    let protocols = protocols(protocol)?;
    let given = given(results)?;
    let split = dataset.get().split(py)?;
    let work = move |_: &heavy::Cancelled| judged(&split, given, &protocols, soft);
    let (notes, value) = heavy::interruptible(py, work)?.map_err(errors::referee)?;
    for note in notes {
        let text = CString::new(note.replace('\0', " ")).unwrap_or_default();
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)?;
    }
    json::object(py, &value)
}

fn given(results: &Bound<'_, PyAny>) -> PyResult<Given> {
    if arrays::is_list(results) {
        let record = |(i, item): (usize, &Bound<'_, PyAny>)| json::value(item, &format!("results[{i}]"));
        return arrays::items(results)?.iter().enumerate().map(record).collect::<PyResult<_>>().map(Given::Records);
    }
    results
        .extract()
        .map(Given::Path)
        .map_err(|_| errors::kind("results", format!("must be a path or a list of dicts, not {}", arrays::type_name(results))))
}

/// Protocols by their names; all of them for "all", as where none is named.
fn protocols(wanted: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Protocol>> {
    let Some(wanted) = wanted else { return Ok(Protocol::all()) };
    let names: Vec<String> = match wanted.cast::<PyString>() {
        Ok(name) => vec![name.to_cow()?.into_owned()],
        Err(_) => wanted.extract().map_err(|_| errors::kind("protocol", "must be a name or a list of names"))?,
    };
    if names.is_empty() || names.iter().any(|name| name == "all") {
        return Ok(Protocol::all());
    }
    names.iter().map(|name| Protocol::named(name).map_err(|e| errors::value("protocol", e))).collect()
}

fn judged(split: &Arc<Split>, given: Given, protocols: &[Protocol], soft: bool) -> Result<(Vec<String>, Value), RefereeError> {
    let results = match given {
        Given::Path(path) => Results::open(&path, soft)?,
        Given::Records(records) => Results::from_records(&records, soft)?,
    };
    let joined = Joined::new(split, &results)?;
    let notes = split.warnings.iter().cloned().chain(joined.notes(split, &results, NAMED)).collect();
    let scores = score(split, &results, &joined, protocols, |_| {})?;
    Ok((notes, summary(&results, &joined, &scores)))
}

fn summary(results: &Results, joined: &Joined, scores: &[Score]) -> Value {
    let (mut reports, mut refused) = (Map::new(), Map::new());
    for score in scores {
        let name = score.protocol.name.to_owned();
        match &score.outcome {
            Ok(report) => reports.insert(name, json!(report)),
            Err(why) => refused.insert(name, json!(why.first)),
        };
    }
    json!({
        "results": results.path,
        "form": results.form,
        "expressions": joined.records.len(),
        "missing": joined.missing.len(),
        "doubled": joined.doubled.len(),
        "unknown": joined.unknown.len(),
        "protocols": reports,
        "refused": refused,
    })
}
