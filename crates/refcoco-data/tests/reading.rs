//! Folders as they exist in the wild, whole and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use refcoco_data::{AnnId, Collection, Dataset, DatasetSpec, Photo, held_out_images, verify, verify_deep};
use serde_json::{Value, json};
use tempfile::TempDir;

const POLYGON: [f64; 8] = [1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn instances() -> Value {
    let annotation = |id: i64, image: i64, crowd: i64, segmentation: Value| {
        json!({"id": id, "image_id": image, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16.0,
            "iscrowd": crowd, "segmentation": segmentation})
    };
    json!({
        "images": [
            {"id": 1, "file_name": "COCO_train2014_000000000001.jpg", "height": 8, "width": 10},
            {"id": 2, "file_name": "COCO_train2014_000000000002.jpg", "height": 8, "width": 10},
        ],
        "annotations": [
            annotation(11, 1, 0, json!([POLYGON, [3.0, 3.0, 8.0, 3.0, 8.0, 7.0, 3.0, 7.0]])),
            annotation(12, 1, 0, json!([[0, 0, 4, 4], POLYGON])),
            annotation(21, 2, 1, json!({"size": [8, 10], "counts": [70, 10]})),
            annotation(22, 2, 0, json!([{"size": [8, 10], "counts": "0`2"}])),
        ],
        "categories": [{"id": 1, "name": "square", "supercategory": "shape"}],
    })
}

/// A whole `refcoco` folder with the given refs file.
fn folder(refs: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images/mscoco/images/train2014");
    std::fs::create_dir_all(&images).unwrap();
    for i in 1..=2 {
        image::RgbImage::from_pixel(10, 8, image::Rgb([90, 120, 40]))
            .save(images.join(format!("COCO_train2014_{i:012}.jpg")))
            .unwrap();
    }
    std::fs::create_dir(root.path().join("refcoco")).unwrap();
    std::fs::copy(fixture(refs), root.path().join("refcoco/refs(unc).p")).unwrap();
    put(&root, &instances());
    root
}

fn put(root: &TempDir, instances: &Value) {
    std::fs::write(root.path().join("refcoco/instances.json"), instances.to_string()).unwrap();
}

fn open(root: &TempDir, split: &str) -> Result<Dataset, String> {
    Dataset::open(&DatasetSpec::new(root.path(), "refcoco"), split).map_err(|e| e.to_string())
}

#[track_caller]
fn assert_error(result: Result<Dataset, String>, parts: &[&str]) {
    let error = result.unwrap_err();
    for part in parts {
        assert!(error.contains(part), "\"{part}\" is not in \"{error}\"");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn every_pickle_style() {
    for name in ["py2-protocol0", "py2-protocol2", "py3-protocol2", "py3-protocol4", "py3-protocol5"] {
        let root = folder(&format!("{name}.p"));
        let train = open(&root, "train").unwrap();
        assert_eq!((train.images.len(), train.referents.len(), train.sentences()), (1, 1, 2), "{name}");
        let r = &train.referents[0];
        assert_eq!((r.ref_id, r.ann_ids.as_slice()), (1, &[AnnId::Number(11)][..]));
        assert_eq!((r.sentences[0].text.as_str(), r.sentences[0].raw.as_str()), ("left one", "Left one"));
        assert_eq!((r.category.as_str(), r.bbox), ("square", [1.0, 1.0, 4.0, 4.0]));
        // 16 + 20 pixels with 4 in both.
        assert_eq!(r.mask.area(), 32, "overlapping polygons are united");
        assert_eq!(train.images[0].file_name, "COCO_train2014_000000000001.jpg");
        assert!(train.images[0].path.is_file());
        assert_eq!(open(&root, "val").unwrap().referents[0].sentences[0].text, "right caf\u{e9}");
        assert_eq!(open(&root, "val").unwrap().referents[0].mask.area(), 16, "a line covers nothing");
        assert_eq!(open(&root, "testA").unwrap().referents[0].mask.area(), 10);
        assert_eq!(open(&root, "test").unwrap().referents.len(), 1);
        assert_error(open(&root, "testB"), &["unknown split `testB`", "testA, train, val"]);
        assert!(verify_deep(root.path()).unwrap().is_ok());
    }
}

#[test]
fn damaged_pickles() {
    assert_error(open(&folder("cut.p"), "train"), &["refs(unc).p", "not a readable pickle", "cut short"]);
    assert_error(open(&folder("crlf.p"), "train"), &["refs(unc).p", "CRLF", "binary mode"]);
    let root = folder("cut.p");
    std::fs::write(root.path().join("refcoco/refs(unc).p"), b"\x80\x02}.").unwrap();
    assert_error(open(&root, "train"), &["refs(unc).p", "(top level)", "a list of records"]);
    std::fs::write(root.path().join("refcoco/refs(unc).p"), b"\x80\x02]}a.").unwrap();
    assert_error(open(&root, "train"), &["refs(unc).p", "refs[0].ann_id", "missing"]);
}

#[test]
fn json_of_the_wrong_shape() {
    let root = folder("py3-protocol2.p");
    let change = |pointer: &str, value: Value, parts: &[&str]| {
        let mut all = instances();
        *all.pointer_mut(pointer).unwrap() = value;
        put(&root, &all);
        assert_error(open(&root, "train"), &[&["instances.json"], parts].concat());
    };
    change("/annotations/1/bbox", json!([1, 2, 3]), &["annotations[1].bbox", "a list of 3"]);
    change("/annotations/0/segmentation", json!("x"), &["annotations[0].segmentation", "text \"x\""]);
    change("/images/1/width", json!("ten"), &["images[1].width", "a whole number of pixels"]);
    change("/images", json!(3), &["`images`", "a list"]);
    change("/categories/0/name", json!(null), &["categories[0].name", "missing"]);
    std::fs::write(root.path().join("refcoco/instances.json"), "{\"images\": [").unwrap();
    assert_error(open(&root, "train"), &["instances.json", "not valid JSON", "line 1"]);
    std::fs::write(root.path().join("refcoco/instances.json"), "[]").unwrap();
    assert_error(open(&root, "train"), &["instances.json", "(top level)", "`images`"]);
}

#[test]
fn ids_masks_and_images() {
    let root = folder("py3-protocol2.p");
    let change = |pointer: &str, value: Value| {
        let mut all = instances();
        *all.pointer_mut(pointer).unwrap() = value;
        put(&root, &all);
    };
    change("/annotations/0/id", json!(99));
    assert_error(open(&root, "train"), &["refs(unc).p", "refs[0].ann_id", "11 is not an id"]);
    change("/images/0/id", json!(99));
    assert_error(open(&root, "train"), &["refs(unc).p", "refs[0].image_id", "1 is not an id"]);
    change("/annotations/0/image_id", json!(2));
    assert_error(open(&root, "train"), &["refs[0].ann_id", "on image 2"]);
    change("/annotations/0/segmentation", json!({"size": [9, 10], "counts": [90]}));
    let larger = ["instances.json", "annotations[id=11].segmentation", "9 x 10", "8 x 10"];
    assert_error(open(&root, "train"), &larger);
    change("/annotations/0/segmentation", json!({"size": [8, 10], "counts": [70, 11]}));
    assert_error(open(&root, "train"), &["annotations[id=11].segmentation", "81 pixels"]);
    put(&root, &instances());

    let image = open(&root, "train").unwrap().images[0].path.clone();
    let whole = std::fs::read(&image).unwrap();
    std::fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    let error = refcoco_data::decode(&image).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("000000000001.jpg") && error.contains("unusable image"), "{error}");
    std::fs::write(&image, b"no image").unwrap();
    assert!(verify(root.path()).unwrap().errors[0].contains("000000000001.jpg"));
    std::fs::remove_file(&image).unwrap();
    assert_error(open(&root, "train"), &["000000000001.jpg", "no such image", "saiapr"]);
    std::fs::remove_file(root.path().join("refcoco/instances.json")).unwrap();
    assert_error(open(&root, "train"), &["instances.json", "no such annotation file"]);
}

#[test]
fn missing_folders_and_names() {
    let root = folder("py3-protocol2.p");
    let spec = |name: &str, by: &str| {
        let spec = DatasetSpec { root: root.path().into(), name: name.into(), split_by: by.into() };
        Dataset::open(&spec, "train").map_err(|e| e.to_string())
    };
    assert_error(spec("refcoco+", "unc"), &["refcoco+", "no such folder"]);
    assert_error(spec("refcoco", "umd"), &["refs(umd).p", "split_by can be unc"]);
    assert_error(spec("coco-2017", "unc"), &["unknown data set `coco-2017`", "refcocog", "label-studio"]);
    assert!(verify(&root.path().join("nowhere")).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn refclef_and_grefcoco() {
    let root = folder("py3-protocol2.p");
    let clef = root.path().join("refclef");
    std::fs::create_dir(&clef).unwrap();
    std::fs::copy(fixture("refclef.p"), clef.join("refs(unc).p")).unwrap();
    let annotations = json!({
        "images": [{"id": 9, "file_name": "9.jpg", "height": 8, "width": 10}],
        "annotations": [{"id": "9_1", "image_id": 9, "mask_name": "x", "area": 16, "bbox": [0.0, 0.0, 4.0, 4.0],
            "segmentation": [{"size": [8, 10], "counts": "0`2"}]}],
        "categories": [{"id": 1, "name": "sky"}],
    });
    std::fs::write(clef.join("instances.json"), annotations.to_string()).unwrap();
    let images = root.path().join("images/saiapr_tc-12");
    std::fs::create_dir_all(&images).unwrap();
    image::RgbImage::new(10, 8).save(images.join("9.jpg")).unwrap();
    let set = Dataset::open(&DatasetSpec::new(root.path(), "refclef"), "train").unwrap();
    assert_eq!(set.referents[0].ann_ids, [AnnId::Text("9_1".into())]);
    assert_eq!(set.referents[0].mask.area(), 80);

    let gres = root.path().join("grefcoco");
    std::fs::create_dir(&gres).unwrap();
    std::fs::write(gres.join("instances.json"), instances().to_string()).unwrap();
    let sentence = |id: i64| json!([{"sent_id": id, "sent": "x", "raw": "X", "tokens": ["x"]}]);
    let record = |ref_id: i64, image: i64, ids: Value, sentences: &Value, split: &str| {
        json!({"ref_id": ref_id, "image_id": image, "ann_id": ids, "category_id": [1], "split": split,
            "file_name": "x", "sent_ids": [], "sentences": sentences})
    };
    let refs = json!([
        record(1, 1, json!([11, 12]), &sentence(1), "train"),
        record(2, 2, json!([21, 22]), &sentence(2), "train"),
        record(3, 1, json!([-1]), &sentence(3), "train"),
        record(4, 1, json!([11]), &json!([]), "train"),
        record(5, 2, json!([22]), &sentence(4), "val"),
    ]);
    std::fs::write(gres.join("grefs(unc).json"), refs.to_string()).unwrap();
    let spec = DatasetSpec::new(root.path(), "grefcoco");
    let mut set = Dataset::open(&spec, "train").unwrap();
    assert_eq!((set.referents.len(), set.skipped), (3, 1));
    assert_eq!(set.referents[0].mask.area(), 32);
    assert_eq!(set.referents[1].mask.area(), 80, "the crowd annotation is passed over");
    assert!(set.referents[2].ann_ids.is_empty() && set.referents[2].mask.is_empty());
    assert_eq!((set.referents[2].category.as_str(), set.referents[2].bbox), ("", [0.0; 4]));

    let report = verify(root.path()).unwrap();
    assert!(report.is_ok(), "{report}");
    assert!(report.warnings[0].contains("refs[3].sentences"), "{report}");
    let text = report.to_string();
    assert!(text.contains("grefcoco     unc       train          4          3        2"), "{text}");

    let held = held_out_images(&[spec]).unwrap();
    assert_eq!(held, BTreeSet::from([Photo::numbered(Collection::Coco, 2)]));
    assert_eq!(set.exclude(&held), 1);
    assert_eq!((set.images.len(), set.referents.len()), (1, 2));
    assert!(set.referents.iter().all(|r| r.image == 0));
}

#[test]
fn hostile_pickles_are_errors() {
    let root = folder("py3-protocol2.p");
    let path = root.path().join("refcoco/refs(unc).p");
    let depth = 100_000;
    let nested = |open: u8, close: u8, n: usize| {
        let mut bytes = vec![0x80, 2];
        bytes.extend(std::iter::repeat_n(open, depth));
        bytes.extend(std::iter::repeat_n(close, n));
        bytes.push(b'.');
        bytes
    };
    // Each list holds the one before it nine times: 9^20 values if written out.
    let mut doubling = b"\x80\x02]q\x00".to_vec();
    for i in 0..20u8 {
        doubling.push(b']');
        doubling.push(b'(');
        (0..9).for_each(|_| doubling.extend([b'h', i]));
        doubling.extend([b'e', b'q', i + 1]);
    }
    doubling.push(b'.');
    for (bytes, part) in [
        (nested(b']', b'a', depth - 1), "nested too deeply"),
        (nested(b']', 0x85, depth), "nested too deeply"),
        (doubling, "too large"),
        (b"\x80\x02]q\x00h\x00a.".to_vec(), "contains itself"),
        (b"cos\nsystem\n(S'ls'\ntR.".to_vec(), "it holds an object"),
        (b"\x80\x02X\xff\xff\xff\xffabc.".to_vec(), "middle of a value"),
        (b"ea.".to_vec(), "never opened"),
        (Vec::new(), "the file is empty"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_error(open(&root, "train"), &["refs(unc).p", part]);
    }
}

/// A folder whose instances file holds this text.
fn with_text(text: &[u8]) -> TempDir {
    let root = folder("py3-protocol2.p");
    std::fs::write(root.path().join("refcoco/instances.json"), text).unwrap();
    root
}

/// What pycocotools and Python's json accept: each is read to the same set.
#[test]
fn other_spellings_of_the_same_values_are_read() {
    let plain = open(&with_text(instances().to_string().as_bytes()), "train").unwrap();
    let text = instances().to_string();
    let mut whole = instances();
    whole["images"][0]["id"] = json!("1");
    whole["images"][1]["height"] = json!(8.0);
    whole["annotations"][0]["id"] = json!("11");
    whole["annotations"][0]["image_id"] = json!(1.0);
    whole["annotations"][1]["iscrowd"] = json!(null);
    whole["annotations"][2]["segmentation"] = json!({"size": [8.0, "10"], "counts": [70.0, 10]});
    let wide = |unit: fn(u16) -> [u8; 2]| [0xFEFFu16].into_iter().chain(text.encode_utf16()).flat_map(unit).collect::<Vec<u8>>();
    let nan = text.replace("\"area\":16.0", "\"area\":NaN");
    assert_ne!(nan, text);
    for (what, bytes) in [
        ("a byte order mark", [b"\xEF\xBB\xBF", text.as_bytes()].concat()),
        ("UTF-16, little-endian", wide(u16::to_le_bytes)),
        ("UTF-16, big-endian", wide(u16::to_be_bytes)),
        ("other spellings of numbers", whole.to_string().into_bytes()),
        ("NaN where it does not matter", nan.into_bytes()),
    ] {
        let set = open(&with_text(&bytes), "train").unwrap_or_else(|e| panic!("{what}: {e}"));
        let masks = |set: &Dataset| set.referents.iter().map(|r| (r.ref_id, r.mask.clone())).collect::<Vec<_>>();
        assert_eq!(masks(&set), masks(&plain), "{what}");
    }
}

#[test]
fn files_that_are_something_else_are_named() {
    for (bytes, word) in [
        (&b"<!DOCTYPE html><html><body>Sign in"[..], "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-lfs"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"", "empty"),
    ] {
        assert_error(open(&with_text(bytes), "train"), &["instances.json", word]);
        let root = folder("py3-protocol2.p");
        std::fs::write(root.path().join("refcoco/refs(unc).p"), bytes).unwrap();
        assert_error(open(&root, "train"), &["refs(unc).p", word]);
    }
}

#[test]
fn values_that_matter_are_named_with_what_they_hold() {
    let text = instances().to_string().replacen("\"bbox\":[1,1,4,4]", "\"bbox\":[1,NaN,4,4]", 1);
    assert_error(open(&with_text(text.as_bytes()), "train"), &["instances.json", "annotations[0].bbox[1]", "NaN"]);
    let mut half = instances();
    half["images"][0]["width"] = json!(10.5);
    assert_error(open(&with_text(half.to_string().as_bytes()), "train"), &["images[0].width", "10.5"]);
    // A polygon whose points are lists of their own would be an empty mask.
    let mut points = instances();
    points["annotations"][0]["segmentation"] = json!([[1, 1], [5, 1], [5, 5]]);
    assert_error(open(&with_text(points.to_string().as_bytes()), "train"), &["annotations[id=11].segmentation", "points"]);
}

#[test]
fn ids_that_occur_twice_are_refused_and_all_faults_are_named() {
    let mut faulty = instances();
    faulty["annotations"][1]["id"] = json!(11);
    assert_error(open(&with_text(faulty.to_string().as_bytes()), "train"), &["annotations[0].id", "annotations[1].id", "11"]);

    faulty["annotations"][2].as_object_mut().unwrap().remove("segmentation");
    faulty["annotations"][3]["bbox"] = json!([1, 2]);
    faulty["images"].as_array_mut().unwrap().push(json!({"id": 3, "file_name": 5, "height": 8, "width": 10}));
    let root = with_text(faulty.to_string().as_bytes());
    let report = verify(root.path()).unwrap();
    for part in [
        "`annotations[0].id` and `annotations[1].id`",
        "annotations[2].segmentation",
        "annotations[3].bbox",
        "images[2].file_name",
    ] {
        assert!(report.errors.iter().any(|e| e.contains(part)), "{part} is not in {:#?}", report.errors);
    }
}

#[test]
fn sentences_without_words_are_passed_over_with_a_warning() {
    let root = folder("py3-protocol2.p");
    let sentences = |texts: &[&str]| -> Vec<Value> {
        texts.iter().enumerate().map(|(i, t)| json!({"sent": t, "raw": t, "sent_id": i, "tokens": []})).collect()
    };
    let refs = json!([
        {"ref_id": 7, "ann_id": 11, "image_id": 1, "category_id": 1, "split": "train", "sentences": sentences(&["left", "  ", "?!"])},
        {"ref_id": 8, "ann_id": 11, "image_id": 1, "category_id": 1, "split": "train", "sentences": sentences(&[""])},
    ]);
    std::fs::remove_file(root.path().join("refcoco/refs(unc).p")).unwrap();
    std::fs::write(root.path().join("refcoco/refs(unc).json"), refs.to_string()).unwrap();
    let set = open(&root, "train").unwrap();
    assert_eq!((set.referents.len(), set.sentences(), set.skipped, set.warnings.len()), (1, 1, 1, 3));
    assert!(set.warnings[0].contains("refs(unc).json") && set.warnings[0].contains("ref_id 7, sent_id 1"), "{}", set.warnings[0]);
    let report = verify(root.path()).unwrap();
    assert_eq!(report.warnings.iter().filter(|w| w.contains("no word")).count(), 3);
    // The second record's sentence has the id of the first one's.
    assert!(report.errors.iter().any(|e| e.contains("sentences")), "{:?}", report.errors);
}
