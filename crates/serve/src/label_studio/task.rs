//! What a task of Label Studio asks: sentences of a text area, of the task, or the labels themselves; clicks and boxes in percent.

use axum::body::Bytes;
use pil_ops::Decode;
use serde_json::Value;

use super::config::Config;
use crate::engine::ModelInfo;
use crate::refusal::Refusal;
use crate::request::AskedQuestion;

/// Keys of a task that may hold its sentences.
const KEYS: [&str; 5] = ["sentences", "sentence", "text", "caption", "prompt"];

/// The questions of a task. In a person's session the context holds what was clicked and written; otherwise the task's own
/// sentences are asked, and where it has none each label of the project.
pub(super) fn asked(
    config: &Config,
    task: &Value,
    context: Option<&Value>,
    model: &ModelInfo,
    image: &Bytes,
) -> Result<Vec<AskedQuestion>, Refusal> {
    let regions = context.and_then(|c| c.get("result")).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut seen = Context::default();
    let size = size_of(regions, image)?;
    for region in regions {
        seen.add(region, size);
    }
    if !seen.points.is_empty() || seen.bbox.is_some() {
        let sentence = seen.texts.first().cloned().or(seen.label).filter(|_| model.sentences);
        return Ok(vec![AskedQuestion { sentence, points: seen.points, bbox: seen.bbox }]);
    }
    let sentences = if seen.texts.is_empty() { own_sentences(task) } else { seen.texts };
    let sentences = if sentences.is_empty() { config.labels() } else { sentences };
    Ok(sentences.into_iter().map(|text| AskedQuestion { sentence: Some(text), ..AskedQuestion::default() }).collect())
}

/// Width and height of the image that percents refer to: as the regions say, else as the file does, upright.
fn size_of(regions: &[Value], image: &Bytes) -> Result<[f64; 2], Refusal> {
    if regions.is_empty() {
        return Ok([0.0, 0.0]);
    }
    let said = |key: &str| regions.iter().find_map(|r| r.get(key).and_then(Value::as_f64)).filter(|v| *v >= 1.0 && v.is_finite());
    if let (Some(width), Some(height)) = (said("original_width"), said("original_height")) {
        return Ok([width, height]);
    }
    let (width, height) = Decode::UPRIGHT.check(image)?;
    Ok([f64::from(width), f64::from(height)])
}

/// The task's own sentences, a text or a list of them.
fn own_sentences(task: &Value) -> Vec<String> {
    let data = task.get("data");
    let found = KEYS.iter().find_map(|key| data.and_then(|data| data.get(key)));
    texts(found)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) if !text.trim().is_empty() => vec![text.clone()],
        Some(Value::Array(all)) => all.iter().flat_map(|value| texts(Some(value))).collect(),
        _ => Vec::new(),
    }
}

/// What a person has clicked and written.
#[derive(Default)]
struct Context {
    texts: Vec<String>,
    points: Vec<Vec<f64>>,
    bbox: Option<[f64; 4]>,
    label: Option<String>,
}

impl Context {
    fn add(&mut self, region: &Value, [width, height]: [f64; 2]) {
        let (Some(kind), Some(value)) = (region.get("type").and_then(Value::as_str), region.get("value")) else { return };
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        // Percent of a side to pixels, inside of the image.
        let pixel = |percent: f64, side: f64| (percent * side / 100.0).clamp(0.0, (side - 1.0).max(0.0));
        match (kind, number("x"), number("y")) {
            ("textarea", ..) => self.texts.extend(texts(value.get("text"))),
            ("keypoint" | "keypointlabels", Some(x), Some(y)) => {
                let positive = region.get("is_positive").or_else(|| value.get("is_positive"));
                let positive = !matches!(positive, Some(Value::Bool(false))) && positive.and_then(Value::as_i64) != Some(0);
                self.points.push(vec![pixel(x, width), pixel(y, height), f64::from(u8::from(positive))]);
            }
            ("rectangle" | "rectanglelabels", Some(x), Some(y)) => {
                let (right, below) = (x + number("width").unwrap_or(0.0), y + number("height").unwrap_or(0.0));
                let edge = |percent: f64, side: f64| (percent * side / 100.0).clamp(0.0, side);
                self.bbox = Some([edge(x, width), edge(y, height), edge(right, width), edge(below, height)]);
            }
            _ => {}
        }
        let label = value.get(kind).and_then(|labels| labels.get(0)).and_then(Value::as_str);
        if kind != "textarea" && self.label.is_none() {
            self.label = label.map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label_studio::config::Control;
    use crate::label_studio::config::Kind;
    use serde_json::json;

    fn of(task: &Value, context: &Value) -> Vec<AskedQuestion> {
        let labels = vec!["the red circle".to_owned(), "left one".to_owned()];
        let control = Control { kind: Kind::Brush, name: "b".into(), to_name: "i".into(), labels };
        let config = Config { image: "i".into(), key: "image".into(), controls: vec![control] };
        let model = ModelInfo {
            name: "toy".into(),
            weights: String::new(),
            method: "evf".into(),
            sentences: true,
            points: true,
            attention: true,
        };
        asked(&config, task, Some(context), &model, &Bytes::new()).unwrap()
    }

    #[test]
    fn texts_clicks_and_labels_are_asked_in_this_order() {
        let nothing = json!({});
        let sentences = |asked: Vec<AskedQuestion>| asked.into_iter().filter_map(|q| q.sentence).collect::<Vec<_>>();
        assert_eq!(sentences(of(&json!({"data": {}}), &nothing)), ["the red circle", "left one"]);
        assert_eq!(sentences(of(&json!({"data": {"sentences": ["a", " ", "b"]}}), &nothing)), ["a", "b"]);
        let written =
            json!({"result": [{"type": "textarea", "value": {"text": ["zebra"]}, "original_width": 10, "original_height": 10}]});
        assert_eq!(sentences(of(&json!({"data": {"text": "a"}}), &written)), ["zebra"]);
        let clicked = json!({"result": [
            {"type": "keypointlabels", "original_width": 200, "original_height": 100, "is_positive": false,
             "value": {"x": 50, "y": 25, "keypointlabels": ["left one"]}},
            {"type": "keypointlabels", "value": {"x": 100, "y": 100}},
            {"type": "rectanglelabels", "value": {"x": 10, "y": 10, "width": 20, "height": 90}},
        ]});
        let asked = of(&json!({"data": {}}), &clicked);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].sentence.as_deref(), Some("left one"));
        assert_eq!(asked[0].points, [vec![100.0, 25.0, 0.0], vec![199.0, 99.0, 1.0]]);
        assert_eq!(asked[0].bbox, Some([20.0, 10.0, 60.0, 100.0]));
    }
}
