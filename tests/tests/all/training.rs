//! Runs of the trainer on a toy model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::store::{BurnpackStore, ModuleStore, bridge};
use burn::tensor::Device;
use models::Found;
use models::run_dir::Checkpoint;
use refcoco_data::{SynthConfig, generate};
use run_config::{Method, RunConfig};
use tests::{found, parts, toy};
use trainer::TrainError;
use trainer::data::EvalData;
use trainer::evaluate::profile;
use trainer::event::Event;
use trainer::methods::{self, evaluator};
use trainer::train::Summary;

/// Burn's CPU generator is one a process, so runs with dropout must not overlap.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub fn run(run_config: &RunConfig, resume: bool) -> Summary {
    attempt(run_config, resume).unwrap()
}

fn attempt(run_config: &RunConfig, resume: bool) -> Result<Summary, TrainError> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (data, tokenizer) = parts(run_config);
    methods::train(run_config, tokenizer, data, &Device::flex(), resume, &mut |_: Event<'_>| {})
}

fn losses(summary: &Summary) -> Vec<f64> {
    let text = std::fs::read_to_string(summary.dir.log()).unwrap();
    text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["loss"].as_f64()).collect()
}

/// Every tensor of a record file: name, and its bytes.
pub fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut store = BurnpackStore::from_file(path);
    let all = store.get_all_tensors().unwrap();
    all.iter().map(|(name, tensor)| (name.clone(), bridge::to_data(tensor).unwrap().as_bytes().to_vec())).collect()
}

fn resumes_exactly(method: Method, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let toy = |name: &str, set: &[&str]| toy(method, folder.path(), name, &[more, set].concat());
    let whole = run(&toy("whole", &[]), false);
    assert_eq!(whole.step, 40);
    let half = run(&toy("halves", &["train.stop_after=20"]), false);
    assert_eq!((half.step, half.reports.len()), (20, 0));
    // A line that the resumed run must drop: as if the first process had died between log and checkpoint.
    let log = half.dir.log();
    let mut text = std::fs::read_to_string(&log).unwrap();
    text += "{\"kind\":\"step\",\"step\":21,\"epoch\":0,\"loss\":9.0,\"lr\":0.1,\"grad_norm\":1.0}\n{\"kind\":\"st";
    std::fs::write(&log, text).unwrap();
    let halves = run(&toy("halves", &[]), true);
    assert_eq!(halves.step, 40);
    for file in ["model.bpk", "average.bpk", "optimiser-0.bpk"] {
        let [a, b] = [&whole, &halves].map(|s| tensors(&s.dir.checkpoint_path(40).join(file)));
        assert!(a.len() > 20, "{file} holds {} tensors", a.len());
        let different: Vec<_> = a.keys().filter(|k| a.get(*k) != b.get(*k)).collect();
        assert!(different.is_empty() && a.len() == b.len(), "{file} differs: {different:?}");
    }
    let [a, b] = [&whole, &halves].map(|s| std::fs::read_to_string(s.dir.log()).unwrap());
    assert_eq!(a, b);
    assert_eq!(whole.reports[0].miou.to_bits(), halves.reports[0].miou.to_bits());
}

#[test]
fn dit_stopped_and_resumed_is_the_same() {
    resumes_exactly(Method::Dit, &[]);
}

#[test]
fn evf_stopped_and_resumed_is_the_same() {
    resumes_exactly(Method::Evf, &[]);
}

#[test]
fn risam_stopped_and_resumed_is_the_same() {
    resumes_exactly(Method::Risam, &["optim.accumulate=2"]);
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&toy(Method::Dit, folder.path(), "whole", &[]), false);
    let half = run(&toy(Method::Dit, folder.path(), "cut", &["train.stop_after=30"]), false);
    let newest = half.dir.checkpoint_path(30).join("model.bpk");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let again = run(&toy(Method::Dit, folder.path(), "cut", &[]), true);
    let [a, b] = [&whole, &again].map(|s| tensors(&s.dir.checkpoint_path(40).join("model.bpk")));
    assert!(a == b, "weights differ");
}

#[test]
fn a_checkpoint_of_another_plan_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(&toy(Method::Dit, folder.path(), "one", &["train.stop_after=10"]), false);
    let other = toy(Method::Dit, folder.path(), "one", &["optim.lr=2e-3"]);
    let error = attempt(&other, true).unwrap_err().to_string();
    assert!(error.contains("optim.lr"), "{error}");
}

#[test]
fn eight_samples_are_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    // Images as large as the canvas and a patch of 4 make low-resolution masks as fine as the truth.
    let config = SynthConfig { images: 24, size: 48, seed: 3, max_objects: 2, scale: 1.3, ..SynthConfig::default() };
    generate(&config, &folder.path().join("data")).unwrap();
    let run_config = toy(
        Method::Dit,
        folder.path(),
        "eight",
        &[
            "train.steps=400",
            "data.image_size=48",
            "model.dit.sam.image_encoder.image_size=48",
            "train.batch_size=8",
            "optim.lr=4e-3",
            "data.augment.flip=0",
            "train.eval_every=never",
            "train.save_every=never",
            "model.dit.dropout=0",
            "model.dit.bert.dropout=0",
            "model.dit.text_dim=48",
            "model.dit.bert.hidden=48",
            "model.dit.bert.heads=4",
            "model.dit.sam.image_encoder.embed_dim=48",
            "model.dit.sam.image_encoder.heads=4",
            "model.dit.sam.image_encoder.patch_size=4",
            "model.dit.sam.image_encoder.out_channels=48",
            "model.dit.sam.decoder_mlp_dim=96",
            "train.log_every=100",
            "eval.limit=4",
            "train.ema.decay=0.9",
        ],
    );
    let miou = judged_on_eight(run_config);
    assert!(miou > 0.95, "training mIoU {miou}");
}

/// Trains on the first eight referents, a sentence each, and judges the weights on them.
fn judged_on_eight(run_config: RunConfig) -> f64 {
    let (data, tokenizer) = parts(&run_config);
    let mut eight = (*data).clone();
    eight.referents.truncate(8);
    for referent in &mut eight.referents {
        referent.sentences.truncate(1);
    }
    let eight = Arc::new(eight);
    let device = Device::flex();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let summary = methods::train(&run_config, tokenizer.clone(), eight.clone(), &device, false, &mut |_: Event<'_>| {}).unwrap();
    let checkpoint = Checkpoint::open(&summary.dir.checkpoint_path(summary.step)).unwrap();
    let model = evaluator(&Found { tokenizer, ..found(&run_config, Some(checkpoint)) }, &device).unwrap();
    let mut run_config = run_config;
    run_config.eval.limit = None;
    let judged = EvalData::of(&run_config, eight, model.inputs()).unwrap();
    let (report, _) = model.evaluate(&judged, &profile(&run_config).unwrap(), None, &mut |_| {}).unwrap();
    assert_eq!(report.samples, 8);
    report.miou
}

/// RISAM's equations as they are printed: no norms, no feed-forward part, no activation between upscalings, dice without smoothing.
#[test]
fn the_printed_risam_learns_eight_samples_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let config = SynthConfig { images: 24, size: 48, seed: 3, max_objects: 2, scale: 1.3, ..SynthConfig::default() };
    generate(&config, &folder.path().join("data")).unwrap();
    let sizes = [
        "data.image_size=48",
        "model.risam.sam.image_encoder.image_size=48",
        "model.risam.sam.image_encoder.embed_dim=48",
        "model.risam.sam.image_encoder.heads=4",
        "model.risam.sam.image_encoder.patch_size=4",
        "model.risam.train_image_encoder=true",
        "model.risam.text_frozen=false",
        "model.risam.width=32",
        "model.risam.heads=4",
        "model.risam.up_channels=[16, 8]",
        "model.risam.clip.width=32",
        "model.risam.dice_smooth=0",
    ];
    let training = [
        "train.steps=700",
        "train.batch_size=8",
        "optim.lr=2e-3",
        "optim.grad_clip=1",
        "data.augment.flip=0",
        "train.eval_every=never",
        "train.save_every=never",
        "train.log_every=100",
        "train.ema.enabled=false",
        "eval.limit=4",
    ];
    let run_config = toy(Method::Risam, folder.path(), "printed", &[&sizes[..], &training].concat());
    let printed: fusion_risam::RisamConfig = run_config.method_section().unwrap();
    assert_eq!((printed.norm, printed.ffn, printed.tap_layer_norm), (fusion_risam::NormPlacement::None, 0, false));
    assert_eq!(printed.language_softmax, fusion_risam::LanguageSoftmax::Words);
    assert_eq!(printed.upsampling, fusion_risam::Upsampling::Plain);
    let miou = judged_on_eight(run_config);
    assert!(miou > 0.9, "training mIoU {miou}");
}

#[test]
fn shards_change_nothing_but_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let dry =
        ["model.dit.dropout=0", "model.dit.bert.dropout=0", "train.steps=8", "train.eval_every=never", "schedule.warmup_steps=2"];
    let with = |name: &str, shards: &str| run(&toy(Method::Dit, folder.path(), name, &[&dry[..], &[shards]].concat()), false);
    let (one, two) = (with("one", "train.shards=1"), with("two", "train.shards=2"));
    let again = with("again", "train.shards=2");
    assert_eq!(losses(&two), losses(&again), "two shards must repeat exactly");
    for (a, b) in losses(&one).iter().zip(losses(&two)) {
        assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{a} against {b}");
    }
}

#[test]
fn shards_with_dropout_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run_config = toy(Method::Dit, folder.path(), "wet", &["train.shards=2"]);
    let error = attempt(&run_config, false).unwrap_err().to_string();
    assert!(error.contains("train.shards") && error.contains("dropout"), "{error}");
    let normed = toy(Method::Risam, folder.path(), "normed", &["train.shards=2"]);
    let error = attempt(&normed, false).unwrap_err().to_string();
    assert!(error.contains("train.shards") && error.contains("batch norm"), "{error}");
}

#[test]
fn kept_features_train_as_computed_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let cache = |method: Method| folder.path().join(format!("features-{}", method.name()));
    let with = |method| format!("train.feature_cache={}", cache(method).display());
    let dry = ["data.augment.flip=0", "train.steps=10", "train.eval_every=never", "schedule.warmup_steps=2"];
    for method in [Method::Evf, Method::Risam] {
        let run_config = |name: &str, more: &[&str]| {
            toy(method, folder.path(), &format!("{name}-{}", method.name()), &[&dry[..], more].concat())
        };
        let computed = losses(&run(&run_config("computed", &[]), false));
        let kept = losses(&run(&run_config("kept", &[&with(method)]), false));
        for (a, b) in computed.iter().zip(&kept) {
            assert!((a - b).abs() < 5e-3 * a.abs(), "{method:?}: {a} against {b}");
        }
        // Nothing is computed a second time: the files stay as they are, and a run that finds some gone makes those again.
        let files = || -> BTreeMap<_, _> {
            let folders = std::fs::read_dir(cache(method)).unwrap().flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap());
            folders.map(|f| f.unwrap().path()).map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
        };
        let before = files();
        let gone = before.keys().rfind(|p| p.extension().is_some_and(|e| e == "safetensors")).unwrap();
        std::fs::remove_file(gone).unwrap();
        for (a, b) in kept.iter().zip(losses(&run(&run_config("again", &[&with(method)]), false))) {
            assert!((a - b).abs() < 1e-3 * a.abs(), "{method:?}: {a} against {b}");
        }
        let after = files();
        assert!(before.keys().eq(after.keys()) && before.iter().all(|(path, bytes)| path == gone || after[path] == *bytes));
    }
    // A changed byte is noticed by whoever reads it.
    for entry in std::fs::read_dir(cache(Method::Evf)).unwrap().flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap()) {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let spoiled = toy(Method::Evf, folder.path(), "spoiled", &[&dry[..], &[&with(Method::Evf)]].concat());
    let error = attempt(&spoiled, false).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn features_that_change_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let with = format!("train.feature_cache={}", folder.path().join("kept").display());
    let dry = "data.augment.flip=0";
    for (method, set, says) in [
        (Method::Dit, vec![dry], "dit"),
        (Method::Evf, vec![], "augment"),
        (Method::Evf, vec![dry, "model.evf.train_image_encoder=true"], "evf"),
    ] {
        let run_config = toy(method, folder.path(), "no", &[&set[..], &[&with]].concat());
        let error = attempt(&run_config, false).unwrap_err().to_string();
        assert!(error.contains("train.feature_cache") && error.contains(says), "{error}");
    }
}

/// Burn shares a batch norm's running statistics between clones and keeps the last update apart.
#[test]
fn running_statistics_are_kept_and_copied_into_the_average() {
    let folder = tempfile::tempdir().unwrap();
    let summary = run(&toy(Method::Risam, folder.path(), "normed", &["train.steps=20"]), false);
    let read = |step: u64, file: &str| {
        let all = tensors(&summary.dir.checkpoint_path(step).join(file));
        let of = |(name, bytes): (String, Vec<u8>)| {
            let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            name.contains("running_").then_some((name, values))
        };
        all.into_iter().filter_map(of).collect::<BTreeMap<_, _>>()
    };
    let (ten, twenty) = (read(10, "model.bpk"), read(20, "model.bpk"));
    assert!(ten.len() >= 4, "{:?}", ten.keys());
    for (name, values) in &ten {
        let start = if name.ends_with("mean") { 0.0 } else { 1.0 };
        assert!(values.iter().any(|v| (v - start).abs() > 1e-3), "{name} never moved");
        assert_ne!(values, &twenty[name], "{name} stopped moving");
    }
    assert_eq!(read(20, "average.bpk"), twenty, "the average has the statistics of the last step");
}

/// Whoever moves a run to another machine takes its folder and nothing else.
#[test]
fn a_run_is_judged_and_exported_after_its_first_weights_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("first.safetensors");
    let short =
        ["train.steps=2", "schedule.warmup_steps=1", "train.eval_every=never", "train.save_every=never", "eval.figures=0"];
    let first = toy(Method::Risam, folder.path(), "first", &short);
    found(&first, None).state_dict(&Device::flex()).unwrap().save(&weights, &[]).unwrap();
    let init = format!("model.init.method={}", weights.display());
    let summary = run(&toy(Method::Risam, folder.path(), "tuned", &[&short[..], &[&init]].concat()), false);
    let open = || models::Source::Run(summary.dir.root().to_owned()).find::<&str>(&[]).unwrap();
    let exported = open().state_dict(&Device::flex()).unwrap();
    std::fs::remove_file(&weights).unwrap();
    let again = open().state_dict(&Device::flex()).unwrap();
    assert!(exported.names().eq(again.names()) && exported.names().all(|n| exported.read(n).unwrap() == again.read(n).unwrap()));
    open().model(&Device::flex()).unwrap();
    evaluator(&open(), &Device::flex()).map(|_| ()).unwrap();
}
