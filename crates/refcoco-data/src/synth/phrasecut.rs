//! PhraseCut's files: phrases for one object or several, and their polygons.

use std::collections::BTreeMap;
use std::path::Path;

use coco_mask::Rle;
use serde_json::{Value, json};

use super::Sample;
use super::choose::{RELATIONS, own};
use super::files::{ann_id, image_id, split, write};
use super::meaning::{Filter, Meaning, Relation};
use super::scene::{Object, Scene};
use crate::DataError;
use crate::layout::{PHRASECUT, folder_name};
use crate::phrasecut::SPLITS;
use crate::rng::Rng;

/// Most phrases of an image.
const MOST: usize = 5;

/// A phrase, taken apart as the set does it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Phrase {
    pub(crate) text: String,
    /// Everything the phrase fits, one object at least.
    pub(crate) objects: Vec<usize>,
    name: &'static str,
    attributes: Vec<&'static str>,
    relation: Option<(&'static str, String)>,
    /// What is needed to tell the region from others: its name, its attributes, its relation; "verbose" for both.
    kind: &'static str,
}

/// Phrases of an image. Each clearly fits its objects and clearly no other.
pub(crate) fn phrases(scene: &Scene, rng: &mut Rng) -> Vec<Phrase> {
    let mut meanings: Vec<Meaning> = Vec::new();
    for (i, bits) in (0..scene.objects.len()).flat_map(|i| (1..16).step_by(2).map(move |bits| (i, bits))) {
        let plain = Meaning { filter: own(scene, i, bits), ..Meaning::default() };
        let anchors = (0..scene.objects.len()).filter(|&j| j != i).flat_map(|j| [1, 3].map(|bits| own(scene, j, bits)));
        let related = anchors.flat_map(|a| RELATIONS.map(|r| Meaning { relation: Some((r, a)), ..plain }));
        meanings.push(plain);
        meanings.extend(related.filter(|_| bits < 4));
    }
    let mut found: Vec<Phrase> = Vec::new();
    for meaning in meanings {
        let Some(objects) = meaning.select(scene).filter(|o| !o.is_empty()) else { continue };
        let phrase = Phrase::new(scene, &meaning, objects);
        if !found.contains(&phrase) {
            found.push(phrase);
        }
    }
    // Plain phrases are the most usual ones, and they are few.
    rng.shuffle(&mut found);
    found.sort_by_key(|p| usize::from(p.relation.is_some()));
    let (plain, related) = found.split_at(found.iter().filter(|p| p.relation.is_none()).count());
    plain.iter().take(MOST - 2).chain(related.iter().take(2)).cloned().collect()
}

/// Attributes and name of a filter that has a shape.
fn words(filter: &Filter) -> (Vec<&'static str>, &'static str) {
    let attributes = [filter.colour.map(|c| c.name()), filter.texture.map(|t| t.name()), filter.size.map(|s| s.name())];
    (attributes.into_iter().flatten().collect(), filter.shape.map_or("shape", |s| s.name()))
}

/// Each attribute goes in front of what there is.
fn noun_phrase(filter: &Filter) -> String {
    let (attributes, name) = words(filter);
    attributes.iter().fold(name.to_owned(), |text, attribute| format!("{attribute} {text}"))
}

fn predicate(relation: Relation) -> &'static str {
    match relation {
        Relation::LeftOf => "left of",
        Relation::RightOf => "right of",
        Relation::Above => "above",
        Relation::Below => "below",
        Relation::Behind => "behind",
        Relation::InFrontOf => "in front of",
    }
}

impl Phrase {
    #[cfg(test)]
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    fn new(scene: &Scene, meaning: &Meaning, objects: Vec<usize>) -> Self {
        let (attributes, name) = words(&meaning.filter);
        let relation = meaning.relation.map(|(r, anchor)| (predicate(r), noun_phrase(&anchor)));
        let means = |m: Meaning| m.select(scene).as_ref() == Some(&objects);
        let bare = Filter { shape: meaning.filter.shape, ..Filter::default() };
        let kind = match () {
            () if means(Meaning { filter: bare, ..Meaning::default() }) => "name",
            () if means(Meaning { relation: None, ..*meaning }) => "attribute",
            () if means(Meaning { filter: bare, ..*meaning }) => "relation",
            () => "verbose",
        };
        let mut text = noun_phrase(&meaning.filter);
        if let Some((predicate, anchor)) = &relation {
            text = format!("{text} {predicate} {anchor}");
        }
        Self { text, objects, name, attributes, relation, kind }
    }
}

pub(super) fn image_name(index: usize) -> String {
    format!("{}.jpg", image_id(index))
}

fn part(index: usize, images: usize) -> &'static str {
    match split(index, images) {
        "testA" | "testB" => "test",
        // A fifth of the validation images, which `val` then lacks.
        "val" if index.is_multiple_of(5) => "miniv",
        other => other,
    }
}

pub(super) fn write_set(root: &Path, samples: &[Sample]) -> Result<Vec<(String, usize, usize)>, DataError> {
    let folder = root.join(folder_name(PHRASECUT));
    let n = samples.len();
    let images: Vec<_> = (samples.iter().enumerate())
        .map(|(i, p)| {
            let (width, height) = (p.scene.width, p.scene.height);
            json!({"image_id": image_id(i), "coco_id": null, "flickr_id": null, "width": width, "height": height, "url": "",
                "split": part(i, n)})
        })
        .collect();
    put(&folder, "image_data_split.json", &json!(images))?;
    let mut counts: [BTreeMap<&str, i64>; 3] = Default::default();
    let mut tasks: BTreeMap<&str, Vec<Value>> = SPLITS.map(|s| (s, Vec::new())).into();
    for (i, sample) in samples.iter().enumerate() {
        for phrase in &sample.phrases {
            *counts[0].entry(phrase.name).or_default() += 1;
            phrase.attributes.iter().for_each(|a| *counts[1].entry(a).or_default() += 1);
            phrase.relation.iter().for_each(|r| *counts[2].entry(r.0).or_default() += 1);
            tasks.entry(part(i, n)).or_default().push(task(i, &sample.scene, phrase));
        }
    }
    let [cat, att, rel] = counts.map(|counts| {
        let mut list: Vec<_> = counts.into_iter().collect();
        list.sort_by_key(|(word, count)| (-count, *word));
        list
    });
    put(&folder, "name_att_rel_count.json", &json!({"cat": cat, "att": att, "rel": rel}))?;
    for (split, tasks) in &tasks {
        put(&folder, &format!("refer_{split}.json"), &json!(tasks))?;
    }
    let total = tasks.values().map(Vec::len).sum();
    Ok(vec![(PHRASECUT.to_owned(), total, total)])
}

fn put(folder: &Path, name: &str, value: &Value) -> Result<(), DataError> {
    write(&folder.join(name), value.to_string().as_bytes())
}

fn task(image: usize, scene: &Scene, phrase: &Phrase) -> Value {
    let objects = || phrase.objects.iter().map(|&o| &scene.objects[o]);
    let ids: Vec<i64> = phrase.objects.iter().map(|&o| ann_id(image, o)).collect();
    let name = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join("_");
    json!({
        "task_id": format!("{}__{name}", image_id(image)),
        "image_id": image_id(image),
        "ann_ids": ids,
        "instance_boxes": objects().map(|o| o.mask.bbox()).collect::<Vec<_>>(),
        "Polygons": objects().map(polygons).collect::<Vec<_>>(),
        "phrase": phrase.text,
        "phrase_structure": {
            "name": phrase.name,
            "attributes": phrase.attributes,
            "relation_ids": [],
            "relation_descriptions": phrase.relation.iter().collect::<Vec<_>>(),
            "type": phrase.kind,
        },
    })
}

/// An outline where it says everything; rectangles where an object is partly hidden or has a hole, for the set knows
/// unions only.
fn polygons(object: &Object) -> Vec<Vec<[f64; 2]>> {
    match &object.outlines[..] {
        [outline] if object.whole => vec![outline.chunks_exact(2).map(|p| [p[0], p[1]]).collect()],
        _ => rectangles(&object.mask),
    }
}

/// Rectangles that together are the mask: runs of rows, joined where the next row has the same run.
pub(super) fn rectangles(mask: &Rle) -> Vec<Vec<[f64; 2]>> {
    let (mut done, mut open) = (Vec::new(), Vec::<([usize; 2], usize)>::new());
    let pixels = mask.to_row_major();
    for (y, row) in pixels.chunks(mask.width() as usize).chain([&[][..]]).enumerate() {
        let mut runs = Vec::new();
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run[0] != 0 {
                runs.push([x, x + run.len() - 1]);
            }
            x += run.len();
        }
        open.retain(|&(run, top)| {
            let goes_on = runs.contains(&run);
            if !goes_on {
                done.push((run, top, y - 1));
            }
            goes_on
        });
        let fresh: Vec<_> = runs.into_iter().filter(|r| open.iter().all(|o| o.0 != *r)).map(|r| (r, y)).collect();
        open.extend(fresh);
    }
    let corners = |([a, b], top, bottom): ([usize; 2], usize, usize)| {
        [[a, top], [b, top], [b, bottom], [a, bottom]].map(|[x, y]| [x as f64, y as f64]).into()
    };
    done.into_iter().map(corners).collect()
}
