//! What JavaScript gives, checked: an RGBA image, questions as JSON. `web/tests/node.mjs` holds its tests.

use models::Question;
use pil_ops::Image;
use sam_vit::PromptSet;
use serde::Deserialize;

/// Most pixels of an image: what fits beside its mask into the memory of a 32-bit program.
const MOST_PIXELS: usize = 64_000_000;

/// RGBA, row by row, as a canvas gives it; alpha is dropped, as Pillow's `convert("RGB")` does.
///
/// # Shapes
/// `rgba`: [height, width, 4]
pub(crate) fn image(rgba: &[u8], width: usize, height: usize) -> Result<Image, String> {
    let pixels = width.checked_mul(height).filter(|pixels| *pixels <= MOST_PIXELS);
    let pixels = pixels
        .ok_or_else(|| format!("the image has {width} x {height} pixels: at most {MOST_PIXELS} are read; make it smaller"))?;
    if rgba.len() != 4 * pixels {
        return Err(format!("{} bytes for an image of {width} x {height}: RGBA of that size has {}", rgba.len(), 4 * pixels));
    }
    // In one piece: a large image leaves no room for a vector that grows.
    let mut rgb = Vec::with_capacity(3 * pixels);
    rgba.as_chunks::<4>().0.iter().for_each(|[r, g, b, _]| rgb.extend_from_slice(&[*r, *g, *b]));
    Image::new(width, height, 3, rgb).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sentence: Option<String>,
    #[serde(default)]
    points: Vec<(f64, f64, i32)>,
    #[serde(rename = "box")]
    bbox: Option<[f64; 4]>,
}

/// Questions as the service's API has them: `[{ "sentence": "...", "points": [[x, y, label]], "box": [x0, y0, x1, y1] }]`.
pub(crate) fn questions(json: &str) -> Result<Vec<Question>, String> {
    let shape = "questions are [{ sentence, points: [[x, y, 0 or 1]], box: [x0, y0, x1, y1] }]";
    let asked: Vec<Asked> = serde_json::from_str(json).map_err(|error| format!("{shape}: {error}"))?;
    asked.into_iter().enumerate().map(|(at, asked)| question(asked).map_err(|what| format!("question {at}: {what}"))).collect()
}

fn question(Asked { sentence, points, bbox }: Asked) -> Result<Question, String> {
    let sentence = match sentence {
        Some(text) if text.trim().is_empty() => return Err("its sentence is empty: say what to look for, or leave it out".into()),
        sentence => sentence,
    };
    let mut prompt = PromptSet { bbox, ..PromptSet::default() };
    for (x, y, label) in points {
        prompt = prompt.with_point([x, y], label);
    }
    if sentence.is_none() && prompt.is_empty() {
        return Err("it has neither a sentence nor points nor a box".into());
    }
    Ok(Question { sentence, prompt })
}
