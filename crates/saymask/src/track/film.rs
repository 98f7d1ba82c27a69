//! Overlays as an animated GIF, a frame at a time, and as a strip of a few frames.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Result;
use figures::{Tile, compose_tiles, png};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, RgbImage};
use models::run_dir::write_whole;

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

/// Side of a frame in a strip, in pixels.
const TILE: u32 = 240;

/// Writes `count` frames side by side, evenly chosen, the first and the last among them.
pub(super) fn strip(path: &Path, overlays: &[PathBuf], count: usize) -> Result<()> {
    let count = count.min(overlays.len());
    let last = overlays.len().saturating_sub(1);
    let chosen = (0..count).map(|i| i * last / (count - 1).max(1));
    let frames = chosen.map(|number| Ok((number, at(&overlays[number], image::open(&overlays[number]))?.to_rgb8())));
    let frames: Vec<(usize, RgbImage)> = frames.collect::<Result<_>>()?;
    let captions: Vec<String> = frames.iter().map(|(number, _)| format!("frame {number}")).collect();
    let tiles: Vec<Tile<'_>> =
        frames.iter().zip(&captions).map(|((_, image), caption)| Tile { image, caption: caption.as_str() }).collect();
    at(path, write_whole(path, &png(&compose_tiles("", &tiles, count, TILE))?))
}
