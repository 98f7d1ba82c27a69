//! Results in every form, of the right and of another set, whole and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use coco_mask::Rle;
use refcoco_data::{Dataset, DatasetSpec, SynthConfig, generate};
use referee::{Format, Joined, Protocol, RefereeError, Results, Score, Split, score, tables};
use serde_json::{Value, json};

struct Set {
    _folder: tempfile::TempDir,
    root: PathBuf,
    split: Split,
}

fn set(name: &str, split: &str) -> Set {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    generate(&SynthConfig { images: 24, size: 64, seed: 5, ..SynthConfig::default() }, &root).unwrap();
    let split = Split::new(&Dataset::open(&DatasetSpec::new(&root, name), split).unwrap());
    Set { _folder: folder, root, split }
}

/// A mask that is right but for its first row.
fn answer(split: &Split, expression: usize) -> Rle {
    let truth = split.truth(expression).union();
    let mut bytes = truth.to_row_major();
    bytes[..truth.width() as usize].fill(1);
    Rle::from_row_major(truth.height(), truth.width(), &bytes).unwrap()
}

fn coco(mask: &Rle) -> Value {
    json!({"size": [mask.height(), mask.width()], "counts": mask.to_compressed()})
}

fn judged(split: &Split, path: &Path) -> Result<(Vec<Score>, Vec<String>), RefereeError> {
    let results = Results::open(path, false)?;
    let joined = Joined::new(split, &results)?;
    let scores = score(split, &results, &joined, &Protocol::all(), |_| {})?;
    Ok((scores, joined.notes(split, &results, 3)))
}

fn write(set: &Set, name: &str, value: &Value) -> PathBuf {
    let path = set.root.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

fn figures(scores: &[Score]) -> Vec<(f64, f64)> {
    scores.iter().map(|s| s.outcome.as_ref().unwrap()).map(|r| (r.oiou, r.miou)).collect()
}

fn png(path: &Path, mask: &Rle, on: u8) {
    let bytes = mask.to_row_major().into_iter().map(|b| b * on).collect();
    image::GrayImage::from_raw(mask.width(), mask.height(), bytes).unwrap().save(path).unwrap();
}

#[test]
fn every_form_gives_the_same_figures() {
    let set = set("refcoco", "val");
    let split = &set.split;
    let count = split.expressions.len();
    let list = |record: &dyn Fn(usize) -> Value| Value::from((0..count).map(record).collect::<Vec<_>>());
    let by_sentence = list(&|i| json!({"sent_id": split.expressions[i].sent_id, "segmentation": coco(&answer(split, i))}));
    let (scores, notes) = judged(split, &write(&set, "a.json", &by_sentence)).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let want = figures(&scores);
    assert!(want.iter().all(|(oiou, miou)| *oiou > 0.3 && *oiou < 1.0 && *miou < 1.0), "{want:?}");

    let same = |path: &Path, what: &str| {
        let (scores, notes) = judged(split, path).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(figures(&scores), want, "{what}");
        assert!(notes.is_empty(), "{what}: {notes:?}");
    };
    // Runs that are not compressed; ids as text; a referent and its sentence; an image and its sentence; an annotation.
    let e = |i: usize| &split.expressions[i];
    let plain =
        |i: usize| json!({"size": [answer(split, i).height(), answer(split, i).width()], "counts": answer(split, i).counts()});
    same(&write(&set, "b.json", &list(&|i| json!({"sent_id": e(i).sent_id.to_string(), "mask": plain(i)}))), "plain runs");
    let by_ref = list(&|i| json!({"ref_id": e(i).ref_id, "sent": e(i).raw, "segmentation": [coco(&answer(split, i))]}));
    same(&write(&set, "c.json", &json!({"annotations": by_ref})), "referent");
    let by_ann = list(&|i| json!({"ann_id": e(i).ann_ids[0], "text": e(i).sentence, "rle": coco(&answer(split, i))}));
    same(&write(&set, "d.json", &json!({"results": by_ann})), "annotation");
    let by_image = list(
        &|i| json!({"image_id": e(i).image_id, "sentence": e(i).sentence.to_uppercase(), "segmentation": coco(&answer(split, i))}),
    );
    same(&write(&set, "e.json", &by_image), "image and sentence");

    // ReLA's fields.
    let rela = list(
        &|i| json!({"img_id": e(i).image_id, "sent": e(i).sentence, "pred_mask": coco(&answer(split, i)), "pred_nt": false}),
    );
    same(&write(&set, "rela.json", &rela), "ReLA");

    // JSONL with paths of images.
    let folder = set.root.join("masks");
    std::fs::create_dir(&folder).unwrap();
    let mut lines = String::new();
    for i in 0..count {
        png(&folder.join(format!("{}.png", e(i).sent_id)), &answer(split, i), 255);
        let image = format!("some/where/{}", split.images[e(i).image]);
        lines += &(json!({"image": image, "sentence": e(i).sentence, "mask": format!("masks/{}.png", e(i).sent_id)}).to_string()
            + "\n\n");
    }
    std::fs::write(set.root.join("f.jsonl"), lines).unwrap();
    same(&set.root.join("f.jsonl"), "JSONL");
    same(&folder, "folder by sentences");

    let folder = set.root.join("by-referent");
    std::fs::create_dir(&folder).unwrap();
    (0..count).for_each(|i| png(&folder.join(format!("{}_{}.png", e(i).ref_id, e(i).nth)), &answer(split, i), 1));
    same(&folder, "folder by referents");

    // LISA: an image's expressions in the order of the set; and EVF-SAM's order with lists.
    let folder = set.root.join("lisa");
    std::fs::create_dir(&folder).unwrap();
    let mut seen = std::collections::HashMap::new();
    let mut images: Vec<Value> = Vec::new();
    for i in 0..count {
        let n = seen.entry(e(i).image_id).or_insert(0);
        let stem = split.images[e(i).image].trim_end_matches(".jpg");
        png(&folder.join(format!("{stem}_mask_{n}.png")), &answer(split, i), 100);
        if *n == 0 {
            images.push(json!({"image": split.images[e(i).image], "masks": [], "sentences": []}));
        }
        let at = images.iter().position(|r| r["image"] == split.images[e(i).image]).unwrap();
        images[at]["masks"].as_array_mut().unwrap().push(coco(&answer(split, i)));
        images[at]["sentences"].as_array_mut().unwrap().push(json!(e(i).sentence));
        *n += 1;
    }
    same(&folder, "LISA");
    same(&write(&set, "evf.json", &Value::from(images.clone())), "EVF-SAM with sentences");
    images.iter_mut().for_each(|r| drop(r.as_object_mut().unwrap().remove("sentences")));
    same(&write(&set, "evf-bare.json", &Value::from(images)), "EVF-SAM by order");

    let table = tables::side_by_side(&scores);
    let text = table.render(Format::Text);
    assert!(Protocol::all().iter().all(|p| text.contains(p.name)) && text.contains("+0.00"), "{text}");
}

#[test]
fn polygons_and_one_answer_per_referent() {
    let set = set("refcoco", "val");
    let split = &set.split;
    let mut done = std::collections::BTreeSet::new();
    let records: Vec<Value> = (0..split.expressions.len())
        .filter(|i| done.insert(split.expressions[*i].ref_id))
        .map(|i| {
            let [x, y, w, h] = split.truth(i).union().bbox();
            json!({"ref_id": split.expressions[i].ref_id, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})
        })
        .collect();
    let (scores, notes) = judged(split, &write(&set, "boxes.json", &Value::from(records))).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let report = scores[0].outcome.as_ref().unwrap();
    assert_eq!(report.samples as usize, split.expressions.len());
    assert!(report.miou > 0.5 && report.miou < 1.0, "{}", report.miou);
}

#[test]
fn missing_doubled_and_unknown_are_named() {
    let set = set("refcoco", "val");
    let split = &set.split;
    let record = |i: usize| json!({"sent_id": split.expressions[i].sent_id, "segmentation": coco(split.truth(i).union())});
    let mut records: Vec<Value> = (1..split.expressions.len()).map(record).collect();
    records.push(record(3));
    records.push(json!({"sent_id": 999_999, "segmentation": null}));
    let (scores, notes) = judged(split, &write(&set, "r.json", &Value::from(records))).unwrap();
    assert_eq!(notes.len(), 3, "{notes:?}");
    let first = &split.expressions[0];
    assert!(
        notes[0].contains("without a result, which count as missed: 1: ") && notes[0].contains(&first.sentence),
        "{}",
        notes[0]
    );
    assert!(notes[1].contains(&format!("results[{}]", split.expressions.len() - 1)), "{}", notes[1]);
    assert!(notes[2].contains("sent_id 999999"), "{}", notes[2]);
    let count = split.expressions.len() as f64;
    // ReLA draws the truth anew at 480 x 480, so that masks of the image's size are never quite right.
    for score in scores.iter().filter(|s| s.protocol.name != "rela") {
        let report = score.outcome.as_ref().unwrap();
        assert!((report.miou - (count - 1.0) / count).abs() < 1e-4, "{}: {}", report.profile, report.miou);
        assert!(report.oiou < 1.0, "{}", report.profile);
    }
}

#[test]
fn results_of_another_set_are_refused() {
    let set = set("refcoco", "val");
    let of = |name: &str, split: &str| Split::new(&Dataset::open(&DatasetSpec::new(&set.root, name), split).unwrap());
    let dump = |other: &Split| {
        let record = |i: usize| {
            let e = &other.expressions[i];
            json!({"sent_id": e.sent_id, "image_id": e.image_id, "sentence": e.sentence, "segmentation": coco(other.truth(i).union())})
        };
        write(&set, "other.json", &Value::from((0..other.expressions.len()).map(record).collect::<Vec<_>>()))
    };
    assert!(judged(&set.split, &dump(&set.split)).is_ok());
    // The sets share images and numbers, not sentences.
    for (name, split) in [("refcoco", "testA"), ("refcoco+", "val"), ("refcocog", "val")] {
        let said = judged(&set.split, &dump(&of(name, split))).unwrap_err().to_string();
        assert!(
            said.contains("refcoco (unc) val") && said.contains("another set") && said.contains("results["),
            "{name}: {said}"
        );
    }
}

#[test]
fn damaged_results_are_named() {
    let set = set("refcoco", "val");
    let id = set.split.expressions[0].sent_id;
    let says = |name: &str, content: &str, words: &[&str]| {
        let path = set.root.join(name);
        std::fs::write(&path, content).unwrap();
        let said = judged(&set.split, &path).unwrap_err().to_string();
        for word in words.iter().chain(&[name]) {
            assert!(said.contains(word), "`{word}` is missing in: {said}");
        }
    };
    says("cut.json", r#"[{"sent_id": 1, "segmentation": {"size": [2"#, &["cut short", "line 1"]);
    says("cut.jsonl", "{\"sent_id\": 1, \"mask\": null}\n{\"sent_id\": 2, \"ma", &["line 2", "cut short"]);
    says("empty.json", " ", &["empty"]);
    says("none.json", "[]", &["no result"]);
    says("text.json", "oIoU 70", &["neither JSON nor JSONL"]);
    says("nan.json", r#"[{"sent_id": 1, "score": NaN}]"#, &["no JSON", "NaN"]);
    says("torch.pth", "PK\x03\x04abc", &["torch", "JSON"]);
    says("bare.json", r#"[{"sent_id": 1}]"#, &["results[0]", "no mask", "segmentation"]);
    says(
        "runs.json",
        r#"[{"sent_id": 1, "segmentation": {"size": [2, 2], "counts": "0"}}]"#,
        &["results[0].segmentation", "add up"],
    );
    says("lists.json", r#"[{"image_id": 1, "masks": [null], "sentences": ["a", "b"]}]"#, &["1 masks for 2 sentences"]);
    says("path.json", &json!([{"sent_id": id, "mask": "gone.png"}]).to_string(), &["results[0]", "gone.png"]);
    says("keys.json", r#"[{"segmentation": null}, {"segmentation": null}]"#, &["names no expression", "sent_id"]);

    let folder = set.root.join("vis");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("COCO_1_vis.png"), "x").unwrap();
    assert!(judged(&set.split, &folder).unwrap_err().to_string().contains("overlays"));
    std::fs::write(folder.join("7.jpg"), "x").unwrap();
    assert!(judged(&set.split, &folder).unwrap_err().to_string().contains("7.jpg"));
    assert!(judged(&set.split, &set.root.join("nowhere")).unwrap_err().to_string().contains("nowhere"));
}

/// A file of all splits answers each of them.
#[test]
fn a_file_of_several_splits_is_taken() {
    let set = set("refcoco", "val");
    let mut records = Vec::new();
    for split in ["train", "val", "testA"] {
        let split = Split::new(&Dataset::open(&DatasetSpec::new(&set.root, "refcoco"), split).unwrap());
        records.extend(
            (0..split.expressions.len())
                .map(|i| json!({"sent_id": split.expressions[i].sent_id, "segmentation": coco(split.truth(i).union())})),
        );
    }
    let (scores, notes) = judged(&set.split, &write(&set, "all.json", &Value::from(records))).unwrap();
    assert_eq!(scores[0].outcome.as_ref().unwrap().miou, 1.0);
    assert!(notes.len() == 1 && notes[0].contains("of no expression"), "{notes:?}");
}

/// LISA's scripts write 0 and 100 as JPEG.
#[test]
fn masks_that_a_jpeg_blurred_are_read() {
    let set = set("refcoco", "val");
    let split = &set.split;
    let folder = set.root.join("lisa");
    std::fs::create_dir(&folder).unwrap();
    let mut seen = std::collections::HashMap::new();
    for (i, e) in split.expressions.iter().enumerate() {
        let n = seen.entry(e.image_id).and_modify(|n| *n += 1).or_insert(0);
        let mask = split.truth(i).union();
        let bytes = mask.to_row_major().into_iter().map(|b| b * 100).collect();
        let grey = image::GrayImage::from_raw(mask.width(), mask.height(), bytes).unwrap();
        let stem = split.images[e.image].trim_end_matches(".jpg");
        let mut file = std::fs::File::create(folder.join(format!("{stem}_mask_{n}.jpg"))).unwrap();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 95).encode_image(&grey).unwrap();
        std::fs::write(folder.join(format!("{stem}_masked_img_{n}.jpg")), "an overlay").unwrap();
    }
    let (scores, notes) = judged(split, &folder).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    assert!(scores[0].outcome.as_ref().unwrap().miou > 0.99, "{:?}", scores[0].outcome);
}

/// Maps of probabilities at a quarter of the image's size: thresholds and resizes are worth something, and each protocol does its own.
#[test]
fn probabilities_show_what_a_protocol_is_worth() {
    let set = set("refcoco", "val");
    let split = &set.split;
    let folder = set.root.join("soft");
    std::fs::create_dir(&folder).unwrap();
    for (i, e) in split.expressions.iter().enumerate() {
        let mask = split.truth(i).union();
        let (h, w) = (mask.height() as usize, mask.width() as usize);
        let map: Vec<f32> = mask.to_row_major().into_iter().map(f32::from).collect();
        let small = pil_ops::resize_bilinear(&map, (h, w), (h / 4, w / 4)).unwrap();
        let levels = small.iter().map(|v| (v * 200.0) as u8 + 20).collect();
        let path = folder.join(format!("{}.png", e.sent_id));
        image::GrayImage::from_raw((w / 4) as u32, (h / 4) as u32, levels).unwrap().save(path).unwrap();
    }
    let said = judged(split, &folder).unwrap_err().to_string();
    assert!(said.contains("--soft"), "{said}");
    let results = Results::open(&folder, true).unwrap();
    let joined = Joined::new(split, &results).unwrap();
    let scores = score(split, &results, &joined, &Protocol::all(), |_| {}).unwrap();
    let miou = |name: &str| scores.iter().find(|s| s.protocol.name == name).unwrap().outcome.as_ref().map(|r| r.miou).unwrap();
    assert!(scores.iter().filter(|s| s.outcome.is_err()).map(|s| s.protocol.name).eq(["refer", "phrasecut"]));
    assert_eq!(joined.numbers, Some("sent_id"));
    // DIT's dilation costs points on small objects; 0.35 and 0.5 differ; cubics differ from lines.
    assert!(miou("dit") < miou("saymask") - 0.01, "{} {}", miou("dit"), miou("saymask"));
    assert!(miou("risam") != miou("saymask") && miou("cris") != miou("risam"));
}

/// PhraseCut has no ids of its own: an image and a phrase are its key.
#[test]
fn phrases() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    let format = refcoco_data::SynthFormat::Phrasecut;
    generate(&SynthConfig { images: 24, size: 64, seed: 5, format, ..SynthConfig::default() }, &root).unwrap();
    let split = Split::new(&Dataset::open(&DatasetSpec::new(&root, "phrasecut"), "test").unwrap());
    let record = |i: usize| {
        let e = &split.expressions[i];
        json!({"image_id": e.image_id, "phrase": e.sentence, "mask": null, "segmentation": coco(split.truth(i).union())})
    };
    let path = root.join("phrases.json");
    std::fs::write(&path, Value::from((0..split.expressions.len()).map(record).collect::<Vec<_>>()).to_string()).unwrap();
    let (scores, notes) = judged(&split, &path).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let report = scores.iter().find(|s| s.protocol.name == "phrasecut").unwrap().outcome.as_ref().unwrap();
    assert_eq!((report.miou, report.samples as usize), (1.0, split.expressions.len()));
    assert!(report.kinds.keys().any(|k| k.starts_with("s_")), "{:?}", report.kinds.keys());
}

/// A mask of another size: four protocols judge it, the others say which it is.
#[test]
fn another_size_is_refused_by_name() {
    let set = set("refcoco", "val");
    let split = &set.split;
    let record = |i: usize| {
        let small = referee::resize_nearest(split.truth(i).union(), 32, 32).unwrap();
        json!({"sent_id": split.expressions[i].sent_id, "segmentation": coco(&small)})
    };
    let path = write(&set, "small.json", &Value::from((0..split.expressions.len()).map(record).collect::<Vec<_>>()));
    let (scores, _) = judged(split, &path).unwrap();
    let judging: Vec<&str> = scores.iter().filter(|s| s.outcome.is_ok()).map(|s| s.protocol.name).collect();
    assert_eq!(judging, ["dit", "lavt", "cris", "rela"]);
    let lines = tables::other_sizes(&scores);
    assert_eq!(lines.len(), scores.len());
    let of = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap();
    assert!(of("dit").contains("any positive share") && of("rela").contains("nearest"), "{lines:?}");
    assert!(of("phrasecut").contains("no figures"), "{lines:?}");
    assert!(lines[0].contains("32 x 32") && lines[0].contains(&split.expressions[0].sentence), "{}", lines[0]);
}

/// gRefCOCO: several targets and none, a head's word for it, and nothing for what is missing.
#[test]
fn several_targets_and_none() {
    let set = set("grefcoco", "val");
    let split = &set.split;
    let empty = |i: usize| split.truth(i).union().area() == 0;
    assert!((0..split.expressions.len()).any(empty), "the set has no expression without a target");
    let dump = |name: &str, all: bool| {
        let record = |i: usize| {
            let e = &split.expressions[i];
            json!({"sent_id": e.sent_id, "segmentation": coco(split.truth(i).union()), "no_target": empty(i)})
        };
        let records: Vec<Value> = (0..split.expressions.len()).filter(|i| all || !empty(*i)).map(record).collect();
        judged(split, &write(&set, name, &Value::from(records))).unwrap().0
    };
    let of =
        |scores: &[Score], name: &str| scores.iter().find(|s| s.protocol.name == name).unwrap().outcome.as_ref().unwrap().clone();
    let (all, without) = (dump("all.json", true), dump("without.json", false));
    for name in ["gres", "rela"] {
        let [all, without] = [of(&all, name).gres.unwrap(), of(&without, name).gres.unwrap()];
        assert_eq!((all.n_acc, all.t_acc), (Some(1.0), Some(1.0)), "{name}");
        assert_eq!((without.n_acc, without.t_acc), (Some(0.0), Some(1.0)), "{name}");
        assert!(without.giou < all.giou && all.giou > 0.9, "{name}");
    }
    assert!(of(&all, "lavt").miou < of(&all, "saymask").miou, "empty with empty is 0 for one and 1 for the other");
}
