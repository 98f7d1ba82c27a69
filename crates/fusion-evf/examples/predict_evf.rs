//! Finds what sentences say in an image file: `predict_evf FOLDER IMAGE SENTENCE...`, the folder being a published
//! EVF-SAM or one that `EvfPredictor::save_pretrained` wrote.
#![allow(clippy::print_stdout, reason = "it is what the command answers")]

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use fusion_evf::EvfPredictor;
use pil_ops::Image;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, image, sentences @ ..] = arguments.as_slice() else { return Err("too few arguments".into()) };
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();

    let predictor = EvfPredictor::from_pretrained(folder, &Device::flex())?;
    let embedding = predictor.embed(&Image::open_upright(Path::new(image))?)?;
    for (sentence, found) in sentences.iter().zip(predictor.ask(&embedding, &sentences)?) {
        println!("{sentence}: {} pixels in {:?}, score {:.3}", found.mask.area(), found.bbox, found.score);
    }
    Ok(())
}
