//! From meanings to words.

use super::meaning::{Filter, Meaning, Place, Relation, Side};
use super::scene::{Shape, Size, Texture};
use crate::rng::Rng;

/// How sentences of a set sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A few words, as players of a timed game type.
    Short,
    /// Whole phrases, as annotators without a clock write.
    Long,
}

fn adjectives(filter: &Filter, rng: &mut Rng) -> Vec<&'static str> {
    let mut out = Vec::new();
    match filter.size {
        Some(Size::Small) => out.push(rng.pick(&["small", "small", "little"])),
        Some(Size::Big) => out.push(rng.pick(&["big", "big", "large"])),
        None => {}
    }
    match filter.texture {
        Some(Texture::Dotted) => out.push(rng.pick(&["dotted", "dotted", "spotted"])),
        Some(texture) => out.push(texture.name()),
        None => {}
    }
    out.extend(filter.colour.map(|c| c.name()));
    out
}

fn noun(shape: Option<Shape>, rng: &mut Rng) -> &'static str {
    match shape {
        Some(Shape::Ring) => rng.pick(&["ring", "ring", "donut"]),
        Some(shape) => shape.name(),
        None => rng.pick(&["one", "one", "shape", "object", "thing"]),
    }
}

/// "big striped circle", with words put in front.
fn noun_phrase(filter: &Filter, before: &[&str], rng: &mut Rng) -> String {
    let mut words = before.to_vec();
    let adjectives = adjectives(filter, rng);
    words.extend(&adjectives);
    words.push(noun(filter.shape, rng));
    words.join(" ")
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
        Side::Top => "top",
        Side::Bottom => "bottom",
    }
}

/// A place as words in front of the noun.
fn place_before(place: Place, rng: &mut Rng) -> Vec<&'static str> {
    match place {
        Place::Half(s) => vec![side(s)],
        Place::Corner(v, h) => match (v, rng.chance(0.3)) {
            (Side::Top, true) => vec!["upper", side(h)],
            (Side::Bottom, true) => vec!["lower", side(h)],
            _ => vec![side(v), side(h)],
        },
        Place::Middle => vec![rng.pick(&["middle", "middle", "center", "central"])],
        Place::Most(s) => vec![match s {
            Side::Left => "leftmost",
            Side::Right => "rightmost",
            Side::Top => rng.pick(&["topmost", "highest"]),
            Side::Bottom => rng.pick(&["bottommost", "lowest"]),
        }],
    }
}

/// A place as words behind the noun.
fn place_after(place: Place, style: Style, rng: &mut Rng) -> String {
    let whole = match style {
        Style::Short => "",
        Style::Long => rng.pick(&[" of the picture", " of the image"]),
    };
    let bare = |text: String, with: bool| if with { format!("{text}{whole}") } else { text };
    match place {
        Place::Half(s @ (Side::Left | Side::Right)) => match style {
            Style::Short if rng.chance(0.7) => format!("on the {}", side(s)),
            _ => bare(format!("on the {} side", side(s)), true),
        },
        Place::Half(s) => bare(format!("at the {}", side(s)), true),
        Place::Corner(v, h) if style == Style::Short && rng.chance(0.6) => {
            format!("in the {} {}", side(v), side(h))
        }
        Place::Corner(v, h) => bare(format!("in the {} {} corner", side(v), side(h)), true),
        Place::Middle => bare(format!("in the {}", rng.pick(&["middle", "center"])), true),
        Place::Most(s @ (Side::Left | Side::Right)) => format!("furthest to the {}", side(s)),
        Place::Most(s) => format!("closest to the {}", side(s)),
    }
}

fn relation(relation: Relation, rng: &mut Rng) -> &'static str {
    match relation {
        Relation::LeftOf => rng.pick(&["left of", "to the left of"]),
        Relation::RightOf => rng.pick(&["right of", "to the right of"]),
        Relation::Above => "above",
        Relation::Below => rng.pick(&["below", "below", "under"]),
        Relation::Behind => rng.pick(&["behind", "behind", "partly hidden by"]),
        Relation::InFrontOf => "in front of",
    }
}

/// A sentence for one object.
pub(crate) fn sentence(meaning: &Meaning, style: Style, rng: &mut Rng) -> String {
    let text = compose(meaning, style, rng);
    match text.strip_prefix("a ") {
        // "one" takes no indefinite article, "orange" and "object" take "an".
        Some(rest) if rest.starts_with("one") => format!("the {rest}"),
        Some(rest) if rest.starts_with('o') => format!("an {rest}"),
        _ => text,
    }
}

fn compose(meaning: &Meaning, style: Style, rng: &mut Rng) -> String {
    let f = &meaning.filter;
    let article = match style {
        Style::Short => rng.pick(&["", "", "the "]),
        Style::Long => rng.pick(&["the ", "the ", "a "]),
    };
    let link = match style {
        Style::Short => "",
        Style::Long => rng.pick(&["", "that is ", "which is "]),
    };
    if let Some((r, anchor)) = &meaning.relation {
        let words = relation(*r, rng);
        let anchor = noun_phrase(anchor, &[], rng);
        let subject = match meaning.place {
            Some(place) => noun_phrase(f, &place_before(place, rng), rng),
            None => noun_phrase(f, &[], rng),
        };
        return format!("{article}{subject} {link}{words} the {anchor}");
    }
    match (meaning.place, style) {
        (Some(place), Style::Short) if rng.chance(0.55) => {
            format!("{article}{}", noun_phrase(f, &place_before(place, rng), rng))
        }
        (Some(place), _) => {
            let subject = noun_phrase(f, &[], rng);
            format!("{article}{subject} {link}{}", place_after(place, style, rng))
        }
        (None, Style::Short) => format!("{article}{}", noun_phrase(f, &[], rng)),
        (None, Style::Long) => described(f, article, rng),
    }
}

/// "the circle that is red and striped" or "the red striped circle in this image".
fn described(f: &Filter, article: &str, rng: &mut Rng) -> String {
    let adjectives = adjectives(f, rng);
    if adjectives.is_empty() || rng.chance(0.5) {
        let tail = rng.pick(&[" in this picture", " in the image", " that can be seen here"]);
        return format!("{article}{}{tail}", noun_phrase(f, &[], rng));
    }
    let link = rng.pick(&["that is", "which is"]);
    format!("{article}{} {link} {}", noun(f.shape, rng), adjectives.join(" and "))
}

fn plural(shape: Option<Shape>, rng: &mut Rng) -> &'static str {
    match shape {
        Some(Shape::Circle) => "circles",
        Some(Shape::Square) => "squares",
        Some(Shape::Triangle) => "triangles",
        Some(Shape::Star) => "stars",
        Some(Shape::Ring) => "rings",
        Some(Shape::Cross) => "crosses",
        Some(Shape::Hexagon) => "hexagons",
        Some(Shape::Heart) => "hearts",
        None => rng.pick(&["shapes", "objects", "things"]),
    }
}

/// "all red shapes", "the two circles on the left", "both stars".
pub(crate) fn group(meaning: &Meaning, count: usize, rng: &mut Rng) -> String {
    let number = match count {
        2 => rng.pick(&["the two", "both", "all"]),
        3 => rng.pick(&["the three", "all"]),
        _ => "all",
    };
    let mut words = vec![number];
    let adjectives = adjectives(&meaning.filter, rng);
    words.extend(&adjectives);
    words.push(plural(meaning.filter.shape, rng));
    let text = words.join(" ");
    match meaning.place {
        Some(place) => format!("{text} {}", place_after(place, Style::Short, rng)),
        None => text,
    }
}

/// As typed: some capitals and full stops, which `sent` no longer has.
pub(crate) fn typed(sent: &str, rng: &mut Rng) -> String {
    let mut raw = sent.to_owned();
    if rng.chance(0.3)
        && let Some(first) = raw.get_mut(..1)
    {
        first.make_ascii_uppercase();
    }
    if rng.chance(0.15) {
        raw.push('.');
    }
    raw
}
