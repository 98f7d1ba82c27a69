//! Answers as JSON: COCO run lengths, polygons, PNG masks, or a whole COCO file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coco_mask::Rle;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use models::Question;
use sam_vit::Prediction;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Answer;
use crate::polygons::outlines;
use crate::refusal::Refusal;
use crate::service::Done;

/// How masks are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// COCO's compressed run lengths.
    #[default]
    Rle,
    /// Outlines in pixels.
    Polygon,
    /// An 8-bit PNG of 0 and 255, in base64.
    Png,
    /// The whole answer is a COCO file.
    Coco,
}

impl Format {
    /// From a word.
    pub fn parse(word: &str) -> Result<Self, Refusal> {
        match word {
            "rle" => Ok(Self::Rle),
            "polygon" => Ok(Self::Polygon),
            "png" => Ok(Self::Png),
            "coco" => Ok(Self::Coco),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(Refusal::invalid(format!("format \"{shown}\": must be rle, polygon, png or coco")))
            }
        }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// How masks are.
    pub format: Format,
    /// Polygons beside another format.
    pub polygons: bool,
}

/// The body of an answer.
///
/// # Errors
/// A mask that cannot be written.
pub fn body(done: &Done, questions: &[Question], model: &str, written: Written) -> Result<Value, Refusal> {
    if written.format == Format::Coco {
        return Ok(coco(done, questions));
    }
    let predictions = questions.iter().zip(&done.answers).map(|(question, answer)| entry(question, answer, written));
    let ms = done.ms;
    Ok(json!({
        "image": done.id.as_str(),
        "width": done.width,
        "height": done.height,
        "kept": done.kept,
        "model": model,
        "predictions": predictions.collect::<Result<Vec<_>, _>>()?,
        "ms": { "queue": ms.queue, "decode": ms.decode, "encode": ms.encode, "ask": ms.ask },
    }))
}

/// One question and its answer.
fn entry(question: &Question, answer: &Answer, written: Written) -> Result<Value, Refusal> {
    let mut entry = mask_entry(&answer.prediction, written)?;
    let prompt = &question.prompt;
    let points: Vec<Value> = prompt.points.iter().zip(&prompt.labels).map(|([x, y], label)| json!([x, y, label])).collect();
    entry["sentence"] = json!(question.sentence);
    entry["points"] = json!(points);
    entry["box"] = json!(prompt.bbox);
    entry["presence"] = json!(answer.presence);
    entry["tokens_not_read"] = json!(answer.not_read);
    if let Some(instances) = &answer.instances {
        let instances = instances.iter().map(|instance| mask_entry(instance, written));
        entry["instances"] = Value::Array(instances.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(entry)
}

/// A mask with its score, box and area.
fn mask_entry(found: &Prediction, written: Written) -> Result<Value, Refusal> {
    let mut entry = json!({ "bbox": found.bbox, "score": found.score, "area": found.mask.area() });
    match written.format {
        Format::Rle | Format::Coco => entry["segmentation"] = runs(&found.mask),
        Format::Polygon => entry["segmentation"] = json!(outlines(&found.mask)),
        Format::Png => entry["png"] = json!(STANDARD.encode(png(&found.mask)?)),
    }
    if written.polygons {
        entry["polygons"] = json!(outlines(&found.mask));
    }
    Ok(entry)
}

/// COCO's compressed run lengths.
pub fn runs(mask: &Rle) -> Value {
    json!({ "size": [mask.height(), mask.width()], "counts": mask.to_compressed() })
}

/// A mask as an 8-bit grey PNG of 0 and 255.
fn png(mask: &Rle) -> Result<Vec<u8>, Refusal> {
    let pixels: Vec<u8> = mask.to_row_major().into_iter().map(|v| v * 255).collect();
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&pixels, mask.width(), mask.height(), ExtendedColorType::L8)
        .map_err(|error| Refusal::failed(format!("PNG: {error}")))?;
    Ok(bytes)
}

/// A COCO file: a category per sentence, an annotation per mask, or per instance where they are apart. Empty masks have none.
fn coco(done: &Done, questions: &[Question]) -> Value {
    let mut categories: Vec<&str> = Vec::new();
    let mut annotations = Vec::new();
    for (question, answer) in questions.iter().zip(&done.answers) {
        let name = question.sentence.as_deref().unwrap_or("prompted");
        let category = categories.iter().position(|known| *known == name).unwrap_or_else(|| {
            categories.push(name);
            categories.len() - 1
        });
        let whole = std::slice::from_ref(&answer.prediction);
        for found in answer.instances.as_deref().unwrap_or(whole).iter().filter(|found| !found.mask.is_empty()) {
            annotations.push(json!({
                "id": annotations.len() + 1,
                "image_id": 1,
                "category_id": category + 1,
                "segmentation": runs(&found.mask),
                "bbox": found.bbox,
                "area": found.mask.area(),
                "iscrowd": 0,
                "score": found.score,
            }));
        }
    }
    let categories: Vec<Value> =
        categories.iter().enumerate().map(|(i, name)| json!({ "id": i + 1, "name": name, "supercategory": "" })).collect();
    json!({
        "images": [{ "id": 1, "file_name": done.id.as_str(), "width": done.width, "height": done.height }],
        "categories": categories,
        "annotations": annotations,
    })
}
