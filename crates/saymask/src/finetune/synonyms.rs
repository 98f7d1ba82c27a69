//! What new words mean: the word of the base that serves best in their place.
//!
//! A small base has seen a small vocabulary, so a word that it does not know is often another name for what it knows: "crimson" for "red".
//! Twenty pictures say too little to learn that by gradients from nothing, but enough to try it out: every known word is put in
//! the place of the new one, and the masks of the training sentences are compared with the truth.

use std::collections::BTreeMap;

use anyhow::Result;
use metrics::EvalProfile;
use models::tokenizer::Grown;
use refcoco_data::Item;
use text_encoders::TextTokenizer;
use trainer::data::EvalData;
use trainer::evaluate::{ItemResult, Options, sentence};
use trainer::methods::Evaluator;

use crate::eval::split_words;
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
    data: EvalData,
    grown: &Grown,
    known: &[String],
    progress: &mut Progress,
) -> Result<Synonyms> {
    let texts: Vec<String> = (0..data.items.len()).map(|item| sentence(&data, item).to_lowercase()).collect();
    let holding = |word: &str| (0..texts.len()).filter(|item| split_words(&texts[*item]).any(|w| w == word)).collect();
    let mut new: Vec<(&str, Vec<usize>)> = grown.words.iter().map(|(word, _)| (word.as_str(), holding(word))).collect();
    new.retain(|(_, items)| !items.is_empty());
    new.sort_by_key(|(_, items)| std::cmp::Reverse(items.len()));
    new.truncate(MOST_WORDS);
    let mut trial = Trial { evaluator, profile, items: data.items.clone(), data, texts };
    let mut found = Synonyms::new();
    for sweep in 0..SWEEPS {
        let last = found.clone();
        for (at, (word, holding)) in new.iter().enumerate() {
            let before = found.remove(*word);
            let stands_for = trial.best((word, holding), &found, known, before.as_deref())?;
            found.extend(stands_for.map(|known| ((*word).to_owned(), known)));
            progress.judging("new words", sweep * new.len() + at + 1, SWEEPS * new.len());
        }
        if found == last {
            break;
        }
    }
    Ok(found)
}

/// The training split, on which words are tried in the place of others.
struct Trial<'a> {
    evaluator: &'a dyn Evaluator,
    profile: &'a EvalProfile,
    data: EvalData,
    /// All items of the split; `data` has those that are being tried.
    items: Vec<Item>,
    texts: Vec<String>,
}

impl Trial<'_> {
    /// The known word that serves best in a new one's place, if one serves better than nothing; `before` served best the last time.
    fn best(
        &mut self,
        (word, holding): (&str, &[usize]),
        meaning: &Synonyms,
        known: &[String],
        before: Option<&str>,
    ) -> Result<Option<String>> {
        let all: Vec<Option<&str>> = known.iter().map(|known| Some(known.as_str())).collect();
        let few = spread(holding, SENTENCES.0);
        let mut order: Vec<(f64, Option<&str>)> = self.mean_ious(word, &all, &few, meaning)?.into_iter().zip(all).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut best: Vec<Option<&str>> = order.into_iter().take(BEST).map(|(_, known)| known).collect();
        best.extend(before.map(Some));
        best.push(None);
        let ious = self.mean_ious(word, &best, &spread(holding, SENTENCES.1), meaning)?;
        let as_is = ious[ious.len() - 1];
        let highest = ious.into_iter().zip(best).max_by(|a, b| a.0.total_cmp(&b.0));
        Ok(highest.filter(|(iou, _)| *iou > as_is + GAIN).and_then(|(_, known)| known.map(str::to_owned)))
    }

    /// The mean IoU over `chosen` sentences with each candidate in the word's place; nothing leaves it as it is.
    fn mean_ious(&mut self, word: &str, candidates: &[Option<&str>], chosen: &[usize], meaning: &Synonyms) -> Result<Vec<f64>> {
        self.data.items = candidates.iter().flat_map(|_| chosen.iter().map(|item| self.items[*item])).collect();
        let with = |candidate: &Option<&str>| {
            let mut meaning = meaning.clone();
            meaning.extend(candidate.map(|known| (word.to_owned(), known.to_owned())));
            chosen.iter().map(|item| replaced(&self.texts[*item], &meaning)).collect::<Vec<_>>()
        };
        let sentences: Vec<String> = candidates.iter().flat_map(with).collect();
        let options = Options { sentences: Some(&sentences), maps: None };
        let results = self.evaluator.evaluate_with(&self.data, self.profile, options, &mut |_| {})?.1;
        let mean = |part: &[ItemResult]| part.iter().map(|r| r.iou).sum::<f64>() / part.len() as f64;
        Ok(results.chunks(chosen.len()).map(mean).collect())
    }
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
        assert_eq!(split_words("the rot-stern, left").collect::<Vec<_>>(), ["the", "rot", "stern", "left"]);
        assert_eq!(spread(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5]);
        assert_eq!(spread(&[7], 3), [7]);
    }
}
