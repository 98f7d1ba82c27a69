//! Label Studio's machine-learning backend: `/health`, `/setup` and `/predict`; sentences, clicks and boxes in, brush masks out.

pub mod brush;
pub mod config;
mod task;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use models::Question;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{Answered, App, beside, reply};
use crate::body::json as json_body;
use crate::engine::Answer;
use crate::polygons::outlines;
use crate::refusal::Refusal;
use crate::request::{Fields, base64};
use crate::service::{Done, ImageSource};
use config::{Config, Control, Kind};
use task::asked;

/// What Label Studio asks of a model; the rest of what it sends is nobody's business here.
#[derive(Debug, Deserialize)]
struct PredictRequest {
    #[serde(default)]
    tasks: Vec<Value>,
    #[serde(default)]
    label_config: Option<String>,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(default)]
    context: Option<Value>,
}

pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    reply(StatusCode::OK, &json!({ "status": "UP", "model_class": "Saymask", "model_version": version(&app) }))
}

pub(crate) async fn setup(State(app): State<Arc<App>>, request: Request) -> Answered {
    let setup: Value = json_body(request, app.service.limits()).await?;
    // Told now, where the person who connects the backend reads it.
    if let Some(xml) = setup.get("schema").and_then(Value::as_str).filter(|xml| !xml.trim().is_empty()) {
        Config::parse(xml)?;
    }
    Ok(reply(StatusCode::OK, &json!({ "model_version": version(&app) })))
}

pub(crate) async fn webhook(State(app): State<Arc<App>>, request: Request) -> Answered {
    let _: Value = json_body(request, app.service.limits()).await?;
    Ok(reply(StatusCode::OK, &json!({ "result": "nothing is trained here" })))
}

pub(crate) async fn predict(State(app): State<Arc<App>>, request: Request) -> Answered {
    let request: PredictRequest = json_body(request, app.service.limits()).await?;
    let most = app.service.limits().questions;
    if request.tasks.len() > most {
        return Err(Refusal::invalid(format!("{} tasks; at most {most} at once", request.tasks.len())));
    }
    let xml = request.label_config.as_deref().unwrap_or_default();
    let config = Config::parse(xml)?;
    let context = request.params.and_then(|params| params.context);
    let mut results = Vec::with_capacity(request.tasks.len());
    for task in &request.tasks {
        results.push(one(&app, &config, task, context.as_ref()).await?);
    }
    Ok(reply(StatusCode::OK, &json!({ "results": results })))
}

/// The prediction of one task.
async fn one(app: &Arc<App>, config: &Config, task: &Value, context: Option<&Value>) -> Result<Value, Refusal> {
    let file = image(app, config, task).await?;
    let fields = Fields { questions: asked(config, task, context, app.service.info(), &file)?, ..Fields::default() };
    let questions = fields.questions(app.service.info(), app.service.limits())?;
    let (done, questions) = crate::v1::ask(app, ImageSource::File(file), questions, false).await?;
    let (config, version) = (config.clone(), version(app));
    beside(move || Ok(prediction(&config, &done, &questions, &version))).await
}

/// The image of a task: in the task itself, or a file of the media folder.
async fn image(app: &Arc<App>, config: &Config, task: &Value) -> Result<axum::body::Bytes, Refusal> {
    let address = task.get("data").and_then(|data| data.get(&config.key)).and_then(Value::as_str);
    let address = address.ok_or_else(|| Refusal::invalid(format!("a task has no data.{}", config.key)))?;
    if address.starts_with("data:") {
        return base64(address);
    }
    if app.media.is_none() {
        let message = "images that Label Studio names by address are not fetched; start with --media and its media folder, or put \
                       images into the tasks as data:image/png;base64,..";
        return Err(Refusal::invalid(message));
    }
    let (app, address) = (Arc::clone(app), address.to_owned());
    beside(move || match &app.media {
        Some(media) => media.read(&address, app.service.limits().body_bytes),
        None => Err(Refusal::failed("the media folder is gone")),
    })
    .await
}

fn prediction(config: &Config, done: &Done, questions: &[Question], version: &str) -> Value {
    let mut regions = Vec::new();
    for (question, answer) in questions.iter().zip(&done.answers) {
        if answer.prediction.mask.is_empty() {
            continue;
        }
        for control in &config.controls {
            let Some(label) = label_of(control, question.sentence.as_deref(), config) else { continue };
            regions.extend(region(control, &label, done, answer, regions.len()));
        }
    }
    let scores: Vec<f32> = done.answers.iter().map(|a| a.prediction.score).collect();
    let score = scores.iter().sum::<f32>() / scores.len().max(1) as f32;
    json!({ "model_version": version, "score": score, "result": regions })
}

/// The control's label that a sentence is, or its first for a sentence that is nobody's label.
fn label_of(control: &Control, sentence: Option<&str>, config: &Config) -> Option<String> {
    let is = |label: &&String| sentence.is_some_and(|sentence| label.trim().eq_ignore_ascii_case(sentence));
    let own = control.labels.iter().find(is).cloned();
    let foreign = config.labels().iter().any(|label| is(&label));
    own.or_else(|| control.labels.first().filter(|_| !foreign).cloned())
}

/// A region as Label Studio has it: coordinates in percent, masks in its own run lengths.
fn region(control: &Control, label: &str, done: &Done, answer: &Answer, number: usize) -> Vec<Value> {
    let found = &answer.prediction;
    let (width, height) = (done.width as f64, done.height as f64);
    let percent = |value: f64, of: f64| 100.0 * value / of;
    let mut values = match control.kind {
        Kind::Brush => vec![json!({ "format": "rle", "rle": brush::encode(&found.mask) })],
        Kind::Rectangle => {
            let [x, y, w, h] = found.bbox;
            let (x, w) = (percent(x, width), percent(w, width));
            let (y, h) = (percent(y, height), percent(h, height));
            vec![json!({ "x": x, "y": y, "width": w, "height": h, "rotation": 0 })]
        }
        Kind::Polygon => {
            let points = |flat: Vec<f64>| {
                let pairs = flat.chunks_exact(2).map(|p| [percent(p[0], width), percent(p[1], height)]);
                json!({ "points": pairs.collect::<Vec<_>>(), "closed": true })
            };
            outlines(&found.mask).into_iter().map(points).collect()
        }
    };
    for (part, value) in values.iter_mut().enumerate() {
        value[control.kind.key()] = json!([label]);
        *value = json!({
            "id": format!("saymask-{number}-{part}"),
            "type": control.kind.key(),
            "from_name": control.name,
            "to_name": control.to_name,
            "original_width": done.width,
            "original_height": done.height,
            "image_rotation": 0,
            "score": found.score,
            "value": value.take(),
        });
    }
    values
}

fn version(app: &App) -> String {
    format!("saymask-{} {}", env!("CARGO_PKG_VERSION"), app.service.info().name)
}
