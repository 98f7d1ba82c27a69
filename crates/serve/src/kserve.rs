//! KServe's v2 protocol (open inference protocol), in its JSON form: an image and sentences as BYTES in, run lengths out.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{Answered, App, reply};
use crate::body::json;
use crate::refusal::Refusal;
use crate::request::{Fields, base64};
use crate::service::{Done, ImageSource};

pub(crate) async fn server() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    reply(StatusCode::OK, &json!({ "name": "saymask", "version": version, "extensions": [] }))
}

pub(crate) async fn live() -> Response {
    reply(StatusCode::OK, &json!({ "live": true }))
}

pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    protocol(if app.service.is_ready() { Ok(reply(StatusCode::OK, &json!({ "ready": true }))) } else { Err(Refusal::stopping()) })
}

pub(crate) async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    let tensor = |name: &str, datatype: &str, shape: &[i64]| json!({ "name": name, "datatype": datatype, "shape": shape });
    protocol(known(&app, &name).map(|()| {
        let inputs = [
            tensor("image", "BYTES", &[1]),
            tensor("sentences", "BYTES", &[-1]),
            tensor("points", "FP64", &[-1, 3]),
            tensor("boxes", "FP64", &[-1, 4]),
        ];
        let outputs = [
            tensor("counts", "BYTES", &[-1]),
            tensor("size", "INT64", &[2]),
            tensor("score", "FP32", &[-1]),
            tensor("bbox", "FP64", &[-1, 4]),
            tensor("area", "INT64", &[-1]),
        ];
        let body = json!({ "name": name, "versions": ["1"], "platform": "saymask", "inputs": inputs, "outputs": outputs });
        reply(StatusCode::OK, &body)
    }))
}

pub(crate) async fn model_ready(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    let ready = app.service.is_ready();
    protocol(known(&app, &name).and_then(|()| {
        if ready { Ok(reply(StatusCode::OK, &json!({ "name": name, "ready": true }))) } else { Err(Refusal::stopping()) }
    }))
}

pub(crate) async fn infer(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Response {
    protocol(inferred(&app, &name, request).await)
}

/// A request of the protocol.
#[derive(Debug, Deserialize)]
struct InferRequest {
    #[serde(default)]
    id: Option<String>,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<WantedTensor>,
}

#[derive(Debug, Deserialize)]
struct InputTensor {
    name: String,
    #[serde(default)]
    shape: Vec<i64>,
    datatype: String,
    data: Value,
}

#[derive(Debug, Deserialize)]
struct WantedTensor {
    name: String,
}

async fn inferred(app: &Arc<App>, name: &str, request: Request) -> Answered {
    known(app, name)?;
    let request: InferRequest = json(request, app.service.limits()).await?;
    let (image, fields) = request.asked()?;
    let questions = fields.questions(app.service.info(), app.service.limits())?;
    let (done, _) = crate::v1::ask(app, ImageSource::File(image), questions, false).await?;
    let mut outputs = outputs(&done);
    if !request.outputs.is_empty() {
        outputs.retain(|output| request.outputs.iter().any(|wanted| output["name"] == wanted.name.as_str()));
    }
    let mut body = json!({ "model_name": name, "model_version": "1", "outputs": outputs });
    if let Some(id) = request.id {
        body["id"] = json!(id);
    }
    Ok(reply(StatusCode::OK, &body))
}

impl InferRequest {
    /// The image file and what is asked about it.
    fn asked(&self) -> Result<(Bytes, Fields), Refusal> {
        let (mut image, mut fields) = (None, Fields::default());
        for input in &self.inputs {
            match input.name.as_str() {
                "image" => {
                    let [text] = <[String; 1]>::try_from(input.texts()?).map_err(|_| input.wrong("one image, in base64"))?;
                    image = Some(base64(&text)?);
                }
                "sentences" => fields.sentences = input.texts()?,
                "points" => fields.points = input.rows()?,
                "boxes" => {
                    let corners = |row: Vec<f64>| <[f64; 4]>::try_from(row).map_err(|_| input.wrong("rows of x0, y0, x1, y1"));
                    fields.boxes = input.rows()?.into_iter().map(corners).collect::<Result<_, _>>()?;
                }
                other => {
                    let shown: String = other.chars().take(40).collect();
                    let message = format!("input \"{shown}\" is unknown; there are image, sentences, points and boxes");
                    return Err(Refusal::invalid(message));
                }
            }
        }
        Ok((image.ok_or_else(|| Refusal::invalid("input image is missing"))?, fields))
    }
}

fn outputs(done: &Done) -> Vec<Value> {
    let found: Vec<_> = done.answers.iter().map(|answer| &answer.prediction).collect();
    let count = found.len();
    vec![
        output("counts", "BYTES", &[count], json!(found.iter().map(|f| f.mask.to_compressed()).collect::<Vec<_>>())),
        output("size", "INT64", &[2], json!([done.height, done.width])),
        output("score", "FP32", &[count], json!(found.iter().map(|f| f.score).collect::<Vec<_>>())),
        output("bbox", "FP64", &[count, 4], json!(found.iter().flat_map(|f| f.bbox).collect::<Vec<_>>())),
        output("area", "INT64", &[count], json!(found.iter().map(|f| f.mask.area()).collect::<Vec<_>>())),
    ]
}

fn output(name: &str, datatype: &str, shape: &[usize], data: Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "data": data })
}

fn known(app: &App, name: &str) -> Result<(), Refusal> {
    let own = &app.service.info().name;
    if name == own { Ok(()) } else { Err(Refusal::not_found(format!("no such model; this server has {own}"))) }
}

/// A refusal as the protocol has it: `error` is a sentence.
fn protocol(answered: Answered) -> Response {
    answered.unwrap_or_else(|refusal| {
        let body = json!({ "error": refusal.message });
        let mut response = reply(refusal.status, &body);
        if let Some(value) = refusal.into_response().headers_mut().remove(header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    })
}

impl InputTensor {
    fn wrong(&self, expected: &str) -> Refusal {
        Refusal::invalid(format!("input {}: expected {expected}", self.name))
    }

    /// Its data without nesting.
    fn flat<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>, depth: usize) -> Result<(), Refusal> {
        match value {
            Value::Array(_) if depth == 0 => Err(self.wrong("data of at most two levels")),
            Value::Array(values) => values.iter().try_for_each(|value| self.flat(value, out, depth - 1)),
            other => {
                out.push(other);
                Ok(())
            }
        }
    }

    fn texts(&self) -> Result<Vec<String>, Refusal> {
        if self.datatype != "BYTES" {
            return Err(self.wrong("the datatype BYTES"));
        }
        let mut flat = Vec::new();
        self.flat(&self.data, &mut flat, 3)?;
        let text = |value: &&Value| value.as_str().map(str::to_owned).ok_or_else(|| self.wrong("strings"));
        flat.iter().map(text).collect()
    }

    /// Rows of numbers; flat data is cut by the last number of the shape.
    fn rows(&self) -> Result<Vec<Vec<f64>>, Refusal> {
        if !matches!(self.datatype.as_str(), "FP64" | "FP32" | "INT64" | "INT32") {
            return Err(self.wrong("the datatype FP64, FP32, INT64 or INT32"));
        }
        let width = match self.shape.as_slice() {
            [_, width] => usize::try_from(*width).ok().filter(|w| (1..=4).contains(w)),
            _ => None,
        };
        let width = width.ok_or_else(|| self.wrong("a shape of two numbers, the second at most 4"))?;
        let mut flat = Vec::new();
        self.flat(&self.data, &mut flat, 3)?;
        if !flat.len().is_multiple_of(width) {
            return Err(self.wrong("as many numbers as its shape says"));
        }
        let number = |value: &&Value| value.as_f64().ok_or_else(|| self.wrong("numbers"));
        flat.chunks(width).map(|row| row.iter().map(number).collect()).collect()
    }
}
