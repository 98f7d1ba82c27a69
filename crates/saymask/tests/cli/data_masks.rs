//! `data masks`: boxes become the masks that `segment --box` finds, once each, whatever stops the command in between.

use burn::tensor::Device;
use efficient_sam::{EfficientSamConfig, efficient_sam_names};
use image::RgbImage;
use nn_ops::weights::{export, load_formula};
use sam_vit::Naming;
use serde_json::{Value, json as value};
use test_support::{Session, json};

use super::segment::toy_sam;

/// Boxes (x, y, width, height) of the images 1, 2, 3 and their categories; the last two share one.
const BOXES: [(i64, i64, [f64; 4]); 5] = [
    (1, 1, [20.0, 15.0, 30.0, 30.0]),
    (1, 2, [0.0, 0.0, 90.0, 60.0]),
    (2, 1, [10.0, 5.0, 40.0, 50.0]),
    (3, 2, [0.0, 0.0, 20.0, 20.0]),
    (3, 2, [40.0, 20.0, 20.0, 20.0]),
];

fn picture(s: &Session, number: u32) {
    let image = RgbImage::from_fn(90, 60, |x, y| {
        let inside = (20..50).contains(&x) && (15..45).contains(&y);
        image::Rgb(if inside { [210, 60 * number as u8, 50] } else { [(x * 2) as u8, (y * 3) as u8, 120] })
    });
    image.save(s.path("o").join("train").join(format!("{number}.png"))).unwrap();
}

fn prepare() -> Session {
    let (s, sam) = (super::session(), toy_sam());
    for (naming, file) in [(Naming::Facebook, "toy.safetensors"), (Naming::HuggingFace, "port.safetensors")] {
        sam.export(naming).unwrap().save(s.path(file), &[]).unwrap();
    }
    std::fs::create_dir_all(s.path("o").join("train")).unwrap();
    (1..=3).for_each(|number| picture(&s, number));
    let images: Vec<Value> =
        (1..=3).map(|i| value!({"id": i, "file_name": format!("{i}.png"), "height": 60, "width": 90})).collect();
    let row = |(i, (image, category, bbox)): (usize, &(i64, i64, [f64; 4]))| value!({"id": i + 1, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0});
    let rows: Vec<Value> = BOXES.iter().enumerate().map(row).collect();
    let file =
        value!({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "Cup"}, {"id": 2, "name": "Dog"}]});
    std::fs::write(s.path("o").join("boxes.json"), file.to_string()).unwrap();
    s
}

const CALL: [&str; 4] = ["data", "masks", "--boxes", "o/boxes.json"];

fn call<'a>(weights: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&CALL[..], &["--weights", weights, "--out", out], more].concat()
}

/// Everything that a call that must fail says.
fn failing(s: &Session, args: &[&str]) -> String {
    let out = s.run(args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(2) && !said.contains("panicked"), "{args:?}: {said}");
    said
}

#[test]
fn boxes_become_masks() {
    let s = prepare();
    let said = s.ok(&call("toy.safetensors", "o/whole.json", &[]));
    let whole = json(&s.path("o/whole.json"));
    let found = whole["annotations"].as_array().unwrap();
    assert!(said.contains(&format!("whole.json: {} masks in", found.len())) && !found.is_empty(), "{said}");
    // The last two boxes share image and category. A box in which nothing is found has no annotation.
    for (id, (image, category, [x, y, w, h])) in (1..).zip(&BOXES[..3]) {
        let (picture, corners) = (format!("o/train/{image}.png"), format!("{x},{y},{},{}", x + w, y + h));
        s.ok(&["segment", &picture, "--weights", "toy.safetensors", "--box", &corners, "--out", "one"]);
        let wanted = &json(&s.path("one").join(format!("{image}.json")))["masks"][0];
        let mut of_box = found.iter().filter(|a| a["id"] == value!(id));
        assert_eq!(of_box.clone().count(), usize::from(wanted["area"] != value!(0)), "{corners}");
        for annotation in of_box.by_ref() {
            assert_eq!(annotation["segmentation"], value!([wanted["segmentation"]]), "{corners}");
            assert_eq!((&annotation["area"], &annotation["bbox"]), (&wanted["area"], &wanted["bbox"]));
            assert_eq!((&annotation["image_id"], &annotation["category_id"]), (&value!(image), &value!(category)));
        }
    }
    assert!(found.iter().all(|a| a["id"].as_i64().unwrap() <= 3));

    // Stopped between images, and within a line: an image that is not there yet stops the first call.
    std::fs::remove_file(s.path("o/train/2.png")).unwrap();
    let said = failing(&s, &call("toy.safetensors", "o/set.json", &[]));
    assert!(said.contains("2.png") && said.contains("1 of 2 images failed"), "{said}");
    let lines = s.path("o/set.json.lines");
    let kept = std::fs::read_to_string(&lines).unwrap();
    assert!(!s.path("o/set.json").exists() && kept.lines().count() == 2, "{kept}");
    std::fs::write(&lines, kept + "{\"image\":2,\"mas").unwrap();
    let said = s.refused(&call("port.safetensors", "o/set.json", &[]));
    assert!(said.contains("toy.safetensors of") && said.contains("choose another file"), "{said}");
    picture(&s, 2);
    let out = s.run(&call("toy.safetensors", "o/set.json", &[]));
    let noted = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && noted.contains("1 of 2 images are done already"), "{noted}");
    assert!(noted.contains("left out: 2 boxes of categories that occur again"), "{noted}");
    assert_eq!(std::fs::read(s.path("o/set.json")).unwrap(), std::fs::read(s.path("o/whole.json")).unwrap());
    assert!(!lines.exists());
    assert!(s.refused(&call("toy.safetensors", "o/set.json", &[])).contains("is there already"));
}

#[test]
fn efficient_sam_and_what_makes_no_sense() {
    let s = prepare();
    let config = EfficientSamConfig { embed_dim: 64, heads: 1, depth: 1, decoder_mlp_dim: 64, ..EfficientSamConfig::small() };
    let names = efficient_sam_names();
    let sam = load_formula(config.init(&Device::flex()).unwrap(), "masks", &names).0;
    export(&sam, &names, "toy").save(s.path("light.safetensors"), &[]).unwrap();
    assert!(s.ok(&call("light.safetensors", "light.json", &[])).contains("masks in"));

    let refuses = |args: &[&str], words: &[&str]| {
        let said = failing(&s, args);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    refuses(
        &call("toy.safetensors", "x.json", &["--model", "sam2-tiny"]),
        &["toy.safetensors", "SAM with tokens of 32", "SAM-2"],
    );
    refuses(&call("nope.pth", "x.json", &[]), &["nope.pth"]);
    refuses(&call("toy.safetensors", "x.json", &["--images", "nowhere"]), &["nowhere", "--images"]);
    refuses(&["data", "masks", "--boxes", "no.json", "--weights", "toy.safetensors", "--out", "x.json"], &["no.json"]);
    let boxes = s.path("o/boxes.json");
    let text = std::fs::read_to_string(&boxes).unwrap();
    // Records that do not fit their images: pixels of another size, boxes beside them.
    std::fs::write(&boxes, text.replace("\"height\":60", "\"height\":61")).unwrap();
    refuses(&call("toy.safetensors", "x.json", &[]), &["90 x 60 pixels, but its record says 90 x 61", "2 of 2 images failed"]);
    std::fs::write(&boxes, text.replace("\"width\":90", "\"width\":9").replace("\"height\":60", "\"height\":4")).unwrap();
    refuses(&call("toy.safetensors", "x.json", &[]), &["annotations[id=1].bbox", "in 9 x 4 pixels"]);
    assert!(!s.path("x.json").exists() && !s.path("x.json.lines").exists(), "a refused command must leave nothing behind");
}
