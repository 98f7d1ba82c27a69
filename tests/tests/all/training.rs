//! Runs of the trainer on a toy model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::store::{BurnpackStore, ModuleStore, bridge};
use burn::tensor::Device;
use refcoco_data::{SynthConfig, generate};
use tests::{parts, toy};
use trainer::data::EvalData;
use trainer::evaluate::{evaluate, profile};
use trainer::plan::RunPlan;
use trainer::run_dir::Checkpoint;
use trainer::segmenter::Segmenter;
use trainer::state::evaluated_weights;
use trainer::train::{Event, Summary, train};

/// Burn's CPU generator is one a process, so runs with dropout must not overlap.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(plan: &RunPlan, resume: bool) -> Summary {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (data, dit) = parts(plan);
    train(&dit, plan, data, &Device::flex(), resume, &mut |_: Event<'_>| {}).unwrap()
}

/// Every tensor of a record file: name, and its bytes.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut store = BurnpackStore::from_file(path);
    let all = store.get_all_tensors().unwrap();
    all.iter().map(|(name, tensor)| (name.clone(), bridge::to_data(tensor).unwrap().as_bytes().to_vec())).collect()
}

#[test]
fn stopping_and_resuming_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&toy(folder.path(), "whole", &[]), false);
    assert_eq!(whole.step, 40);
    let half = run(&toy(folder.path(), "halves", &["train.stop_after=20"]), false);
    assert_eq!((half.step, half.reports.len()), (20, 0));
    // A line that the resumed run must drop: as if the first process had died between log and checkpoint.
    let log = half.dir.log();
    let mut text = std::fs::read_to_string(&log).unwrap();
    text += "{\"kind\":\"step\",\"step\":21,\"epoch\":0,\"loss\":9.0,\"lr\":0.1,\"grad_norm\":1.0}\n{\"kind\":\"st";
    std::fs::write(&log, text).unwrap();
    let halves = run(&toy(folder.path(), "halves", &[]), true);
    assert_eq!(halves.step, 40);
    for file in ["model.bpk", "average.bpk", "optimiser-0.bpk"] {
        let [a, b] = [&whole, &halves].map(|s| tensors(&s.dir.checkpoint_path(40).join(file)));
        assert!(a.len() > 20, "{file} holds {} tensors", a.len());
        assert!(a == b, "{file} differs");
    }
    let [a, b] = [&whole, &halves].map(|s| std::fs::read_to_string(s.dir.log()).unwrap());
    assert_eq!(a, b);
    assert_eq!(whole.reports[0].miou.to_bits(), halves.reports[0].miou.to_bits());
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&toy(folder.path(), "whole", &[]), false);
    let half = run(&toy(folder.path(), "cut", &["train.stop_after=30"]), false);
    let newest = half.dir.checkpoint_path(30).join("model.bpk");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let again = run(&toy(folder.path(), "cut", &[]), true);
    let [a, b] = [&whole, &again].map(|s| tensors(&s.dir.checkpoint_path(40).join("model.bpk")));
    assert!(a == b, "weights differ");
}

#[test]
fn a_checkpoint_of_another_plan_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(&toy(folder.path(), "one", &["train.stop_after=10"]), false);
    let other = toy(folder.path(), "one", &["optim.lr=2e-3"]);
    let (data, dit) = parts(&other);
    let error = train(&dit, &other, data, &Device::flex(), true, &mut |_: Event<'_>| {}).unwrap_err().to_string();
    assert!(error.contains("optim.lr"), "{error}");
}

#[test]
fn eight_samples_are_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    // Pictures as large as the canvas and a patch of 4 make low-resolution masks as fine as the truth.
    let config = SynthConfig { images: 24, size: 48, seed: 3, max_objects: 2, scale: 1.3, ..SynthConfig::default() };
    generate(&config, &folder.path().join("data")).unwrap();
    let plan = toy(
        folder.path(),
        "eight",
        &[
            "train.steps=400",
            "data.image_size=48",
            "model.dit.sam.image_encoder.image_size=48",
            "train.batch_size=8",
            "optim.lr=4e-3",
            "data.augment.flip=0",
            "train.eval_every=0",
            "train.save_every=0",
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
    let (data, dit) = parts(&plan);
    let mut eight = (*data).clone();
    eight.referents.truncate(8);
    for referent in &mut eight.referents {
        referent.sentences.truncate(1);
    }
    let eight = Arc::new(eight);
    let device = Device::flex();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let summary = train(&dit, &plan, eight.clone(), &device, false, &mut |_: Event<'_>| {}).unwrap();
    let checkpoint = Checkpoint::open(&summary.dir.checkpoint_path(summary.step)).unwrap();
    let net = evaluated_weights(dit.init(&device).unwrap(), &checkpoint).unwrap();
    let mut plan = plan;
    plan.eval.limit = None;
    let judged = EvalData::of(&plan, eight, dit.normalisation()).unwrap();
    let (report, _) = evaluate(&dit, &net, &judged, &profile(&plan).unwrap(), None, &device, |_| {}).unwrap();
    assert_eq!(report.samples, 8);
    assert!(report.miou > 0.95, "training mIoU {}", report.miou);
}

#[test]
fn shards_change_nothing_but_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let dry =
        ["model.dit.dropout=0", "model.dit.bert.dropout=0", "train.steps=8", "train.eval_every=0", "schedule.warmup_steps=2"];
    let with = |name: &str, shards: &str| run(&toy(folder.path(), name, &[&dry[..], &[shards]].concat()), false);
    let (one, two) = (with("one", "train.shards=1"), with("two", "train.shards=2"));
    let again = with("again", "train.shards=2");
    let losses = |s: &Summary| -> Vec<f64> {
        let text = std::fs::read_to_string(s.dir.log()).unwrap();
        text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["loss"].as_f64()).collect()
    };
    assert_eq!(losses(&two), losses(&again), "two shards must repeat exactly");
    for (a, b) in losses(&one).iter().zip(losses(&two)) {
        assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{a} against {b}");
    }
}

#[test]
fn shards_with_dropout_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plan = toy(folder.path(), "wet", &["train.shards=2"]);
    let (data, dit) = parts(&plan);
    let error = train(&dit, &plan, data, &Device::flex(), false, &mut |_: Event<'_>| {}).unwrap_err().to_string();
    assert!(error.contains("train.shards") && error.contains("dropout"), "{error}");
}
