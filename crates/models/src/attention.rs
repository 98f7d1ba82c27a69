//! Attention maps of any method, as the papers' figures show them.

use burn::tensor::Tensor;
use figures::HeatMap;
use fusion_dit::{DitAttention, DitPredictor, Variant};
use fusion_evf::EvfPredictor;
use fusion_risam::{RisamAttention, RisamPredictor};
use pil_ops::Image;

use crate::ModelError;

/// Where text and image look at each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// One row per layer, one column per word.
    pub maps: Vec<HeatMap>,
    /// What maps over the image cannot show, one line each.
    pub notes: Vec<String>,
}

/// Where each word looks in each block of the image encoder (DIT Fig. 5); of the default SAM, where the image looks.
pub(crate) fn of_dit(model: &DitPredictor, image: &Image, sentence: &str) -> Result<Attention, ModelError> {
    if model.model().config().variant == Variant::DefaultSam {
        return of_dit_image(model, image, sentence, None);
    }
    Ok(of_blocks(model.attention(image, sentence)?))
}

/// How much the image's regions attend to each other in each block, or what one region attends to.
pub(crate) fn of_dit_image(
    model: &DitPredictor,
    image: &Image,
    sentence: &str,
    place: Option<[f32; 2]>,
) -> Result<Attention, ModelError> {
    let note = match place {
        Some([x, y]) => format!("what the region at {x:.0},{y:.0} attends to in the image"),
        None => "what the image's regions attend to in the image, mean over all of them".to_owned(),
    };
    Ok(Attention { notes: vec![note], ..of_blocks(model.image_attention(image, sentence, place)?) })
}

fn of_blocks(found: DitAttention) -> Attention {
    let mut maps = Vec::new();
    for (layer, words) in found.layers.into_iter().enumerate() {
        for (word, values) in found.words.iter().zip(words) {
            let (row, column) = (format!("block {}", layer + 1), word.clone());
            maps.push(HeatMap { row, column, values, columns: found.grid, area: found.area });
        }
    }
    Attention { maps, notes: Vec::new() }
}

/// `[CLS]` of BEiT-3's last layer over the whole image (EVF-SAM Fig. 5).
pub(crate) fn of_evf(model: &EvfPredictor, image: &Image, sentence: &str) -> Result<Attention, ModelError> {
    let seen = model.attention(image, sentence)?;
    let map = |column: String, values: Vec<f32>| {
        let row = format!("layer {}", model.model().config().beit3.layers);
        HeatMap { row, column, values, columns: seen.grid, area: [0.0, 0.0, 1.0, 1.0] }
    };
    let heads = seen.heads.iter().enumerate().map(|(i, head)| map(format!("head {}", i + 1), head.clone()));
    let mut maps = vec![map("[CLS], mean of heads".into(), seen.mean())];
    maps.extend(heads);
    let on_image = seen.mean().iter().sum::<f32>();
    let notes = vec![format!("{:.0} % of the attention lies on patches, the rest on [CLS] and words", 100.0 * on_image)];
    Ok(Attention { maps, notes })
}

/// Regions per word as maps, words per region as lines: those of the region that each word prefers, or of the one that is asked for, in
/// every block (RISAM Fig. 7; of transformer encoders Fig. 6).
pub(crate) fn of_risam(
    model: &RisamPredictor,
    image: &Image,
    sentence: &str,
    place: Option<[f32; 2]>,
) -> Result<Attention, ModelError> {
    let seen = model.attention(image, sentence)?;
    let (side, count, [_, _, bottom, right]) = (seen.grid, seen.grid * seen.grid, seen.area);
    let asked = place.map(|place| asked(place, image, &seen)).transpose()?;
    let (mut maps, mut notes) = (Vec::new(), Vec::new());
    for (number, block) in seen.blocks.iter().enumerate() {
        let (regions, words) = (host(block.regions.clone())?, host(block.words.clone())?);
        let tokens = regions.len() / count;
        if let Some((region, [x, y])) = asked {
            let share = |at: &std::ops::Range<usize>| at.clone().map(|t| words[region * tokens + t]).sum::<f32>();
            let shares: Vec<String> = seen.words.iter().map(|(w, at)| format!("{w} {:.2}", share(at))).collect();
            notes.push(format!("block {}: the region at {x:.0},{y:.0} sees {}", number + 1, shares.join(", ")));
        }
        for (word, at) in &seen.words {
            let mean = |region: usize| at.clone().map(|t| regions[t * count + region]).sum::<f32>() / at.len() as f32;
            let values: Vec<f32> = (0..count).map(mean).collect();
            let best = (0..count).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0);
            if asked.is_none() && number + 1 == seen.blocks.len() {
                let share = |at: &std::ops::Range<usize>| at.clone().map(|t| words[best * tokens + t]).sum::<f32>();
                let shares: Vec<String> = seen.words.iter().map(|(w, at)| format!("{w} {:.2}", share(at))).collect();
                let percent = |cell: usize, part: f32| 100.0 * (cell as f32 + 0.5) / side as f32 / part;
                let (x, y) = (percent(best % side, right), percent(best / side, bottom));
                notes.push(format!("the region of \"{word}\", {x:.0} % across and {y:.0} % down, sees {}", shares.join(", ")));
            }
            let row = format!("block {}", number + 1);
            maps.push(HeatMap { row, column: word.clone(), values, columns: side, area: seen.area });
        }
    }
    Ok(Attention { maps, notes })
}

/// The region at a place in pixels of the image, beside the place.
fn asked([x, y]: [f32; 2], image: &Image, seen: &RisamAttention) -> Result<(usize, [f32; 2]), ModelError> {
    let [width, height] = [image.width() as f32, image.height() as f32];
    if (0.0..width).contains(&x) && (0.0..height).contains(&y) {
        return Ok((seen.region(x / width, y / height), [x, y]));
    }
    let what = format!("the place {x},{y} is outside of the image's {width} x {height} pixels");
    Err(ModelError::Prompt(sam_vit::SamError::Prompt { index: 0, what }))
}

fn host(maps: Tensor<3>) -> Result<Vec<f32>, ModelError> {
    maps.try_into_vec_as::<f32>().map_err(|e| ModelError::Device { what: "attention maps", reason: e.to_string() })
}
