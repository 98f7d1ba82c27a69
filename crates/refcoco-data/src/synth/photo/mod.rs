//! Generated photographs: lit pieces on a table, and what people say of them.

mod arrange;
mod camera;
mod choose;
mod ground;
mod meaning;
mod noise;
mod phrase;
mod render;
#[cfg(test)]
mod tests;

use coco_mask::MaskError;

use super::choose::Target;
use super::phrase::Style;
use super::scene::Scene;
use super::{Sample, Stream, SynthConfig, phrasecut, stream};
use crate::rng::Rng;
pub(crate) use arrange::Arrangement;
use choose::{Pools, Rules};
use meaning::Facts;

/// An image's content and everything said about it.
pub(super) fn sample(cfg: &SynthConfig, index: usize) -> Result<Sample, MaskError> {
    let (scene, arrangement) = arrange::arrange(cfg, &mut stream(cfg, index, Stream::Scene))?;
    let facts = Facts::new(&scene);
    let pools = Pools::all(&facts);
    let said = |style, places, of: Stream| -> Vec<Target> {
        choose::singles(&pools, Rules { style, places }, &mut stream(cfg, index, of))
    };
    Ok(Sample {
        refcoco: said(Style::Short, true, Stream::Refcoco),
        plus: said(Style::Short, false, Stream::Plus),
        long: said(Style::Long, true, Stream::Long),
        general: choose::generalised(&facts, &pools, &mut stream(cfg, index, Stream::General)),
        phrases: phrasecut::phrases(&scene, &mut stream(cfg, index, Stream::Phrases)),
        arrangement: Some(arrangement),
        scene,
    })
}

/// Quality of an image's JPEG file: 60 to 90, and no more than asked for.
pub(super) fn quality(most: u8, rng: &mut Rng) -> u8 {
    let least = most.min(60);
    least + rng.below(usize::from(most - least) + 1) as u8
}

/// Renders a scene.
///
/// # Shapes
/// `[height, width, 3]`, row after row.
pub(super) fn render(scene: &Scene, arrangement: &Arrangement, rng: &mut Rng) -> Vec<u8> {
    render::render(scene, arrangement, rng)
}
