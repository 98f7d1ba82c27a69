//! `saymask eval --probe words`: do the words decide? Sentences with a word exchanged for its opposite are judged again, where the image
//! holds what they then mean.
//!
//! Which object that is follows from the other referents of the image: of the same category (of any, where the sentence says "one"),
//! with the sentence's other attributes among what is said about them, and clearly further right, further down or larger, as the new
//! word asks; for colours and order, from their sentences. Referents that nothing is said about are not seen.

use std::collections::BTreeMap;

use anyhow::Result;
use coco_mask::intersection_union;
use metrics::{EvalProfile, Report};
use refcoco_data::{Dataset, Item, Referent};
use referee::{Cell, Table};
use serde::Serialize;
use trainer::data::EvalData;
use trainer::evaluate::{ItemResult, Options, sentence};
use trainer::methods::Evaluator;

use super::words::{Changed, Kind, attributes, changed, colours, has, is_general};
use crate::progress::Progress;

/// Share of the image's side by which centres must lie apart to be told apart by left and right, top and bottom.
const APART: f64 = 0.1;
/// Ratio of areas from which one object is the big one and the other the small one.
const LARGER: f64 = 1.5;

/// What came out of one exchanged word.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    kind: &'static str,
    image_id: i64,
    sent_id: i64,
    other_ref_id: i64,
    sentence: String,
    changed: String,
    /// IoU of the mask for the sentence with its object and with the other one.
    before: [f64; 2],
    /// The same of the mask for the changed sentence.
    after: [f64; 2],
}

impl Outcome {
    /// Whether the mask for the sentence lies on its object rather than on the other one.
    fn right(&self) -> bool {
        self.before[0] > self.before[1]
    }

    /// Whether the mask for the changed sentence lies on the other object.
    fn moved(&self) -> bool {
        self.after[1] > self.after[0]
    }
}

/// Counts of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Exchanged words.
    probes: u64,
    /// Masks that lay on the right object before.
    right: u64,
    /// Masks that lie on the other object now.
    moved: u64,
    /// Both: the word decided.
    decided: u64,
}

/// Everything that came out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Probed {
    #[serde(skip)]
    pub(super) stem: String,
    split: String,
    all: Counts,
    kinds: BTreeMap<&'static str, Counts>,
    outcomes: Vec<Outcome>,
}

impl Probed {
    /// A row per kind of words.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["words exchanged", "sentences", "right before", "moved", "decided"]);
        let share = |n: u64, of: u64| Cell::from((of > 0).then(|| n as f64 / of as f64));
        for (name, c) in self.kinds.iter().chain(std::iter::once((&"all", &self.all))) {
            let shares = [c.right, c.moved, c.decided].map(|n| share(n, c.probes));
            table.rows.push([Cell::Text((*name).to_owned()), Cell::Count(c.probes)].into_iter().chain(shares).collect());
        }
        table
    }

    /// What the table says, with the shuffled score beside it.
    pub(super) fn summary(&self, shuffled: Option<&Report>) -> String {
        if self.all.probes == 0 {
            return format!("No sentence of {} has a word whose opposite its image holds.", self.split);
        }
        let beside = shuffled
            .map_or(String::new(), |r| format!(" With shuffled text oIoU is {:.2}, mIoU {:.2}.", 100.0 * r.oiou, 100.0 * r.miou));
        format!(
            "moved: the mask for the changed sentence lies on the other object; decided: and that for the sentence itself on its own.{beside}"
        )
    }
}

/// A changed sentence and what it then means.
struct Probe {
    item: usize,
    other: usize,
    change: Changed,
}

/// Judges the changed sentences; `own` are the results for the sentences as they are.
pub(super) fn run(
    evaluator: &dyn Evaluator,
    profile: &EvalProfile,
    mut data: EvalData,
    own: &[ItemResult],
    progress: &mut Progress,
) -> Result<Probed> {
    let probes = probes(&data.dataset, &data.items, |item| sentence(&data, item).into_owned());
    let items = std::mem::take(&mut data.items);
    data.items = probes.iter().map(|p| items[p.item]).collect();
    let sentences: Vec<String> = probes.iter().map(|p| p.change.sentence.clone()).collect();
    let of = probes.len();
    let found = if of == 0 {
        Vec::new()
    } else {
        let options = Options { sentences: Some(&sentences), maps: None };
        evaluator.evaluate_with(&data, profile, options, &mut |done| progress.judging("exchanged words", done, of))?.1
    };
    let dataset = &data.dataset;
    let mut outcomes = Vec::with_capacity(of);
    for (probe, result) in probes.iter().zip(&found) {
        let Some((mine, nth)) = items[probe.item].sentence() else { continue };
        let (mine, other) = (&dataset.referents[mine], &dataset.referents[probe.other]);
        let ious = |result: &ItemResult| -> Result<[f64; 2]> {
            let iou = |with: &Referent| -> Result<f64> {
                let (i, u) = intersection_union(&result.mask, &with.mask)?;
                Ok(i as f64 / u.max(1) as f64)
            };
            Ok([iou(mine)?, iou(other)?])
        };
        outcomes.push(Outcome {
            kind: probe.change.kind.name(),
            image_id: dataset.images[mine.image].id,
            sent_id: mine.sentences[nth].id,
            other_ref_id: other.ref_id,
            sentence: mine.sentences[nth].text.clone(),
            changed: probe.change.sentence.clone(),
            before: ious(&own[probe.item])?,
            after: ious(result)?,
        });
    }
    Ok(counted(dataset, outcomes))
}

fn counted(dataset: &Dataset, outcomes: Vec<Outcome>) -> Probed {
    let (mut all, mut kinds) = (Counts::default(), BTreeMap::<_, Counts>::new());
    for outcome in &outcomes {
        for counts in [&mut all, kinds.entry(outcome.kind).or_default()] {
            counts.probes += 1;
            counts.right += u64::from(outcome.right());
            counts.moved += u64::from(outcome.moved());
            counts.decided += u64::from(outcome.right() && outcome.moved());
        }
    }
    let Dataset { spec, split, .. } = dataset;
    let stem = format!("{}-{}-{split}", spec.name, spec.split_by);
    Probed { stem, split: format!("{} ({}) {split}", spec.name, spec.split_by), all, kinds, outcomes }
}

/// Every exchange for which the image holds the other object.
fn probes(dataset: &Dataset, items: &[Item], text: impl Fn(usize) -> String) -> Vec<Probe> {
    let mut by_image: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, referent) in dataset.referents.iter().enumerate() {
        by_image.entry(referent.image).or_default().push(i);
    }
    let mut out = Vec::new();
    for (item, at) in items.iter().enumerate() {
        let Some((referent, _)) = at.sentence() else { continue };
        let (mine, text) = (&dataset.referents[referent], text(item));
        let others: Vec<usize> = by_image[&mine.image]
            .iter()
            .copied()
            .filter(|o| {
                let other = &dataset.referents[*o];
                !other.ann_ids.is_empty()
                    && other.ann_ids.iter().all(|id| !mine.ann_ids.contains(id))
                    && (other.category == mine.category || is_general(&text))
            })
            .collect();
        let said: Vec<&'static str> =
            others.iter().flat_map(|o| dataset.referents[*o].sentences.iter().flat_map(|s| colours(&s.text))).collect();
        let mut named = said.clone();
        named.sort_unstable();
        named.dedup();
        for change in changed(&text, &named) {
            if let Some(other) = other(dataset, referent, &others, &change) {
                out.push(Probe { item, other, change });
            }
        }
    }
    out
}

/// The one object that a changed sentence means; none where there is none, or more than one.
fn other(dataset: &Dataset, mine: usize, others: &[usize], change: &Changed) -> Option<usize> {
    let says = |referent: usize, word: &str| dataset.referents[referent].sentences.iter().any(|s| has(&s.text, word));
    // A size that is exchanged is read from the masks, one that stays from the sentences.
    let wanted: Vec<&str> =
        attributes(&change.sentence).into_iter().filter(|w| change.kind != Kind::Size || *w != change.to).collect();
    let fitting = others.iter().copied().filter(|o| wanted.iter().all(|word| says(*o, word)));
    match change.kind {
        Kind::Order | Kind::Colour => {
            let mut found = fitting.filter(|o| says(*o, change.to) && !says(*o, change.from));
            found.next().filter(|_| found.next().is_none())
        }
        kind => {
            let measure = |referent: usize| measure(dataset, referent, kind);
            let own = measure(mine);
            let clear = |value: f64| {
                let (low, high) = if change.is_up() { (own, value) } else { (value, own) };
                if kind == Kind::Size { high >= LARGER * low } else { high - low >= APART }
            };
            let sign = if change.is_up() { 1.0 } else { -1.0 };
            fitting.filter(|o| clear(measure(*o))).max_by(|a, b| (sign * measure(*a)).total_cmp(&(sign * measure(*b))))
        }
    }
}

/// Centre in shares of the image's sides, or area in pixels.
fn measure(dataset: &Dataset, referent: usize, kind: Kind) -> f64 {
    let referent = &dataset.referents[referent];
    let [x, y, w, h] = referent.mask.bbox();
    match kind {
        Kind::Horizontal => (x + w / 2.0) / f64::from(referent.mask.width()),
        Kind::Vertical => (y + h / 2.0) / f64::from(referent.mask.height()),
        _ => referent.mask.area() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use metrics::Meter;
    use run_config::RunConfig;
    use trainer::TrainError;
    use trainer::batch::Inputs;

    use refcoco_data::{DatasetSpec, SynthConfig, generate, sequential};

    /// On a generated set the changed sentence means the other object: it lies where the new word says, and has what else is said.
    #[test]
    fn the_other_object_is_what_the_changed_sentence_means() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        generate(&SynthConfig { images: 200, size: 64, seed: 9, ..SynthConfig::default() }, &root).unwrap();
        let dataset = Dataset::open(&DatasetSpec::new(&root, "refcoco"), "train").unwrap();
        let items = sequential(&dataset, None).unwrap();
        let text = |item: usize| dataset.text(&items[item]).into_owned();
        let probes = probes(&dataset, &items, text);
        let mut kinds = BTreeMap::<Kind, usize>::new();
        for probe in &probes {
            *kinds.entry(probe.change.kind).or_default() += 1;
            let mine = items[probe.item].sentence().unwrap().0;
            assert_ne!(mine, probe.other);
            assert_eq!(dataset.referents[mine].image, dataset.referents[probe.other].image);
            let masks = [mine, probe.other].map(|r| &dataset.referents[r].mask);
            let [own, other] = match probe.change.kind {
                Kind::Size => masks.map(|m| m.area() as f64),
                kind => masks.map(|m| {
                    let [x, y, w, h] = m.bbox();
                    if kind == Kind::Vertical {
                        (y + h / 2.0) / f64::from(m.height())
                    } else {
                        (x + w / 2.0) / f64::from(m.width())
                    }
                }),
            };
            match (probe.change.kind, probe.change.to) {
                (Kind::Horizontal, "right" | "rightmost") | (Kind::Vertical, "bottom" | "lower" | "bottommost" | "lowest") => {
                    assert!(other >= own + APART, "{}", probe.change.sentence);
                }
                (Kind::Horizontal | Kind::Vertical, _) => assert!(other <= own - APART, "{}", probe.change.sentence),
                (Kind::Size, "big" | "large") => assert!(other >= LARGER * own, "{}", probe.change.sentence),
                _ => {}
            }
        }
        for kind in [Kind::Horizontal, Kind::Vertical, Kind::Size, Kind::Colour] {
            assert!(kinds.get(&kind).is_some_and(|n| *n >= 10), "{}: {kinds:?}", kind.name());
        }
    }

    /// Answers with the referents that it was given, item by item, whatever it is asked.
    struct Told {
        referents: Vec<usize>,
        sentences: Vec<String>,
    }

    impl Evaluator for Told {
        fn inputs(&self) -> Inputs {
            Inputs::CANVAS
        }

        fn evaluate(
            &self,
            data: &EvalData,
            profile: &EvalProfile,
            _: Option<u64>,
            on_event: &mut dyn FnMut(usize),
        ) -> Result<(Report, Vec<ItemResult>), TrainError> {
            self.evaluate_with(data, profile, Options { sentences: Some(&self.sentences), maps: None }, on_event)
        }

        fn evaluate_with(
            &self,
            data: &EvalData,
            profile: &EvalProfile,
            options: Options<'_>,
            _: &mut dyn FnMut(usize),
        ) -> Result<(Report, Vec<ItemResult>), TrainError> {
            let sentences = options.sentences.unwrap();
            assert_eq!(sentences, self.sentences);
            assert_eq!(data.items.len(), self.referents.len());
            let answer = |(item, referent): (usize, &usize)| {
                let mask = data.dataset.referents[*referent].mask.clone();
                assert_eq!(data.dataset.image_index(&data.items[item]), data.dataset.referents[*referent].image);
                ItemResult { item, sentence: sentences[item].clone(), mask, score: 1.0, iou: 1.0 }
            };
            let results = self.referents.iter().enumerate().map(answer).collect();
            Ok((Meter::new(profile.clone()).report("train"), results))
        }
    }

    /// Who follows every word moves always, who reads none never.
    #[test]
    fn a_reader_of_words_and_a_model_without_text() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        generate(&SynthConfig { images: 60, size: 64, seed: 9, ..SynthConfig::default() }, &root).unwrap();
        let dataset = Arc::new(Dataset::open(&DatasetSpec::new(&root, "refcoco"), "train").unwrap());
        let run_config = RunConfig::from_toml_str("").unwrap();
        let data = || EvalData::of(&run_config, dataset.clone(), Inputs::CANVAS).unwrap();
        let (items, text) = (data().items, |item: usize| sentence(&data(), item).into_owned());
        let probes = probes(&dataset, &items, text);
        let own = Told {
            referents: items.iter().map(|item| item.sentence().unwrap().0).collect(),
            sentences: (0..items.len()).map(text).collect(),
        };
        let profile = EvalProfile::saymask();
        let own = own.evaluate(&data(), &profile, None, &mut |_| {}).unwrap().1;
        let probed = |follows: bool| {
            let referents = probes.iter().map(|p| if follows { p.other } else { items[p.item].sentence().unwrap().0 }).collect();
            let told = Told { referents, sentences: probes.iter().map(|p| p.change.sentence.clone()).collect() };
            run(&told, &profile, data(), &own, &mut Progress::new()).unwrap().all
        };
        let count = probes.len() as u64;
        assert!(count > 20, "{count}");
        assert_eq!(probed(true), Counts { probes: count, right: count, moved: count, decided: count });
        assert_eq!(probed(false), Counts { probes: count, right: count, moved: 0, decided: 0 });
    }

    #[test]
    fn counts() {
        let outcome = |before: [f64; 2], after: [f64; 2]| Outcome {
            kind: Kind::Colour.name(),
            image_id: 1,
            sent_id: 1,
            other_ref_id: 2,
            sentence: "red".into(),
            changed: "blue".into(),
            before,
            after,
        };
        let outcomes = vec![
            outcome([0.8, 0.0], [0.0, 0.7]),
            outcome([0.8, 0.0], [0.8, 0.0]),
            outcome([0.0, 0.6], [0.0, 0.6]),
            outcome([0.0, 0.0], [0.0, 0.0]),
        ];
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        generate(&SynthConfig { images: 8, size: 64, ..SynthConfig::default() }, &root).unwrap();
        let probed = counted(&Dataset::open(&DatasetSpec::new(&root, "refcoco"), "val").unwrap(), outcomes);
        assert_eq!(probed.all, Counts { probes: 4, right: 2, moved: 2, decided: 1 });
        assert!(probed.table().render(referee::Format::Text).contains("colour"));
    }
}
