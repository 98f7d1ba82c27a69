//! The expressions of a split, with what each means.

use std::collections::HashMap;

use refcoco_data::{AnnId, Dataset, Item};

use crate::truth::{Truth, truths};

/// An expression and what identifies it.
#[derive(Debug, Clone)]
pub struct Expression {
    /// `sent_id`.
    pub sent_id: i64,
    /// `ref_id`.
    pub ref_id: i64,
    /// Annotations meant; none where nothing is.
    pub ann_ids: Vec<AnnId>,
    /// `images[].id`.
    pub image_id: i64,
    /// Index into [`Split::images`].
    pub image: usize,
    /// The sentence as the set's files have it.
    pub sentence: String,
    /// The sentence as it was typed.
    pub raw: String,
    /// Index into [`Split::truths`].
    pub truth: usize,
    /// Its place among the sentences of its referent.
    pub nth: usize,
    /// Kinds of sentence and PhraseCut's subsets, for tables.
    pub kinds: Vec<String>,
}

/// A split to be judged.
#[derive(Debug, Clone)]
pub struct Split {
    /// Data set, who split it, split.
    pub set: [String; 3],
    /// Its expressions, in the order of the data set.
    pub expressions: Vec<Expression>,
    /// What they mean, one per referent.
    pub truths: Vec<Truth>,
    /// File names of the images.
    pub images: Vec<String>,
    /// What could not be read, one line each.
    pub warnings: Vec<String>,
}

impl Split {
    /// All expressions of an open data set.
    #[must_use]
    pub fn new(dataset: &Dataset) -> Self {
        let items: Vec<Item> = dataset.sentence_targets().map(|target| Item { target, key: 0 }).collect();
        Self::of(dataset, &items)
    }

    /// Some expressions of an open data set, such as the first ones. Items that ask for a class have no sentence to join results
    /// by, and are left out.
    #[must_use]
    pub fn of(dataset: &Dataset, items: &[Item]) -> Self {
        let (truths, warning) = truths(dataset);
        let expression = |item: &Item| {
            let (truth, nth) = item.sentence()?;
            let referent = &dataset.referents[truth];
            let sentence = &referent.sentences[nth];
            let kind = sentence.kind.map(|kind| kind.name());
            Some(Expression {
                sent_id: sentence.id,
                ref_id: referent.ref_id,
                ann_ids: referent.ann_ids.clone(),
                image_id: dataset.images[referent.image].id,
                image: referent.image,
                sentence: sentence.text.clone(),
                raw: sentence.raw.clone(),
                truth,
                nth,
                kinds: kind.into_iter().chain(referent.groups.iter().copied()).map(str::to_owned).collect(),
            })
        };
        Self {
            set: [dataset.spec.name.clone(), dataset.spec.split_by.clone(), dataset.split.clone()],
            expressions: items.iter().filter_map(expression).collect(),
            truths,
            images: dataset.images.iter().map(|image| image.file_name.clone()).collect(),
            warnings: warning.into_iter().collect(),
        }
    }

    /// `refcoco (unc) val`.
    #[must_use]
    pub fn name(&self) -> String {
        let [set, by, split] = &self.set;
        format!("{set} ({by}) {split}")
    }

    /// The truth of an expression.
    #[must_use]
    pub fn truth(&self, expression: usize) -> &Truth {
        &self.truths[self.expressions[expression].truth]
    }

    /// An expression for messages: its ids, image and sentence.
    #[must_use]
    pub fn describe(&self, expression: usize) -> String {
        let e = &self.expressions[expression];
        format!("sent_id {} (ref_id {}, {}, \"{}\")", e.sent_id, e.ref_id, self.images[e.image], e.sentence)
    }
}

/// Letters and digits in lower case, one space between words: how sentences are compared.
pub(crate) fn plain(sentence: &str) -> String {
    let mut out = String::with_capacity(sentence.len());
    for word in sentence.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

/// Expressions by every key that a result may have.
pub(crate) struct Index {
    pub(crate) sentence: HashMap<i64, Vec<usize>>,
    pub(crate) referent: HashMap<i64, Vec<usize>>,
    pub(crate) annotation: HashMap<AnnId, Vec<usize>>,
    pub(crate) image: HashMap<i64, Vec<usize>>,
    /// Image ids by the file's name without folder and ending.
    pub(crate) file: HashMap<String, i64>,
}

impl Index {
    pub(crate) fn new(split: &Split) -> Self {
        let mut out = Self {
            sentence: HashMap::new(),
            referent: HashMap::new(),
            annotation: HashMap::new(),
            image: HashMap::new(),
            file: HashMap::new(),
        };
        for (i, e) in split.expressions.iter().enumerate() {
            out.sentence.entry(e.sent_id).or_default().push(i);
            out.referent.entry(e.ref_id).or_default().push(i);
            out.image.entry(e.image_id).or_default().push(i);
            for id in &e.ann_ids {
                out.annotation.entry(id.clone()).or_default().push(i);
            }
            out.file.insert(stem(&split.images[e.image]).to_owned(), e.image_id);
        }
        out
    }
}

/// A file's name without folders and ending.
pub(crate) fn stem(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_compared_by_their_words() {
        assert_eq!(plain("The man's hat, LEFT."), plain("the man ' s hat , left"));
        assert_ne!(plain("left man"), plain("right man"));
        assert_eq!(stem("a/b\\COCO_1.x.jpg"), "COCO_1.x");
    }
}
