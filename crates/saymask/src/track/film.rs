//! Overlays as an animated GIF, a frame at a time.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Result;
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame};

use super::at;

/// How fast colours are chosen, 1 (best) to 30.
const SPEED: i32 = 10;

/// Writes the film, beside the target first and then renamed over it.
pub(super) fn write(path: &Path, overlays: &[PathBuf], fps: u32) -> Result<()> {
    let part = path.with_extension("gif.part");
    {
        let mut encoder = GifEncoder::new_with_speed(BufWriter::new(at(&part, File::create(&part))?), SPEED);
        at(&part, encoder.set_repeat(Repeat::Infinite))?;
        for overlay in overlays {
            let drawn: DynamicImage = at(overlay, image::open(overlay))?;
            let frame = Frame::from_parts(drawn.to_rgba8(), 0, 0, Delay::from_numer_denom_ms(1000, fps.max(1)));
            at(&part, encoder.encode_frame(frame))?;
        }
    }
    at(path, std::fs::rename(&part, path))
}
