//! A sentence about an image file: `predict_dit WEIGHTS VOCABULARY IMAGE SENTENCE MASK.png`.
#![allow(clippy::print_stdout, reason = "it is what the command answers")]

use std::{error::Error, sync::Arc};

use burn::tensor::Device;
use fusion_dit::{Dit, DitConfig};
use nn_ops::weights::StateDict;
use text_encoders::tokenizer::WordPiece;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, vocabulary, image, sentence, out] = arguments.as_slice() else { return Err("five arguments".into()) };
    let pixels = image::open(image)?.to_rgb8();
    let (width, height) = pixels.dimensions();
    let image = pil_ops::Image::new(width as usize, height as usize, 3, pixels.into_raw())?;

    let checkpoint = StateDict::open(weights)?;
    let config = DitConfig::detect(&checkpoint)?;
    let (model, _) = config.init(&Device::flex())?.load(&config, checkpoint)?;
    let dit = Dit::new(config, &model, Arc::new(WordPiece::load(vocabulary)?))?;
    let found = dit.predict(&image, &[sentence])?.remove(0);
    println!("score {:.3}, box {:?}", found.score, found.bbox);

    let grey = found.mask.to_row_major().iter().map(|v| v * 255).collect();
    image::GrayImage::from_raw(width, height, grey).ok_or("mask of another size")?.save(out)?;
    Ok(())
}
