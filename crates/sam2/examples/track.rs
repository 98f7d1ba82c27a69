//! An object through a folder of frames, from a box on the first: `track WEIGHTS FRAMES X0 Y0 X1 Y1 OUT` writes a mask each.
use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use pil_ops::{Image, images_in};
use sam_vit::PromptSet;
use sam2::{FrameMask, Sam2, Sam2Video, VideoPrompt};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, frames, corners @ .., out] = arguments.as_slice() else { return Err("too few arguments".into()) };
    let corners: Vec<f64> = corners.iter().map(|c| c.parse()).collect::<Result<_, _>>()?;
    let bbox: [f64; 4] = corners.try_into().map_err(|_| "a box is X0 Y0 X1 Y1")?;

    let sam2 = Sam2::from_pretrained(weights, &Device::flex())?;
    let mut video = Sam2Video::new();
    // In order of their names.
    let (files, _) = images_in(Path::new(frames))?;
    for (index, file) in files.iter().enumerate() {
        let frame = sam2.frame(i64::try_from(index)?, &Image::open(file)?)?;
        if index == 0 {
            video.prompt(&sam2, 0, &frame, &VideoPrompt::Set(PromptSet::boxed(bbox)))?;
        }
        for mask in video.track(&sam2, &frame)? {
            save(&mask, &Path::new(out).join(file.with_extension("png").file_name().ok_or("a file without a name")?))?;
        }
    }
    Ok(())
}

fn save(mask: &FrameMask, path: &Path) -> Result<(), Box<dyn Error>> {
    let mask = mask.prediction()?.mask;
    let grey = mask.to_row_major().iter().map(|v| v * 255).collect();
    Ok(image::GrayImage::from_raw(mask.width(), mask.height(), grey).ok_or("mask of another size")?.save(path)?)
}
