//! From meanings to words, with synonyms for colours, shapes, sizes and places.

use super::super::meaning::{Filter, Place, Relation, Side};
use super::super::phrase::Style;
use super::super::scene::{Colour, Shape, Size, Texture};
use super::meaning::{Description, Spot};
use crate::rng::Rng;

fn colour(colour: Colour, rng: &mut Rng) -> &'static str {
    rng.pick(match colour {
        Colour::Red => &["red", "red", "red", "crimson", "scarlet"],
        Colour::Orange => &["orange", "orange", "orange", "tangerine"],
        Colour::Yellow => &["yellow", "yellow", "yellow", "golden"],
        Colour::Green => &["green", "green", "green", "emerald"],
        Colour::Blue => &["blue", "blue", "blue", "cobalt"],
        Colour::Purple => &["purple", "purple", "violet"],
        Colour::White => &["white", "white", "white", "ivory"],
        Colour::Black => &["black", "black", "black", "ebony"],
    })
}

fn texture(texture: Texture, rng: &mut Rng) -> &'static str {
    rng.pick(match texture {
        Texture::Plain => &["plain", "solid"],
        Texture::Striped => &["striped", "striped", "stripy"],
        Texture::Dotted => &["dotted", "spotted", "speckled"],
        Texture::Checkered => &["checkered", "checkered", "chequered"],
    })
}

/// A texture behind the noun; none for what has no name of its own.
fn pattern(texture: Texture) -> Option<&'static str> {
    match texture {
        Texture::Plain => None,
        Texture::Striped => Some("with stripes"),
        Texture::Dotted => Some("with dots"),
        Texture::Checkered => Some("with checks"),
    }
}

fn size(size: Size, rng: &mut Rng) -> &'static str {
    rng.pick(match size {
        Size::Small => &["small", "small", "little", "tiny"],
        Size::Big => &["big", "big", "large", "huge"],
    })
}

fn noun(shape: Option<Shape>, rng: &mut Rng) -> &'static str {
    rng.pick(match shape {
        Some(Shape::Circle) => &["circle", "circle", "disc", "disk"],
        Some(Shape::Square) => &["square", "square", "tile"],
        Some(Shape::Triangle) => &["triangle", "triangle", "wedge"],
        Some(Shape::Star) => &["star"],
        Some(Shape::Ring) => &["ring", "ring", "donut", "hoop"],
        Some(Shape::Cross) => &["cross", "cross", "plus"],
        Some(Shape::Hexagon) => &["hexagon", "hexagon", "hex"],
        Some(Shape::Heart) => &["heart"],
        None => &["one", "one", "one", "thing", "object", "piece"],
    })
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
        Side::Top => "top",
        Side::Bottom => "bottom",
    }
}

/// A side as people say it of a table: what is up in the picture is at the back.
fn depth(of: Side, rng: &mut Rng) -> &'static str {
    match of {
        Side::Top => rng.pick(&["top", "upper", "back"]),
        Side::Bottom => rng.pick(&["bottom", "lower", "front"]),
        other => side(other),
    }
}

fn ordinal(n: usize, rng: &mut Rng) -> &'static str {
    match n {
        2 => rng.pick(&["second", "second", "2nd"]),
        _ => rng.pick(&["third", "third", "3rd"]),
    }
}

/// Words in front of the noun.
fn spot_before(spot: Spot, rng: &mut Rng) -> Vec<&'static str> {
    match spot {
        Spot::Place(Place::Half(s)) => vec![depth(s, rng)],
        Spot::Place(Place::Corner(v, h)) => vec![depth(v, rng), side(h)],
        Spot::Place(Place::Middle) => vec![rng.pick(&["middle", "middle", "center", "central"])],
        Spot::Place(Place::Most(s)) => vec![match s {
            Side::Left => "leftmost",
            Side::Right => "rightmost",
            Side::Top => rng.pick(&["topmost", "farthest"]),
            Side::Bottom => rng.pick(&["closest", "nearest"]),
        }],
        Spot::Far(s) => vec!["far", side(s)],
        Spot::Nth(_, n) => vec![ordinal(n, rng)],
    }
}

/// Words behind the noun that belong to those in front of it.
fn spot_tail(spot: Option<Spot>, rng: &mut Rng) -> String {
    match spot {
        Some(Spot::Nth(s, _)) => format!(" from {}{}", rng.pick(&["", "the "]), side(s)),
        _ => String::new(),
    }
}

/// Words behind the noun instead of those in front of it; none for ordinals.
fn spot_after(spot: Spot, style: Style, rng: &mut Rng) -> Option<String> {
    let the = match style {
        Style::Short => rng.pick(&["", "the "]),
        Style::Long => "the ",
    };
    let whole = match style {
        Style::Short => "",
        Style::Long => rng.pick(&["", " of the picture", " of the table", " of the photo"]),
    };
    Some(match spot {
        Spot::Place(Place::Half(s @ (Side::Left | Side::Right))) => match (style, rng.below(3)) {
            (Style::Short, 0) => side(s).to_owned(),
            (Style::Short, 1) => format!("on {the}{}", side(s)),
            _ => format!("on {the}{} side{whole}", side(s)),
        },
        Spot::Place(Place::Half(s)) => match (s, rng.below(3)) {
            (Side::Top, 0) => format!("at the back{whole}"),
            (_, 0) => format!("at the front{whole}"),
            _ => format!("at {the}{}{whole}", side(s)),
        },
        Spot::Place(Place::Corner(v, h)) => match (style, rng.below(3)) {
            (Style::Short, 0) => format!("{} {}", depth(v, rng), side(h)),
            (Style::Short, 1) => format!("in {the}{} {}", side(v), side(h)),
            _ => format!("in {the}{} {} corner{whole}", depth(v, rng), side(h)),
        },
        Spot::Place(Place::Middle) => format!("in {the}{}{whole}", rng.pick(&["middle", "center"])),
        Spot::Place(Place::Most(s @ (Side::Left | Side::Right))) => format!("furthest to the {}", side(s)),
        Spot::Place(Place::Most(Side::Top)) => "furthest away".to_owned(),
        Spot::Place(Place::Most(_)) => rng.pick(&["closest to us", "nearest to the camera"]).to_owned(),
        Spot::Far(s) => format!("on {the}far {}{whole}", side(s)),
        Spot::Nth(..) => return None,
    })
}

fn relation(relation: Relation, style: Style, rng: &mut Rng) -> &'static str {
    let long = style == Style::Long;
    match relation {
        Relation::LeftOf if long => "to the left of",
        Relation::LeftOf => rng.pick(&["left of", "left of", "to the left of"]),
        Relation::RightOf if long => "to the right of",
        Relation::RightOf => rng.pick(&["right of", "right of", "to the right of"]),
        Relation::Above => "above",
        Relation::Below => rng.pick(&["below", "below", "beneath"]),
        Relation::Behind => rng.pick(&["behind", "behind", "partly hidden by"]),
        Relation::InFrontOf => "in front of",
    }
}

/// "big striped crimson", and a pattern for behind the noun.
fn adjectives(filter: &Filter, rng: &mut Rng) -> (Vec<&'static str>, Option<&'static str>) {
    let mut out: Vec<&'static str> = filter.size.map(|s| size(s, rng)).into_iter().collect();
    let behind = filter.texture.filter(|_| filter.shape.is_some() && rng.chance(0.25)).and_then(pattern);
    if behind.is_none() {
        out.extend(filter.texture.map(|t| texture(t, rng)));
    }
    out.extend(filter.colour.map(|c| colour(c, rng)));
    (out, behind)
}

/// A noun with everything in front of it, and what belongs behind it. A short one may lack the noun.
fn noun_phrase(d: &Description, bare: bool, rng: &mut Rng) -> String {
    let (adjectives, behind) = adjectives(&d.filter, rng);
    let mut words = d.spot.map(|spot| spot_before(spot, rng)).unwrap_or_default();
    words.extend(adjectives);
    if !bare || d.filter.shape.is_some() || words.is_empty() {
        words.push(noun(d.filter.shape, rng));
    }
    words.extend(behind);
    words.join(" ") + &spot_tail(d.spot, rng)
}

fn article(style: Style, rng: &mut Rng) -> &'static str {
    match style {
        Style::Short => rng.pick(&["", "", "", "the "]),
        Style::Long => rng.pick(&["the ", "the ", "a "]),
    }
}

/// A sentence for one object.
pub(super) fn sentence(d: &Description, style: Style, rng: &mut Rng) -> String {
    let text = match &d.relation {
        Some((r, anchor)) => related(d, *r, anchor, style, rng),
        None => alone(d, style, rng),
    };
    with_article(text)
}

/// "a", "an", or "the" where only one can be meant.
fn with_article(text: String) -> String {
    let Some(rest) = text.strip_prefix("a ") else { return text };
    let unique = [
        "one", "second", "third", "2nd", "3rd", "left", "right", "top", "bottom", "middle", "center", "central", "far",
        "closest", "nearest", "upper", "lower", "back", "front",
    ];
    match rest {
        _ if unique.iter().any(|w| rest.starts_with(w)) => format!("the {rest}"),
        _ if rest.starts_with(['a', 'e', 'i', 'o']) => format!("an {rest}"),
        _ => text,
    }
}

fn related(d: &Description, r: Relation, anchor: &Description, style: Style, rng: &mut Rng) -> String {
    let link = match style {
        Style::Short => "",
        Style::Long => rng.pick(&["", "that is ", "which is ", "lying "]),
    };
    let the = match style {
        Style::Short => rng.pick(&["", "the "]),
        Style::Long => "the ",
    };
    // A noun in front of a relation keeps the anchor's words apart from the subject's.
    let subject = noun_phrase(d, false, rng);
    let base = Description { relation: None, ..anchor.clone() };
    let mut text =
        format!("{}{subject} {link}{} {the}{}", article(style, rng), relation(r, style, rng), noun_phrase(&base, false, rng));
    if let Some((further, last)) = &anchor.relation {
        // "that is" keeps the second relation with the anchor.
        let words = relation(*further, style, rng);
        text += &format!(" that is {words} the {}", noun_phrase(last, false, rng));
    }
    text
}

fn alone(d: &Description, style: Style, rng: &mut Rng) -> String {
    let article = article(style, rng);
    let plain = Description { spot: None, ..d.clone() };
    let after = d.spot.filter(|_| rng.chance(0.5)).and_then(|spot| spot_after(spot, style, rng));
    match (style, after) {
        (Style::Short, Some(after)) if d.filter == Filter::default() && rng.chance(0.3) => after,
        (Style::Short, Some(after)) => format!("{article}{} {after}", noun_phrase(&plain, false, rng)),
        (Style::Short, None) => format!("{article}{}", noun_phrase(d, rng.chance(0.35), rng)),
        (Style::Long, Some(after)) => {
            let link = rng.pick(&["", "that is ", "lying "]);
            format!("{article}{} {link}{after}", noun_phrase(&plain, false, rng))
        }
        (Style::Long, None) => described(d, article, rng),
    }
}

/// "the disc that is red and striped" or "the red striped disc on the table".
fn described(d: &Description, article: &str, rng: &mut Rng) -> String {
    let (adjectives, behind) = adjectives(&d.filter, rng);
    if d.spot.is_some() || behind.is_some() || adjectives.is_empty() || rng.chance(0.5) {
        let tail = rng.pick(&[" on the table", " lying on the table", " in this picture", " that can be seen in the photo"]);
        return format!("{article}{}{tail}", noun_phrase(d, false, rng));
    }
    let link = rng.pick(&["that is", "which is"]);
    format!("{article}{} {link} {}", noun(d.filter.shape, rng), adjectives.join(" and "))
}

/// "both crimson discs", "all the striped ones", "everything on the left".
pub(super) fn group(d: &Description, count: usize, rng: &mut Rng) -> String {
    let after = d.spot.and_then(|spot| spot_after(spot, Style::Short, rng));
    if d.filter == Filter::default() {
        return format!("everything {}", after.unwrap_or_default());
    }
    let number = match count {
        2 => rng.pick(&["the two", "both", "all", "two"]),
        3 => rng.pick(&["the three", "all", "three"]),
        _ => rng.pick(&["all", "all the"]),
    };
    let (mut words, behind) = adjectives(&d.filter, rng);
    words.insert(0, number);
    let plural = match noun(d.filter.shape, rng) {
        "cross" => "crosses".to_owned(),
        "plus" => "pluses".to_owned(),
        "hex" => "hexes".to_owned(),
        word => format!("{word}s"),
    };
    words.push(&plural);
    words.extend(behind);
    words.extend(after.as_deref());
    words.join(" ")
}
