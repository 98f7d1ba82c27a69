//! The v1 API: images and questions in, masks out.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use image::ImageFormat;
use models::Question;
use serde_json::{Value, json};

use crate::app::{Answered, App, beside, reply, text};
use crate::body::asked;
use crate::format::{Written, body};
use crate::kept::ImageId;
use crate::refusal::Refusal;
use crate::request::{Asked, checked_sentence};
use crate::service::{Done, ImageSource, Work};

pub(crate) async fn models(State(app): State<Arc<App>>) -> Answered {
    let limits = app.service.limits();
    let limits = json!({
        "body_bytes": limits.body_bytes,
        "pixels": limits.pixels,
        "questions": limits.questions,
        "sentence_chars": limits.sentence_chars,
        "points": limits.points,
        "deadline_seconds": limits.deadline.as_secs_f64(),
    });
    Ok(reply(StatusCode::OK, &json!({ "models": [app.service.info()], "limits": limits })))
}

pub(crate) async fn segment(State(app): State<Arc<App>>, request: Request) -> Answered {
    let begun = Instant::now();
    let mut asked = asked(request, app.service.limits()).await?;
    let image = asked.take_image()?;
    answer(&app, ImageSource::File(image), &asked, begun).await
}

pub(crate) async fn segment_kept(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Answered {
    let begun = Instant::now();
    let id = parse_id(&id)?;
    let asked = asked(request, app.service.limits()).await?;
    if asked.image.is_some() {
        return Err(Refusal::invalid("the address names the image already; leave `image` out of the body"));
    }
    answer(&app, ImageSource::Kept(id), &asked, begun).await
}

pub(crate) async fn encode(State(app): State<Arc<App>>, request: Request) -> Answered {
    let begun = Instant::now();
    let image = asked(request, app.service.limits()).await?.take_image()?;
    let done = app.service.submit(ImageSource::File(image), Work::Encode).await?;
    let ms = done.ms;
    let times = json!({ "queue": ms.queue, "decode": ms.decode, "encode": ms.encode, "total": since(begun) });
    let body = json!({ "id": done.id.as_str(), "width": done.width, "height": done.height, "kept": done.kept, "ms": times });
    Ok(reply(StatusCode::OK, &body))
}

pub(crate) async fn forget(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answered {
    let id = parse_id(&id)?;
    if app.service.forget(&id) {
        return Ok(text(StatusCode::OK, "application/json", json!({ "id": id.as_str(), "kept": false }).to_string()));
    }
    Err(Refusal::not_found(format!("no image {} is kept", id.as_str())))
}

pub(crate) async fn attention(State(app): State<Arc<App>>, request: Request) -> Answered {
    let (info, limits) = (app.service.info(), app.service.limits());
    let mut asked = asked(request, limits).await?;
    let image = asked.take_image()?;
    let [sentence] = <[String; 1]>::try_from(std::mem::take(&mut asked.fields.sentences))
        .map_err(|all| Refusal::invalid(format!("{} sentences; attention maps are of one", all.len())))?;
    let sentence = checked_sentence(sentence, info, limits)?;
    let done = app.service.submit(ImageSource::File(image), Work::Attention { sentence }).await?;
    let Some(drawing) = done.drawing else { return Err(Refusal::failed("the model drew nothing")) };
    let png = beside(move || {
        let mut png = Cursor::new(Vec::new());
        drawing.write_to(&mut png, ImageFormat::Png).map_err(|error| Refusal::failed(format!("PNG: {error}")))?;
        Ok(png.into_inner())
    });
    Ok(text(StatusCode::OK, "image/png", png.await?))
}

/// The answer to checked questions about an image.
async fn answer(app: &Arc<App>, image: ImageSource, asked: &Asked, begun: Instant) -> Answered {
    let fields = &asked.fields;
    let questions = fields.questions(app.service.info(), app.service.limits())?;
    let (done, questions) = ask(app, image, questions, fields.instances).await?;
    let mut body = written(app, done, questions, fields.written()).await?;
    if let Some(ms) = body.get_mut("ms") {
        ms["total"] = json!(since(begun));
    }
    Ok(reply(StatusCode::OK, &body))
}

/// Asks the model; the questions come back with what it says.
pub(crate) async fn ask(
    app: &App,
    image: ImageSource,
    questions: Vec<Question>,
    instances: bool,
) -> Result<(Done, Vec<Question>), Refusal> {
    let mut done = app.service.submit(image, Work::Ask { questions: questions.clone(), instances }).await?;
    for parts in done.answers.iter_mut().filter_map(|answer| answer.instances.as_mut()) {
        parts.truncate(app.service.limits().instances);
    }
    Ok((done, questions))
}

async fn written(app: &App, done: Done, questions: Vec<Question>, written: Written) -> Result<Value, Refusal> {
    let model = app.service.info().name.clone();
    beside(move || body(&done, &questions, &model, written)).await
}

fn parse_id(text: &str) -> Result<ImageId, Refusal> {
    let wrong = || Refusal::not_found("an image's id is 64 hexadecimal digits, as POST /v1/images gives it");
    ImageId::parse(text).ok_or_else(wrong)
}

fn since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
