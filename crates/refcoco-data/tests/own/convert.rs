//! Conversions back and forth keep every mask to the pixel.

use std::collections::BTreeSet;
use std::path::Path;

use coco_mask::Rle;
use refcoco_data::{ConvertTo, Dataset, DatasetSpec, OwnFormat, SynthConfig, convert, generate, mask_png};
use serde_json::json;

use crate::Folder;

/// A small generator for shapes.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Blots and noise, with holes, and pixels at the borders.
    fn mask(&mut self, (width, height): (u32, u32)) -> Rle {
        let mut pixels = vec![0u8; (width * height) as usize];
        for _ in 0..self.below(4) {
            let (x, y) = (self.below(width.into()) as i64, self.below(height.into()) as i64);
            let (radius, value) = (self.below(8) as i64 + 1, u8::from(self.below(4) > 0));
            for (at, pixel) in pixels.iter_mut().enumerate() {
                let (px, py) = ((at as u32 % width) as i64, (at as u32 / width) as i64);
                if (px - x).pow(2) + (py - y).pow(2) < radius * radius {
                    *pixel = value;
                }
            }
        }
        for _ in 0..self.below(6) {
            let at = self.below(pixels.len() as u64) as usize;
            pixels[at] ^= 1;
        }
        Rle::from_row_major(height, width, &pixels).unwrap()
    }
}

/// (split, image's name, sentences, mask) of everything, whatever the order.
fn all(spec: &DatasetSpec, splits: &[(String, usize)]) -> BTreeSet<(String, String, Vec<String>, Vec<u32>)> {
    let mut out = BTreeSet::new();
    for (split, _) in splits {
        // gRefCOCO has no plain `test`.
        let split_there = if spec.name == "grefcoco" && split == "test" { "testA" } else { split };
        let set = Dataset::open(spec, split_there).unwrap().with_masks_read().unwrap();
        for r in &set.referents {
            let image = Path::new(&set.images[r.image].file_name).file_stem().unwrap().to_string_lossy().into_owned();
            let said = r.sentences.iter().map(|s| s.text.clone()).collect();
            out.insert((split.clone(), image, said, r.mask.canonical().counts().to_vec()));
        }
    }
    out
}

#[test]
fn every_mask_survives_every_conversion() {
    for seed in 0..6 {
        let f = Folder::new();
        let mut draws = Draws(seed);
        let mut lines = String::new();
        let single = seed % 2 == 0;
        for i in 0..5u8 {
            let size = (draws.below(40) as u32 + 1, draws.below(40) as u32 + 1);
            f.image(&format!("images/p{i}.png"), size, i);
            for k in 0..draws.below(3) + 1 {
                let count = if single { 1 } else { draws.below(4) };
                let targets: Vec<_> = (0..count)
                    .map(|t| {
                        let mask = draws.mask(size);
                        if t % 2 == 0 {
                            let name = format!("masks/p{i}-{k}-{t}.png");
                            std::fs::write(f.at(&name), mask_png(&mask).unwrap()).unwrap();
                            json!({ "mask": name })
                        } else {
                            json!({"rle": {"size": [size.1, size.0], "counts": mask.counts()}})
                        }
                    })
                    .collect();
                let split = ["train", "val", "test"][draws.below(3) as usize];
                let line = json!({"image": format!("images/p{i}.png"), "sentences": [format!("thing {k}"), "it"], "targets": targets, "split": split});
                lines += &format!("{line}\n");
            }
        }
        f.write("data.jsonl", &lines);
        let spec = DatasetSpec::new(f.path(), "jsonl");
        let out = |name: &str| f.path().with_file_name(name);
        let first = convert(&spec, ConvertTo::Jsonl, &out("jsonl")).unwrap();
        let want = all(&spec, &first.splits);
        assert_eq!(want, all(&first.spec, &first.splits));
        let coco = convert(&first.spec, ConvertTo::Coco, &out("coco")).unwrap();
        assert_eq!(want, all(&coco.spec, &coco.splits));
        let refer = convert(&coco.spec, ConvertTo::Refer, &out("refer")).unwrap();
        assert_eq!(refer.spec.name, if single { "refcoco" } else { "grefcoco" }, "seed {seed}");
        assert_eq!(want, all(&refer.spec, &refer.splits));
        // And home again.
        let back = convert(&refer.spec, ConvertTo::Jsonl, &out("back")).unwrap();
        let home = |split: &str| if !single && split == "testA" { "test".to_owned() } else { split.to_owned() };
        let found = all(&back.spec, &back.splits).into_iter().map(|(s, i, t, m)| (home(&s), i, t, m)).collect();
        assert_eq!(want, found);
        assert_eq!(OwnFormat::detect(&out("back")).unwrap(), OwnFormat::Jsonl);
        assert!(refcoco_data::verify_deep(&out("refer")).unwrap().is_ok());
    }
}

#[test]
fn targets_stay_apart() {
    let f = Folder::new();
    f.image("a.png", (10, 10), 1);
    f.write(
        "d.jsonl",
        r#"{"image": "a.png", "sentence": "both", "targets": [{"box": [0, 0, 2, 2]}, {"box": [5, 5, 2, 2]}], "split": "train"}"#,
    );
    let out = f.path().with_file_name("coco");
    let made = convert(&DatasetSpec::new(f.path(), "jsonl"), ConvertTo::Coco, &out).unwrap();
    let text = std::fs::read_to_string(out.join("annotations/instances_train.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["annotations"].as_array().unwrap().len(), 2);
    let set = Dataset::open(&made.spec, "train").unwrap();
    assert_eq!((set.referents.len(), set.referents[0].ann_ids.len()), (1, 2));
}

#[test]
fn published_sets_are_converted_and_nothing_is_left_of_a_failure() {
    let f = Folder::new();
    generate(&SynthConfig { images: 12, size: 64, ..SynthConfig::default() }, &f.path()).unwrap();
    for name in ["refcoco", "grefcoco"] {
        let spec = DatasetSpec::new(f.path(), name);
        let out = f.path().with_file_name(format!("of-{name}"));
        let made = convert(&spec, ConvertTo::Coco, &out).unwrap();
        assert_eq!(all(&spec, &made.splits), all(&made.spec, &made.splits));
        let error = convert(&spec, ConvertTo::Coco, &out).unwrap_err().to_string();
        assert!(error.contains("never writes over"), "{error}");
    }
    let missing = f.path().join("images/train2014/COCO_train2014_000000000003.jpg");
    std::fs::remove_file(&missing).unwrap();
    let out = f.path().with_file_name("failed");
    assert!(convert(&DatasetSpec::new(f.path(), "refcoco"), ConvertTo::Jsonl, &out).is_err());
    let left: Vec<_> = std::fs::read_dir(f.path().parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("failed")), "{left:?}");
}
