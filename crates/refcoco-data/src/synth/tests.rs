//! Every sentence is read again by a parser that knows nothing of how it was made.

use std::collections::BTreeMap;

use super::scene::{Object, Scene};
use super::{Sample, SynthConfig, SynthFormat, generate, phrasecut, sample};
use coco_mask::{Merge, Rle, intersection_union, merge};

use crate::{Dataset, DatasetSpec, SentenceKind};

/// Words of a noun phrase, as sets of accepted names.
#[derive(Default, Debug)]
struct Words {
    size: Option<&'static str>,
    texture: Option<&'static str>,
    colour: Option<String>,
    shape: Option<&'static str>,
    most: Option<(usize, f64)>,
    sides: Vec<(usize, f64)>,
    middle: bool,
}

const SHAPES: [&str; 8] = ["circle", "square", "triangle", "star", "ring", "cross", "hexagon", "heart"];
const COLOURS: [&str; 8] = ["red", "orange", "yellow", "green", "blue", "purple", "white", "black"];
const RELATIONS: [(&str, &str); 10] = [
    (" to the left of ", "left"),
    (" left of ", "left"),
    (" to the right of ", "right"),
    (" right of ", "right"),
    (" above ", "above"),
    (" below ", "below"),
    (" under ", "below"),
    (" behind ", "behind"),
    (" partly hidden by ", "behind"),
    (" in front of ", "front"),
];

fn words(text: &str) -> Words {
    let mut out = Words::default();
    let text = text
        .replace("furthest to the left", "leftmost")
        .replace("furthest to the right", "rightmost")
        .replace("closest to the top", "topmost")
        .replace("closest to the bottom", "bottommost");
    for word in text.split(' ') {
        let singular = word.strip_suffix("es").filter(|w| *w == "cross").or(word.strip_suffix('s')).unwrap_or(word);
        match word {
            "small" | "little" => out.size = Some("small"),
            "big" | "large" => out.size = Some("big"),
            "plain" => out.texture = Some("plain"),
            "striped" => out.texture = Some("striped"),
            "dotted" | "spotted" => out.texture = Some("dotted"),
            "checkered" => out.texture = Some("checkered"),
            "ring" | "rings" | "donut" => out.shape = Some("ring"),
            "left" => out.sides.push((0, -1.0)),
            "right" => out.sides.push((0, 1.0)),
            "top" | "upper" => out.sides.push((1, -1.0)),
            "bottom" | "lower" => out.sides.push((1, 1.0)),
            "leftmost" => out.most = Some((0, -1.0)),
            "rightmost" => out.most = Some((0, 1.0)),
            "topmost" | "highest" => out.most = Some((1, -1.0)),
            "bottommost" | "lowest" => out.most = Some((1, 1.0)),
            "middle" | "center" | "central" => out.middle = true,
            "cross" | "crosses" => out.shape = Some("cross"),
            w if COLOURS.contains(&w) => out.colour = Some(w.to_owned()),
            _ if SHAPES.contains(&singular) => {
                out.shape = SHAPES.into_iter().find(|s| *s == singular);
            }
            "a" | "an" | "the" | "that" | "which" | "is" | "and" | "on" | "in" | "at" | "of" | "side" | "corner" | "picture"
            | "image" | "this" | "can" | "be" | "seen" | "here" | "one" | "thing" | "shape" | "object" | "shapes" | "things"
            | "objects" | "all" | "both" | "two" | "three" => {}
            other => panic!("the parser does not know \"{other}\" in \"{text}\""),
        }
    }
    out
}

fn fits(w: &Words, o: &Object) -> bool {
    w.size.is_none_or(|v| v == o.size.name())
        && w.texture.is_none_or(|v| v == o.texture.name())
        && w.colour.as_ref().is_none_or(|v| v == o.colour.name())
        && w.shape.is_none_or(|v| v == o.shape.name())
}

/// Crisp reading: halves meet in the middle, no margins.
fn find(scene: &Scene, text: &str) -> Vec<usize> {
    let w = words(text);
    let at = |i: usize, axis: usize| {
        let (x, y) = scene.objects[i].centre;
        if axis == 0 { x / f64::from(scene.width) - 0.5 } else { y / f64::from(scene.height) - 0.5 }
    };
    let mut found: Vec<usize> = (0..scene.objects.len()).filter(|&i| fits(&w, &scene.objects[i])).collect();
    if let Some((axis, sign)) = w.most {
        found.sort_by(|&a, &b| (sign * at(b, axis)).total_cmp(&(sign * at(a, axis))));
        found.truncate(1);
    }
    found.retain(|&i| w.sides.iter().all(|&(axis, sign)| sign * at(i, axis) > 0.0));
    found.retain(|&i| !w.middle || (at(i, 0).abs() < 0.19 && at(i, 1).abs() < 0.19));
    found
}

fn read(scene: &Scene, text: &str) -> Vec<usize> {
    let padded = format!(" {text} ");
    let Some((phrase, name)) = RELATIONS.into_iter().find(|(phrase, _)| padded.contains(phrase)) else {
        // "the red circle and the star" is two; "red and striped" is one.
        if let Some((a, b)) = text.split_once(" and the ") {
            let mut both = [find(scene, a), find(scene, b)].concat();
            assert_eq!(both.len(), 2, "{text}");
            both.sort_unstable();
            return both;
        }
        return find(scene, text);
    };
    let (subject, anchor) = padded.split_once(phrase).unwrap();
    let anchors = find(scene, anchor.trim());
    let [a] = anchors[..] else { panic!("\"{text}\" leans on {anchors:?}") };
    let (ax, ay) = scene.objects[a].centre;
    let mut found = find(scene, subject.trim());
    found.retain(|&i| {
        let (x, y) = scene.objects[i].centre;
        let (dx, dy) = (ax - x, ay - y);
        i != a
            && match name {
                "left" => dx > 0.0 && dx > dy.abs(),
                "right" => -dx > dy.abs(),
                "above" => dy > dx.abs(),
                "below" => -dy > dx.abs(),
                "behind" => scene.hidden[i][a] > 0.02,
                _ => scene.hidden[a][i] > 0.02,
            }
    });
    found
}

fn samples(seeds: u64, images: usize) -> Vec<Sample> {
    (0..seeds)
        .flat_map(|seed| (0..images).map(move |i| (seed, i)))
        .map(|(seed, i)| sample(&SynthConfig { seed, images, size: 96, ..SynthConfig::default() }, i).unwrap())
        .collect()
}

#[test]
fn every_sentence_means_its_referent_and_nothing_else() {
    let (mut sentences, mut groups, mut none) = (0, 0, 0);
    for p in samples(20, 60) {
        for target in p.refcoco.iter().chain(&p.plus).chain(&p.long).chain(&p.general) {
            for said in &target.said {
                assert_eq!(read(&p.scene, &said.text), target.objects, "\"{}\"", said.text);
                sentences += 1;
                groups += usize::from(target.objects.len() > 1);
                none += usize::from(target.objects.is_empty());
            }
        }
    }
    assert!(sentences > 20_000 && groups > 500 && none > 300, "{sentences} {groups} {none}");
}

/// In the multi-task set the bare name of several means the one in the middle; every other sentence means what it meant.
#[test]
fn a_bare_name_of_several_means_the_central_one() {
    let cfg = SynthConfig { images: 300, size: 96, format: SynthFormat::Multitask, ..SynthConfig::default() };
    let (mut bare, mut others) = (0, 0);
    for i in 0..cfg.images {
        let p = sample(&cfg, i).unwrap();
        let plain = sample(&SynthConfig { format: SynthFormat::Refcoco, ..cfg.clone() }, i).unwrap();
        let count = |targets: &[super::Target]| targets.iter().map(|t| t.said.len()).sum::<usize>();
        let before = bare;
        for target in &p.refcoco {
            for said in &target.said {
                let found = read(&p.scene, &said.text);
                if found.len() == 1 {
                    assert_eq!(found, target.objects, "\"{}\"", said.text);
                    others += 1;
                    continue;
                }
                let shape = words(&said.text).shape.unwrap();
                assert_eq!(found, words_of(&p.scene, shape), "\"{}\" says more than a name", said.text);
                let off = |i: &usize| {
                    let o = &p.scene.objects[*i].centre;
                    (o.0 / f64::from(p.scene.width) - 0.5).hypot(o.1 / f64::from(p.scene.height) - 0.5)
                };
                let nearest = found.iter().min_by(|a, b| off(a).total_cmp(&off(b))).unwrap();
                assert_eq!(target.objects, [*nearest], "\"{}\"", said.text);
                bare += 1;
            }
        }
        assert_eq!(count(&p.refcoco) - (bare - before), count(&plain.refcoco));
    }
    assert!(bare > 60 && others > 1000, "{bare} {others}");
}

fn words_of(scene: &Scene, shape: &str) -> Vec<usize> {
    (0..scene.objects.len()).filter(|&i| scene.objects[i].shape.name() == shape).collect()
}

#[test]
fn sets_differ_as_their_models_do() {
    let place = ["left", "right", "top", "bottom", "middle", "center", "above", "below"];
    let (mut short, mut long) = ((0, 0), (0, 0));
    for p in samples(4, 60) {
        for said in p.plus.iter().flat_map(|t| &t.said) {
            assert!(place.iter().all(|w| !said.text.contains(w)), "\"{}\"", said.text);
        }
        let count = |targets: &[super::Target], sum: &mut (usize, usize)| {
            for said in targets.iter().flat_map(|t| &t.said) {
                *sum = (sum.0 + said.text.split(' ').count(), sum.1 + 1);
            }
        };
        count(&p.refcoco, &mut short);
        count(&p.long, &mut long);
    }
    let mean = |(words, n): (usize, usize)| words as f64 / n as f64;
    assert!(mean(long) > mean(short) * 1.4, "{} {}", mean(long), mean(short));
}

#[test]
fn objects_are_visible_and_several() {
    for p in samples(4, 60) {
        let s = &p.scene;
        assert!((2..=5).contains(&s.objects.len()));
        for (i, o) in s.objects.iter().enumerate() {
            let hidden: f64 = s.hidden[i].iter().sum();
            assert!(hidden < 0.8 && o.mask.area() > 40, "{i} {hidden}");
            assert_eq!(o.whole, hidden == 0.0);
        }
    }
}

pub(super) fn files(root: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                out.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    out
}

#[test]
fn same_seed_same_bytes_on_any_number_of_threads() {
    let temp = tempfile::tempdir().unwrap();
    let cfg = SynthConfig { images: 12, size: 64, seed: 5, ..SynthConfig::default() };
    let made = |name: &str, cfg: &SynthConfig, threads: usize| {
        let out = temp.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generate(cfg, &out)).unwrap();
        files(&out)
    };
    let (a, b) = (made("a", &cfg, 1), made("b", &cfg, 3));
    // Images, instances, references, and the note of how they were made.
    assert_eq!(a.len(), 12 + 4 + 5 + 1);
    assert!(a == b);
    let c = made("c", &SynthConfig { seed: 6, ..cfg.clone() }, 2);
    for (name, bytes) in &a {
        assert!(c[name] != *bytes, "{name} does not depend on the seed");
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 3, "nothing half-written stays");
    assert!(generate(&cfg, &temp.path().join("a")).unwrap_err().to_string().contains("not an empty folder"));
    let bad = generate(&SynthConfig { size: 3, ..cfg }, &temp.path().join("d")).unwrap_err();
    assert!(bad.to_string().contains("`size` is 3"), "{bad}");
    assert!(!temp.path().join("d").exists());
}

#[test]
fn reads_back_and_has_a_fair_share_of_each_kind() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("set");
    generate(&SynthConfig { images: 400, size: 64, seed: 1, ..SynthConfig::default() }, &out).unwrap();
    let report = crate::verify_deep(&out).unwrap();
    assert!(report.is_ok() && report.warnings.is_empty(), "{report}");
    for (name, by, splits) in [
        ("refcoco", "unc", &["train", "val", "testA", "testB"][..]),
        ("refcoco+", "unc", &["train", "val", "testA", "testB"]),
        ("refcocog", "umd", &["train", "val", "test"]),
        ("refcocog", "google", &["train", "val"]),
        ("grefcoco", "unc", &["train", "val", "testA", "testB"]),
    ] {
        let spec = DatasetSpec { root: out.clone(), name: name.into(), split_by: by.into() };
        for split in splits {
            let set = Dataset::open(&spec, split).unwrap();
            assert!(set.referents.len() > 20, "{name} {by} {split}");
        }
    }
    let val = Dataset::open(&DatasetSpec::new(&out, "refcoco"), "val").unwrap();
    let mut kinds: BTreeMap<SentenceKind, usize> = BTreeMap::new();
    for s in val.referents.iter().flat_map(|r| &r.sentences) {
        *kinds.entry(s.kind.unwrap()).or_default() += 1;
    }
    let per_referent = val.sentences() as f64 / val.referents.len() as f64;
    assert!((2.5..3.5).contains(&per_referent), "{per_referent}");
    for kind in [SentenceKind::Colour, SentenceKind::Shape, SentenceKind::Place, SentenceKind::Relation] {
        let share = kinds[&kind] as f64 / val.sentences() as f64;
        assert!(share >= 0.12, "{kind}: {share:.3} of {kinds:?}");
    }
}

#[test]
fn every_phrase_means_its_objects_and_nothing_else() {
    let mut seen: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for p in samples(4, 60) {
        for phrase in &p.phrases {
            assert_eq!(read(&p.scene, &phrase.text), phrase.objects, "\"{}\"", phrase.text);
            *seen.entry((phrase.kind(), phrase.objects.len() > 1)).or_default() += 1;
        }
    }
    for kind in ["name", "attribute", "relation", "verbose"] {
        assert!(seen.get(&(kind, false)).is_some_and(|n| *n > 5), "{seen:?}");
    }
    assert!(seen[&("name", true)] > 10 && seen[&("attribute", true)] > 10, "{seen:?}");
}

#[test]
fn rectangles_are_the_mask() {
    let grid = [1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1];
    let mask = Rle::from_row_major(3, 4, &grid).unwrap();
    let mut image = pil_ops::Image::new(4, 3, 1, vec![0; 12]).unwrap();
    for r in phrasecut::rectangles(&mask) {
        let points: Vec<(i32, i32)> = r.iter().map(|p| (p[0] as i32, p[1] as i32)).collect();
        pil_ops::fill_polygon(&mut image, &points, 1).unwrap();
    }
    assert_eq!(image.data(), grid);
}

#[test]
fn a_phrasecut_set_reads_back() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("set");
    let cfg = SynthConfig { images: 60, size: 96, seed: 2, format: SynthFormat::Phrasecut, ..SynthConfig::default() };
    let summary = generate(&cfg, &out).unwrap();
    let report = crate::verify_deep(&out).unwrap();
    assert!(report.is_ok() && report.warnings.is_empty(), "{report}");
    let found: Vec<_> = report.splits.iter().map(|s| (s.split.as_str(), s.images)).collect();
    assert_eq!(found, [("train", 43), ("val", 6), ("miniv", 1), ("test", 10)]);
    let spec = DatasetSpec::new(&out, "phrasecut");
    let open = |split: &str| Dataset::open(&spec, split).unwrap();
    assert_eq!(open("train_val_test_miniv").referents.len(), summary.sets[0].1);
    assert_eq!(open("val_miniv").images.len(), 7);
    let test = open("test");
    let groups = |name: &str| test.referents.iter().filter(|r| r.groups.contains(&name)).count();
    for name in ["i_single", "i_multi", "p_name", "p_att", "p_rel", "s_small", "s_mid", "d_notcocotv", "c20", "a20"] {
        assert!(groups(name) > 0, "{name}");
    }
    assert_eq!(groups("i_single") + groups("i_multi") + groups("i_many"), test.referents.len());
    let mut exact = 0;
    for referent in &test.referents {
        let id = test.images[referent.image].id as usize;
        let scene = sample(&cfg, id - 1).unwrap().scene;
        let objects = read(&scene, &referent.sentences[0].text);
        let masks: Vec<Rle> = objects.iter().map(|&o| scene.objects[o].mask.clone()).collect();
        let (i, u) = intersection_union(&merge(&masks, Merge::Union).unwrap(), &referent.mask).unwrap();
        // Pillow draws the outline's pixels, too, so a polygon comes out larger than its mask.
        assert!(i as f64 / u as f64 > 0.75, "{i} of {u}");
        assert_eq!(referent.ann_ids.len(), objects.len());
        exact += usize::from(objects.iter().all(|&o| !scene.objects[o].whole && i == u));
    }
    assert!(exact > 0);
}

/// Every class of every image of a set, by the image's place among the scenes: the number at the end of its name.
fn classes(root: &std::path::Path, set: &str, split: &str) -> BTreeMap<(usize, String), Rle> {
    let set = Dataset::open(&DatasetSpec::new(root, set), split).unwrap();
    let items = crate::sequential(&set, None).unwrap();
    let masks = set.masks(&items).unwrap();
    let number =
        |name: &str| -> usize { name.split(|c: char| !c.is_ascii_digit()).rfind(|n| !n.is_empty()).unwrap().parse().unwrap() };
    let key = |item| (number(&set.image(item).file_name) - 1, set.text(item).into_owned());
    items.iter().map(key).zip(masks).collect()
}

#[test]
fn a_multitask_set_reads_back_as_its_scenes() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("set");
    let cfg = SynthConfig { images: 40, size: 64, seed: 4, format: SynthFormat::Multitask, ..SynthConfig::default() };
    let summary = generate(&cfg, &out).unwrap();
    let report = crate::verify_deep(&out).unwrap();
    assert!(report.is_ok() && report.warnings.is_empty(), "{report}");
    let names: Vec<_> = summary.sets.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(names[4..], ["ade20k", "mapillary", "humanparsing", "partimagenet", "pascal_part", "objects365"]);
    for (name, classes, _) in &summary.sets[4..] {
        let counted: u64 = report.splits.iter().filter(|s| s.set == *name).map(|s| s.refs).sum();
        assert_eq!(counted as usize, *classes, "{name}");
    }
    let scenes: Vec<Scene> = (0..40).map(|i| sample(&cfg, i).unwrap().scene).collect();
    let of = |scene: &Scene, accepts: &dyn Fn(&Object) -> bool| -> Option<Rle> {
        let masks: Vec<Rle> = scene.objects.iter().filter(|o| accepts(o)).map(|o| o.mask.clone()).collect();
        (!masks.is_empty()).then(|| merge(&masks, Merge::Union).unwrap())
    };
    let (mut left_arms, mut single) = (0, 0);
    for (split, images) in [("train", 0..29), ("val", 29..34)] {
        let (semantic, street) = (classes(&out, "ade20k", split), classes(&out, "mapillary", split));
        let (parts, sides) = (classes(&out, "partimagenet", split), classes(&out, "pascal_part", split));
        assert_eq!(semantic.keys().map(|k| k.0).collect::<std::collections::BTreeSet<_>>(), images.clone().collect(), "{split}");
        let train = split == "train";
        let [people, once] =
            ["humanparsing", "objects365"].map(|set| if train { classes(&out, set, split) } else { BTreeMap::new() });
        for (i, scene) in images.map(|i| (i, &scenes[i])) {
            for shape in super::scene::Shape::ALL {
                let name = shape.name();
                let wanted = of(scene, &|o| o.shape == *shape);
                assert_eq!(semantic.get(&(i, name.to_owned())), wanted.as_ref(), "{split} {i} {name}");
                assert_eq!(street.get(&(i, name.to_owned())), wanted.as_ref());
                for (set, halves) in [(&parts, ["top", "bottom"]), (&sides, ["left", "right"])] {
                    let found: Vec<Rle> = halves.iter().filter_map(|h| set.get(&(i, format!("{name} {h}"))).cloned()).collect();
                    assert_eq!((!found.is_empty()).then(|| merge(&found, Merge::Union).unwrap()), wanted, "{i} {name}");
                }
                let count = scene.objects.iter().filter(|o| o.shape == *shape).count();
                assert_eq!(once.get(&(i, name.to_owned())), wanted.as_ref().filter(|_| train && count == 1), "{i} {name}");
                single += usize::from(train && count == 1);
            }
            let middle = f64::from(scene.width) / 2.0;
            let arms = of(scene, &|o| o.shape == super::scene::Shape::Cross && o.centre.0 < middle);
            assert_eq!(people.get(&(i, "left arm".to_owned())), arms.as_ref().filter(|_| train));
            left_arms += usize::from(arms.is_some());
        }
        let ground = "unlabeled".to_owned();
        assert!(street.iter().filter(|(k, _)| k.1 == ground).all(|((i, _), mask)| {
            let all = of(&scenes[*i], &|_| true).unwrap();
            intersection_union(&all, mask).unwrap() == (0, u64::from(mask.width() * mask.height()))
        }));
    }
    assert!(left_arms > 0 && single > 10, "{left_arms} {single}");
    // What is held out of one set is trained on in none.
    let train = |set: &str| Dataset::open(&DatasetSpec::new(&out, set), "train").unwrap().images.len();
    assert_eq!(["refcoco", "ade20k", "humanparsing"].map(train), [29; 3]);
    assert!((10..29).contains(&train("objects365")), "images whose shapes all occur again are not in it");
}

#[test]
fn every_layout_can_be_written_alone() {
    let temp = tempfile::tempdir().unwrap();
    let formats = [
        SynthFormat::Ade20k,
        SynthFormat::Mapillary,
        SynthFormat::Humanparsing,
        SynthFormat::Partimagenet,
        SynthFormat::PascalPart,
        SynthFormat::Objects365,
    ];
    for (i, format) in formats.into_iter().enumerate() {
        let out = temp.path().join(i.to_string());
        let summary = generate(&SynthConfig { images: 8, size: 48, format, ..SynthConfig::default() }, &out).unwrap();
        let report = crate::verify_deep(&out).unwrap();
        assert!(report.is_ok() && summary.sets.len() == 1, "{report}");
        assert_eq!(crate::generated_by(&out).unwrap().unwrap().format, format);
    }
}
