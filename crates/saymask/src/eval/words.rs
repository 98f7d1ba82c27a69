//! Words and their opposites: which word of a sentence is exchanged, and what must then be true of the other object.

/// A kind of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// left, right
    Horizontal,
    /// top, bottom
    Vertical,
    /// first, second
    Order,
    /// big, small
    Size,
    /// red, blue, ...
    Colour,
}

impl Kind {
    /// The name in tables and files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Horizontal => "left / right",
            Self::Vertical => "top / bottom",
            Self::Order => "first / second",
            Self::Size => "big / small",
            Self::Colour => "colour",
        }
    }
}

/// Pairs of opposites; the second lies further right, further down, later, or is larger.
const PAIRS: [(Kind, &str, &str); 17] = [
    (Kind::Horizontal, "left", "right"),
    (Kind::Horizontal, "leftmost", "rightmost"),
    (Kind::Vertical, "top", "bottom"),
    (Kind::Vertical, "topmost", "bottommost"),
    (Kind::Vertical, "upper", "lower"),
    (Kind::Vertical, "highest", "lowest"),
    (Kind::Order, "first", "second"),
    (Kind::Order, "1st", "2nd"),
    (Kind::Size, "small", "big"),
    (Kind::Size, "small", "large"),
    (Kind::Size, "little", "big"),
    (Kind::Size, "smaller", "bigger"),
    (Kind::Size, "smaller", "larger"),
    (Kind::Size, "smallest", "biggest"),
    (Kind::Size, "smallest", "largest"),
    (Kind::Size, "shorter", "taller"),
    (Kind::Size, "shortest", "tallest"),
];

const COLOURS: [&str; 13] =
    ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black", "gray", "grey", "tan"];

/// Patterns: no word of them is exchanged, but the other object must have them, too.
const PATTERNS: [&str; 7] = ["plain", "striped", "dotted", "spotted", "checkered", "plaid", "stripes"];

/// Words behind "left of" that make it a place in the image, not beside another object.
const WHOLE: [&str; 6] = ["picture", "image", "photo", "pic", "screen", "frame"];

/// Words that set an object beside another one: what the changed sentence then means, no mask alone tells.
const RELATIONS: [&str; 14] = [
    "above",
    "below",
    "under",
    "underneath",
    "behind",
    "beside",
    "near",
    "nearest",
    "next",
    "hidden",
    "front",
    "between",
    "against",
    "over",
];

/// Nouns that name no category.
const GENERAL: [&str; 5] = ["one", "shape", "object", "thing", "something"];

/// A sentence with one word exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) kind: Kind,
    /// The word that went.
    pub(super) from: &'static str,
    /// The word that came.
    pub(super) to: &'static str,
    pub(super) sentence: String,
}

impl Changed {
    /// Whether the other object lies further right or down, or is larger: the direction that the new word asks for.
    pub(super) fn is_up(&self) -> bool {
        PAIRS.iter().any(|(_, low, high)| (*low, *high) == (self.from, self.to))
    }
}

/// What a sentence goes by: a relation to another object, a place, a size, a colour, or nothing but names.
pub(crate) fn word_kind(sentence: &str) -> &'static str {
    let of_pair = |wanted: &[Kind]| {
        let pairs = PAIRS.iter().filter(|(kind, _, _)| wanted.contains(kind));
        pairs.flat_map(|(_, low, high)| [*low, *high]).any(|word| has(sentence, word))
    };
    if RELATIONS.iter().any(|word| has(sentence, word)) {
        "relation"
    } else if of_pair(&[Kind::Horizontal, Kind::Vertical, Kind::Order]) {
        "place"
    } else if of_pair(&[Kind::Size]) {
        "size"
    } else if COLOURS.iter().any(|word| has(sentence, word)) {
        "colour"
    } else {
        "name"
    }
}

/// The words of a sentence.
pub(crate) fn split_words(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty())
}

/// Whether a sentence has a word, as a whole.
pub(super) fn has(sentence: &str, word: &str) -> bool {
    split_words(sentence).any(|w| w.eq_ignore_ascii_case(word))
}

/// Whether a sentence names no category, so that the other object may be of any.
pub(super) fn is_general(sentence: &str) -> bool {
    GENERAL.iter().any(|word| has(sentence, word))
}

/// Colours, sizes and patterns of a sentence: what the other object must have as well.
pub(super) fn attributes(sentence: &str) -> Vec<&'static str> {
    let sizes = ["small", "little", "big", "large"];
    COLOURS.into_iter().chain(PATTERNS).chain(sizes).filter(|word| has(sentence, word)).collect()
}

/// Colours of a sentence.
pub(super) fn colours(sentence: &str) -> Vec<&'static str> {
    COLOURS.into_iter().filter(|word| has(sentence, word)).collect()
}

/// Every sentence that is this one with a word exchanged for its opposite, or its colour for one of `other_colours`. A word that occurs
/// twice, or beside its opposite, and sentences about a place beside another object are left alone.
pub(super) fn changed(sentence: &str, other_colours: &[&'static str]) -> Vec<Changed> {
    let mut out: Vec<Changed> = Vec::new();
    if is_relation(sentence) {
        return out;
    }
    for (kind, low, high) in PAIRS {
        for (from, to) in [(low, high), (high, low)] {
            let once = split_words(sentence).filter(|w| w.eq_ignore_ascii_case(from)).count() == 1;
            if !once || has(sentence, to) || out.iter().any(|c| c.from == from) {
                continue;
            }
            out.push(Changed { kind, from, to, sentence: replace(sentence, from, to) });
        }
    }
    if let [from] = colours(sentence)[..] {
        for &to in other_colours.iter().filter(|to| **to != from) {
            out.push(Changed { kind: Kind::Colour, from, to, sentence: replace(sentence, from, to) });
        }
    }
    out
}

/// "left of the star", "behind him": a place beside another object.
fn is_relation(sentence: &str) -> bool {
    let all: Vec<&str> = split_words(sentence).collect();
    let of_something = |at: usize| {
        let side = ["left", "right"].iter().any(|side| all[at].eq_ignore_ascii_case(side));
        let rest = &all[at + 1..];
        side && rest.first() == Some(&"of") && !rest[1..].iter().take(2).any(|w| WHOLE.contains(w))
    };
    RELATIONS.iter().any(|word| has(sentence, word)) || (0..all.len()).any(of_something)
}

fn replace(sentence: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(sentence.len());
    let mut rest = sentence;
    while let Some(start) = rest.find(char::is_alphanumeric) {
        let end = rest[start..].find(|c: char| !c.is_alphanumeric()).map_or(rest.len(), |n| start + n);
        out += &rest[..start];
        out += if rest[start..end].eq_ignore_ascii_case(from) { to } else { &rest[start..end] };
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(sentence: &str, colours: &[&'static str]) -> Vec<String> {
        changed(sentence, colours).into_iter().map(|c| c.sentence).collect()
    }

    #[test]
    fn one_word_is_exchanged() {
        assert_eq!(said("left man", &[]), ["right man"]);
        assert_eq!(said("the man on the right side of the picture", &[]), ["the man on the left side of the picture"]);
        assert_eq!(said("right of the image", &[]), ["left of the image"]);
        assert_eq!(
            said("second cup, upper left", &[]),
            ["second cup, upper right", "second cup, lower left", "first cup, upper left"]
        );
        assert_eq!(said("the small one", &[]), ["the big one"]);
        assert_eq!(said("red shirt", &["blue", "red", "green"]), ["blue shirt", "green shirt"]);
    }

    #[test]
    fn what_would_not_be_clear_is_left_alone() {
        assert_eq!(said("the circle left of the star", &[]), [""; 0]);
        assert_eq!(said("the small circle right of the star", &[]), [""; 0]);
        assert_eq!(said("big cup behind the plate", &[]), [""; 0]);
        assert_eq!(said("left hand of the right man", &[]), [""; 0]);
        assert_eq!(said("left left", &[]), [""; 0]);
        assert_eq!(said("brightest", &[]), [""; 0]);
        assert_eq!(said("red and blue shirt", &["green"]), [""; 0]);
        assert_eq!(said("the man", &["red"]), [""; 0]);
    }

    #[test]
    fn directions() {
        let up = |sentence: &str| changed(sentence, &[])[0].is_up();
        assert!(up("left man") && !up("right man") && up("top one") && !up("big one") && up("first"));
        assert_eq!(attributes("small striped red circle"), ["red", "striped", "small"]);
    }
}
