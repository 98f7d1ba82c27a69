//! Finds what sentences say in an image file: `predict_evf FOLDER IMAGE SENTENCE...`, the folder being a published EVF-SAM.
#![allow(clippy::print_stdout, reason = "it is what the command answers")]

use std::error::Error;

use burn::tensor::Device;
use fusion_evf::EvfSam;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, image, sentences @ ..] = arguments.as_slice() else { return Err("too few arguments".into()) };
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();

    let pixels = image::open(image)?.to_rgb8();
    let (width, height) = pixels.dimensions();
    let image = pil_ops::Image::new(width as usize, height as usize, 3, pixels.into_raw())?;

    let evf = EvfSam::from_pretrained(folder, &Device::flex())?;
    for (sentence, found) in sentences.iter().zip(evf.predict(&image, &sentences)?) {
        println!("{sentence}: {} pixels in {:?}, score {:.3}", found.mask.area(), found.bbox, found.score);
    }
    Ok(())
}
