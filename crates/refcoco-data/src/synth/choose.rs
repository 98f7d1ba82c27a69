//! Which sentences an image gets.

use super::meaning::{Filter, Meaning, Place, Relation, Side, Truth, related};
use super::phrase::{self, Style};
use super::scene::{Colour, Scene, Shape, Size, Texture};
use crate::SentenceKind;
use crate::rng::Rng;

/// A sentence with its meaning, kept for tests.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) raw: String,
    pub(crate) kind: Option<SentenceKind>,
}

/// Objects and what is said of them; no object for a sentence that means nothing in the image.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) objects: Vec<usize>,
    pub(crate) said: Vec<Said>,
}

/// What sentences of a set may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) style: Style,
    /// RefCOCO+ allows no words of place.
    pub(crate) places: bool,
}

const PLACES: [Place; 13] = [
    Place::Half(Side::Left),
    Place::Half(Side::Right),
    Place::Half(Side::Top),
    Place::Half(Side::Bottom),
    Place::Corner(Side::Top, Side::Left),
    Place::Corner(Side::Top, Side::Right),
    Place::Corner(Side::Bottom, Side::Left),
    Place::Corner(Side::Bottom, Side::Right),
    Place::Middle,
    Place::Most(Side::Left),
    Place::Most(Side::Right),
    Place::Most(Side::Top),
    Place::Most(Side::Bottom),
];

pub(crate) const RELATIONS: [Relation; 6] =
    [Relation::LeftOf, Relation::RightOf, Relation::Above, Relation::Below, Relation::Behind, Relation::InFrontOf];

/// The filter with some of an object's attributes; bits 1, 2, 4, 8 are shape, colour, texture, size.
pub(crate) fn own(scene: &Scene, i: usize, bits: u8) -> Filter {
    let o = &scene.objects[i];
    Filter {
        shape: (bits & 1 != 0).then_some(o.shape),
        colour: (bits & 2 != 0).then_some(o.colour),
        texture: (bits & 4 != 0).then_some(o.texture),
        size: (bits & 8 != 0).then_some(o.size),
    }
}

/// How natural a filter sounds: a noun helps, long lists do not.
fn weight(bits: u8) -> f64 {
    let noun = if bits & 1 != 0 { 3.0 } else { 1.0 };
    noun / f64::from(1u32 << bits.count_ones())
}

/// Every meaning that singles an object out, with a weight, by kind.
fn candidates(scene: &Scene, i: usize, rules: Rules) -> [Vec<(Meaning, f64)>; 6] {
    let mut out: [Vec<(Meaning, f64)>; 6] = Default::default();
    let mut offer = |meaning: Meaning, weight: f64| {
        if meaning.singles_out(scene, i) {
            out[meaning.kind(scene, i) as usize].push((meaning, weight));
        }
    };
    // What can be settled once is settled here: which relations hold at all, and which words name one object.
    let n = scene.objects.len();
    let anchors: Vec<Vec<u8>> =
        (0..n).map(|j| (1..8u8).filter(|&bits| own(scene, j, bits).matches(scene) == [j]).collect()).collect();
    let relations: Vec<(Relation, usize)> = RELATIONS
        .into_iter()
        .filter(|r| rules.places || matches!(r, Relation::Behind | Relation::InFrontOf))
        .flat_map(|r| (0..n).map(move |j| (r, j)))
        .filter(|&(r, j)| j != i && related(scene, i, r, j) == Truth::Yes)
        .collect();
    for bits in 0..16u8 {
        let filter = own(scene, i, bits);
        let plain = Meaning { filter, ..Meaning::default() };
        let enough = plain.singles_out(scene, i);
        if bits != 0 {
            offer(plain, weight(bits));
        }
        // Where attributes alone suffice, words of place are idle talk; people do that now and then.
        let idle = if enough { 0.02 } else { 1.0 };
        if rules.places {
            for place in PLACES {
                let rarer = if matches!(place, Place::Most(_)) { 0.6 } else { 1.0 };
                offer(Meaning { place: Some(place), ..plain }, weight(bits) * idle * rarer);
            }
        }
        for &(relation, j) in &relations {
            let depth = if matches!(relation, Relation::Behind | Relation::InFrontOf) { 3.0 } else { 1.0 };
            for &anchor in &anchors[j] {
                let w = weight(bits) * weight(anchor) * idle * depth;
                offer(Meaning { relation: Some((relation, own(scene, j, anchor))), ..plain }, w);
            }
        }
    }
    out
}

/// Shares asked for, in the order of [`SentenceKind::ALL`]; what an image cannot give goes to the others.
const SHARES: [f64; 6] = [0.45, 0.42, 0.1, 0.14, 0.15, 0.25];

fn say(scene: &Scene, i: usize, rules: Rules, rng: &mut Rng) -> Vec<Said> {
    let mut pools = candidates(scene, i, rules);
    let wanted = 2 + rng.weighted(&[0.25, 0.5, 0.25]);
    let mut out: Vec<Said> = Vec::new();
    let mut shares = SHARES;
    for _ in 0..wanted * 4 {
        let weights: Vec<f64> = pools.iter().zip(shares).map(|(p, s)| if p.is_empty() { 0.0 } else { s }).collect();
        if out.len() == wanted || weights.iter().all(|&w| w == 0.0) {
            break;
        }
        let kind = rng.weighted(&weights);
        // Several ways to say it make better data than one way three times.
        shares[kind] *= 0.25;
        let pool = &mut pools[kind];
        let at = rng.weighted(&pool.iter().map(|c| c.1).collect::<Vec<_>>());
        let (meaning, _) = pool.swap_remove(at);
        let text = phrase::sentence(&meaning, rules.style, rng);
        if out.iter().all(|s| s.text != text) {
            let raw = phrase::typed(&text, rng);
            out.push(Said { text, raw, kind: Some(SentenceKind::ALL[kind]) });
        }
    }
    out
}

/// Single objects with their sentences, in the order of the objects.
pub(crate) fn singles(scene: &Scene, rules: Rules, rng: &mut Rng) -> Vec<Target> {
    (0..scene.objects.len())
        .map(|i| Target { objects: vec![i], said: say(scene, i, rules, rng) })
        .filter(|t| !t.said.is_empty())
        .collect()
}

/// Adds the bare name of each kind of which there are several, said of the one that lies clearly nearest to the middle. What "[semantic]"
/// before a name changes can be learned only where the name alone does not mean all of them.
pub(crate) fn add_bare_names(scene: &Scene, targets: &mut Vec<Target>, rng: &mut Rng) {
    for &shape in Shape::ALL {
        let filter = Filter { shape: Some(shape), ..Filter::default() };
        let Some(i) = most_central(scene, &filter.matches(scene)) else { continue };
        let text = phrase::sentence(&Meaning { filter, ..Meaning::default() }, Style::Short, rng);
        let said = Said { raw: phrase::typed(&text, rng), text, kind: Some(SentenceKind::Place) };
        match targets.iter_mut().find(|target| target.objects == [i]) {
            Some(target) => target.said.push(said),
            None => targets.push(Target { objects: vec![i], said: vec![said] }),
        }
    }
    targets.sort_by_key(|target| target.objects[0]);
}

/// Of several objects the one nearest to the middle of the image, if no other one comes close to it.
fn most_central(scene: &Scene, among: &[usize]) -> Option<usize> {
    const MARGIN: f64 = 0.08;
    let distance = |i: usize| {
        let (x, y) = scene.place(i);
        (x - 0.5).hypot(y - 0.5)
    };
    let mut order: Vec<(f64, usize)> = among.iter().map(|&i| (distance(i), i)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    match order[..] {
        [first, second, ..] if second.0 - first.0 >= MARGIN => Some(first.1),
        _ => None,
    }
}

/// Singles, groups and sentences without a target.
pub(crate) fn generalised(scene: &Scene, rng: &mut Rng) -> Vec<Target> {
    let rules = Rules { style: Style::Short, places: true };
    let mut out = singles(scene, rules, rng);
    out.truncate(2);
    out.extend((0..2).filter_map(|_| several(scene, rng)));
    out.extend(pair(scene, rng));
    if rng.chance(0.7) {
        out.extend(nothing(scene, rng));
    }
    out
}

fn target(objects: Vec<usize>, text: String, rng: &mut Rng) -> Target {
    let raw = phrase::typed(&text, rng);
    Target { objects, said: vec![Said { text, raw, kind: None }] }
}

fn several(scene: &Scene, rng: &mut Rng) -> Option<Target> {
    let mut all = Vec::new();
    for i in 0..scene.objects.len() {
        for bits in 1..8u8 {
            let plain = Meaning { filter: own(scene, i, bits), ..Meaning::default() };
            let places = PLACES[..4].iter().map(|&p| Meaning { place: Some(p), ..plain });
            for meaning in std::iter::once(plain).chain(places) {
                if let Some(objects) = meaning.select(scene).filter(|o| o.len() >= 2) {
                    all.push((meaning, objects));
                }
            }
        }
    }
    if all.is_empty() {
        return None;
    }
    let (meaning, objects) = all.swap_remove(rng.below(all.len()));
    let text = phrase::group(&meaning, objects.len(), rng);
    Some(target(objects, text, rng))
}

fn pair(scene: &Scene, rng: &mut Rng) -> Option<Target> {
    let mut unique: Vec<(usize, Meaning)> = Vec::new();
    for i in 0..scene.objects.len() {
        let options =
            (1..8u8).filter(|bits| bits & 1 != 0).map(|bits| Meaning { filter: own(scene, i, bits), ..Meaning::default() });
        unique.extend(options.filter(|m| m.singles_out(scene, i)).map(|m| (i, m)).take(1));
    }
    if unique.len() < 2 {
        return None;
    }
    rng.shuffle(&mut unique);
    let [(i, a), (j, b)] = [unique[0], unique[1]];
    let text = format!(
        "the {} and the {}",
        phrase::sentence(&a, Style::Short, rng).trim_start_matches("the "),
        phrase::sentence(&b, Style::Short, rng).trim_start_matches("the ")
    );
    Some(target(vec![i.min(j), i.max(j)], text, rng))
}

fn nothing(scene: &Scene, rng: &mut Rng) -> Option<Target> {
    for _ in 0..20 {
        let bits = rng.pick(&[1u8, 3, 3, 5, 9, 7]);
        let filter = Filter {
            shape: Some(rng.pick(Shape::ALL)),
            colour: (bits & 2 != 0).then(|| rng.pick(Colour::ALL)),
            texture: (bits & 4 != 0).then(|| rng.pick(Texture::ALL)),
            size: (bits & 8 != 0).then(|| rng.pick(Size::ALL)),
        };
        let place = rng.chance(0.3).then(|| rng.pick(&PLACES[..9]));
        let meaning = Meaning { filter, place, relation: None };
        if meaning.select(scene).is_some_and(|s| s.is_empty()) {
            let text = phrase::sentence(&meaning, Style::Short, rng);
            return Some(target(Vec::new(), text, rng));
        }
    }
    None
}
