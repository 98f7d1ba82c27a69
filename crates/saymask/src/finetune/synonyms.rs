//! What new words mean: the word of the base that serves best in their place.
//!
//! A small base has seen a small vocabulary, so a word that it does not know is often another name for what it knows: "crimson" for "red".
//! Twenty pictures say too little to learn that by gradients from nothing, but enough to try it out: every known word is put in
//! the place of the new one, and the masks of the training sentences are compared with the truth.

use std::collections::BTreeMap;

use anyhow::Result;
use models::tokenizer::Grown;
use text_encoders::TextTokenizer;
use trainer::data::EvalData;
use trainer::evaluate::{Options, sentence};
use trainer::methods::Evaluator;

use metrics::EvalProfile;

use crate::progress::Progress;

/// New words that are tried, the most frequent first; others start from their pieces.
const MOST_WORDS: usize = 64;
/// Sentences that a known word is tried in at first, and those that the best are tried in.
const SENTENCES: (usize, usize) = (8, 32);
/// How many are the best.
const BEST: usize = 10;
/// Times that all words are tried: the first ones are tried again when it is known what the others mean.
const SWEEPS: usize = 3;
/// Mean IoU that a known word must gain in place of the new one, in sentences that it was tried in.
const GAIN: f64 = 0.03;

/// The meaning of new words by the known words that they stand for.
pub(super) type Synonyms = BTreeMap<String, String>;

/// Finds them on the training split, which `data` is of.
pub(super) fn find(
    evaluator: &dyn Evaluator,
    profile: &EvalProfile,
    mut data: EvalData,
    grown: &Grown,
    known: &[String],
    progress: &mut Progress,
) -> Result<Synonyms> {
    let items = data.items.clone();
    let texts: Vec<String> = (0..items.len()).map(|item| sentence(&data, item).to_lowercase()).collect();
    let holding = |word: &str| (0..items.len()).filter(|item| words(&texts[*item]).any(|w| w == word)).collect::<Vec<_>>();
    let mut new: Vec<(&str, Vec<usize>)> = grown.words.iter().map(|(word, _)| (word.as_str(), holding(word))).collect();
    new.retain(|(_, items)| !items.is_empty());
    new.sort_by_key(|(_, items)| std::cmp::Reverse(items.len()));
    new.truncate(MOST_WORDS);
    let mut found = Synonyms::new();
    let of = SWEEPS * new.len();
    for (done, (word, holding)) in std::iter::repeat_n(&new, SWEEPS).flatten().enumerate() {
        let before = found.remove(*word);
        // The mean IoU of each candidate in the word's place; nothing in its place is the first one.
        let mut tried = |candidates: &[Option<&str>], most: usize| -> Result<Vec<f64>> {
            let chosen = spread(holding, most);
            data.items = candidates.iter().flat_map(|_| chosen.iter().map(|item| items[*item])).collect();
            let with = |candidate: &Option<&str>| {
                let mut meaning = found.clone();
                meaning.extend(candidate.map(|known| ((*word).to_owned(), known.to_owned())));
                chosen.iter().map(|item| replaced(&texts[*item], &meaning)).collect::<Vec<_>>()
            };
            let sentences: Vec<String> = candidates.iter().flat_map(with).collect();
            let options = Options { sentences: Some(&sentences), maps: None };
            let results = evaluator.evaluate_with(&data, profile, options, &mut |_| {})?.1;
            let mean = |part: &[trainer::evaluate::ItemResult]| part.iter().map(|r| r.iou).sum::<f64>() / part.len() as f64;
            Ok(results.chunks(chosen.len()).map(mean).collect())
        };
        let all: Vec<Option<&str>> = known.iter().map(|known| Some(known.as_str())).collect();
        let mut order: Vec<(f64, Option<&str>)> = tried(&all, SENTENCES.0)?.into_iter().zip(all).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut best: Vec<Option<&str>> = order.into_iter().take(BEST).map(|(_, known)| known).collect();
        best.extend(before.as_deref().map(Some));
        best.push(None);
        let ious = tried(&best, SENTENCES.1)?;
        let as_is = ious[ious.len() - 1];
        if let Some((iou, Some(known))) = ious.into_iter().zip(best).max_by(|a, b| a.0.total_cmp(&b.0))
            && iou > as_is + GAIN
        {
            found.insert((*word).to_owned(), known.to_owned());
        }
        progress.judging("new words", done + 1, of);
    }
    Ok(found)
}

/// Lets the rows of new words start from those of the words that they stand for.
pub(super) fn name(grown: &mut Grown, synonyms: &Synonyms, base: &dyn TextTokenizer) -> Result<()> {
    for (word, pieces) in &mut grown.words {
        if let Some(known) = synonyms.get(word) {
            *pieces = base.pieces(known)?;
        }
    }
    Ok(())
}

/// At most so many of them, spread evenly.
fn spread(items: &[usize], most: usize) -> Vec<usize> {
    let count = items.len().min(most);
    (0..count).map(|at| items[at * items.len() / count]).collect()
}

/// The words of a sentence in lower case.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// A sentence with words in place of others.
fn replaced(text: &str, meaning: &Synonyms) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_alphanumeric());
        out.push_str(meaning.get(word).map_or(word, String::as_str));
        out.push_str(&part[word.len()..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_exchanged_as_a_whole() {
        let meaning = Synonyms::from([("rot".into(), "red".into()), ("stern".into(), "star".into())]);
        assert_eq!(replaced("rot stern, roter stern!", &meaning), "red star, roter star!");
        assert_eq!(words("the rot-stern, left").collect::<Vec<_>>(), ["the", "rot", "stern", "left"]);
        assert_eq!(spread(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5]);
        assert_eq!(spread(&[7], 3), [7]);
    }
}
