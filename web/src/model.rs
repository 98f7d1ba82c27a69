//! The classes that JavaScript sees: `Model`, `Embedding` and `Mask`.

use burn::tensor::Device;
use js_sys::{Array, JSON, Object, Uint8Array};
use models::{AnyEmbedding, AnyModel, Question};
use sam_vit::Prediction;
use wasm_bindgen::prelude::{JsCast, JsError, JsValue, wasm_bindgen};

use crate::input;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** The files of a model by name: `model.safetensors`, `config.json` and the tokenizer's, as `saymask export` writes them. */
export type ModelFiles = Record<string, Uint8Array>;
/** A sentence, points and a box about one object, in the image's own pixels; label 1 is on the object, 0 beside it. */
export interface Question {
  sentence?: string;
  points?: [x: number, y: number, label: 0 | 1][];
  box?: [x0: number, y0: number, x1: number, y1: number];
}
"#;

#[wasm_bindgen]
extern "C" {
    /// `ModelFiles` of the declarations.
    #[wasm_bindgen(typescript_type = "ModelFiles")]
    pub type JsModelFiles;
    /// `Question[]` of the declarations.
    #[wasm_bindgen(typescript_type = "Question[]")]
    pub type JsQuestions;
}

/// A text-prompted segmenter of any method.
#[wasm_bindgen]
pub struct Model {
    model: AnyModel,
}

/// An image that a model has read: asked as often as wanted.
#[wasm_bindgen]
pub struct Embedding {
    embedding: AnyEmbedding,
}

/// An answer: the mask at the image's own size.
#[wasm_bindgen]
pub struct Mask {
    prediction: Prediction,
    not_read: Option<String>,
}

/// Throws a sentence as an `Error`.
fn thrown(error: impl ToString) -> JsError {
    JsError::new(&error.to_string())
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from its files.
    ///
    /// # Errors
    /// Files that are missing, damaged, or do not fit each other.
    pub fn load(files: &JsModelFiles) -> Result<Model, JsError> {
        let model = AnyModel::from_files(entries(files)?, &Device::flex()).map_err(thrown)?;
        Ok(Self { model })
    }

    /// Asks once about a small grey image, so that the first real question finds everything in its place.
    ///
    /// # Errors
    /// A model that cannot compute.
    #[wasm_bindgen(js_name = warmUp)]
    pub fn warm_up(&self) -> Result<(), JsError> {
        let grey = input::image(&[128; 4 * 16 * 16], 16, 16).map_err(thrown)?;
        self.model.predict(&grey, &["a"]).map_err(thrown)?;
        Ok(())
    }

    /// The method: "dit", "evf" or "risam".
    #[wasm_bindgen(getter)]
    pub fn method(&self) -> String {
        match self.model {
            AnyModel::Dit(_) => "dit",
            AnyModel::Evf(_) => "evf",
            AnyModel::Risam(_) => "risam",
        }
        .to_owned()
    }

    /// Whether it takes points and boxes.
    #[wasm_bindgen(getter)]
    pub fn points(&self) -> bool {
        self.model.takes_points()
    }

    /// Reads an image once. `rgba` is what a canvas's `getImageData` gives; alpha is dropped.
    ///
    /// # Errors
    /// Another number of bytes, a side of 0, more than 64 million pixels.
    pub fn embed(&self, rgba: &[u8], width: usize, height: usize) -> Result<Embedding, JsError> {
        let image = input::image(rgba, width, height).map_err(thrown)?;
        Ok(Embedding { embedding: self.model.embed(&image).map_err(thrown)? })
    }

    /// One mask per question.
    ///
    /// # Errors
    /// A sentence without words, points where the model takes none, an embedding of a model of another method.
    pub fn ask(&self, embedding: &Embedding, questions: &JsQuestions) -> Result<Vec<Mask>, JsError> {
        let json = JSON::stringify(questions).map_err(|_| JsError::new("questions cannot be read"))?;
        let questions = input::questions(&json.as_string().unwrap_or_default()).map_err(thrown)?;
        let predictions = self.model.ask_with(&embedding.embedding, &questions).map_err(thrown)?;
        predictions.into_iter().zip(&questions).map(|(prediction, question)| self.mask(prediction, question)).collect()
    }

    fn mask(&self, prediction: Prediction, question: &Question) -> Result<Mask, JsError> {
        let truncation = question.sentence.as_deref().map(|sentence| self.model.truncation(sentence)).transpose();
        let not_read = truncation.map_err(thrown)?.flatten().map(|truncation| truncation.dropped);
        Ok(Mask { prediction, not_read })
    }
}

#[wasm_bindgen]
impl Embedding {
    /// Columns of the image.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.embedding.letterbox().original.1
    }

    /// Rows of the image.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.embedding.letterbox().original.0
    }

    /// Bytes that it keeps.
    #[wasm_bindgen(getter)]
    pub fn bytes(&self) -> usize {
        self.embedding.bytes()
    }
}

#[wasm_bindgen]
impl Mask {
    /// Columns.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> u32 {
        self.prediction.mask.width()
    }

    /// Rows.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> u32 {
        self.prediction.mask.height()
    }

    /// Mean probability inside of the mask; 0 for an empty one.
    #[wasm_bindgen(getter)]
    pub fn score(&self) -> f32 {
        self.prediction.score
    }

    /// Pixels of the mask; 0 where nothing was found.
    #[wasm_bindgen(getter)]
    pub fn area(&self) -> f64 {
        self.prediction.mask.area() as f64
    }

    /// Tight box: x, y, width, height; zeros for an empty mask.
    #[wasm_bindgen(getter)]
    pub fn bbox(&self) -> Vec<f64> {
        self.prediction.bbox.to_vec()
    }

    /// COCO's compressed run lengths.
    #[wasm_bindgen(getter)]
    pub fn counts(&self) -> String {
        self.prediction.mask.to_compressed()
    }

    /// What of the sentence is beyond the model's number of tokens and was not read; undefined where all was.
    #[wasm_bindgen(getter, js_name = notRead)]
    pub fn not_read(&self) -> Option<String> {
        self.not_read.clone()
    }

    /// The mask as 0 and 1, row by row.
    pub fn pixels(&self) -> Vec<u8> {
        self.prediction.mask.to_row_major()
    }
}

/// The names and bytes of an object of arrays.
fn entries(files: &JsModelFiles) -> Result<Vec<(String, Vec<u8>)>, JsError> {
    let shape = || {
        JsError::new("a model's files are an object of Uint8Arrays by name: { 'model.safetensors': bytes, 'config.json': ... }")
    };
    let files: &Object = files.dyn_ref().ok_or_else(shape)?;
    let entry = |entry: JsValue| -> Option<(String, Vec<u8>)> {
        let pair: Array = entry.dyn_into().ok()?;
        Some((pair.get(0).as_string()?, pair.get(1).dyn_into::<Uint8Array>().ok()?.to_vec()))
    };
    Object::entries(files).iter().map(|each| entry(each).ok_or_else(shape)).collect()
}
