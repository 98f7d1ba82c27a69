//! Bad input of every kind is named with file and field.

use refcoco_data::{DatasetSpec, ImageCache, OwnFormat, Transform, load_batch, sequential, verify, verify_own};
use serde_json::{Value, json};

use crate::Folder;

/// A set of one image and this line.
fn of_line(line: &str) -> (Folder, String) {
    let f = Folder::new();
    f.image("a.png", (10, 10), 1).mask("small.png", (4, 4), |_, _| true).write("m.jpg", "x").write("data.jsonl", line);
    let error = f.open(OwnFormat::Jsonl, "train").unwrap_err();
    // `verify` says the same, and goes on.
    let report = verify_own(&f.path(), OwnFormat::Jsonl, true).unwrap();
    assert!(report.errors.contains(&error), "{error}\n{report}");
    (f, error)
}

#[test]
fn lines_that_are_wrong() {
    let line = |key: &str, value: Value| {
        let mut line = json!({"image": "a.png", "sentence": "it", "box": [0, 0, 3, 3], "split": "train"});
        line[key] = value;
        line.to_string()
    };
    for (line, words) in [
        (line("sentence", json!(3)), &["line 1.sentence", "text", "3"][..]),
        (line("sentence", json!(["a", 3])), &["line 1.sentence[1]", "text"]),
        (line("image", json!("../a.png")), &["line 1.image", "inside", "../a.png"]),
        (line("image", json!("/etc/passwd")), &["line 1.image", "inside"]),
        (line("image", json!("b.png")), &["b.png", "line 1.image", "no such image"]),
        (line("image", json!(null)), &["line 1.image", "missing"]),
        (line("box", json!([0, 0, 3])), &["line 1.box", "four numbers"]),
        (line("box", json!([0, 0, 3, -1])), &["line 1.box", "above 0"]),
        (line("mask", json!("small.png")), &["line 1", "beside another one"]),
        (line("sentences", json!("x")), &["line 1.sentence", "not both"]),
        (line("sentense", json!("x")), &["line 1.sentense", "one of", "sentence"]),
        (line("width", json!(0)), &["line 1.width", "pixels"]),
        ("{".into(), &["data.jsonl", "line 1", "JSON"]),
        ("[1]".into(), &["line 1", "a dictionary"]),
        (r#"{"image": "a.png", "sentence": "x", "split": "train"}"#.into(), &["line 1", "targets: []"]),
        (
            r#"{"image": "a.png", "sentence": "x", "mask": "small.png", "split": "train"}"#.into(),
            &["small.png", "4 x 4", "10 x 10"],
        ),
        (r#"{"image": "a.png", "sentence": "x", "mask": "m.jpg", "split": "train"}"#.into(), &["line 1.mask", "PNG"]),
        (r#"{"image": "a.png", "sentence": "x", "mask": "../m.png", "split": "train"}"#.into(), &["line 1.mask", "inside"]),
        (r#"{"image": "a.png", "sentence": "x", "mask": 7, "split": "train"}"#.into(), &["line 1.mask", "path of a PNG"]),
        (
            r#"{"image": "a.png", "sentence": "x", "polygon": [1, 2], "split": "train"}"#.into(),
            &["line 1.polygon", "three points"],
        ),
        (
            r#"{"image": "a.png", "sentence": "x", "rle": {"size": [3, 3], "counts": [9]}, "split": "train"}"#.into(),
            &["line 1.rle", "3 x 3", "10 x 10"],
        ),
        (r#"{"image": "a.png", "sentence": "x", "rle": "abc", "split": "train"}"#.into(), &["line 1.rle", "run lengths"]),
        (r#"{"image": "a.png", "sentence": "x", "targets": [{}], "split": "train"}"#.into(), &["line 1.targets[0]", "one of"]),
    ] {
        let (_, error) = of_line(&line);
        for word in words {
            assert!(error.contains(word), "{line}\n`{word}` is missing in: {error}");
        }
    }
}

#[test]
fn other_formats_are_named_too() {
    let f = Folder::new();
    f.image("images/train/a.jpg", (20, 10), 1).write("data.yaml", "names: [cup]\n");
    for (label, words) in [
        ("3 0 0 1 0 1 1", &["line 1", "class 3", "0 cup", "data.yaml"][..]),
        ("cup 0 0 1 0 1 1", &["line 1", "class cup"]),
        ("0 0 0 15 0 1 1", &["line 1", "15", "from 0 to 1"]),
        ("0 0 0 1", &["line 1", "3 numbers"]),
    ] {
        let error = f.write("labels/train/a.txt", label).open(OwnFormat::YoloSeg, "train").unwrap_err();
        assert!(error.contains("a.txt") && words.iter().all(|w| error.contains(w)), "{error}");
    }
    let error = f.write("data.yaml", "nc: 2\n").open(OwnFormat::YoloSeg, "train").unwrap_err();
    assert!(error.contains("data.yaml") && error.contains("names"), "{error}");

    let f = Folder::new();
    f.image("images/a.jpg", (20, 10), 1).mask("masks/b.png", (20, 10), |_, _| true);
    let error = f.open(OwnFormat::Masks, "train").unwrap_err();
    assert!(error.contains("masks/b.png") && error.contains("images/b.jpg"), "{error}");
    let error = f.write("s.csv", "picture,text\na.jpg,x\n").open(OwnFormat::Masks, "train").unwrap_err();
    assert!(error.contains("s.csv") && error.contains("image, sentence, mask") && error.contains("picture, text"), "{error}");
    let error = f.write("s.csv", "image,sentence,mask\na.jpg,x,../../b.png\n").open(OwnFormat::Masks, "train").unwrap_err();
    assert!(error.contains("line 2, column mask") && error.contains("inside"), "{error}");

    let f = Folder::new();
    f.image("a.jpg", (20, 10), 1);
    let task = |result: Value| json!([{"data": {"image": "a.jpg"}, "annotations": [{"result": [result]}]}]).to_string();
    for (result, words) in [
        (
            json!({"type": "polygonlabels", "value": {"points": [[1, 2, 3]], "polygonlabels": ["a"]}, "original_width": 20, "original_height": 10}),
            ["points[0]", "per cent"],
        ),
        (
            json!({"type": "polygonlabels", "value": {"points": [[1, 2]]}, "original_width": 20, "original_height": 10}),
            ["result[0]", "a label"],
        ),
        (
            json!({"type": "brushlabels", "value": {"rle": [0, 0, 300], "brushlabels": ["a"]}, "original_width": 20, "original_height": 10}),
            ["rle[2]", "byte"],
        ),
        (json!({"type": "brush", "value": {}, "original_height": 10}), ["original_width", "missing"]),
    ] {
        let error = f.write("e.json", &task(result)).open(OwnFormat::LabelStudio, "train").unwrap_err();
        assert!(error.contains("e.json") && words.iter().all(|w| error.contains(w)), "{error}");
    }
    let error = f
        .write("e.json", r#"[{"data": {"image": "s3://x/other.jpg"}, "annotations": [{"result": []}]}]"#)
        .open(OwnFormat::LabelStudio, "train");
    assert!(error.unwrap_err().contains("other.jpg"));

    let coco = |annotation: Value| {
        json!({"images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}], "annotations": [annotation], "categories": [{"id": 1, "name": "cup"}]}).to_string()
    };
    let f = Folder::new();
    f.image("a.jpg", (20, 10), 1);
    for (annotation, words) in [
        (
            json!({"id": 1, "image_id": 9, "category_id": 1, "segmentation": [[0, 0, 1, 1, 2, 2]]}),
            ["annotations[0].image_id", "9"],
        ),
        (
            json!({"id": 1, "image_id": 1, "category_id": 4, "segmentation": [[0, 0, 1, 1, 2, 2]]}),
            ["annotations[0].category_id", "4"],
        ),
        (
            json!({"id": 1, "image_id": 1, "category_id": 1, "sentence": {"a": 1}, "segmentation": [[0, 0, 1, 1, 2, 2]]}),
            ["annotations[0].sentence", "text"],
        ),
        (json!({"id": 1, "image_id": 1, "segmentation": [[0, 0, 1, 1, 2, 2]]}), ["annotations[0].category_id", "neither"]),
    ] {
        let error = f.write("c.json", &coco(annotation)).open(OwnFormat::Coco, "train").unwrap_err();
        assert!(error.contains("c.json") && words.iter().all(|w| error.contains(w)), "{error}");
    }
    // Sizes in COCO's file that are not the image's.
    let other = coco(json!({"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1, 1, 2, 2]]}))
        .replace("\"width\":20", "\"width\":21");
    let error = f.write("c.json", &other).open(OwnFormat::Coco, "train").unwrap_err();
    assert!(error.contains("20 x 10") && error.contains("21 x 10"), "{error}");
}

#[test]
fn folders_that_are_no_data() {
    let f = Folder::new();
    let missing = verify(&f.path()).unwrap_err().to_string();
    assert!(missing.contains("no such data folder"), "{missing}");
    std::fs::create_dir_all(f.path()).unwrap();
    let empty = verify(&f.path()).unwrap_err().to_string();
    assert!(empty.contains("refcoco") && empty.contains("label-studio"), "{empty}");
    f.image("images/a.png", (4, 4), 1);
    let nothing = f.open(OwnFormat::Jsonl, "train").unwrap_err();
    assert!(nothing.contains("1 images") && nothing.contains("jsonl"), "{nothing}");
    f.write("a.jsonl", "").write("b.json", r#"{"images": [], "annotations": []}"#);
    let both = verify(&f.path()).unwrap_err().to_string();
    assert!(both.contains("jsonl and coco"), "{both}");
    let mut spec = DatasetSpec::new(f.path(), "jsonl");
    spec.split_by = "umd".into();
    assert!(refcoco_data::Dataset::open(&spec, "train").unwrap_err().to_string().contains("umd"));
}

#[cfg(unix)]
#[test]
fn links_in_circles_and_files_that_may_not_be_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let f = Folder::new();
    f.image("images/a.png", (4, 4), 1).mask("masks/a.png", (4, 4), |_, _| true);
    symlink(f.path().join("images"), f.path().join("images/again")).unwrap();
    let error = f.open(OwnFormat::Masks, "train").unwrap_err();
    assert!(error.contains("images/again") && error.contains("leads back"), "{error}");
    std::fs::remove_file(f.path().join("images/again")).unwrap();
    symlink("loop.png", f.path().join("images/loop.png")).unwrap();
    let error = f.open(OwnFormat::Masks, "train").unwrap_err();
    assert!(error.contains("loop.png"), "{error}");
    std::fs::remove_file(f.path().join("images/loop.png")).unwrap();

    f.write("data.jsonl", r#"{"image": "images/a.png", "sentence": "it", "mask": "masks/a.png", "split": "train"}"#);
    let set = f.open(OwnFormat::Jsonl, "train").unwrap();
    let mask = f.path().join("masks/a.png");
    std::fs::set_permissions(&mask, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything: then there is nothing to refuse.
    if std::fs::File::open(&mask).is_err() {
        assert!(f.open(OwnFormat::Jsonl, "train").unwrap_err().contains("masks/a.png"));
    }
    // Cut or gone after opening: named when the sample is loaded, and training goes on with another.
    std::fs::set_permissions(&mask, std::fs::Permissions::from_mode(0o644)).unwrap();
    let whole = std::fs::read(&mask).unwrap();
    let load = |set: &refcoco_data::Dataset| {
        let draws: Vec<_> = sequential(set, None).unwrap().into_iter().map(Into::into).collect();
        let transform = Transform::eval(16, refcoco_data::Fit::TopLeft).unwrap();
        load_batch(set, &draws, &transform, &ImageCache::default()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(load(&set), Ok(()));
    std::fs::write(&mask, &whole[..whole.len() - 20]).unwrap();
    assert!(load(&set).unwrap_err().contains("masks/a.png"));
    let report = verify_own(&f.path(), OwnFormat::Jsonl, true).unwrap();
    assert!(report.errors.iter().any(|e| e.contains("masks/a.png")), "{report}");
    std::fs::remove_file(&mask).unwrap();
    assert!(load(&set).unwrap_err().contains("masks/a.png"));
}
