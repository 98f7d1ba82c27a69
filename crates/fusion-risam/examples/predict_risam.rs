//! Finds what sentences say in an image file: `predict_risam CONFIG.toml WEIGHTS MERGES IMAGE SENTENCE...`.
#![allow(clippy::print_stdout, reason = "it is what the command answers")]

use std::error::Error;
use std::sync::Arc;

use burn::tensor::Device;
use fusion_risam::{Risam, RisamConfig};
use nn_ops::weights::StateDict;
use text_encoders::tokenizer::ClipTokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, weights, merges, image, sentences @ ..] = arguments.as_slice() else { return Err("too few arguments".into()) };
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();

    let config: RisamConfig = toml::from_str(&std::fs::read_to_string(config)?)?;
    let (model, _) = config.init(&Device::flex())?.load(&StateDict::open(weights)?)?;
    let risam = Risam::new(config, &model, Arc::new(ClipTokenizer::load(merges)?))?;

    let pixels = image::open(image)?.to_rgb8();
    let (width, height) = pixels.dimensions();
    let image = pil_ops::Image::new(width as usize, height as usize, 3, pixels.into_raw())?;
    for (sentence, found) in sentences.iter().zip(risam.predict(&image, &sentences)?) {
        println!("{sentence}: {} pixels in {:?}, score {:.3}", found.mask.area(), found.bbox, found.score);
    }
    Ok(())
}
