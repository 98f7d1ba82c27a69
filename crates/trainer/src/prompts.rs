//! Points and boxes drawn from true masks, in place of sentences (DIT Tab. 6).

use fusion_dit::Prompt;
use nn_ops::formula::uniform;

use run_config::PromptKind;

/// Points of a point prompt: "5 random points of the mask".
const POINTS: usize = 5;

/// What stands in for the sentence of an item, in pixels of its canvas; none where the item draws text, or where its mask
/// has no pixel left on the canvas. A pure function of its arguments.
///
/// Points are pixels of the mask, drawn independently. The box is the mask's tight one, with COCO's edges: x1 and y1 lie
/// behind the last pixel.
///
/// # Shapes
/// `mask`: `[side, side]`, 0 to 1
pub fn prompt_of(kinds: &[PromptKind], mask: &[f32], side: usize, key: u64) -> Option<Prompt> {
    if kinds.iter().all(|kind| *kind == PromptKind::Text) {
        return None;
    }
    let draws: Vec<f64> = uniform(&key.to_string(), "prompt", 1 + POINTS).map(|u| (u + 1.0) / 2.0).collect();
    let pick = |draw: f64, of: usize| ((draw * of as f64) as usize).min(of.saturating_sub(1));
    let kind = kinds[pick(draws[0], kinds.len())];
    let inside: Vec<usize> = (0..mask.len()).filter(|i| mask[*i] >= 0.5).collect();
    if kind == PromptKind::Text || inside.is_empty() {
        return None;
    }
    let place = |i: usize| [(i % side) as f32, (i / side) as f32];
    if kind == PromptKind::Points {
        return Some(Prompt::Points(draws[1..].iter().map(|draw| place(inside[pick(*draw, inside.len())])).collect()));
    }
    let start = [f32::MAX, f32::MAX, 0.0, 0.0];
    let corners = inside
        .into_iter()
        .map(place)
        .fold(start, |[x0, y0, x1, y1], [x, y]| [x0.min(x), y0.min(y), x1.max(x + 1.0), y1.max(y + 1.0)]);
    Some(Prompt::Box(corners))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 3 x 2 block at (1, 2) on a canvas of 6.
    fn block() -> Vec<f32> {
        (0..36).map(|i| f32::from(u8::from((1..4).contains(&(i % 6)) && (2..4).contains(&(i / 6))))).collect()
    }

    #[test]
    fn boxes_are_tight_and_points_lie_inside() {
        assert_eq!(prompt_of(&[PromptKind::Box], &block(), 6, 3), Some(Prompt::Box([1.0, 2.0, 4.0, 4.0])));
        let mut seen = std::collections::BTreeSet::new();
        for key in 0..40 {
            let Some(Prompt::Points(points)) = prompt_of(&[PromptKind::Points], &block(), 6, key) else { panic!("no points") };
            assert_eq!(points.len(), 5);
            assert!(points.iter().all(|[x, y]| (1.0..=3.0).contains(x) && (2.0..=3.0).contains(y)), "{points:?}");
            seen.extend(points.iter().map(|[x, y]| (*x as u8, *y as u8)));
        }
        assert_eq!(seen.len(), 6, "every pixel of the mask is drawn sooner or later");
    }

    #[test]
    fn kinds_are_drawn_evenly_and_repeatably() {
        let kinds = [PromptKind::Text, PromptKind::Points, PromptKind::Box];
        let of = |key| match prompt_of(&kinds, &block(), 6, key) {
            None => 0,
            Some(Prompt::Points(_)) => 1,
            Some(_) => 2,
        };
        let mut counts = [0; 3];
        (0..600).for_each(|key| counts[of(key)] += 1);
        assert!(counts.iter().all(|n| (150..250).contains(n)), "{counts:?}");
        assert_eq!(prompt_of(&kinds, &block(), 6, 9), prompt_of(&kinds, &block(), 6, 9));
        assert_eq!(prompt_of(&[PromptKind::Box], &[0.0; 36], 6, 1), None);
    }
}
