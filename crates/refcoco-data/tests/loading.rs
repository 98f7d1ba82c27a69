//! Samplers, transforms and the path from disk to batch.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use pil_ops::{Filter, resize};
use refcoco_data::{
    Augment, Collection, Dataset, DatasetSpec, Draw, Fit, FlipText, ImageCache, ImageInfo, Item, ItemPer, Photo, Prefetcher,
    Sampler, SynthConfig, Target, Transform, generate, load_batch, sequential,
};

fn set() -> (tempfile::TempDir, Dataset) {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("set");
    generate(&SynthConfig { images: 12, size: 64, seed: 3, ..SynthConfig::default() }, &out).unwrap();
    let set = Dataset::open(&DatasetSpec::new(&out, "refcoco"), "train").unwrap();
    (temp, set)
}

/// The items of draws that are whole.
fn items(draws: Vec<Draw>) -> Vec<Item> {
    let item = |draw| if let Draw::Item(item) = draw { item } else { panic!("classes are drawn later") };
    draws.into_iter().map(item).collect()
}

/// Referent and sentence of an item.
fn said(item: &Item) -> (usize, usize) {
    let Target::Sentence { referent, sentence } = item.target else { panic!("no sentence") };
    (referent, sentence)
}

#[test]
fn sampler_is_a_function_of_its_arguments() {
    let (_temp, set) = set();
    let sampler = Sampler::new(&set, ItemPer::Referent, 3, 9).unwrap();
    let steps = sampler.steps_per_epoch();
    assert_eq!(steps, set.referents.len() / 3);
    let epoch = |e: u64| (0..steps).flat_map(|s| items(sampler.batch(e, s))).collect::<Vec<_>>();
    assert_eq!(epoch(4), epoch(4));
    assert_ne!(epoch(4), epoch(5));
    assert_eq!(sampler.at(steps as u64 + 1), sampler.batch(1, 1));
    let seen: BTreeSet<usize> = epoch(0).iter().map(|i| said(i).0).collect();
    assert_eq!(seen.len(), steps * 3, "no referent twice in an epoch");
    assert!(sampler.batch(0, steps).is_empty());
    let drawn: BTreeSet<_> = (0..40).flat_map(epoch).map(|i| said(&i)).collect();
    assert_eq!(drawn.len(), set.sentences(), "every sentence is drawn sooner or later");

    // Two processes of batch 3 see what one of batch 6 sees, in order.
    let one = Sampler::new(&set, ItemPer::Sentence, 6, 9).unwrap();
    let ranks = [0, 1].map(|r| Sampler::new(&set, ItemPer::Sentence, 3, 9).unwrap().distributed(r, 2).unwrap());
    assert_eq!([ranks[0].batch(2, 1), ranks[1].batch(2, 1)].concat(), one.batch(2, 1));
    assert_eq!(sequential(&set, None).unwrap().len(), set.sentences());
    // By image: every referent once, those of an image without another's between them, in another order each epoch.
    let side = Sampler::new(&set, ItemPer::GroupedReferent, 1, 9).unwrap();
    let order = |epoch| -> Vec<usize> { (0..side.steps_per_epoch()).map(|s| said(&items(side.batch(epoch, s))[0]).0).collect() };
    let mut images: Vec<usize> = order(0).iter().map(|&r| set.referents[r].image).collect();
    images.dedup();
    assert_eq!(images.len(), set.images.len());
    let mut all = order(0);
    all.sort_unstable();
    assert_eq!(all, (0..set.referents.len()).collect::<Vec<_>>());
    assert_ne!(order(0), order(1));
    assert!(Sampler::new(&set, ItemPer::Referent, 0, 9).is_err());
    assert!(Sampler::new(&set, ItemPer::Referent, 10_000, 9).is_err());
    assert!(one.distributed(2, 2).unwrap_err().to_string().contains("rank"));
}

#[test]
fn images_come_with_several_of_their_sentences() {
    let (_temp, set) = set();
    let sampler = Sampler::new(&set, ItemPer::Image, 1, 9).unwrap().with_expressions(3);
    assert_eq!(sampler.steps_per_epoch(), set.images.len());
    let mut drawn = BTreeSet::new();
    for epoch in 0..30 {
        let mut images = BTreeSet::new();
        for step in 0..sampler.steps_per_epoch() {
            let items = items(sampler.batch(epoch, step));
            let image = set.image_index(&items[0]);
            let all: usize = set.referents.iter().filter(|r| r.image == image).map(|r| r.sentences.len()).sum();
            assert_eq!(items.len(), all.min(3));
            assert!(items.iter().all(|i| set.image_index(i) == image && i.key == items[0].key));
            let pairs: BTreeSet<_> = items.iter().map(said).collect();
            assert_eq!(pairs.len(), items.len(), "no sentence twice");
            images.insert(image);
            drawn.extend(pairs);
        }
        assert_eq!(images.len(), set.images.len());
    }
    assert_eq!(drawn.len(), set.sentences(), "every sentence is drawn sooner or later");
}

#[test]
fn sets_that_are_mixed_are_drawn_from_alike() {
    let (_temp, set) = set();
    let mut few = set.clone();
    few.referents.retain(|r| r.image < 2);
    few.images.truncate(2);
    let (many, both) = (set.images.len(), set.clone().with(few));
    assert_eq!((both.images.len(), both.parts.clone()), (many + 2, vec![many]));
    let sampler = Sampler::new(&both, ItemPer::Image, 2, 9).unwrap();
    let items: Vec<_> = (0..300).flat_map(|step| items(sampler.at(step))).collect();
    let from_few = items.iter().filter(|i| both.image_index(i) >= many).count();
    assert!((240..360).contains(&from_few), "{from_few} of 600 from the small set");
    assert!(items.iter().any(|i| both.image_index(i) == 0));
    assert_eq!(sampler.at(17), sampler.at(17));
    let keys: BTreeSet<u64> = items.iter().map(|i| i.key).collect();
    assert!(keys.len() > 590, "an image drawn twice is changed in two ways");
}

#[test]
fn rates_say_how_often_a_set_is_drawn_from() {
    let (_temp, set) = set();
    let (n, three) = (set.images.len(), set.clone().with(set.clone()).with(set.clone()));
    let sampler = || Sampler::new(&three, ItemPer::Image, 4, 9).unwrap();
    let count = |sampler: &Sampler| {
        let items: Vec<Item> = (0..500).flat_map(|step| items(sampler.at(step))).collect();
        let images: BTreeSet<(u64, usize)> = items.iter().map(|i| (i.key, three.image_index(i) / n)).collect();
        [0, 1, 2].map(|part| images.iter().filter(|(_, p)| *p == part).count())
    };
    let rated = sampler().with_rates(&[16, 4, 1]).unwrap();
    let [a, b, c] = count(&rated);
    assert!((1450..1600).contains(&a) && (320..440).contains(&b) && (60..135).contains(&c), "{a} {b} {c} of 2000");
    // Equal rates change nothing, and a drawing depends on its step alone.
    assert_eq!(sampler().with_rates(&[1, 1, 1]).unwrap(), sampler());
    let (again, other) = (sampler().with_rates(&[16, 4, 1]).unwrap(), Sampler::new(&three, ItemPer::Image, 4, 8).unwrap());
    assert_eq!(again.at(431), rated.at(431));
    assert_ne!(other.with_rates(&[16, 4, 1]).unwrap().at(431), rated.at(431));
    let halves = [0, 1].map(|r| {
        let half = Sampler::new(&three, ItemPer::Image, 2, 9).unwrap().with_rates(&[16, 4, 1]).unwrap();
        half.distributed(r, 2).unwrap().at(5)
    });
    assert_eq!(halves.concat(), rated.at(5), "two processes draw what one would");
    for (rates, words) in [(&[1, 2][..], "one for each"), (&[1, 0, 1], "1 or more")] {
        let error = sampler().with_rates(rates).unwrap_err().to_string();
        assert!(error.contains("`rate`") && error.contains(words), "{error}");
    }
    let mut gap = three.clone();
    gap.referents.retain(|r| r.image < n || r.image >= 2 * n);
    let gap = Sampler::new(&gap, ItemPer::Image, 4, 9).unwrap().with_rates(&[1, 1, 1]);
    assert!(gap.unwrap_err().to_string().contains("every set"));
}

#[test]
fn batches_do_not_depend_on_threads_or_the_cache() {
    let (_temp, set) = set();
    let set = Arc::new(set);
    let augment = Augment { long_sides: vec![48, 40, 32], blur: 0.5, ..Augment::dit() };
    let transform = Transform::train(48, Fit::Centre, augment).unwrap();
    let run = |threads: usize, bytes: usize| {
        let sampler = Sampler::new(&set, ItemPer::Referent, 4, 1).unwrap();
        let (set, transform, cache) = (set.clone(), transform.clone(), ImageCache::new(bytes));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let made = Prefetcher::spawn(2, move |step| {
            let items = sampler.at(step);
            let batch = pool.install(|| load_batch(&set, &items, &transform, &cache))?;
            Ok((step < 12).then_some(batch))
        });
        made.map(Result::unwrap).collect::<Vec<_>>()
    };
    let (a, b) = (run(1, 0), run(3, 1 << 20));
    assert_eq!(a.len(), 12);
    assert!(a == b);
    assert!(a[0] != a[1]);
}

#[test]
fn an_unreadable_image_names_its_file() {
    let (_temp, set) = set();
    let path = set.images[0].path.clone();
    std::fs::write(&path, b"\xff\xd8\xff broken").unwrap();
    let items: Vec<Draw> = sequential(&set, None).unwrap().into_iter().map(Draw::from).collect();
    let transform = Transform::eval(48, Fit::TopLeft).unwrap();
    let error = load_batch(&set, &items, &transform, &ImageCache::default()).unwrap_err();
    assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
}

fn info(width: u32, height: u32) -> ImageInfo {
    let photo = Photo::numbered(Collection::Coco, 1);
    ImageInfo { id: 1, photo, file_name: "a.jpg".into(), path: "a.jpg".into(), width, height }
}

#[test]
fn letterboxes_of_both_conventions() {
    let image = pil_ops::Image::new(30, 21, 3, vec![200; 30 * 21 * 3]).unwrap();
    let mask = vec![1u8; 30 * 21];
    let at = |fit| {
        let t = Transform::eval(64, fit).unwrap();
        t.apply(&info(30, 21), &image, &mask, "left one", 7).unwrap()
    };
    let (dit, sam) = (at(Fit::Centre), at(Fit::TopLeft));
    // 21 * 64 / 30 = 44.8
    for t in [&dit, &sam] {
        assert_eq!((t.letterbox.height, t.letterbox.width, t.letterbox.original), (45, 64, (21, 30)));
        let image = t.image.as_ref().unwrap();
        assert_eq!((image.data().len(), t.mask.len(), t.sentence.as_str()), (45 * 64 * 3, 64 * 64, "left one"));
        assert!(t.photo.is_none());
    }
    assert_eq!(dit.letterbox.crop(&dit.mask).unwrap(), vec![255; 45 * 64]);
    assert_eq!((dit.letterbox.top, sam.letterbox.top), (9, 0));
    assert_eq!((dit.mask[8 * 64], dit.mask[9 * 64], dit.mask[53 * 64], dit.mask[54 * 64]), (0, 255, 255, 0));
    let seen = sam.letterbox.normalise(sam.image.as_ref().unwrap(), pil_ops::Normalisation::IMAGENET).unwrap();
    assert!(seen[0] > 1.0 && seen[44 * 64] == seen[0] && seen[45 * 64] == 0.0);
}

/// The whole canvas, with the filter that the name says; the mask is bilinear either way.
#[test]
fn stretched_images_fill_the_canvas() {
    let image = pil_ops::Image::new(30, 21, 3, (0..30 * 21 * 3).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
    let mask: Vec<u8> = (0..30 * 21).map(|i| u8::from(i % 30 < 9)).collect();
    for (fit, filter) in [(Fit::Stretched, Filter::Bilinear), (Fit::StretchedBicubic, Filter::Bicubic)] {
        let t = Transform::eval(48, fit).unwrap().apply(&info(30, 21), &image, &mask, "left one", 7).unwrap();
        let p = t.letterbox;
        assert_eq!((p.top, p.left, p.height, p.width, p.original), (0, 0, 48, 48, (21, 30)));
        assert_eq!(t.image.unwrap(), resize(&image, 48, 48, filter).unwrap());
        assert_eq!((t.mask[0], t.mask[13], t.mask[16]), (255, 255, 0));
        assert!(Transform::train(48, fit, Augment::default()).is_ok());
        let sides = Augment { long_sides: vec![32], ..Augment::default() };
        assert!(Transform::train(48, fit, sides).unwrap_err().to_string().contains("must be empty"));
    }
}

#[test]
fn a_flip_moves_pixels_mask_and_words() {
    let (w, h) = (20usize, 16usize);
    let column = |x: usize| if x < w / 2 { 250 } else { 10 };
    let image = pil_ops::Image::new(w, h, 3, (0..w * h * 3).map(|i| column(i / 3 % w)).collect()).unwrap();
    let mask: Vec<u8> = (0..w * h).map(|i| u8::from(i % w < w / 2)).collect();
    let with = |flip_text| {
        let augment = Augment { flip: 1.0, flip_text, ..Augment::default() };
        let t = Transform::train(20, Fit::TopLeft, augment).unwrap().with_photo(true);
        t.apply(&info(20, 16), &image, &mask, "bright left half", 1).unwrap()
    };
    let t = with(FlipText::Word);
    let (image, photo) = (t.image.unwrap(), t.photo.unwrap());
    assert_eq!((t.sentence.as_str(), t.mask[0], t.mask[19]), ("bright right half", 0, 255));
    assert_eq!((image.data()[0], image.data()[19 * 3], photo.data()[0], photo.data()[19 * 3]), (10, 250, 10, 250));
    assert_eq!(with(FlipText::Substring).sentence, "bleft right half");
    assert_eq!(with(FlipText::None).sentence, "bright left half");
}

#[test]
fn settings_are_checked() {
    let bad: Result<Augment, _> = serde_json::from_str(r#"{"flips": 0.5}"#);
    assert!(bad.unwrap_err().to_string().contains("flips"));
    let augment: Augment = serde_json::from_str(r#"{"flip": 1.5}"#).unwrap();
    assert!(Transform::train(64, Fit::Centre, augment).unwrap_err().to_string().contains("`flip` is 1.5"));
    assert_eq!(Augment::dit().long_sides, [512, 480, 448, 416, 384, 352, 320]);
    let too_long = Transform::train(64, Fit::Centre, Augment::dit());
    assert!(too_long.unwrap_err().to_string().contains("long_sides"));
}
