//! What each format says is what is read.

use refcoco_data::{ImageCache, OwnFormat, Transform, load_batch, sequential, verify, verify_own};
use serde_json::json;

use crate::{Folder, said};

/// The same row for any format.
fn row(image: &str, text: &str, area: u64) -> (String, String, u64) {
    (image.into(), text.into(), area)
}

#[test]
fn lines_of_json_say_masks_in_every_way() {
    let f = Folder::new();
    f.image("images/a.png", (20, 10), 1).image("b.png", (8, 8), 2);
    f.mask("masks/a.png", (20, 10), |x, y| x < 5 && y < 4).mask("masks/a2.png", (20, 10), |x, y| x >= 10 && y < 2);
    let rle = coco_mask::Rle::from_row_major(10, 20, &[vec![1; 20], vec![0; 180]].concat()).unwrap().to_compressed();
    f.write(
        "data.jsonl",
        &[
            json!({"image": "images/a.png", "sentences": ["the  red mug ", "mug"], "mask": "masks/a.png", "split": "train"}),
            json!({"image": "a.png", "sentence": "square", "polygon": [[0, 0], [4, 0], [4, 4], [0, 4]], "split": "training"}),
            json!({"image": "a.png", "sentence": "row", "rle": {"size": [10, 20], "counts": rle}, "split": "train"}),
            json!({"image": "b.png", "sentence": "box", "box": [1, 1, 3, 2], "split": "train", "category": "thing"}),
            json!({"image": "images/a.png", "sentence": "both", "targets": [{"mask": "masks/a.png"}, {"mask": "masks/a2.png"}, {"box": [0, 8, 2, 2]}], "split": "train"}),
            json!({"image": "images/a.png", "sentence": "two files", "mask": ["masks/a.png", "masks/a2.png"], "split": "train"}),
            json!({"image": "b.png", "sentence": "the unicorn", "targets": [], "split": "train"}),
            json!({"image": "b.png", "sentence": "...", "targets": [], "split": "train"}),
            json!({"image": "b.png", "sentence": "held out", "box": [0, 0, 8, 8], "split": "validation"}),
        ]
        .map(|line| line.to_string())
        .join("\n"),
    );
    assert_eq!(OwnFormat::detect(&f.path()).unwrap(), OwnFormat::Jsonl);
    let set = f.open(OwnFormat::Jsonl, "train").unwrap();
    assert_eq!(
        said(&set),
        [
            row("images/a.png", "the red mug | mug", 20),
            row("images/a.png", "square", 16),
            row("images/a.png", "row", 20),
            row("b.png", "box", 6),
            row("images/a.png", "both", 20 + 20 + 4),
            row("images/a.png", "two files", 40),
            row("b.png", "the unicorn", 0),
        ]
    );
    assert_eq!((set.images.len(), set.referents[3].category.as_str(), set.warnings.len()), (2, "thing", 1));
    assert_eq!((set.referents[4].ann_ids.len(), set.referents[6].ann_ids.len()), (3, 0));
    assert!(set.warnings[0].contains("line 8"), "{:?}", set.warnings);
    // Numbers go on from split to split.
    let val = f.open(OwnFormat::Jsonl, "val").unwrap();
    assert_eq!((val.referents[0].ref_id, val.referents[0].sentences[0].id), (7, 8));
    let report = verify(&f.path()).unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!(
        report.splits.iter().map(|s| (s.split.as_str(), s.refs, s.images)).collect::<Vec<_>>(),
        [("train", 7, 2), ("val", 1, 1)]
    );

    // Nothing is decoded before a sample is asked for.
    assert_eq!(set.referents[0].unread.len(), 1);
    let items = sequential(&set, None).unwrap();
    let batch: Vec<_> = items.iter().copied().map(Into::into).collect();
    let loaded =
        load_batch(&set, &batch, &Transform::eval(20, refcoco_data::Fit::TopLeft).unwrap(), &ImageCache::default()).unwrap();
    assert_eq!(loaded[0].sample.mask.iter().filter(|v| **v > 0).count(), 20);
}

#[test]
fn coco_with_sentences_and_with_categories() {
    let f = Folder::new();
    f.image("val2017/1.jpg", (10, 10), 1).image("train2017/2.jpg", (10, 10), 2);
    let square = |x: i32| json!([[x, 0, x + 4, 0, x + 4, 4, x, 4]]);
    let instances = |file: &str, id: i32| {
        json!({
            "images": [{"id": id, "file_name": file, "width": 10, "height": 10}],
            "categories": [{"id": 5, "name": "cup"}, {"id": 7, "name": "plate"}],
            "annotations": [
                {"id": 1, "image_id": id, "category_id": 5, "bbox": [0, 0, 4, 4], "segmentation": square(0)},
                {"id": 2, "image_id": id, "category_id": 5, "bbox": [5, 0, 4, 4], "segmentation": square(5), "iscrowd": 0},
                {"id": 3, "image_id": id, "category_id": 7, "bbox": [0, 6, 2, 3], "segmentation": []},
            ],
        })
    };
    f.write("annotations/instances_val2017.json", &instances("1.jpg", 1).to_string());
    f.write("annotations/instances_train2017.json", &instances("2.jpg", 2).to_string());
    assert_eq!(OwnFormat::detect(&f.path()).unwrap(), OwnFormat::Coco);
    let set = f.open(OwnFormat::Coco, "val").unwrap();
    assert_eq!(said(&set), [row("val2017/1.jpg", "cup", 32), row("val2017/1.jpg", "plate", 6)]);
    assert_eq!(said(&set.with_prompt("the {}").unwrap())[1].1, "the plate");

    let mut spoken = instances("1.jpg", 1);
    spoken["annotations"][0]["sentence"] = json!("left cup");
    spoken["annotations"][1]["sentences"] = json!(["right cup", "second cup"]);
    spoken["annotations"][2] = json!({"id": 3, "image_id": 1, "caption": "the fork", "segmentation": [], "bbox": [0, 0, 0, 0]});
    for (id, x) in [(4, 0), (5, 5)] {
        let both = json!({"id": id, "image_id": 1, "category_id": 5, "sentence": "both cups", "bbox": [x, 0, 4, 4], "segmentation": square(x)});
        spoken["annotations"].as_array_mut().unwrap().push(both);
    }
    f.write("annotations/instances_val2017.json", &spoken.to_string());
    let set = f.open(OwnFormat::Coco, "val").unwrap();
    assert_eq!(
        said(&set).into_iter().map(|(_, text, area)| (text, area)).collect::<Vec<_>>(),
        [("left cup", 16), ("right cup | second cup", 16), ("the fork", 0), ("both cups", 32)].map(|(t, a)| (t.to_owned(), a))
    );
    assert_eq!(set.images[0].id, 1, "COCO's own numbers are kept");
}

#[test]
fn folders_of_masks_with_a_table_and_by_name() {
    let f = Folder::new();
    f.image("images/red-mug-1.jpg", (10, 10), 1).image("images/b.jpg", (10, 10), 2);
    f.mask("masks/red-mug-1.png", (10, 10), |x, _| x < 2).mask("masks/b__the two \"cats\".png", (10, 10), |_, y| y < 3);
    f.mask("masks/b/left one.png", (10, 10), |x, y| x < 1 && y < 1);
    assert_eq!(OwnFormat::detect(&f.path()).unwrap(), OwnFormat::Masks);
    let all = |f: &Folder| {
        let sets = ["train", "val"].map(|split| f.open(OwnFormat::Masks, split));
        let mut rows: Vec<_> = sets.iter().flatten().flat_map(said).collect();
        rows.sort();
        rows
    };
    assert_eq!(
        all(&f),
        [
            row("images/b.jpg", "left one", 1),
            row("images/b.jpg", "the two \"cats\"", 30),
            row("images/red-mug-1.jpg", "red mug", 20)
        ]
    );
    let table = "image,sentence,mask\nred-mug-1.jpg,\"a mug, red\",red-mug-1.png\nb.jpg,both,masks/b/left one.png\n\
                 b.jpg,both,red-mug-1.png\nb.jpg,the dog,\n";
    f.write("sentences.csv", table);
    assert_eq!(
        all(&f),
        [row("images/b.jpg", "both", 20), row("images/b.jpg", "the dog", 0), row("images/red-mug-1.jpg", "a mug, red", 20)]
    );
    f.write("sentences.csv", "image,sentence\nred-mug-1.jpg,mug\n");
    assert_eq!(all(&f), [row("images/red-mug-1.jpg", "mug", 20)]);
}

#[test]
fn yolos_labels() {
    let f = Folder::new();
    f.image("images/train/a.jpg", (20, 10), 1).image("images/val/b.jpg", (20, 10), 2).image("images/val/none.jpg", (20, 10), 3);
    f.write("data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cup\n  1: side plate\n");
    f.write("labels/train/a.txt", "0 0 0 0.5 0 0.5 0.4 0 0.4\n1 0.9 0.5 0.1 0.2\n0 0.5 0.5 0.6 0.5 0.6 0.6 0.5 0.6\n");
    f.write("labels/val/b.txt", "1 0 0 1 0 1 1 0 1\n").write("labels/val/none.txt", "\n");
    assert_eq!(OwnFormat::detect(&f.path()).unwrap(), OwnFormat::YoloSeg);
    let set = f.open(OwnFormat::YoloSeg, "train").unwrap();
    assert_eq!(said(&set), [row("images/train/a.jpg", "cup", 40 + 2), row("images/train/a.jpg", "side plate", 4)]);
    let val = f.open(OwnFormat::YoloSeg, "val").unwrap();
    assert_eq!(said(&val), [row("images/val/b.jpg", "side plate", 200)]);
    assert!(val.warnings[0].contains("nothing is said about 1 images"), "{:?}", val.warnings);
}

#[test]
fn label_studios_export() {
    let f = Folder::new();
    f.image("images/cup.jpg", (20, 10), 1);
    let brush = refcoco_data::brush_rle(&coco_mask::Rle::from_row_major(10, 20, &[vec![1; 20], vec![0; 180]].concat()).unwrap());
    let result = |id: &str, kind: &str, value: serde_json::Value| json!({"id": id, "type": kind, "from_name": "l", "to_name": "i", "original_width": 20, "original_height": 10, "value": value});
    let text = |id: &str, said: serde_json::Value| json!({"id": id, "type": "textarea", "from_name": "t", "to_name": "i", "value": {"text": said}});
    let square = [[0, 0], [20, 0], [20, 40], [0, 40]];
    let tasks = json!([{
        "id": 1,
        "data": {"image": "/data/upload/3/1f2e3d4c-cup.jpg"},
        "annotations": [
            {"was_cancelled": true, "result": []},
            {"result": [
                result("a", "polygonlabels", json!({"points": square, "polygonlabels": ["Cup"]})),
                result("b", "brushlabels", json!({"format": "rle", "rle": brush, "brushlabels": ["Cup"]})),
                text("b", json!(["the top row"])),
                result("c", "rectanglelabels", json!({"x": 50, "y": 50, "width": 20, "height": 40, "rotation": 0, "rectanglelabels": ["Plate"]})),
                result("d", "rectanglelabels", json!({"x": 50, "y": 50, "width": 20, "height": 40, "rotation": 90, "rectanglelabels": ["Turned"]})),
                result("e", "ellipse", json!({"x": 50, "y": 50, "radiusX": 10, "radiusY": 20})),
                text("e", json!("a disc")),
                result("k", "keypointlabels", json!({"x": 1, "y": 1, "keypointlabels": ["Cup"]})),
            ]},
        ],
    }]);
    f.write("export.json", &tasks.to_string());
    assert_eq!(OwnFormat::detect(&f.path()).unwrap(), OwnFormat::LabelStudio);
    let set = ["train", "val"].into_iter().find_map(|split| f.open(OwnFormat::LabelStudio, split).ok()).unwrap();
    let rows: Vec<(String, u64)> = said(&set).into_iter().map(|(_, text, area)| (text, area)).collect();
    let disc = rows.iter().find(|(text, _)| text == "a disc").unwrap().1;
    assert!((9..=15).contains(&disc), "{disc}");
    for (text, area) in [("Cup", 16), ("the top row", 20), ("Plate", 16), ("Turned", 16)] {
        assert!(rows.contains(&(text.to_owned(), area)), "{text}: {rows:?}");
    }
    assert!(set.warnings[0].contains("1 results without a mask"), "{:?}", set.warnings);
}

/// Masks that `label-studio-sdk` packed: `tests/fixtures/make_brush.py` writes the file.
#[test]
fn brush_masks_of_label_studios_own_encoder() {
    let text = include_str!("../fixtures/brush.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let f = Folder::new();
        let side = |key: &str| case[key].as_u64().unwrap() as u32;
        f.image("a.png", (side("width"), side("height")), 1);
        let region = json!({"id": "r", "type": "brushlabels", "original_width": case["width"], "original_height": case["height"],
            "value": {"format": "rle", "rle": case["rle"], "brushlabels": ["x"]}});
        f.write("e.json", &json!([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}]).to_string());
        let set = ["train", "val"].into_iter().find_map(|split| f.open(OwnFormat::LabelStudio, split).ok()).unwrap();
        let mask = set.with_masks_read().unwrap().referents.remove(0).mask;
        let counts: Vec<u64> = case["counts"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap()).collect();
        assert_eq!(mask.counts().iter().map(|c| u64::from(*c)).collect::<Vec<_>>(), counts);
    }
}

/// A photograph that EXIF turns is read upright, as whoever drew on it saw it.
#[test]
fn photographs_are_upright() {
    let f = Folder::new();
    let mut bytes = Vec::new();
    let pixels = image::RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 4 { 250 } else { 0 }, 0, 0]));
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&pixels).unwrap();
    // Orientation 6: a quarter turn to the right. The left edge becomes the top.
    let exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    bytes.splice(2..2, exif.iter().copied());
    std::fs::write(f.at("a.jpg"), bytes).unwrap();
    f.write("d.jsonl", r#"{"image": "a.jpg", "sentence": "the top", "box": [0, 0, 8, 4], "split": "train"}"#);
    let set = f.open(OwnFormat::Jsonl, "train").unwrap();
    assert_eq!((set.images[0].width, set.images[0].height), (8, 16));
    let image = set.images[0].decode().unwrap();
    assert!(image.data()[0] > 200 && image.data()[image.data().len() - 3] < 50);
    assert_eq!(set.referents[0].mask.area(), 32);
    // A record of the stored size is refused with the reason.
    f.write("d.jsonl", r#"{"image": "a.jpg", "sentence": "x", "box": [0, 0, 8, 4], "split": "train", "width": 16, "height": 8}"#);
    let report = verify_own(&f.path(), OwnFormat::Jsonl, true).unwrap();
    assert!(report.errors[0].contains("EXIF"), "{report}");
}
