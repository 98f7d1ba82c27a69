//! Byte-pair merges, the core of the tokenizers' training.

use std::collections::{BTreeMap, BTreeSet};

/// A word as symbols, with its count.
pub(super) type Word = (Vec<String>, u64);

/// Joins the most frequent neighbouring symbols, again and again, until `budget` new symbols exist or no pair is left.
///
/// Ties go to the pair that sorts first, so the same words give the same merges. `join` spells a merged symbol.
/// Merges that spell a known symbol do not count against the budget but are returned.
pub(super) fn learn(
    words: &mut [Word],
    known: &BTreeSet<String>,
    budget: usize,
    join: impl Fn(&str, &str) -> String,
) -> Vec<(String, String)> {
    let mut known = known.clone();
    let mut merges = Vec::new();
    let mut left = budget;
    while left > 0 {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (symbols, count) in words.iter() {
            for pair in symbols.windows(2) {
                *counts.entry((&pair[0], &pair[1])).or_default() += count;
            }
        }
        // `max_by` keeps the last of equals: reversed, the first in order.
        let Some((first, second)) =
            counts.iter().rev().max_by_key(|(_, count)| **count).map(|((a, b), _)| (a.to_string(), b.to_string()))
        else {
            break;
        };
        let joined = join(&first, &second);
        for (symbols, _) in words.iter_mut() {
            let mut at = 0;
            while at + 1 < symbols.len() {
                if symbols[at] == first && symbols[at + 1] == second {
                    symbols[at] = joined.clone();
                    symbols.remove(at + 1);
                }
                at += 1;
            }
        }
        if known.insert(joined) {
            left -= 1;
        }
        merges.push((first, second));
    }
    merges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, count: u64) -> Word {
        (text.chars().map(String::from).collect(), count)
    }

    #[test]
    fn the_most_frequent_pair_first_and_ties_in_order() {
        let mut words = vec![word("abab", 1), word("cd", 2), word("x", 9)];
        let merges = learn(&mut words, &BTreeSet::new(), 2, |a, b| format!("{a}{b}"));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(merges, [pair("a", "b"), pair("c", "d")]);
        assert_eq!(words[0].0, ["ab", "ab"]);
    }

    #[test]
    fn stops_when_nothing_is_left_to_join() {
        let mut words = vec![word("ab", 1)];
        assert_eq!(learn(&mut words, &BTreeSet::new(), 10, |a, b| format!("{a}{b}")).len(), 1);
    }
}
