//! Splits that nobody has made, and images that lie in two.

use std::collections::BTreeMap;

use refcoco_data::{OwnFormat, held_out_images, verify_own};
use serde_json::json;

use crate::Folder;

fn set(names: &[(String, u8)]) -> Folder {
    let f = Folder::new();
    let mut lines = String::new();
    for (name, seed) in names {
        f.image(name, (9, 7), *seed);
        lines += &format!("{}\n", json!({"image": name, "sentence": "it", "box": [0, 0, 3, 3]}));
    }
    f.write("data.jsonl", &lines);
    f
}

/// Split by seed of the image.
fn splits(f: &Folder) -> BTreeMap<u8, String> {
    let mut out = BTreeMap::new();
    for split in ["train", "val"] {
        let set = f.open(OwnFormat::Jsonl, split).unwrap();
        for image in &set.images {
            let seed = image.decode().unwrap().data()[0];
            out.insert(seed, split.to_owned());
        }
    }
    out
}

#[test]
fn a_split_by_hash_never_changes() {
    let named = |names: fn(u8) -> String, seeds: std::ops::Range<u8>| set(&seeds.map(|s| (names(s), s)).collect::<Vec<_>>());
    let first = splits(&named(|s| format!("{s}.png"), 0..60));
    let held = first.values().filter(|split| *split == "val").count();
    assert!((5..=20).contains(&held), "{held}");
    // Other names, folders and neighbours: the same image stays where it was.
    let other = splits(&named(|s| format!("more/{}-renamed.png", 200 - s), 20..90));
    assert!((20..60).all(|seed| first[&seed] == other[&seed]));
    // As it was when this was written: runs of then and now hold out the same images.
    let held: Vec<u8> = first.iter().filter(|(_, split)| *split == "val").map(|(seed, _)| *seed).collect();
    assert_eq!(held, HELD_OUT);
}

const HELD_OUT: &[u8] = &[2, 11, 21, 23, 24, 32, 33, 39, 49, 52];

#[test]
fn one_image_and_all_in_one_split_are_named() {
    let f = set(&[("only.png".into(), 3)]);
    let there = ["train", "val"].map(|split| f.open(OwnFormat::Jsonl, split));
    let error = there.iter().find_map(|set| set.as_ref().err()).unwrap();
    for word in ["no image in the split", "1 in", "hash", "name a split in every record"] {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
    let report = verify_own(&f.path(), OwnFormat::Jsonl, false).unwrap();
    assert!(report.is_ok() && report.warnings[0].contains("no image in the split"), "{report}");

    f.write("data.jsonl", r#"{"image": "only.png", "sentence": "it", "box": [0, 0, 3, 3], "split": "train"}"#);
    let error = f.open(OwnFormat::Jsonl, "val").unwrap_err();
    assert!(error.contains("the images are 1 in train"), "{error}");
    // A split for some records and none for others is nobody's split.
    f.image("two.png", (9, 7), 4);
    f.write(
        "data.jsonl",
        "{\"image\": \"only.png\", \"sentence\": \"it\", \"box\": [0, 0, 3, 3], \"split\": \"train\"}\n\
         {\"image\": \"two.png\", \"sentence\": \"it\", \"box\": [0, 0, 3, 3]}",
    );
    let error = f.open(OwnFormat::Jsonl, "train").unwrap_err();
    assert!(error.contains("line 2") && error.contains("a split"), "{error}");
}

#[test]
fn one_image_in_two_splits_is_named() {
    let f = Folder::new();
    f.image("a.png", (9, 7), 1).image("copy.png", (9, 7), 1).image("b.png", (9, 7), 2).image("b2.png", (9, 7), 2);
    let line =
        |name: &str, split: &str| json!({"image": name, "sentence": "it", "box": [0, 0, 3, 3], "split": split}).to_string();
    let lines =
        [line("a.png", "train"), line("copy.png", "val"), line("b.png", "train"), line("b2.png", "train"), line("b.png", "test")];
    f.write("data.jsonl", &lines.join("\n"));
    let report = verify_own(&f.path(), OwnFormat::Jsonl, false).unwrap();
    assert_eq!(report.warnings.len(), 2, "{report}");
    for words in [["a.png and copy.png", "train and val"], ["b.png and b2.png", "test and train"]] {
        assert!(report.warnings.iter().any(|w| words.iter().all(|word| w.contains(word))), "{report}");
    }
    let spec = refcoco_data::DatasetSpec::new(f.path(), "jsonl");
    assert_eq!(held_out_images(&[spec]).unwrap().len(), 2);
}
