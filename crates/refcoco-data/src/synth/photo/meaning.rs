//! What sentences over photographs say: attributes, places, ordinals, relations and relations of relations; and whether it is clearly so.

use super::super::meaning::{Filter, Place, Relation, Side, Truth, at_place, graded, related, toward};
use super::super::scene::Scene;
use crate::SentenceKind;

/// Where something is, on its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spot {
    Place(Place),
    /// Close to an edge, and closer than anything else that the words allow.
    Far(Side),
    /// The nth from a side, from 2, of what the words allow.
    Nth(Side, usize),
}

/// A noun phrase's meaning.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Description {
    pub(super) filter: Filter,
    pub(super) spot: Option<Spot>,
    /// A relation to the one object that another description means.
    pub(super) relation: Option<(Relation, Box<Description>)>,
}

/// Sets of objects, one bit each: those that a description clearly means, and those of which it is unclear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) yes: u32,
    pub(super) unsure: u32,
}

impl Verdict {
    const NONE: Self = Self { yes: 0, unsure: 0 };

    fn collect(truths: impl Iterator<Item = Truth>) -> Self {
        truths.enumerate().fold(Self::NONE, |v, (i, truth)| match truth {
            Truth::Yes => Self { yes: v.yes | 1 << i, ..v },
            Truth::Unsure => Self { unsure: v.unsure | 1 << i, ..v },
            Truth::No => v,
        })
    }

    fn and(self, other: Self) -> Self {
        let (a, b) = (self.yes | self.unsure, other.yes | other.unsure);
        let yes = self.yes & other.yes;
        Self { yes, unsure: a & b & !yes }
    }

    fn without(self, i: usize) -> Self {
        Self { yes: self.yes & !(1 << i), unsure: self.unsure & !(1 << i) }
    }

    /// The one object that is clearly meant, if no other may be.
    pub(super) fn single(self) -> Option<usize> {
        (self.unsure == 0 && self.yes.count_ones() == 1).then_some(self.yes.trailing_zeros() as usize)
    }

    /// The objects that are clearly meant; none if any object is unclear.
    pub(super) fn objects(self) -> Option<Vec<usize>> {
        (self.unsure == 0).then(|| (0..u32::BITS as usize).filter(|i| self.yes >> i & 1 != 0).collect())
    }
}

pub(super) const RELATIONS: [Relation; 6] = super::super::choose::RELATIONS;

/// A scene with its relations looked up once.
pub(super) struct Facts<'a> {
    pub(super) scene: &'a Scene,
    /// Per relation and anchor, the objects that stand in it.
    relations: Vec<Vec<Verdict>>,
}

/// Whether object i is behind object a: hidden by it, or, which would be said so, too, further away.
fn behind(scene: &Scene, i: usize, a: usize) -> Truth {
    match related(scene, i, Relation::Behind, a) {
        // Not hidden: clearly not behind only if not further away, either.
        Truth::No if related(scene, i, Relation::Above, a) == Truth::No => Truth::No,
        Truth::Yes if scene.objects[i].centre.1 < scene.objects[a].centre.1 => Truth::Yes,
        _ => Truth::Unsure,
    }
}

fn stands(scene: &Scene, i: usize, relation: Relation, a: usize) -> Truth {
    match relation {
        Relation::Behind => behind(scene, i, a),
        Relation::InFrontOf => behind(scene, a, i),
        _ => related(scene, i, relation, a),
    }
}

impl<'a> Facts<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        let n = scene.objects.len();
        let to = |r: Relation, a: usize| {
            let truth = |i: usize| if i == a { Truth::No } else { stands(scene, i, r, a) };
            Verdict::collect((0..n).map(truth))
        };
        Self { scene, relations: RELATIONS.iter().map(|&r| (0..n).map(|a| to(r, a)).collect()).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.scene.objects.len()
    }

    /// Who stands in a relation to object a.
    pub(super) fn related(&self, relation: Relation, a: usize) -> Verdict {
        self.relations[relation as usize][a]
    }

    /// Who is at a place, of those that the filter accepts.
    fn at(&self, filter: &Filter, spot: Spot) -> Verdict {
        let among = filter.matches(self.scene);
        let most = |i: usize, side: Side| at_place(self.scene, i, Place::Most(side), &among);
        let truth = |i: usize| match spot {
            Spot::Place(place) => at_place(self.scene, i, place, &among),
            Spot::Far(side) => {
                // Two readings that must agree: at the edge, and the outermost.
                let (edge, outermost) = (graded(toward(self.scene, i, side), 0.12, 0.2), most(i, side));
                if edge == outermost { edge } else { Truth::Unsure }
            }
            Spot::Nth(side, n) => self.nth(i, side, n, &among),
        };
        Verdict::collect((0..self.len()).map(|i| if filter.accepts(self.scene, i) { truth(i) } else { Truth::No }))
    }

    /// Whether exactly n - 1 others lie clearly further to a side, and all the rest clearly less.
    fn nth(&self, i: usize, side: Side, n: usize, among: &[usize]) -> Truth {
        let lead = |j: usize| graded(toward(self.scene, j, side) - toward(self.scene, i, side), -NTH_MARGIN, NTH_MARGIN);
        let (mut ahead, mut unclear) = (0, 0);
        for &j in among.iter().filter(|&&j| j != i) {
            ahead += usize::from(lead(j) == Truth::Yes);
            unclear += usize::from(lead(j) == Truth::Unsure);
        }
        match (ahead < n, n - 1 <= ahead + unclear) {
            (true, true) if unclear == 0 => Truth::Yes,
            (true, true) => Truth::Unsure,
            _ => Truth::No,
        }
    }

    /// What a description means.
    pub(super) fn verdict(&self, d: &Description) -> Verdict {
        let accepted =
            Verdict::collect((0..self.len()).map(|i| if d.filter.accepts(self.scene, i) { Truth::Yes } else { Truth::No }));
        let placed = d.spot.map_or(accepted, |spot| self.at(&d.filter, spot));
        let Some((relation, anchor)) = &d.relation else { return placed };
        // The anchor must be one object on its own words.
        match self.verdict(anchor).single() {
            Some(a) => placed.and(self.related(*relation, a)).without(a),
            None => Verdict { yes: 0, unsure: placed.yes | placed.unsure },
        }
    }

    /// The main thing needed to find the target: parts without which the words would be ambiguous come first, then the rarer part.
    pub(super) fn kind(&self, d: &Description, target: usize) -> SentenceKind {
        let without = |change: fn(&mut Description)| {
            let mut shorter = d.clone();
            change(&mut shorter);
            shorter
        };
        let parts = [
            (SentenceKind::Relation, without(|d| d.relation = None)),
            (SentenceKind::Place, without(|d| d.spot = None)),
            (SentenceKind::Texture, without(|d| d.filter.texture = None)),
            (SentenceKind::Size, without(|d| d.filter.size = None)),
            (SentenceKind::Colour, without(|d| d.filter.colour = None)),
            (SentenceKind::Shape, without(|d| d.filter.shape = None)),
        ];
        let present = || parts.iter().filter(|(_, shorter)| shorter != d);
        present()
            .find(|(_, shorter)| self.verdict(shorter).single() != Some(target))
            .or_else(|| present().next())
            .map_or(SentenceKind::Shape, |(kind, _)| *kind)
    }
}

/// How far apart two objects must be, as a share of the image, for one to be counted before the other.
const NTH_MARGIN: f64 = 0.05;
