//! PhraseCut's folder, whole and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use refcoco_data::{AnnId, Collection, Dataset, DatasetSpec, Photo, held_out_images, verify, verify_deep};
use serde_json::{Value, json};
use tempfile::TempDir;

fn images() -> Value {
    json!([
        {"image_id": 7, "coco_id": 581857, "flickr_id": 1, "width": 10, "height": 8, "url": "x", "split": "test"},
        {"image_id": 9, "coco_id": null, "flickr_id": null, "width": 10, "height": 8, "url": "x", "split": "val"},
        {"image_id": 8, "coco_id": 5, "flickr_id": null, "width": 4, "height": 4, "url": "x", "split": "train"},
    ])
}

fn task(image: i64, phrase: &str, polygons: Value) -> Value {
    json!({
        "task_id": format!("{image}__1"), "image_id": image, "ann_ids": [1, 2], "phrase": phrase,
        "instance_boxes": [[1, 1, 3, 3], [6.5, 2, 2, 5]], "Polygons": polygons,
        "phrase_structure": {"name": "wall", "attributes": ["red"], "relation_ids": [4],
            "relation_descriptions": [["behind", "tree"]], "type": "relation"},
    })
}

/// Two instances: a square of 3 x 3 pixels, and an upright line beside a point, which is no polygon.
fn test_tasks() -> Value {
    json!([
        task(7, " Red wall behind tree ", json!([[[[1.9, 1], [3, 1.2], [3, 3], [1, 3.99]]], [[[6, 2], [6, 6]], [[9, 7]]]])),
        task(7, "sky", json!([[[[-5, -5], [20, -5], [20, 20], [-5, 20]]]])),
    ])
}

fn folder() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let below = root.path().join("VGPhraseCut_v0");
    std::fs::create_dir_all(below.join("images/VG_100K_2")).unwrap();
    for name in ["images/7.jpg", "images/VG_100K_2/9.jpg"] {
        image::RgbImage::new(10, 8).save(below.join(name)).unwrap();
    }
    put(&root, "image_data_split.json", &images());
    put(&root, "refer_test.json", &test_tasks());
    put(&root, "refer_val.json", &json!([task(9, "wall", json!([[[[0, 0], [1, 0]]]]))]));
    put(&root, "refer_miniv.json", &json!([task(9, "  ", json!([])), task(9, "none", json!([]))]));
    root
}

fn put(root: &TempDir, name: &str, value: &Value) {
    std::fs::write(root.path().join("VGPhraseCut_v0").join(name), value.to_string()).unwrap();
}

fn open(root: &TempDir, split: &str) -> Result<Dataset, String> {
    Dataset::open(&DatasetSpec::new(root.path(), "phrasecut"), split).map_err(|e| e.to_string())
}

#[track_caller]
fn assert_error(root: &TempDir, parts: &[&str]) {
    let error = open(root, "test").unwrap_err();
    assert!(parts.iter().all(|p| error.contains(p)), "{parts:?} are not all in \"{error}\"");
    assert_eq!(error.lines().count(), 1, "{error}");
    let report = verify(root.path()).unwrap();
    assert!(report.errors.iter().any(|e| parts.iter().all(|p| e.contains(p))), "{parts:?} are not all in {report}");
}

#[test]
fn whole() {
    let root = folder();
    let test = open(&root, "test").unwrap();
    assert_eq!((test.images.len(), test.referents.len()), (1, 2));
    let wall = &test.referents[0];
    assert_eq!(
        (wall.sentences[0].text.as_str(), wall.sentences[0].raw.as_str()),
        ("Red wall behind tree", " Red wall behind tree ")
    );
    assert_eq!((wall.category.as_str(), wall.ann_ids.as_slice()), ("wall", &[AnnId::Number(1), AnnId::Number(2)][..]));
    // Coordinates are cut, not rounded, and outlines are filled: 9 pixels and a line of 5.
    assert_eq!((wall.mask.area(), wall.mask.bbox()), (14, [1.0, 1.0, 6.0, 6.0]));
    assert_eq!(wall.bbox, [1.0, 1.0, 7.5, 6.0]);
    assert_eq!(wall.groups, ["i_multi", "p_att", "p_rel", "p_att_rel", "p_rel+", "s_mid", "d_cocotv"]);
    assert_eq!(test.referents[1].mask.area(), 80);
    assert!(test.referents[1].groups.contains(&"s_large"));

    let all = open(&root, "val_miniv").unwrap();
    assert_eq!((all.images.len(), all.referents.len(), all.skipped), (1, 2, 1));
    assert_eq!(all.referents.iter().map(|r| (r.ref_id, r.mask.area())).collect::<Vec<_>>(), [(0, 2), (2, 0)]);
    assert!(all.referents[0].groups.contains(&"d_notcocotv"));

    put(&root, "name_att_rel_count.json", &json!({"cat": [["sky", 9], ["wall", 5]], "att": [["blue", 2]], "rel": []}));
    let groups = &open(&root, "test").unwrap().referents[0].groups;
    assert_eq!(groups[7..], ["c20", "c100", "c500", "a200+"], "the attribute is not in the list");

    let report = verify_deep(root.path()).unwrap();
    assert!(report.is_ok(), "{report}");
    for part in ["refer_train.json", "tasks[0].phrase", "tasks[1].Polygons"] {
        assert!(report.warnings.iter().any(|w| w.contains(part)), "{report}");
    }
    let counts: Vec<_> = report.splits.iter().map(|s| (s.split.as_str(), s.sentences, s.images)).collect();
    assert_eq!(counts, [("val", 1, 1), ("miniv", 2, 1), ("test", 2, 1)]);
    let held = held_out_images(&[DatasetSpec::new(root.path(), "phrasecut")]).unwrap();
    let photos = [(Collection::Coco, 581_857), (Collection::VisualGenome, 9)];
    assert_eq!(held, photos.map(|(collection, id)| Photo::numbered(collection, id)).into());
    let mut test = open(&root, "test").unwrap();
    assert_eq!((test.exclude(&held), test.images.len()), (2, 0), "COCO's photographs are known by COCO's ids");
}

#[test]
fn splits_and_files() {
    let root = folder();
    for split in ["testA", "val_val", "", "test_"] {
        assert!(open(&root, split).unwrap_err().contains("train, val, test, miniv"), "{split}");
    }
    assert!(open(&root, "train").unwrap_err().contains("refer_train.json"));
    let below = root.path().join("VGPhraseCut_v0");
    std::fs::rename(below.join("image_data_split.json"), below.join("image_data_split3000.json")).unwrap();
    assert!(open(&root, "test").is_ok(), "the documents' name of the file");
    std::fs::remove_file(below.join("image_data_split3000.json")).unwrap();
    assert_error(&root, &["image_data_split.json", "no such image table"]);
    std::fs::remove_dir_all(&below).unwrap();
    assert!(open(&root, "test").unwrap_err().contains("VGPhraseCut_v0/refer_test.json"));
}

#[test]
fn damaged_and_hostile() {
    let root = folder();
    let tasks = |pointer: &str, value: Value, parts: &[&str]| {
        let mut all = test_tasks();
        *all.pointer_mut(pointer).unwrap() = value;
        put(&root, "refer_test.json", &all);
        assert_error(&root, &[&["refer_test.json"], parts].concat());
    };
    tasks("/1/image_id", json!("7"), &["tasks[1].image_id", "a whole number", "text \"7\""]);
    tasks("/1/image_id", json!(70), &["tasks[1].image_id", "70 is not an id in `image_data_split.json`"]);
    tasks("/1/phrase", json!(null), &["tasks[1].phrase", "missing"]);
    tasks("/1/ann_ids/1", json!(1.5), &["tasks[1].ann_ids[1]", "a whole number"]);
    tasks("/1/instance_boxes/0", json!([1, 2, 3]), &["tasks[1].instance_boxes[0]", "four numbers"]);
    tasks("/0/Polygons/1/0/1", json!([1]), &["tasks[0].Polygons[1][0][1]", "a point [x, y]", "a list of 1"]);
    tasks("/0/Polygons/1/0/1", json!([1, 1e300]), &["tasks[0].Polygons[1][0][1]", "within 16777216 pixels"]);
    tasks("/0/Polygons/1/0", json!([1.0, 2.0, 3.0, 4.0]), &["tasks[0].Polygons[1][0][0]", "a point [x, y]"]);
    tasks("/0/Polygons", json!("x"), &["tasks[0].Polygons", "a list", "text \"x\""]);
    tasks("/0/phrase_structure", json!("x"), &["tasks[0].phrase_structure", "a dictionary of name"]);
    put(&root, "refer_test.json", &json!({"tasks": []}));
    assert_error(&root, &["refer_test.json", "a list of records"]);
    let path = root.path().join("VGPhraseCut_v0/refer_test.json");
    for (text, part) in [("[{", "line 1"), ("[] []", "trailing"), (&"[".repeat(100_000), "not valid JSON")] {
        std::fs::write(&path, text).unwrap();
        assert_error(&root, &["refer_test.json", part]);
    }
    put(&root, "refer_test.json", &test_tasks());

    let table = |pointer: &str, value: Value, parts: &[&str]| {
        let mut all = images();
        *all.pointer_mut(pointer).unwrap() = value;
        put(&root, "image_data_split.json", &all);
        assert_error(&root, &[&["image_data_split.json"], parts].concat());
    };
    table("/2/width", json!(-1), &["images[2].width", "from 1 to 65535", "-1"]);
    table("/2/width", json!(0), &["images[2]", "0 x 4", "from 1 to 65535"]);
    let zigzag: Vec<_> = (0..2000).map(|i| if i % 2 == 0 { [0, 0] } else { [1, 59_999] }).collect();
    let mut tall = images();
    tall[0]["height"] = json!(60_000);
    put(&root, "image_data_split.json", &tall);
    tasks("/1/Polygons/0/0", json!(zigzag), &["tasks[1].Polygons[0][0]", "fewer points"]);
    put(&root, "refer_test.json", &test_tasks());
    let large = json!({"image_id": 9, "width": 65_535, "height": 65_535, "split": "val"});
    table("/1", large, &["images[1]", "65535 x 65535", "at most 67108864 pixels"]);
    table("/0/split", json!(3), &["images[0].split", "text"]);
    put(&root, "image_data_split.json", &images());
    std::fs::write(root.path().join("VGPhraseCut_v0/name_att_rel_count.json"), "{}").unwrap();
    assert_error(&root, &["name_att_rel_count.json", "cat"]);
    std::fs::remove_file(root.path().join("VGPhraseCut_v0/name_att_rel_count.json")).unwrap();

    std::fs::remove_file(root.path().join("VGPhraseCut_v0/images/7.jpg")).unwrap();
    assert_error(&root, &["7.jpg", "no such image", "images/VG_100K"]);
    image::RgbImage::new(10, 9).save(root.path().join("VGPhraseCut_v0/images/7.jpg")).unwrap();
    assert!(verify(root.path()).unwrap().errors[0].contains("10 x 9"));
}
