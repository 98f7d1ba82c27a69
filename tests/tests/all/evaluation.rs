//! From folders to reports, for sets whose expressions mean several objects or none.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use models::methods::{EvfMethod, RisamMethod};
use nn_ops::weights::{KeyMap, load_formula};
use refcoco_data::{Fit, SynthConfig, SynthFormat, generate};
use run_config::{Method, RunConfig};
use serde_json::{Value, json};
use tests::{found, parts, toy};
use trainer::TrainError;
use trainer::batch::{HostBatch, Inputs};
use trainer::cache::FeatureCache;
use trainer::data::EvalData;
use trainer::evaluate::{evaluate, profile};
use trainer::event::Event;
use trainer::methods::evaluator;
use trainer::segmenter::{Loss, Segmenter};

/// Segments what it is told: "x y width height", in pixels of the canvas.
struct Told;

impl Segmenter for Told {
    type Net = Linear;

    fn init(&self, device: &Device) -> Result<Linear, TrainError> {
        Ok(LinearConfig::new(1, 1).init(device))
    }

    fn names(&self) -> KeyMap {
        KeyMap::default()
    }

    fn logits(&self, _: &Linear, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let (rows, side) = (batch.len(), batch.side);
        let map = |sentence: &String| -> Vec<f32> {
            let n: Vec<usize> = sentence.split(' ').map(|n| n.parse().unwrap()).collect();
            let inside = |i: usize| (n[0]..n[0] + n[2]).contains(&(i % side)) && (n[1]..n[1] + n[3]).contains(&(i / side));
            (0..side * side).map(|i| if inside(i) { 4.0 } else { -4.0 }).collect()
        };
        let values: Vec<f32> = batch.sentences.iter().flat_map(map).collect();
        Ok(Tensor::from_data(TensorData::new(values, [rows, 1, side, side]), device))
    }

    fn loss(&self, logits: Tensor<4>, _: Tensor<4>, _: &HostBatch) -> Result<Loss, TrainError> {
        Ok(logits.mean().into())
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        None
    }
}

/// An image of 40 x 30 with two squares of 10 x 10 at the top, 20 apart, and one record an expression.
fn grefcoco(root: &std::path::Path, expressions: &[(&str, &[i64])]) {
    let images = root.join("images/train2014");
    std::fs::create_dir_all(&images).unwrap();
    image::RgbImage::new(40, 30).save(images.join("one.jpg")).unwrap();
    let square = |id: i64, x: i64| -> Value {
        json!({"id": id, "image_id": 1, "category_id": 1, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0,
            "segmentation": [[x, 0, x + 10, 0, x + 10, 10, x, 10]]})
    };
    let instances = json!({
        "images": [{"id": 1, "file_name": "one.jpg", "width": 40, "height": 30}],
        "annotations": [square(11, 0), square(12, 20)],
        "categories": [{"id": 1, "name": "square"}],
    });
    let record = |(i, (text, ids)): (usize, &(&str, &[i64]))| {
        json!({"ref_id": i, "image_id": 1, "ann_id": ids, "category_id": ids, "split": "testA", "file_name": "x", "sent_ids": [i],
            "no_target": ids == &[-1], "sentences": [{"sent_id": i, "sent": text, "raw": text, "tokens": []}]})
    };
    let refs: Vec<Value> = expressions.iter().enumerate().map(record).collect();
    std::fs::create_dir(root.join("grefcoco")).unwrap();
    std::fs::write(root.join("grefcoco/instances.json"), instances.to_string()).unwrap();
    std::fs::write(root.join("grefcoco/grefs(unc).json"), json!(refs).to_string()).unwrap();
}

/// Worked out by hand under ReLA's rules, with fewer than 50 pixels meaning "nothing".
#[test]
fn several_targets_and_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    grefcoco(
        &root,
        &[
            // Both squares and the 100 pixels between them: 200 of 300.
            ("0 0 30 10", &[11, 12]),
            // Nothing is meant; 49 pixels mean nothing, 50 mean something.
            ("0 20 7 7", &[-1]),
            ("0 20 5 10", &[-1]),
            // 49 pixels where a square is meant: taken back, so that the union is the square alone.
            ("0 20 7 7", &[11]),
            ("20 0 10 10", &[12]),
        ],
    );
    let mut run_config =
        toy(Method::Dit, folder.path(), "gres", &["data.dataset=grefcoco", "eval.profile=gres", "eval.batch_size=3"]);
    run_config.data.fit = Fit::TopLeft;
    run_config.data.image_size = 40;
    let device = Device::flex();
    let judge = |run_config: &RunConfig| {
        let data = EvalData::open(run_config, "testA", Told.inputs()).unwrap();
        evaluate(&Told, &Told.init(&device).unwrap(), &data, &profile(run_config).unwrap(), None, &device, |_| {}).unwrap()
    };
    let (report, found) = judge(&run_config);
    assert_eq!((report.samples, report.intersection, report.union), (5, 300, 550));
    let gres = report.gres.unwrap();
    assert_eq!((gres.ciou, gres.n_acc, gres.t_acc, gres.min_pixels), (300.0 / 550.0, Some(0.5), Some(2.0 / 3.0), 50));
    assert!((gres.giou - (2.0 / 3.0 + 1.0 + 1.0) / 5.0).abs() < 1e-12);
    assert_eq!(report.precision[0].value, 1.0 / 3.0, "over the three that have a target");
    let ious: Vec<f64> = found.iter().map(|f| f.iou).collect();
    assert_eq!(ious, [2.0 / 3.0, 1.0, 0.0, 0.0, 1.0]);
    assert_eq!(found.iter().map(|f| f.mask.area()).collect::<Vec<_>>(), [300, 0, 50, 0, 100]);

    // A threshold in the config is a probability: a logit of 4 is 0.982, so that 0.99 leaves nothing.
    run_config.eval.threshold = Some(0.99);
    let (report, _) = judge(&run_config);
    let gres = report.gres.unwrap();
    assert_eq!((gres.giou, gres.ciou, gres.n_acc, gres.t_acc), (0.4, 0.0, Some(1.0), Some(0.0)));
}

#[test]
fn phrases_of_a_generated_set() {
    let folder = tempfile::tempdir().unwrap();
    let config = SynthConfig { images: 24, size: 64, seed: 3, format: SynthFormat::Phrasecut, ..SynthConfig::default() };
    generate(&config, &folder.path().join("data")).unwrap();
    let set = ["data.dataset=phrasecut", "data.split_by=vg", "data.val_splits=[\"test\"]", "eval.profile=phrasecut"];
    let run_config = toy(Method::Dit, folder.path(), "phrases", &set);
    let model = evaluator(&found(&run_config, None), &Device::flex()).unwrap();
    let data = EvalData::open(&run_config, "test", model.inputs()).unwrap();
    let (report, _) = model.evaluate(&data, &profile(&run_config).unwrap(), None, &mut |_| {}).unwrap();
    assert_eq!((report.profile.as_str(), report.samples, report.precision.len()), ("phrasecut", 8, 5));
    let count = |name: &str| report.kinds.get(name).map_or(0, |k| k.samples);
    assert_eq!(count("i_single") + count("i_multi") + count("i_many"), 8);
    assert_eq!(count("s_small") + count("s_mid") + count("s_large"), 8);
    let sum: f64 =
        ["s_small", "s_mid", "s_large"].iter().filter_map(|k| report.kinds.get(*k)).map(|k| k.miou * k.samples as f64).sum();
    assert!((sum / 8.0 - report.miou).abs() < 1e-12);
}

/// A method that counts the images that it encodes; unless `once`, one that does not say that an image has to be encoded once only.
struct Counted<S> {
    method: S,
    once: bool,
    encoded: AtomicUsize,
}

impl<S: Segmenter> Segmenter for Counted<S> {
    type Net = S::Net;

    fn init(&self, device: &Device) -> Result<S::Net, TrainError> {
        self.method.init(device)
    }

    fn names(&self) -> KeyMap {
        self.method.names()
    }

    fn inputs(&self) -> Inputs {
        self.method.inputs()
    }

    fn logits(&self, net: &S::Net, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        self.method.logits(net, batch, device)
    }

    fn judged(&self, net: &S::Net, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        if batch.features.is_empty() {
            self.encoded.fetch_add(batch.image_count(), Ordering::Relaxed);
        }
        self.method.judged(net, batch, device)
    }

    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError> {
        self.method.loss(logits, masks, batch)
    }

    fn frozen_prefix(&self) -> Option<&'static str> {
        self.method.frozen_prefix()
    }

    fn frozen_settings(&self) -> Value {
        self.method.frozen_settings()
    }

    fn encodes_once(&self) -> bool {
        self.once && self.method.encodes_once()
    }

    fn features(&self, net: &S::Net, images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        self.encoded.fetch_add(images.dims()[0], Ordering::Relaxed);
        self.method.features(net, images)
    }

    fn sharding_blocker(&self) -> Option<&'static str> {
        self.method.sharding_blocker()
    }
}

fn encodes_each_image_once<S: Segmenter>(folder: &Path, method: impl Fn(&RunConfig) -> S, run_config: &RunConfig, other: &str) {
    let device = Device::flex();
    let counted = |once: bool, run_config: &RunConfig| {
        let counted = Counted { method: method(run_config), once, encoded: AtomicUsize::new(0) };
        let (net, _) = load_formula(counted.init(&device).unwrap(), "once", &counted.names());
        (counted, net)
    };
    let judge = |(counted, net): &(Counted<S>, S::Net), data: &EvalData| {
        counted.encoded.store(0, Ordering::Relaxed);
        let (_, results) = evaluate(counted, net, data, &profile(run_config).unwrap(), None, &device, |_| {}).unwrap();
        (counted.encoded.load(Ordering::Relaxed), results)
    };
    let (once, each) = (counted(true, run_config), counted(false, run_config));
    let open = |run_config: &RunConfig| EvalData::open(run_config, "val", once.0.inputs()).unwrap();
    let data = open(run_config);
    let images = data.images().len();
    let (count, results) = judge(&once, &data);
    assert_eq!(count, images, "of {} sentences", results.len());
    assert!(results.iter().enumerate().all(|(item, result)| result.item == item), "in the order of the file");
    let (count, want) = judge(&each, &data);
    assert!(count > images, "{count} of {images}: batches of three cut images in two");
    for (got, want) in results.iter().zip(&want) {
        assert_eq!(got.sentence, want.sentence);
        assert!((got.score - want.score).abs() < 1e-4, "{} against {}", got.score, want.score);
    }

    // Kept features are read, and those that are not kept are rounded as if they were.
    let kept = run_config.with_overrides(&[format!("train.feature_cache={}", folder.display())]).unwrap();
    let (once, split) = (counted(true, &kept), open(&kept));
    let empty = FeatureCache::open(&once.0, &once.1, &kept, &split.dataset).unwrap();
    let (count, rounded) = judge(&once, &open(&kept).with_features(empty));
    assert_eq!(count, images);
    let mut notes = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
    };
    let cache = FeatureCache::prepare_to_judge(&once.0, &once.1, &kept, &split, &device, &mut on_event).unwrap();
    let (count, read) = judge(&once, &split.with_features(cache));
    assert_eq!(count, 0);
    for (read, rounded) in read.iter().zip(&rounded) {
        assert_eq!((&read.mask, read.score), (&rounded.mask, rounded.score));
    }
    // What the frozen part does not depend on shares them.
    let prepared = |set: &str| {
        let run_config = kept.with_overrides(&[set]).unwrap();
        let ((counted, net), split) = (counted(true, &run_config), open(&run_config));
        let cache = FeatureCache::prepare_to_judge(&counted, &net, &run_config, &split, &device, &mut |_| {}).unwrap();
        let (count, _) = judge(&(counted, net), &split.with_features(cache));
        (count, std::fs::read_dir(folder).unwrap().count())
    };
    assert_eq!(prepared(other), (0, 1));
    assert_eq!(prepared(&format!("model.{}.sam.image_encoder.heads=1", run_config.model.method.name())), (0, 2));
    assert!(notes.iter().any(|note| note.contains("images to compute")), "{notes:?}");
}

#[test]
fn each_image_is_encoded_once_and_kept_features_serve_judging() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["eval.batch_size=3", "data.augment.flip=0"];
    let run_config = toy(Method::Evf, folder.path(), "evf", &set);
    let evf = |run_config: &RunConfig| EvfMethod::new(run_config, parts(run_config).1).unwrap();
    encodes_each_image_once(&folder.path().join("evf"), evf, &run_config, "model.evf.encoder=beit3_text");
    let run_config = toy(Method::Risam, folder.path(), "risam", &set);
    let risam = |run_config: &RunConfig| RisamMethod::new(run_config, parts(run_config).1).unwrap();
    encodes_each_image_once(&folder.path().join("risam"), risam, &run_config, "model.risam.interaction_blocks=1");
}
