//! A box prompt on an image file: `predict WEIGHTS IMAGE X0 Y0 X1 Y1 MASK.png`.
use std::error::Error;

use burn::tensor::Device;
use sam_vit::{Output, PromptSet, Sam};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, image, corners @ .., out] = arguments.as_slice() else { return Err("too few arguments".into()) };
    let corners: Vec<f64> = corners.iter().map(|c| c.parse()).collect::<Result<_, _>>()?;
    let bbox: [f64; 4] = corners.try_into().map_err(|_| "a box is X0 Y0 X1 Y1")?;

    let pixels = image::open(image)?.to_rgb8();
    let (width, height) = pixels.dimensions();
    let image = pil_ops::Image::new(width as usize, height as usize, 3, pixels.into_raw())?;

    let sam = Sam::from_pretrained(weights, &Device::flex())?;
    let embedding = sam.embed(&image)?;
    let masks = sam.predict(&embedding, &PromptSet::boxed(bbox), Output::Single)?;

    let grey = masks[0].mask.to_row_major().iter().map(|v| v * 255).collect();
    image::GrayImage::from_raw(width, height, grey).ok_or("mask of another size")?.save(out)?;
    Ok(())
}
