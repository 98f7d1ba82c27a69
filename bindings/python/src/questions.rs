//! Sentences, points and boxes as Python gives them, as questions for a model.

use models::Question;
use pyo3::prelude::*;
use pyo3::types::PyString;
use sam_vit::{PromptSet, SamError};

use crate::{arrays, errors};

/// Questions about one image.
pub(crate) struct Asked {
    /// One per mask.
    pub(crate) questions: Vec<Question>,
    /// Whether a list was given, so that a list is due.
    pub(crate) many: bool,
}

/// Questions from one sentence with its points and box, or from a list with one of each per sentence.
pub(crate) fn asked(
    sentences: Option<&Bound<'_, PyAny>>,
    points: Option<&Bound<'_, PyAny>>,
    bbox: Option<&Bound<'_, PyAny>>,
    argument: &str,
) -> PyResult<Asked> {
    let Some(list) = sentences.filter(|sentences| arrays::is_list(sentences)) else {
        let question = question(sentences, points, bbox, [argument, "points", "box"])?;
        return Ok(Asked { questions: vec![question], many: false });
    };
    let sentences = arrays::items(list)?;
    let (points, boxes) = (one_each(points, sentences.len(), "points")?, one_each(bbox, sentences.len(), "box")?);
    let mut questions = Vec::with_capacity(sentences.len());
    for (i, sentence) in sentences.iter().enumerate() {
        let names = [argument, "points", "box"].map(|name| format!("{name}[{i}]"));
        let names = [&*names[0], &*names[1], &*names[2]];
        questions.push(question(Some(sentence), points.get(i), boxes.get(i), names)?);
    }
    Ok(Asked { questions, many: true })
}

/// The entries of a list with one per sentence; none where there is no list.
fn one_each<'py>(list: Option<&Bound<'py, PyAny>>, sentences: usize, argument: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let Some(list) = list.filter(|list| !list.is_none()) else { return Ok(Vec::new()) };
    let items = if arrays::is_list(list) { arrays::items(list)? } else { Vec::new() };
    if items.len() != sentences {
        let what = format!("must be a list with one entry, or None, per sentence: {sentences}");
        return Err(errors::value(argument, what));
    }
    Ok(items)
}

/// One question; `names` are those of its three arguments.
fn question(
    sentence: Option<&Bound<'_, PyAny>>,
    points: Option<&Bound<'_, PyAny>>,
    bbox: Option<&Bound<'_, PyAny>>,
    names: [&str; 3],
) -> PyResult<Question> {
    let given = |object: Option<&Bound<'_, PyAny>>| object.is_some_and(|object| !object.is_none());
    let mut question = Question::prompt(PromptSet::default());
    if let Some(sentence) = sentence.filter(|s| !s.is_none()) {
        let Ok(text) = sentence.cast::<PyString>() else {
            let what = format!("must be a str or a list of str, not {}", arrays::type_name(sentence));
            return Err(errors::kind(names[0], what));
        };
        let text = text.to_cow()?.into_owned();
        if text.trim().is_empty() {
            return Err(errors::value(names[0], "is empty; say what to look for, such as \"the red circle\""));
        }
        question.sentence = Some(text);
    } else if !given(points) && !given(bbox) {
        return Err(errors::value(names[0], "is None, and there are neither points nor a box: nothing is asked"));
    }
    if let Some(points) = points.filter(|p| !p.is_none()) {
        for ([x, y], label) in clicks(points, names[1])? {
            question = question.with_point([x, y], label);
        }
        makes_sense(&question.prompt, names[1])?;
    }
    if let Some(bbox) = bbox.filter(|b| !b.is_none()) {
        let numbers = arrays::floats(bbox, names[2])?;
        let found = numbers.len();
        let corners =
            numbers.try_into().map_err(|_| errors::value(names[2], format!("must be (x0, y0, x1, y1), not {found} numbers")))?;
        question = question.with_box(corners);
        makes_sense(&question.prompt, names[2])?;
    }
    Ok(question)
}

/// Coordinates that are no numbers, and boxes that are turned around.
fn makes_sense(prompt: &PromptSet, argument: &str) -> PyResult<()> {
    // Without a mask in the prompt, the size of one is of no account.
    prompt.check(0, [0, 0]).map_err(|error| match error {
        SamError::Prompt { what, .. } => errors::value(argument, what),
        error => errors::value(argument, error),
    })
}

/// Points with their labels: (x, y) or (x, y, label).
fn clicks(points: &Bound<'_, PyAny>, argument: &str) -> PyResult<Vec<([f64; 2], i32)>> {
    let mut out = Vec::new();
    for (i, point) in points.try_iter().map_err(|_| errors::kind(argument, "must be a sequence of (x, y, label)"))?.enumerate() {
        let name = format!("{argument}[{i}]");
        let point = point?;
        if !point.hasattr("__len__")? {
            return Err(errors::value(argument, "must be a sequence of (x, y, label): one point is [(x, y, 1)]"));
        }
        match *arrays::floats(&point, &name)? {
            [x, y] => out.push(([x, y], 1)),
            [x, y, label] if label == 0.0 || label == 1.0 => out.push(([x, y], i32::from(label == 1.0))),
            [_, _, label] => return Err(errors::value(&name, format!("label {label}: 1 is on the object, 0 beside it"))),
            ref other => {
                return Err(errors::value(&name, format!("must be (x, y) or (x, y, label), not {} numbers", other.len())));
            }
        }
    }
    Ok(out)
}
