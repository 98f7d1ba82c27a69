//! Left and right in sentences.

/// Swaps "left" and "right" as whole words, and in the compounds that name a side ("leftmost", "left-hand",
/// "righthand", "leftward"). "bright" and "lefty" stay. Case of the first letter is kept.
#[must_use]
pub fn flip_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        out.push_str(&flip_word(word));
        let gap = tail.find(char::is_alphanumeric).unwrap_or(tail.len());
        out.push_str(&tail[..gap]);
        rest = &tail[gap..];
    }
    out
}

fn flip_word(word: &str) -> String {
    const ENDS: [&str; 10] = ["", "s", "most", "hand", "handed", "ward", "wards", "side", "er", "est"];
    let lower = word.to_ascii_lowercase();
    for (from, to) in [("left", "right"), ("right", "left")] {
        if let Some(end) = lower.strip_prefix(from)
            && ENDS.contains(&end)
        {
            let upper = word.starts_with(|c: char| c.is_ascii_uppercase());
            let all = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
            let start: String = match (all, upper) {
                (true, _) => to.to_ascii_uppercase(),
                (_, true) => to[..1].to_ascii_uppercase() + &to[1..],
                _ => to.to_owned(),
            };
            return start + &word[from.len()..];
        }
    }
    word.to_owned()
}

/// Swaps every "left" and "right", even inside words, as DIT's code does.
#[must_use]
pub fn flip_substrings(text: &str) -> String {
    const HOLD: &str = "\u{0}";
    text.replace("right", HOLD).replace("left", "right").replace(HOLD, "left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words() {
        for (a, b) in [
            ("left circle", "right circle"),
            ("the bright one on the right", "the bright one on the left"),
            ("leftmost, left-hand: RIGHT", "rightmost, right-hand: LEFT"),
            ("Left of the right one", "Right of the left one"),
            ("copyright lefty upright", "copyright lefty upright"),
            ("", ""),
            ("caf\u{e9} left", "caf\u{e9} right"),
        ] {
            assert_eq!(flip_words(a), b);
            assert_eq!(flip_words(b), a);
        }
        assert_eq!(flip_substrings("bright left"), "bleft right");
    }
}
