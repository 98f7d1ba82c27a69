//! Sets of classes in their owners' layouts: fixtures that Python wrote and read, drawing, and damaged files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use refcoco_data::{
    Collection, Dataset, DatasetSpec, Draw, Fit, ImageCache, Item, ItemPer, Photo, Sampler, Target, Transform, held_out_images,
    load_batch, sequential, verify, verify_deep,
};
use serde::Deserialize;
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/multitask")
}

/// A copy of the fixtures that a test may damage.
fn copy() -> TempDir {
    fn all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() { all(&path, &to) } else { std::fs::copy(&path, &to).map(drop).unwrap() }
        }
    }
    let temp = tempfile::tempdir().unwrap();
    all(&fixtures(), temp.path());
    temp
}

fn open(root: &Path, name: &str, split: &str) -> Result<Dataset, String> {
    Dataset::open(&DatasetSpec::new(root, name), split).map_err(|e| e.to_string())
}

/// What Python read: a line of `masks.json`.
#[derive(Deserialize)]
struct Read {
    set: String,
    split: String,
    image: String,
    class: String,
    size: [u32; 2],
    counts: Vec<u32>,
}

#[test]
fn masks_are_those_that_python_reads() {
    let text = std::fs::read_to_string(fixtures().join("masks.json")).unwrap();
    let mut wanted: BTreeMap<(String, String), Vec<Read>> = BTreeMap::new();
    for read in serde_json::from_str::<Vec<Read>>(&text).unwrap() {
        wanted.entry((read.set.clone(), read.split.clone())).or_default().push(read);
    }
    assert_eq!(wanted.len(), 8);
    for ((name, split), mut wanted) in wanted {
        let set = open(&fixtures(), &name, &split).unwrap();
        let items = sequential(&set, None).unwrap();
        let masks = set.masks(&items).unwrap();
        let mut found: Vec<_> =
            items.iter().zip(&masks).map(|(i, m)| (set.image(i).file_name.clone(), set.text(i).into_owned(), m)).collect();
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        wanted.sort_by(|a, b| (&a.image, &a.class).cmp(&(&b.image, &b.class)));
        let names = |f: &(String, String, _)| (f.0.clone(), f.1.clone());
        let expected: Vec<_> = wanted.iter().map(|w| (w.image.clone(), w.class.clone())).collect();
        assert_eq!(found.iter().map(names).collect::<Vec<_>>(), expected, "{name} {split}");
        for ((image, class, mask), wanted) in found.iter().zip(&wanted) {
            let size = [mask.height(), mask.width()];
            assert_eq!((size, mask.canonical().counts()), (wanted.size, wanted.counts.as_slice()), "{name}: {image}: {class}");
        }
    }
}

#[test]
fn evaluation_asks_for_every_class_of_every_image_in_order() {
    let set = open(&fixtures(), "ade20k", "val").unwrap();
    let items = sequential(&set, None).unwrap();
    let said: Vec<_> = items.iter().map(|i| (set.image(i).id, set.text(i).into_owned(), set.sent_id(i))).collect();
    let wanted = [(1, 3), (1, 99), (3, 1), (3, 2), (3, 3), (3, 4)].map(|(image, n)| (image, format!("thing {n}"), n - 1));
    assert_eq!(said, wanted, "plain names; 0 and 255 are no class, so the second image has none");
    for limit in 0..7 {
        assert_eq!(sequential(&set, Some(limit)).unwrap(), items[..limit.min(6)]);
    }
    let (transform, cache) = (Transform::eval(32, Fit::TopLeft).unwrap().with_full_masks(true), ImageCache::default());
    let draws: Vec<Draw> = items.iter().copied().map(Draw::from).collect();
    let loaded = load_batch(&set, &draws, &transform, &cache).unwrap();
    for ((loaded, item), mask) in loaded.iter().zip(&items).zip(set.masks(&items).unwrap()) {
        let bytes: Vec<u8> = mask.to_row_major().iter().map(|v| v * 255).collect();
        assert_eq!((loaded.item, &loaded.sample.full_mask, loaded.sample.sentence.as_str()), (*item, &bytes, &*set.text(item)));
    }
    let alone = Item { target: Target::Image(1), key: 0 };
    assert_eq!((set.image(&alone).id, &*set.text(&alone), set.masks(&[alone]).unwrap()[0].area()), (2, "", 0));
}

/// All classes drawn in some steps, as (image's place, texts).
fn drawn(set: &Dataset, sampler: &Sampler, steps: std::ops::Range<u64>) -> Vec<(usize, Vec<String>)> {
    let (transform, cache) = (Transform::eval(16, Fit::TopLeft).unwrap(), ImageCache::default());
    let mut out: Vec<(usize, Vec<String>)> = Vec::new();
    for step in steps {
        let draws = sampler.at(step);
        let loaded = load_batch(set, &draws, &transform, &cache).unwrap();
        for run in loaded.chunk_by(|a, b| a.item.key == b.item.key) {
            let image = set.image_index(&run[0].item);
            assert!(run.iter().all(|l| set.image_index(&l.item) == image));
            out.push((image, run.iter().map(|l| l.sample.sentence.clone()).collect()));
        }
    }
    out
}

#[test]
fn up_to_three_classes_are_drawn_without_replacement() {
    let set = open(&fixtures(), "ade20k", "val").unwrap().with_prompt("[semantic] {}").unwrap();
    let sampler = Sampler::new(&set, ItemPer::Image, 1, 5).unwrap().with_expressions(3);
    let all = drawn(&set, &sampler, 0..300);
    let mut seen: BTreeMap<usize, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (image, texts) in &all {
        let distinct: BTreeSet<_> = texts.iter().collect();
        assert_eq!((distinct.len(), texts.len()), (texts.len(), if *image == 0 { 2 } else { 3 }), "{texts:?}");
        assert!(texts.iter().all(|t| t.starts_with("[semantic] thing ")));
        seen.entry(*image).or_default().insert(texts.clone());
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [0, 2], "an image without a class gives way to another");
    assert_eq!((seen[&0].len(), seen[&2].len()), (2, 24), "every order of every choice comes up");
    // Each of the other two takes the place of the empty one half of the time.
    let first = all.iter().filter(|(image, _)| *image == 0).count();
    assert!((115..185).contains(&first), "{first} of 300");
    // A step depends on nothing before it, nor on threads.
    let again = Sampler::new(&set, ItemPer::Image, 1, 5).unwrap().with_expressions(3);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| drawn(&set, &again, 40..60)), all[40..60]);
    let other = Sampler::new(&set, ItemPer::Image, 1, 6).unwrap().with_expressions(3);
    assert_ne!(drawn(&set, &other, 40..60), all[40..60]);
    for per in [ItemPer::Referent, ItemPer::Sentence, ItemPer::GroupedReferent] {
        let error = Sampler::new(&set, per, 1, 5).unwrap_err().to_string();
        assert!(error.contains("`items`") && error.contains("must be image"), "{error}");
    }
}

#[test]
fn sets_are_mixed_by_their_rates() {
    let root = fixtures();
    let sets = ["objects365", "ade20k", "partimagenet", "humanparsing", "pascal_part"].map(|name| {
        let set = open(&root, name, "train").unwrap();
        if name == "objects365" { set } else { set.with_prompt("[semantic] {}").unwrap() }
    });
    let mixed = sets.into_iter().reduce(Dataset::with).unwrap();
    assert_eq!((mixed.images.len(), mixed.class_images.len(), mixed.parts.as_slice()), (8, 8, &[2, 3, 5, 7][..]));
    let sampler = Sampler::new(&mixed, ItemPer::Image, 2, 7).unwrap().with_expressions(3).with_rates(&[4, 4, 2, 2, 1]).unwrap();
    let all = drawn(&mixed, &sampler, 0..325);
    let part = |image: usize| mixed.parts.partition_point(|first| *first <= image);
    let mut counts = [0; 5];
    all.iter().for_each(|(image, _)| counts[part(*image)] += 1);
    for (count, rate) in counts.into_iter().zip([4.0, 4.0, 2.0, 2.0, 1.0]) {
        assert!((f64::from(count) - 50.0 * rate).abs() < 45.0, "{counts:?} of 650");
    }
    let texts: BTreeSet<&str> = all.iter().flat_map(|(_, texts)| texts).map(String::as_str).collect();
    for text in ["Person", "[semantic] thing 150", "[semantic] quadruped head", "[semantic] background", "[semantic] bus door"] {
        assert!(texts.contains(text), "{text}: {texts:?}");
    }
    let every: BTreeSet<_> = mixed.texts().map(|t| t.into_owned()).collect();
    assert!(texts.iter().all(|t| every.contains(*t)));
    assert_eq!(every.len(), 3 + 150 + 3 + 18 + 3);
    for prompt in ["", "semantic", "{} {}"] {
        let error = mixed.clone().with_prompt(prompt).unwrap_err().to_string();
        assert!(error.contains("`prompt`") && error.contains("one {}"), "{error}");
    }
}

#[test]
fn left_and_right_are_the_viewers() {
    let set = open(&fixtures(), "humanparsing", "train").unwrap();
    let names = set.class_images[0].set.names();
    let wanted = [(9, "right shoe"), (10, "left shoe"), (12, "right leg"), (13, "left leg"), (14, "right arm"), (15, "left arm")];
    assert!(wanted.iter().all(|(i, name)| names[*i] == *name) && names[0] == "background" && names.len() == 18);
}

#[test]
fn the_challenges_own_list_of_classes_is_read() {
    let root = copy();
    let folder = root.path().join("ADEChallengeData2016");
    std::fs::rename(root.path().join("ade20k"), &folder).unwrap();
    std::fs::remove_file(folder.join("ade20k_classes.json")).unwrap();
    let error = open(root.path(), "ade20k", "val").unwrap_err();
    assert!(error.contains("ade20k_classes.json") && error.contains("objectInfo150.txt"), "{error}");
    let mut table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n".to_owned();
    table.extend((1..=150).map(|i| format!("{i}\t0.1\t7\t8\t0\tthing {i}, matter, stuff {i}\n")));
    std::fs::write(folder.join("objectInfo150.txt"), &table).unwrap();
    assert_eq!(open(root.path(), "ade20k", "val").unwrap().class_images[0].set.names()[98], "thing 99");
    std::fs::write(folder.join("objectInfo150.txt"), table.replacen("7\t0.1\t7\t8\t0\tthing 7, matter, stuff 7", "7 thing", 1))
        .unwrap();
    let error = open(root.path(), "ade20k", "val").unwrap_err();
    assert!(error.contains("line 8") && error.contains("7 thing"), "{error}");
}

#[test]
fn a_whole_folder_verifies() {
    let report = verify_deep(&fixtures()).unwrap();
    assert!(report.is_ok(), "{report}");
    let counts: Vec<_> = report.splits.iter().map(|s| (s.set.as_str(), s.split.as_str(), s.refs, s.images)).collect();
    assert_eq!(
        counts,
        [
            ("ade20k", "train", 3, 1),
            ("ade20k", "val", 6, 3),
            ("mapillary", "train", 11, 3),
            ("mapillary", "val", 2, 1),
            ("humanparsing", "train", 10, 2),
            ("partimagenet", "train", 3, 2),
            ("pascal_part", "train", 2, 1),
            ("objects365", "train", 2, 2),
        ]
    );
    for part in ["ADE_val_00000002.png: no pixel has a class", "train.json: 1 records", "annotations/val/val.json: not there"] {
        assert!(report.warnings.iter().any(|w| w.contains(part)), "{part}: {report}");
    }
}

#[test]
fn held_out_photographs_are_told_apart_by_collection() {
    let root = copy();
    let parts = root.path().join("PartImageNet");
    std::fs::create_dir_all(parts.join("annotations/val")).unwrap();
    let json = std::fs::read_to_string(parts.join("annotations/train/train.json")).unwrap();
    std::fs::write(parts.join("annotations/val/val.json"), json.replace("n02100735_8211", "n1/n02100735_8211")).unwrap();
    let specs = ["ade20k", "mapillary", "humanparsing", "partimagenet", "objects365"].map(|n| DatasetSpec::new(root.path(), n));
    let held = held_out_images(&specs).unwrap();
    let ade = ["ADE_val_00000001", "ADE_val_00000002.jpg", "x/ADE_val_00000003.jpg"].map(|n| Photo::named(Collection::Ade20k, n));
    let other = [
        Photo::named(Collection::Mapillary, "one-bit"),
        Photo::named(Collection::ImageNet, "n02100735_8211"),
        Photo::named(Collection::ImageNet, "n02104029_316"),
    ];
    assert_eq!(held, ade.into_iter().chain(other).collect());
    let [ade, parts] = ["ade20k", "partimagenet"].map(|name| open(root.path(), name, "train").unwrap());
    let mut mixed = ade.with(parts).with(open(root.path(), "objects365", "train").unwrap());
    assert_eq!(mixed.exclude(&held), 2, "the photographs of a split that is trained on and held out");
    assert_eq!((mixed.images.len(), mixed.class_images.len(), mixed.parts.as_slice()), (3, 3, &[1, 1][..]));
    assert!(mixed.class_images.iter().enumerate().all(|(i, c)| c.image == i));
    // A COCO photograph with the number of an ADE20K one is another.
    assert_eq!(mixed.exclude(&BTreeSet::from([Photo::numbered(Collection::Coco, 1)])), 0);
}

/// Damages a file and expects a named error, at opening or else at loading, and from `verify`.
#[track_caller]
fn refuses(name: &str, split: &str, file: &str, damage: impl Fn(&Path), parts: &[&str]) {
    let root = copy();
    damage(&root.path().join(file));
    let opened = open(root.path(), name, split);
    let error = match opened {
        Err(error) => error,
        Ok(set) => {
            let transform = Transform::eval(16, Fit::TopLeft).unwrap();
            let sampler = Sampler::new(&set, ItemPer::Image, set.images.len(), 1).unwrap().with_expressions(9);
            load_batch(&set, &sampler.at(0), &transform, &ImageCache::default()).unwrap_err().to_string()
        }
    };
    let report = verify(root.path()).unwrap();
    for part in parts {
        assert!(error.contains(part), "\"{part}\" is not in \"{error}\"");
        assert!(report.errors.iter().any(|e| e.contains(part)), "\"{part}\" is not in\n{report}");
    }
}

fn replace(from: &'static str, to: &'static str) -> impl Fn(&Path) {
    move |path| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

fn cut(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
}

#[test]
fn damaged_label_maps_are_named() {
    let map = "ade20k/annotations/training/ADE_train_00000001.png";
    let grey = |w, h, v| move |path: &Path| image::GrayImage::from_pixel(w, h, image::Luma([v])).save(path).unwrap();
    refuses("ade20k", "train", map, grey(30, 20, 7), &["ADE_train_00000001.png", "is 30 x 20 but its image", "is 30 x 21"]);
    refuses(
        "ade20k",
        "train",
        map,
        grey(30, 21, 151),
        &["pixel (0, 0) holds 151", "150 classes are 1 to 150, and 0 and 255 for none"],
    );
    let street = "mapillary/training/v2.0/labels/-aB_x9.png";
    let colours = |path: &Path| image::open(path).unwrap().into_rgb8().save(path).unwrap();
    refuses("mapillary", "train", street, colours, &["-aB_x9.png", "pixels are RGB", "saved with the palette's colours"]);
    refuses("mapillary", "train", street, grey(23, 17, 124), &["holds 124", "124 classes are 0 to 123"]);
    let person = "humanparsing/SegmentationClassAug/10.png";
    refuses("humanparsing", "train", person, grey(14, 26, 18), &["10.png", "holds 18", "18 classes are 0 to 17"]);
    let rgba = |path: &Path| image::RgbaImage::new(14, 26).save(path).unwrap();
    refuses("humanparsing", "train", person, rgba, &["pixels are RGBA"]);
    let deep = |path: &Path| image::ImageBuffer::<image::Luma<u16>, _>::new(14, 26).save(path).unwrap();
    refuses("humanparsing", "train", person, deep, &["grey has 16 bits"]);
    refuses("humanparsing", "train", person, cut, &["10.png", "cut short"]);
    let jpeg = |path: &Path| image::RgbImage::new(14, 26).save_with_format(path, image::ImageFormat::Jpeg).unwrap();
    refuses("humanparsing", "train", person, jpeg, &["no PNG"]);
    refuses("humanparsing", "train", person, |path| std::fs::write(path, b"x").unwrap(), &["too short"]);
    let gone = |path: &Path| std::fs::remove_file(path).unwrap();
    refuses("humanparsing", "train", "humanparsing/JPEGImages/10.jpg", gone, &["JPEGImages/10.jpg: no such image"]);
    refuses("mapillary", "train", "mapillary/config_v2.0.json", gone, &["config_v2.0.json: no such class list"]);
    refuses("mapillary", "train", "mapillary/config_v2.0.json", replace("\"readable\"", "\"name2\""), &["labels[0].readable"]);
    refuses(
        "ade20k",
        "train",
        "ade20k/ade20k_classes.json",
        replace("[", "{\"a\": ["),
        &["ade20k_classes.json", "not valid JSON"],
    );
    let folder = |path: &Path| std::fs::remove_dir_all(path).unwrap();
    refuses("ade20k", "train", "ade20k/annotations/training", folder, &["annotations/training: no such label folder"]);
}

#[test]
fn damaged_annotation_files_are_named() {
    let parts = "PartImageNet/annotations/train/train.json";
    refuses("partimagenet", "train", parts, cut, &["train.json", "cut short"]);
    let refused = |from, to, words: &[&str]| refuses("partimagenet", "train", parts, replace(from, to), words);
    refused("\"image_id\": 4", "\"image_id\": 5", &["annotations[0].image_id", "5 is not an id in `images`"]);
    refused("\"category_id\": 2", "\"category_id\": 3", &["annotations[2].category_id", "3 is not an id in `categories`"]);
    refused("\"category_id\": 2", "\"category_id\": \"x\"", &["annotations[2].category_id", "a whole number"]);
    refused("\"segmentation\": [[2.5", "\"segmentation\": [\"a\", [2.5", &["annotations[0].segmentation", "polygons"]);
    refused("[[2.5, 1, 12", "[[2.5, 1, \"a\"", &["segmentation", "polygons"]);
    refused("\"height\": 21, ", "", &["images[0].height"]);
    refused("\"id\": 9, \"file", "\"id\": 4, \"file", &["images[0].id", "images[1].id", "unique"]);
    refused("\"categories\"", "\"category\"", &["categories", "the key is missing"]);
    refused("n02100735_8211", "n02100735_8212", &["n02100735_8212.JPEG: no such image"]);
    refused("\"height\": 21", "\"height\": 22", &["n02100735_8211.JPEG", "21", "22"]);
    refused("[8, 8, 26.2", "[8, 8, 1e12", &["train.json", "segmentation"]);
    let runs = "vlpart/pascal_part/train.json";
    refuses("pascal_part", "train", runs, replace("[16, 25]", "[25, 16]"), &["25 x 16", "16 x 25", "both must be equal"]);
    refuses("pascal_part", "train", runs, |path| std::fs::write(path, "<html>").unwrap(), &["train.json", "HTML"]);
    let gone = |path: &Path| std::fs::remove_file(path).unwrap();
    let root = copy();
    gone(&root.path().join(runs));
    assert!(open(root.path(), "pascal_part", "train").unwrap_err().contains("train.json: no such annotation file"));
    for (name, split, word) in
        [("ade20k", "test", "train, val"), ("objects365", "val", "train"), ("ade", "train", "humanparsing")]
    {
        let error = open(root.path(), name, split).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    let spec = DatasetSpec { split_by: "unc".into(), ..DatasetSpec::new(root.path(), "ade20k") };
    assert!(Dataset::open(&spec, "val").unwrap_err().to_string().contains("challenge"));
}

#[test]
fn a_file_that_changes_underneath_is_named() {
    let root = copy();
    let set = open(root.path(), "pascal_part", "train").unwrap();
    let items = sequential(&set, None).unwrap();
    let path = root.path().join("vlpart/pascal_part/train.json");
    std::fs::write(&path, format!("\n\n{}", std::fs::read_to_string(&path).unwrap())).unwrap();
    let error = set.masks(&items).unwrap_err().to_string();
    assert!(error.contains("train.json") && error.contains("at byte"), "{error}");
}
