//! `Request` bodies of the v1 API, as JSON or multipart, to an image and checked questions.

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use models::Question;
use sam_vit::PromptSet;
use serde::Deserialize;

use crate::engine::ModelInfo;
use crate::format::{Format, Written};
use crate::options::Limits;
use crate::refusal::Refusal;

/// A request as its body says it, not checked against the model yet.
#[derive(Debug, Default)]
pub struct Asked {
    /// The image file.
    pub image: Option<Bytes>,
    /// What is asked.
    pub fields: Fields,
}

/// What a body holds besides the image; multipart fields have the same names.
#[derive(Debug, Default, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// The image file in base64.
    pub image: Option<String>,
    /// What to look for.
    pub sentences: Vec<String>,
    /// Clicks `[x, y]` or `[x, y, label]` beside the one sentence, or alone.
    pub points: Vec<Vec<f64>>,
    /// Boxes `[x0, y0, x1, y1]`, each a question of its own, together with the sentence and the clicks.
    pub boxes: Vec<[f64; 4]>,
    /// Questions with clicks of their own, instead of the above.
    pub questions: Vec<AskedQuestion>,
    /// How masks are written.
    pub format: Format,
    /// Polygons beside another format.
    pub polygons: bool,
    /// Whether the parts of a mask are told apart.
    pub instances: bool,
}

/// A sentence with clicks and a box of its own.
#[derive(Debug, Default, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AskedQuestion {
    /// What to look for.
    pub sentence: Option<String>,
    /// Clicks `[x, y]` or `[x, y, label]`.
    pub points: Vec<Vec<f64>>,
    /// Box `[x0, y0, x1, y1]`.
    #[serde(rename = "box")]
    pub bbox: Option<[f64; 4]>,
}

impl Asked {
    /// From a JSON body.
    ///
    /// # Errors
    /// No JSON, unknown fields, an image that is no base64.
    pub fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Err(Refusal::malformed("the body is empty; send JSON or multipart/form-data: see /openapi.json"));
        }
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::malformed("the body is no JSON object: it begins with no `{`"));
        }
        let mut fields: Fields = json(body, "the body")?;
        let image = fields.image.take().map(|text| base64(&text)).transpose()?;
        Ok(Self { image, fields })
    }

    /// Adds a field of a multipart body.
    ///
    /// # Errors
    /// An unknown field, or one that is not what its name says.
    pub fn add_field(&mut self, name: &str, value: Bytes) -> Result<(), Refusal> {
        if name == "image" {
            self.image = Some(value);
            return Ok(());
        }
        let text = std::str::from_utf8(&value).map_err(|_| Refusal::malformed(format!("field {name}: is no UTF-8 text")))?;
        let fields = &mut self.fields;
        match name {
            "sentence" => fields.sentences.push(text.to_owned()),
            // A list, or one sentence as it is.
            "sentences" if text.trim_start().starts_with('[') => {
                fields.sentences.extend(json::<Vec<String>>(&value, "field sentences")?);
            }
            "sentences" => fields.sentences.push(text.to_owned()),
            "points" => fields.points = json(&value, "field points")?,
            "boxes" => fields.boxes = json(&value, "field boxes")?,
            "questions" => fields.questions = json(&value, "field questions")?,
            "format" => fields.format = Format::parse(text)?,
            "polygons" => fields.polygons = flag(name, text)?,
            "instances" => fields.instances = flag(name, text)?,
            _ => {
                let name: String = name.chars().take(40).collect();
                let known = "image, sentence, sentences, points, boxes, questions, format, polygons, instances";
                return Err(Refusal::malformed(format!("field \"{name}\" is unknown; there are {known}")));
            }
        }
        Ok(())
    }

    /// The image file.
    ///
    /// # Errors
    /// None in the body.
    pub fn take_image(&mut self) -> Result<Bytes, Refusal> {
        match self.image.take() {
            Some(bytes) if bytes.is_empty() => Err(Refusal::malformed("the image is empty: a file of 0 bytes")),
            Some(bytes) => Ok(bytes),
            None => Err(Refusal::malformed("no image; send the file as the multipart field or, in base64, the JSON key `image`")),
        }
    }
}

impl Fields {
    /// How the answer is written.
    pub fn written(&self) -> Written {
        Written { format: self.format, polygons: self.polygons }
    }

    /// The questions, checked against what the model takes and against limits.
    ///
    /// # Errors
    /// Nothing asked, too much asked, a sentence that is empty or too long, clicks that are no clicks.
    pub fn questions(&self, model: &ModelInfo, limits: &Limits) -> Result<Vec<Question>, Refusal> {
        let asked = self.as_questions()?;
        if asked.is_empty() {
            let what = if model.sentences { "sentences, points or boxes" } else { "points or boxes" };
            return Err(Refusal::invalid(format!("nothing is asked; give {what}")));
        }
        if asked.len() > limits.questions {
            let (found, most) = (asked.len(), limits.questions);
            return Err(Refusal::invalid(format!("{found} questions; at most {most} at once: ask again on the kept image")));
        }
        asked.into_iter().map(|question| question.checked(model, limits)).collect()
    }

    /// Sentences, points and boxes as questions.
    fn as_questions(&self) -> Result<Vec<AskedQuestion>, Refusal> {
        let flat = !(self.sentences.is_empty() && self.points.is_empty() && self.boxes.is_empty());
        if !self.questions.is_empty() {
            let mixed = "give either `questions` or `sentences`, `points` and `boxes`, not both";
            return if flat { Err(Refusal::invalid(mixed)) } else { Ok(self.questions.clone()) };
        }
        if self.points.is_empty() && self.boxes.is_empty() {
            let question = |sentence: &String| AskedQuestion { sentence: Some(sentence.clone()), ..AskedQuestion::default() };
            return Ok(self.sentences.iter().map(question).collect());
        }
        if self.sentences.len() > 1 {
            let several = "points and boxes belong to one sentence; with several give `questions`, each with its own";
            return Err(Refusal::invalid(several));
        }
        let with = |bbox| AskedQuestion { sentence: self.sentences.first().cloned(), points: self.points.clone(), bbox };
        Ok(match self.boxes.as_slice() {
            [] => vec![with(None)],
            boxes => boxes.iter().map(|corners| with(Some(*corners))).collect(),
        })
    }
}

impl AskedQuestion {
    fn checked(self, model: &ModelInfo, limits: &Limits) -> Result<Question, Refusal> {
        let sentence = self.sentence.map(|sentence| checked_sentence(sentence, model, limits)).transpose()?;
        let prompted = !self.points.is_empty() || self.bbox.is_some();
        if prompted && !model.points {
            let method = &model.method;
            return Err(Refusal::invalid(format!("this model ({method}) takes no points and no boxes; ask by sentence alone")));
        }
        if !prompted && sentence.is_none() {
            return Err(Refusal::invalid("a question is empty; give a sentence, a point or a box"));
        }
        if self.points.len() > limits.points {
            let (found, most) = (self.points.len(), limits.points);
            return Err(Refusal::invalid(format!("{found} points in a question; at most {most}")));
        }
        let mut prompt = PromptSet { bbox: self.bbox, ..PromptSet::default() };
        for point in &self.points {
            let (at, label) = checked_point(point)?;
            prompt = prompt.with_point(at, label);
        }
        // No request brings a mask, so its size is nobody's.
        prompt.check(0, [0, 0]).map_err(|error| Refusal::invalid(error.to_string()))?;
        Ok(Question { sentence, prompt })
    }
}

/// A sentence that can be asked, without spaces around it.
pub(crate) fn checked_sentence(sentence: String, model: &ModelInfo, limits: &Limits) -> Result<String, Refusal> {
    if !model.sentences {
        return Err(Refusal::invalid("this model reads no sentences; give points or a box"));
    }
    let characters = sentence.chars().count();
    if characters > limits.sentence_chars {
        let most = limits.sentence_chars;
        return Err(Refusal::invalid(format!(
            "a sentence of {characters} characters; at most {most}, of which models read the first words"
        )));
    }
    let sentence = sentence.trim();
    if sentence.is_empty() {
        return Err(Refusal::invalid("a sentence is empty; say what to look for, such as \"the red circle\""));
    }
    Ok(sentence.to_owned())
}

fn checked_point(point: &[f64]) -> Result<([f64; 2], i32), Refusal> {
    match point {
        [x, y] => Ok(([*x, *y], 1)),
        [x, y, label] if *label == 0.0 || *label == 1.0 => Ok(([*x, *y], *label as i32)),
        [_, _, label] => Err(Refusal::invalid(format!("label {label}: must be 1 (on the object) or 0 (beside it)"))),
        _ => Err(Refusal::invalid("a point is [x, y] or [x, y, label] in pixels, such as [320, 200, 1]")),
    }
}

/// JSON of a kind; `what` is named where it is not.
pub(crate) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::malformed(format!("{what}: {error}")))
}

/// Bytes of base64, with or without `data:image/png;base64,` in front.
pub(crate) fn base64(text: &str) -> Result<Bytes, Refusal> {
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, data)| data),
        None => text,
    };
    let bytes = STANDARD.decode(text.trim_ascii()).map_err(|error| Refusal::malformed(format!("image: no base64: {error}")))?;
    Ok(bytes.into())
}

/// `true` or `false`.
pub(crate) fn flag(name: &str, text: &str) -> Result<bool, Refusal> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err(Refusal::invalid(format!("{name}: must be true or false"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn model() -> ModelInfo {
        ModelInfo {
            name: "toy".into(),
            weights: "toy".into(),
            method: "evf".into(),
            sentences: true,
            points: true,
            attention: true,
        }
    }

    fn questions(body: &str) -> Result<Vec<Question>, Refusal> {
        Asked::from_json(body.as_bytes())?.fields.questions(&model(), &Limits::default())
    }

    #[test]
    fn sentences_points_and_boxes_become_questions() {
        let found = questions(r#"{"sentences": [" red one ", "left"]}"#).unwrap();
        assert_eq!((found.len(), found[0].sentence.as_deref()), (2, Some("red one")));
        let found =
            questions(r#"{"sentences": ["red"], "points": [[1, 2], [3, 4, 0]], "boxes": [[0,0,1,1],[2,2,5,5]]}"#).unwrap();
        assert_eq!((found.len(), &found[1].prompt.labels, found[1].prompt.bbox), (2, &vec![1, 0], Some([2.0, 2.0, 5.0, 5.0])));
        let found = questions(r#"{"questions": [{"sentence": "red", "points": [[1, 2, 0]]}, {"box": [0, 0, 1, 1]}]}"#).unwrap();
        assert_eq!((found[0].prompt.points.len(), found[1].sentence.as_deref()), (1, None));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let long = format!(r#"{{"sentences": ["{}"]}}"#, "word ".repeat(20_000));
        let many = format!(r#"{{"sentences": [{}]}}"#, vec!["\"a\""; 33].join(","));
        for (body, status, says) in [
            ("", 400, "empty"),
            ("[]", 400, "no JSON object"),
            ("{\"image\": \"%%%\"}", 400, "base64"),
            ("{\"sentenses\": []}", 400, "sentences"),
            ("{\"points\": [[NaN, 1]]}", 400, "expected value"),
            ("{\"points\": [[1e999, 1]]}", 400, "range"),
            ("{}", 422, "nothing is asked"),
            ("{\"sentences\": [\"  \"]}", 422, "sentence is empty"),
            (long.as_str(), 422, "100000 characters"),
            (many.as_str(), 422, "at most 32"),
            ("{\"points\": [[1]]}", 422, "[x, y]"),
            ("{\"points\": [[1, 2, 7]]}", 422, "label 7"),
            ("{\"boxes\": [[5, 5, 1, 1]]}", 422, "x0 <= x1"),
            ("{\"sentences\": [\"a\", \"b\"], \"points\": [[1, 1]]}", 422, "questions"),
            ("{\"sentences\": [\"a\"], \"questions\": [{}]}", 422, "not both"),
            ("{\"questions\": [{}]}", 422, "a question is empty"),
        ] {
            let refusal = questions(body).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{refusal}");
            assert!(refusal.message.contains(says), "`{says}` is missing in: {refusal}");
        }
        let deaf = ModelInfo { sentences: false, ..model() };
        let fields = Fields { sentences: vec!["red".into()], ..Fields::default() };
        assert!(fields.questions(&deaf, &Limits::default()).unwrap_err().message.contains("no sentences"));
        let risam = ModelInfo { points: false, ..model() };
        let fields = Fields { points: vec![vec![1.0, 1.0]], ..Fields::default() };
        assert!(fields.questions(&risam, &Limits::default()).unwrap_err().message.contains("no points"));
    }

    #[test]
    fn images_come_in_base64_with_or_without_a_prefix() {
        for text in ["YWJj", "data:image/png;base64,YWJj", " YWJj\n"] {
            assert_eq!(base64(text).unwrap(), "abc");
        }
        let mut asked = Asked::from_json(b"{\"image\": \"\"}").unwrap();
        assert!(asked.take_image().unwrap_err().message.contains("0 bytes"));
    }
}
