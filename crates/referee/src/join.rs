//! Results to expressions: what is missing, doubled or unknown is counted and named.

use std::collections::BTreeMap;

use crate::RefereeError;
use crate::results::{ImageKey, Record, Results};
use crate::split::{Index, Split, plain};

/// Which result answers which expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Index of the record, per expression.
    pub records: Vec<Option<usize>>,
    /// Expressions without a result.
    pub missing: Vec<usize>,
    /// Records that answer what another one answers already: the first counts.
    pub doubled: Vec<usize>,
    /// Records that belong to no expression, and why.
    pub unknown: Vec<(usize, String)>,
    /// What the numbers of a folder's files are.
    pub numbers: Option<&'static str>,
}

impl Joined {
    /// Joins results to a split.
    ///
    /// A record that names a referent or an annotation without a sentence answers all of the referent's sentences; as many such
    /// records as there are sentences answer them in order. The same holds for sentences that an image has twice.
    ///
    /// # Errors
    /// [`RefereeError::OtherSet`] where fewer than half of the results belong to the split and fewer than half of its expressions are
    /// answered.
    pub fn new(split: &Split, results: &Results) -> Result<Self, RefereeError> {
        let index = Index::new(split);
        let numbers = numbers(&index, &results.records);
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for (at, record) in results.records.iter().enumerate() {
            match resolve(split, &index, record, numbers) {
                Ok(targets) => groups.entry(targets).or_default().push(at),
                Err(why) => unknown.push((at, why)),
            }
        }
        let mut out =
            Self { records: vec![None; split.expressions.len()], missing: Vec::new(), doubled: Vec::new(), unknown, numbers };
        // A record for one expression comes before one for several, whatever the order of the file.
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(targets, _)| targets.len());
        for (targets, records) in groups {
            if let ([record], true) = (records.as_slice(), targets.len() > 1) {
                let mut used = false;
                for target in targets {
                    used |= out.records[target].is_none();
                    out.records[target].get_or_insert(*record);
                }
                if !used {
                    out.doubled.push(*record);
                }
                continue;
            }
            let mut free = targets.into_iter().filter(|t| out.records[*t].is_none()).collect::<Vec<_>>().into_iter();
            for record in records {
                match free.next() {
                    Some(target) => out.records[target] = Some(record),
                    None => out.doubled.push(record),
                }
            }
        }
        out.doubled.sort_unstable();
        out.missing = (0..out.records.len()).filter(|i| out.records[*i].is_none()).collect();
        // A file of several splits has many results that are not of this one, but answers it.
        if out.unknown.len() * 2 > results.records.len() && out.missing.len() * 2 > out.records.len() {
            let (at, why) = &out.unknown[0];
            return Err(RefereeError::OtherSet {
                path: results.path.clone(),
                unknown: out.unknown.len(),
                total: results.records.len(),
                set: split.name(),
                first: format!("{}, {why}", results.records[*at].place),
            });
        }
        Ok(out)
    }

    /// What was not as it should be, one line each; at most `most` of a kind are named.
    #[must_use]
    pub fn notes(&self, split: &Split, results: &Results, most: usize) -> Vec<String> {
        let mut out = Vec::new();
        let mut note = |count: usize, of: &str, names: Vec<String>| {
            if count > 0 {
                let rest = if count > names.len() { format!("; and {} more", count - names.len()) } else { String::new() };
                out.push(format!("{of}: {count}: {}{rest}", names.join("; ")));
            }
        };
        let places = |records: &[usize]| records.iter().take(most).map(|r| results.records[*r].place.clone()).collect();
        let missing = self.missing.iter().take(most).map(|e| split.describe(*e)).collect();
        note(self.missing.len(), "expressions without a result, which count as missed", missing);
        note(self.doubled.len(), "doubled results, of which the first counts", places(&self.doubled));
        let unknown = self.unknown.iter().take(most).map(|(r, why)| format!("{}, {why}", results.records[*r].place)).collect();
        note(self.unknown.len(), "results of no expression, which count for nothing", unknown);
        out
    }
}

/// What the numbers that name files are: the ids that most of them match.
fn numbers(index: &Index, records: &[Record]) -> Option<&'static str> {
    let all: Vec<i64> = records.iter().filter_map(|r| r.number).collect();
    if all.is_empty() {
        return None;
    }
    let count = |name: &'static str, has: &dyn Fn(i64) -> bool| (all.iter().filter(|n| has(**n)).count(), name);
    let counts = [
        count("ann_id", &|n| index.annotation.contains_key(&refcoco_data::AnnId::Number(n))),
        count("ref_id", &|n| index.referent.contains_key(&n)),
        count("sent_id", &|n| index.sentence.contains_key(&n)),
    ];
    // Of equals the last: an id of a sentence says most.
    counts.into_iter().max_by_key(|(n, _)| *n).map(|(_, name)| name)
}

/// The expressions that a record answers, or why there is none.
fn resolve(split: &Split, index: &Index, record: &Record, numbers: Option<&'static str>) -> Result<Vec<usize>, String> {
    let number = |name: &str| record.number.filter(|_| numbers == Some(name));
    let get = |found: Option<&Vec<usize>>, what: String| found.cloned().ok_or(format!("{what} is not in the split"));
    let narrow = |found: Vec<usize>, what: String| -> Result<Vec<usize>, String> {
        let Some(sentence) = &record.sentence else { return Ok(found) };
        let same = with_sentence(split, &found, sentence);
        if same.is_empty() { Err(format!("{what} has no sentence \"{sentence}\"")) } else { Ok(same) }
    };
    let nth = |found: Vec<usize>, what: &str| match record.nth {
        Some(n) => found.get(n).map(|e| vec![*e]).ok_or(format!("{what} has {} expressions, not number {n} from 0", found.len())),
        None => Ok(found),
    };
    let found = if let Some(id) = record.sent_id.or(number("sent_id")) {
        let found = get(index.sentence.get(&id), format!("sent_id {id}"))?;
        // The ids of one set are ids of another one, too: sentences tell them apart.
        match &record.sentence {
            Some(sentence) if !found.iter().any(|e| alike(split, *e, sentence)) => {
                let own = &split.expressions[found[0]].sentence;
                return Err(format!("sent_id {id} is \"{own}\" here, not \"{sentence}\""));
            }
            _ => found,
        }
    } else if let Some(id) = record.ref_id.or(number("ref_id")) {
        let found = get(index.referent.get(&id), format!("ref_id {id}"))?;
        nth(narrow(found, format!("ref_id {id}"))?, &format!("ref_id {id}"))?
    } else if let Some(id) = record.ann_id.clone().or(number("ann_id").map(refcoco_data::AnnId::Number)) {
        let found = get(index.annotation.get(&id), format!("ann_id {id}"))?;
        nth(narrow(found, format!("ann_id {id}"))?, &format!("ann_id {id}"))?
    } else if let Some(id) = image(index, record)? {
        let found = get(index.image.get(&id), format!("image {id}"))?;
        if record.sentence.is_none() && record.nth.is_none() {
            return Err("names an image, but neither a sentence nor an id of one".into());
        }
        nth(narrow(found, format!("image {id}"))?, &format!("image {id}"))?
    } else {
        return Err("names no expression: expected sent_id, ref_id, ann_id, or an image and a sentence".into());
    };
    if let Some(id) = image(index, record)?
        && !found.iter().any(|e| split.expressions[*e].image_id == id)
    {
        return Err(format!("its expression is on image {} here, not on {id}", split.expressions[found[0]].image_id));
    }
    Ok(found)
}

fn image(index: &Index, record: &Record) -> Result<Option<i64>, String> {
    match &record.image {
        None => Ok(None),
        Some(ImageKey::Id(id)) => Ok(Some(*id)),
        Some(ImageKey::Stem(stem)) => match index.file.get(stem) {
            Some(id) => Ok(Some(*id)),
            None => Err(format!("image {stem} is not in the split")),
        },
    }
}

fn with_sentence(split: &Split, among: &[usize], sentence: &str) -> Vec<usize> {
    let wanted = plain(sentence);
    let same = |e: &usize| [&split.expressions[*e].sentence, &split.expressions[*e].raw].iter().any(|s| plain(s) == wanted);
    among.iter().copied().filter(|e| same(e)).collect()
}

/// Whether a result's sentence is the expression's, or holds it, as a prompt around it does.
fn alike(split: &Split, expression: usize, sentence: &str) -> bool {
    let e = &split.expressions[expression];
    let given = plain(sentence);
    [&e.sentence, &e.raw].iter().map(|s| plain(s)).any(|own| given.contains(&own) || own.contains(&given))
}
