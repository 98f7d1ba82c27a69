//! What a sentence says, and whether it is clearly so.

use super::scene::{Colour, Scene, Shape, Size, Texture};
use crate::SentenceKind;

/// Attributes an object must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Filter {
    pub(crate) size: Option<Size>,
    pub(crate) texture: Option<Texture>,
    pub(crate) colour: Option<Colour>,
    pub(crate) shape: Option<Shape>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

/// An absolute place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A half of the image.
    Half(Side),
    /// A quarter: (top or bottom, left or right).
    Corner(Side, Side),
    /// Around the centre.
    Middle,
    /// Further that way than anything else the filter allows.
    Most(Side),
}

/// A place relative to another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
    Behind,
    InFrontOf,
}

/// A sentence's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meaning {
    pub(crate) filter: Filter,
    pub(crate) place: Option<Place>,
    pub(crate) relation: Option<(Relation, Filter)>,
}

/// Three-valued: sentences are used only when every object is a clear yes or a clear no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Truth {
    No,
    Unsure,
    Yes,
}

pub(super) fn graded(value: f64, no_below: f64, yes_above: f64) -> Truth {
    if value >= yes_above {
        Truth::Yes
    } else if value <= no_below {
        Truth::No
    } else {
        Truth::Unsure
    }
}

impl Filter {
    pub(crate) fn accepts(&self, scene: &Scene, i: usize) -> bool {
        let o = &scene.objects[i];
        self.size.is_none_or(|v| v == o.size)
            && self.texture.is_none_or(|v| v == o.texture)
            && self.colour.is_none_or(|v| v == o.colour)
            && self.shape.is_none_or(|v| v == o.shape)
    }

    pub(crate) fn matches(&self, scene: &Scene) -> Vec<usize> {
        (0..scene.objects.len()).filter(|&i| self.accepts(scene, i)).collect()
    }
}

/// How far an object lies to a side of the centre: -0.5 to 0.5.
pub(super) fn toward(scene: &Scene, i: usize, side: Side) -> f64 {
    let (x, y) = scene.place(i);
    match side {
        Side::Left => 0.5 - x,
        Side::Right => x - 0.5,
        Side::Top => 0.5 - y,
        Side::Bottom => y - 0.5,
    }
}

fn half(scene: &Scene, i: usize, side: Side) -> Truth {
    graded(toward(scene, i, side), -0.06, 0.06)
}

pub(super) fn at_place(scene: &Scene, i: usize, place: Place, among: &[usize]) -> Truth {
    match place {
        Place::Half(side) => half(scene, i, side),
        Place::Corner(v, h) => half(scene, i, v).min(half(scene, i, h)),
        Place::Middle => {
            let (x, y) = scene.place(i);
            graded(-(x - 0.5).abs().max((y - 0.5).abs()), -0.24, -0.14)
        }
        Place::Most(side) => {
            let rest = among.iter().filter(|&&j| j != i).map(|&j| toward(scene, j, side));
            let best = rest.fold(f64::MIN, f64::max);
            graded(toward(scene, i, side) - best, -0.1, 0.1)
        }
    }
}

/// Whether object i stands in this relation to object a.
pub(crate) fn related(scene: &Scene, i: usize, relation: Relation, a: usize) -> Truth {
    let long = f64::from(scene.width.max(scene.height));
    let (s, t) = (scene.objects[i].centre, scene.objects[a].centre);
    let (dx, dy) = ((t.0 - s.0) / long, (t.1 - s.1) / long);
    // Clearly apart, and more along the named axis than across it.
    let directed = |along: f64, across: f64| graded(along, 0.05, 0.15).min(graded(along - across.abs(), -0.1, 0.06));
    match relation {
        Relation::LeftOf => directed(dx, dy),
        Relation::RightOf => directed(-dx, dy),
        Relation::Above => directed(dy, dx),
        Relation::Below => directed(-dy, dx),
        Relation::Behind => graded(scene.hidden[i][a], 0.0, 0.05),
        Relation::InFrontOf => graded(scene.hidden[a][i], 0.0, 0.05),
    }
}

impl Meaning {
    /// Whether object i is meant.
    pub(crate) fn holds(&self, scene: &Scene, i: usize) -> Truth {
        if !self.filter.accepts(scene, i) {
            return Truth::No;
        }
        let mut truth = Truth::Yes;
        if let Some(place) = self.place {
            truth = truth.min(at_place(scene, i, place, &self.filter.matches(scene)));
        }
        if let Some((relation, anchor)) = &self.relation {
            // The anchor must be one object on its own words.
            let &[a] = anchor.matches(scene).as_slice() else {
                return Truth::Unsure;
            };
            if a == i {
                return Truth::No;
            }
            truth = truth.min(related(scene, i, *relation, a));
        }
        truth
    }

    /// The objects meant; none if any object is unclear.
    pub(crate) fn select(&self, scene: &Scene) -> Option<Vec<usize>> {
        let mut out = Vec::new();
        for i in 0..scene.objects.len() {
            match self.holds(scene, i) {
                Truth::Yes => out.push(i),
                Truth::No => {}
                Truth::Unsure => return None,
            }
        }
        Some(out)
    }

    /// Whether this means the target and nothing else.
    pub(crate) fn singles_out(&self, scene: &Scene, target: usize) -> bool {
        self.holds(scene, target) == Truth::Yes
            && (0..scene.objects.len()).all(|i| i == target || self.holds(scene, i) == Truth::No)
    }

    /// The main thing needed to find the target: parts without which the sentence would be ambiguous come first, then
    /// the rarer part.
    pub(crate) fn kind(&self, scene: &Scene, target: usize) -> SentenceKind {
        let without = |change: fn(&mut Meaning)| {
            let mut m = *self;
            change(&mut m);
            m
        };
        let parts = [
            (SentenceKind::Relation, without(|m| m.relation = None)),
            (SentenceKind::Place, without(|m| m.place = None)),
            (SentenceKind::Texture, without(|m| m.filter.texture = None)),
            (SentenceKind::Size, without(|m| m.filter.size = None)),
            (SentenceKind::Colour, without(|m| m.filter.colour = None)),
            (SentenceKind::Shape, without(|m| m.filter.shape = None)),
        ];
        let present = || parts.iter().filter(|(_, m)| m != self);
        present()
            .find(|(_, m)| !m.singles_out(scene, target))
            .or_else(|| present().next())
            .map_or(SentenceKind::Shape, |(kind, _)| *kind)
    }
}
