//! Which sentences a photograph gets: meanings that single an object out, put into words, chosen by the length people write.

use super::super::choose::{Said, Target, own};
use super::super::meaning::{Filter, Place, Relation, Side};
use super::super::phrase::{Style, typed};
use super::super::scene::{Colour, Scene, Shape, Size, Texture};
use super::meaning::{Description, Facts, RELATIONS, Spot};
use super::phrase;
use crate::SentenceKind;
use crate::rng::Rng;

const SIDES: [Side; 4] = [Side::Left, Side::Right, Side::Top, Side::Bottom];

/// Places with how often they are named.
fn spots() -> impl Iterator<Item = (Spot, f64)> {
    let halves = SIDES.into_iter().map(|s| (Spot::Place(Place::Half(s)), 1.0));
    let corner = |v| [Side::Left, Side::Right].map(|h| (Spot::Place(Place::Corner(v, h)), 0.6));
    let corners = [Side::Top, Side::Bottom].into_iter().flat_map(corner);
    let most = SIDES.into_iter().map(|s| (Spot::Place(Place::Most(s)), 0.5));
    let far = SIDES.into_iter().take(2).map(|s| (Spot::Far(s), 0.6));
    let nth = [Side::Left, Side::Right].into_iter().flat_map(|s| [2, 3].map(|n| (Spot::Nth(s, n), 1.0)));
    halves.chain(corners).chain([(Spot::Place(Place::Middle), 1.0)]).chain(most).chain(far).chain(nth)
}

/// How natural attributes sound: a noun helps, long lists do not.
fn weight(bits: u8) -> f64 {
    let noun = if bits & 1 != 0 { 3.0 } else { 1.0 };
    noun / f64::from(1u32 << bits.count_ones())
}

/// Something to say, with how likely it is said.
#[derive(Debug, Clone)]
struct Candidate {
    meaning: Description,
    weight: f64,
    /// Needs no words of place.
    placeless: bool,
}

/// Everything that singles one object out, by kind, in the order of [`SentenceKind::ALL`].
pub(super) struct Pools([Vec<Candidate>; 6]);

/// All that names each object on its own: anchors of relations.
struct Anchors(Vec<Vec<(Description, f64)>>);

impl Anchors {
    fn of(facts: &Facts<'_>) -> Self {
        Self((0..facts.len()).map(|j| Self::naming(facts, j)).collect())
    }

    fn naming(facts: &Facts<'_>, j: usize) -> Vec<(Description, f64)> {
        let mut out = Vec::new();
        for bits in 0..8u8 {
            let plain = Description { filter: own(facts.scene, j, bits), ..Description::default() };
            if bits != 0 && facts.verdict(&plain).single() == Some(j) {
                out.push((plain, weight(bits)));
                continue;
            }
            if bits != 1 && bits != 3 {
                continue;
            }
            let placed = spots().map(|(spot, w)| (Description { spot: Some(spot), ..plain.clone() }, w * weight(bits) * 0.4));
            out.extend(placed.filter(|(d, _)| natural(facts, d) && facts.verdict(d).single() == Some(j)));
        }
        out
    }
}

/// "The second of two from the left" is the right one; nobody counts so.
fn natural(facts: &Facts<'_>, d: &Description) -> bool {
    match d.spot {
        Some(Spot::Nth(_, n)) => d.filter.matches(facts.scene).len() > n,
        _ => true,
    }
}

/// A relation that object i stands in, to object j.
fn relations(facts: &Facts<'_>, i: usize) -> Vec<(Relation, usize)> {
    let all = RELATIONS.into_iter().flat_map(|r| (0..facts.len()).map(move |j| (r, j)));
    all.filter(|&(r, j)| facts.related(r, j).yes >> i & 1 != 0).collect()
}

impl Pools {
    /// Per object.
    pub(super) fn all(facts: &Facts<'_>) -> Vec<Self> {
        let anchors = Anchors::of(facts);
        (0..facts.len()).map(|i| Self::of(facts, &anchors, i)).collect()
    }

    fn of(facts: &Facts<'_>, anchors: &Anchors, i: usize) -> Self {
        let mut pools = Self(Default::default());
        let relations = relations(facts, i);
        for bits in 0..16u8 {
            let plain = Description { filter: own(facts.scene, i, bits), ..Description::default() };
            let enough = facts.verdict(&plain).single() == Some(i);
            // Where attributes alone suffice, words of place are idle talk; people do that now and then.
            let idle = if enough { 0.03 } else { 1.0 };
            if bits != 0 {
                pools.offer(facts, i, plain.clone(), weight(bits), true);
            }
            for (spot, w) in spots() {
                let placed = Description { spot: Some(spot), ..plain.clone() };
                if natural(facts, &placed) {
                    pools.offer(facts, i, placed, weight(bits) * idle * w, false);
                }
            }
            if bits & 12 != 0 && bits.count_ones() > 2 {
                continue;
            }
            for &(relation, j) in &relations {
                let hides = matches!(relation, Relation::Behind | Relation::InFrontOf);
                let depth = if hides { 2.0 } else { 1.0 };
                for (anchor, w) in &anchors.0[j] {
                    let meaning = Description { relation: Some((relation, Box::new(anchor.clone()))), ..plain.clone() };
                    let placeless = hides && anchor.spot.is_none();
                    pools.offer(facts, i, meaning, weight(bits) * w * idle * depth, placeless);
                }
                if bits & 12 == 0 {
                    pools.two_steps(facts, anchors, i, (relation, j), (&plain, weight(bits) * idle * depth));
                }
            }
        }
        pools
    }

    /// "The ring left of the square that is behind the star": the square needs the star, or is named so anyway.
    fn two_steps(
        &mut self,
        facts: &Facts<'_>,
        anchors: &Anchors,
        i: usize,
        (relation, j): (Relation, usize),
        plain: (&Description, f64),
    ) {
        let filter = Filter { shape: Some(facts.scene.objects[j].shape), ..Filter::default() };
        let idle = if filter.matches(facts.scene).len() == 1 { 0.05 } else { 1.0 };
        for (further, k) in self::relations(facts, j) {
            let last = anchors.0[k].iter().filter(|(d, _)| d.spot.is_none()).max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((last, w)) = last.filter(|_| k != i) else { continue };
            let anchor = Description { filter, spot: None, relation: Some((further, Box::new(last.clone()))) };
            if facts.verdict(&anchor).single() == Some(j) {
                let meaning = Description { relation: Some((relation, Box::new(anchor))), ..plain.0.clone() };
                self.offer(facts, i, meaning, plain.1 * w * idle * 0.5, false);
            }
        }
    }

    fn offer(&mut self, facts: &Facts<'_>, i: usize, meaning: Description, weight: f64, placeless: bool) {
        if facts.verdict(&meaning).single() == Some(i) {
            let kind = facts.kind(&meaning, i) as usize;
            self.0[kind].push(Candidate { meaning, weight, placeless });
        }
    }
}

/// Shares of kinds, in the order of [`SentenceKind::ALL`]; what an image cannot give goes to the others.
const SHARES: [f64; 6] = [0.3, 0.4, 0.14, 0.16, 0.22, 0.34];

/// Shares of sentences of 1, 2, 3 .. words: RefCOCO's mean is 3.5, RefCOCOg's 8.4.
const SHORT: &[f64] = &[0.07, 0.27, 0.25, 0.16, 0.1, 0.065, 0.04, 0.02, 0.015, 0.01];
const LONG: &[f64] = &[0.0, 0.0, 0.01, 0.04, 0.09, 0.13, 0.16, 0.15, 0.13, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.01];

/// Wordings that are looked at for an object's sentences.
const WORDINGS: usize = 48;

/// What sentences of a set are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) style: Style,
    /// RefCOCO+ allows no words of place.
    pub(super) places: bool,
}

/// Wordings of an object's meanings: text, kind.
fn wordings(pools: &Pools, rules: Rules, rng: &mut Rng) -> Vec<(String, usize)> {
    let allowed = |c: &&Candidate| rules.places || c.placeless;
    let pools: Vec<Vec<&Candidate>> = pools.0.iter().map(|p| p.iter().filter(allowed).collect()).collect();
    let shares: Vec<f64> = pools.iter().zip(SHARES).map(|(p, s)| if p.is_empty() { 0.0 } else { s }).collect();
    if shares.iter().all(|&s| s == 0.0) {
        return Vec::new();
    }
    let weights: Vec<Vec<f64>> = pools.iter().map(|p| p.iter().map(|c| c.weight).collect()).collect();
    let mut out: Vec<(String, usize)> = Vec::with_capacity(WORDINGS);
    for _ in 0..WORDINGS {
        let kind = rng.weighted(&shares);
        let candidate = pools[kind][rng.weighted(&weights[kind])];
        let text = phrase::sentence(&candidate.meaning, rules.style, rng);
        if out.iter().all(|(t, _)| *t != text) {
            out.push((text, kind));
        }
    }
    out
}

fn say(pools: &Pools, rules: Rules, rng: &mut Rng) -> Vec<Said> {
    let mut wordings = wordings(pools, rules, rng);
    let wanted = 2 + rng.weighted(&[0.25, 0.5, 0.25]);
    let lengths = if rules.style == Style::Short { SHORT } else { LONG };
    let mut out = Vec::new();
    while out.len() < wanted && !wordings.is_empty() {
        let length = 1 + rng.weighted(lengths);
        let distance = |w: &(String, usize)| w.0.split(' ').count().abs_diff(length);
        let closest = wordings.iter().map(distance).min().unwrap_or_default();
        let Some(at) = wordings.iter().position(|w| distance(w) == closest) else { break };
        let (text, kind) = wordings.swap_remove(at);
        let raw = typed(&text, rng);
        out.push(Said { text, raw, kind: Some(SentenceKind::ALL[kind]) });
    }
    out
}

/// Single objects with their sentences, in the order of the objects.
pub(super) fn singles(pools: &[Pools], rules: Rules, rng: &mut Rng) -> Vec<Target> {
    let said = pools.iter().enumerate().map(|(i, pool)| Target { objects: vec![i], said: say(pool, rules, rng) });
    said.filter(|t| !t.said.is_empty()).collect()
}

/// Singles, groups and sentences without a target.
pub(super) fn generalised(facts: &Facts<'_>, pools: &[Pools], rng: &mut Rng) -> Vec<Target> {
    let mut out = singles(pools, Rules { style: Style::Short, places: true }, rng);
    rng.shuffle(&mut out);
    out.truncate(2);
    out.sort_by_key(|t| t.objects[0]);
    let groups = groups(facts);
    out.extend((0..2).filter_map(|_| several(facts, &groups, rng)));
    out.extend(pair(facts, rng));
    out.extend((0..2).filter_map(|_| if rng.chance(0.6) { nothing(facts, rng) } else { None }));
    out
}

fn target(objects: Vec<usize>, text: String, rng: &mut Rng) -> Target {
    let raw = typed(&text, rng);
    Target { objects, said: vec![Said { text, raw, kind: None }] }
}

/// Descriptions that clearly mean two objects or more.
fn groups(facts: &Facts<'_>) -> Vec<Description> {
    let mut out: Vec<Description> = Vec::new();
    for (i, bits) in (0..facts.len()).flat_map(|i| (0..16u8).map(move |bits| (i, bits))) {
        let plain = Description { filter: own(facts.scene, i, bits), ..Description::default() };
        let halves = SIDES.into_iter().map(|s| Description { spot: Some(Spot::Place(Place::Half(s))), ..plain.clone() });
        for d in std::iter::once(plain.clone()).filter(|_| bits != 0).chain(halves) {
            if facts.verdict(&d).objects().is_some_and(|o| o.len() >= 2) && !out.contains(&d) {
                out.push(d);
            }
        }
    }
    out
}

fn several(facts: &Facts<'_>, groups: &[Description], rng: &mut Rng) -> Option<Target> {
    let meaning = groups.get(rng.below(groups.len()))?;
    let objects = facts.verdict(meaning).objects()?;
    let text = phrase::group(meaning, objects.len(), rng);
    Some(target(objects, text, rng))
}

/// "The red disc and the star", each named by what it is.
fn pair(facts: &Facts<'_>, rng: &mut Rng) -> Option<Target> {
    let mut unique: Vec<(usize, Description)> = Vec::new();
    for i in 0..facts.len() {
        let named = |bits: u8| Description { filter: own(facts.scene, i, bits), ..Description::default() };
        let options: Vec<_> = [1u8, 3, 5, 9, 7].map(named).into_iter().filter(|d| facts.verdict(d).single() == Some(i)).collect();
        unique.extend(options.get(rng.below(options.len().min(2))).map(|d| (i, d.clone())));
    }
    if unique.len() < 2 {
        return None;
    }
    rng.shuffle(&mut unique);
    let mut words = |d: &Description| phrase::sentence(d, Style::Short, rng).trim_start_matches("the ").to_owned();
    let text = format!("the {} and the {}", words(&unique[0].1), words(&unique[1].1));
    let mut objects = vec![unique[0].0, unique[1].0];
    objects.sort_unstable();
    Some(target(objects, text, rng))
}

/// Attributes of which each is in the image, if not together, so that "it is not there" must be looked for.
fn mixed(scene: &Scene, rng: &mut Rng) -> Filter {
    let mut of = |p: f64| if rng.chance(p) { Some(rng.below(scene.objects.len())) } else { None };
    let (shape, colour, texture, size) = (of(0.75), of(0.7), of(0.6), of(0.7));
    let bits = rng.pick(&[1u8, 3, 3, 3, 5, 9, 7]);
    let objects = &scene.objects;
    Filter {
        shape: Some(shape.map_or_else(|| rng.pick(Shape::ALL), |i| objects[i].shape)),
        colour: (bits & 2 != 0).then(|| colour.map_or_else(|| rng.pick(Colour::ALL), |i| objects[i].colour)),
        texture: (bits & 4 != 0).then(|| texture.map_or_else(|| rng.pick(Texture::ALL), |i| objects[i].texture)),
        size: (bits & 8 != 0).then(|| size.map_or_else(|| rng.pick(Size::ALL), |i| objects[i].size)),
    }
}

/// A sentence that clearly fits nothing: absent attributes, or an object that is elsewhere.
fn nothing(facts: &Facts<'_>, rng: &mut Rng) -> Option<Target> {
    for _ in 0..30 {
        let filter = mixed(facts.scene, rng);
        let halves = SIDES.map(|s| Spot::Place(Place::Half(s)));
        let spot = rng.chance(0.35).then(|| rng.pick(&halves));
        let anchor = rng.below(facts.len());
        let named = Description { filter: own(facts.scene, anchor, rng.pick(&[1u8, 3])), ..Description::default() };
        let related = spot.is_none() && rng.chance(0.25) && facts.verdict(&named).single().is_some();
        let relation = related.then(|| (rng.pick(&RELATIONS), Box::new(named)));
        let meaning = Description { filter, spot, relation };
        if facts.verdict(&meaning).objects().is_some_and(|o| o.is_empty()) {
            let text = phrase::sentence(&meaning, Style::Short, rng);
            return Some(target(Vec::new(), text, rng));
        }
    }
    None
}
