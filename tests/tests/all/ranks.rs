//! Several ranks train and judge what one process does. Ranks are threads here; `crates/saymask/tests/mpi.rs` has processes.

use std::collections::BTreeMap;
use std::time::Duration;

use ::ranks::{RankError, Ranks};
use burn::tensor::Device;
use run_config::{Method, RunConfig};
use tests::{parts, toy};
use trainer::TrainError;
use trainer::event::Event;
use trainer::methods;
use trainer::train::Summary;
use trainer::world::World;

use crate::training::{ONE_AT_A_TIME, tensors};

/// Sums over the parts of a batch are rounded otherwise than sums over the whole.
const SUMS: f64 = 1e-6;
/// Adam divides a gradient by its own size, so where a gradient is nothing but rounding, its sign is a weight's whole step. This
/// keeps it from that, and leaves gradients of training as they are.
const STEADY: &str = "optim.eps=1e-3";

/// Trains on `size` ranks; what each of them says.
fn attempt(run_config: &RunConfig, size: usize, resume: bool) -> Vec<Result<Summary, TrainError>> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    ::ranks::local::run(size, Duration::from_secs(60), |rank| {
        let (data, tokenizer) = parts(run_config);
        // Buckets far smaller than the model, so that there are many.
        let world = World::new(std::sync::Arc::new(rank)).with_bucket(1000);
        methods::train_on_ranks(run_config, tokenizer, data, &Device::flex(), &world, resume, &mut |_: Event<'_>| {})
    })
}

/// The first rank's summary; the others have to say the same.
fn run(run_config: &RunConfig, size: usize, resume: bool) -> Summary {
    let all: Vec<Summary> = attempt(run_config, size, resume).into_iter().map(Result::unwrap).collect();
    assert!(all.iter().all(|one| one.reports == all[0].reports && one.step == all[0].step));
    all.into_iter().next().unwrap()
}

fn losses(summary: &Summary) -> Vec<f64> {
    let text = std::fs::read_to_string(summary.dir.log()).unwrap();
    text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["loss"].as_f64()).collect()
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)))
}

fn weights(summary: &Summary) -> BTreeMap<String, Vec<u8>> {
    tensors(&summary.dir.checkpoint_path(summary.step).join("model.bpk"))
}

/// Largest distance of two runs' weights, and the tensor that has it.
fn worst(one: &Summary, other: &Summary) -> (f64, String) {
    let [a, b] = [one, other].map(weights);
    assert!(a.len() > 20 && a.keys().eq(b.keys()));
    let off = a.iter().map(|(name, values)| {
        let far = floats(values).zip(floats(&b[name])).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        (far, name.clone())
    });
    off.max_by(|x, y| x.0.total_cmp(&y.0)).unwrap()
}

/// Runs of 20 steps with a batch of 5, which no number of ranks here divides.
fn config(method: Method, folder: &std::path::Path, name: &str, more: &[&str]) -> RunConfig {
    let own: &[&str] = match method {
        Method::Dit => &["model.dit.dropout=0", "model.dit.bert.dropout=0"],
        Method::Evf => &["data.expressions=2"],
        Method::Risam => &["data.items=grouped-referent"],
    };
    let common = ["train.batch_size=5", "train.steps=20", "train.eval_every=20", STEADY];
    toy(method, folder, name, &[&common, own, more].concat())
}

/// `size` ranks learn what one learns, and repeat themselves to the bit.
fn equals_one(method: Method, size: usize, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let one = run(&config(method, folder.path(), "one", more), 1, false);
    let several = run(&config(method, folder.path(), "several", more), size, false);
    let again = run(&config(method, folder.path(), "again", more), size, false);
    assert_eq!(several.step, 20);
    assert!(weights(&several) == weights(&again), "{method:?}: a repeat differs");
    let (off, name) = worst(&one, &several);
    eprintln!("{method:?}, {size} ranks {more:?}: weights differ by {off:e} at most ({name})");
    assert!(off > 0.0, "{method:?}: the ranks did not share the work");
    assert!(off <= SUMS, "{method:?} on {size} ranks {more:?}: {name} differs by {off}");
    for (step, (a, b)) in losses(&one).into_iter().zip(losses(&several)).enumerate() {
        assert!((a - b).abs() <= SUMS * a.abs().max(1.0), "{method:?} on {size} ranks, step {}: {a} {b}", step + 1);
    }
}

#[test]
fn dit_on_ranks_equals_one_process() {
    equals_one(Method::Dit, 2, &[]);
    equals_one(Method::Dit, 3, &["train.recompute=blocks", "optim.accumulate=2"]);
}

#[test]
fn evf_on_ranks_equals_one_process() {
    equals_one(Method::Evf, 2, &[]);
    equals_one(Method::Evf, 3, &["train.shards=2"]);
}

#[test]
fn risam_on_ranks_equals_one_process() {
    equals_one(Method::Risam, 2, &[]);
    equals_one(Method::Risam, 3, &["train.recompute=operations"]);
}

/// Norms of each rank's own part are something else.
#[test]
fn local_batch_norms_differ_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, norms: &str| config(Method::Risam, folder.path(), name, &[&format!("train.batch_norm={norms}")]);
    let synchronised = run(&of("synchronised", "synchronised"), 2, false);
    let local = run(&of("local", "local"), 2, false);
    let again = run(&of("again", "local"), 2, false);
    assert!(worst(&synchronised, &local).0 > 100.0 * SUMS);
    assert!(weights(&local) == weights(&again) && local.reports == again.reports);
}

#[test]
fn half_the_bytes_stay_close_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, kind: &str| config(Method::Evf, folder.path(), name, &[&format!("train.gradient_exchange={kind}")]);
    let [exact, half, again] = [("exact", "f32"), ("half", "bf16"), ("again", "bf16")].map(|(n, k)| run(&of(n, k), 2, false));
    assert!(weights(&half) == weights(&again), "a repeat differs");
    let (off, name) = worst(&exact, &half);
    assert!(off > SUMS && off < 2e-3, "{name} differs by {off}");
    for (a, b) in losses(&exact).into_iter().zip(losses(&half)) {
        assert!((a - b).abs() < 0.02 * a, "{a} {b}");
    }
}

/// Stopped on two ranks, resumed on one and on three: the same samples in the same order.
#[test]
fn resumed_on_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&config(Method::Dit, folder.path(), "whole", &[]), 2, false);
    for size in [1, 2, 3] {
        let name = format!("on-{size}");
        let half = run(&config(Method::Dit, folder.path(), &name, &["train.stop_after=10"]), 2, false);
        assert_eq!(half.step, 10);
        let rest = run(&config(Method::Dit, folder.path(), &name, &[]), size, true);
        let (off, tensor) = worst(&whole, &rest);
        assert!(off <= SUMS, "resumed on {size}: {tensor} differs by {off}");
        assert!(size != 2 || off == 0.0, "resumed on as many: {tensor} differs by {off}");
        assert_eq!(losses(&rest).len(), losses(&whole).len());
    }
}

#[test]
fn ranks_of_other_configs_and_too_many_ranks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = config(Method::Dit, folder.path(), "refused", &[]);
    let all = attempt(&config(Method::Dit, folder.path(), "refused", &["train.batch_size=2"]), 3, false);
    for found in all {
        let said = found.unwrap_err().to_string();
        assert!(said.contains("train.batch_size") && said.contains("at least the number of ranks, 3"), "{said}");
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let all = ::ranks::local::run(2, Duration::from_secs(60), |rank| {
        let mut own = base.clone();
        own.optim.lr *= 1.0 + rank.rank() as f64;
        let (data, tokenizer) = parts(&own);
        let world = World::new(std::sync::Arc::new(rank));
        methods::train_on_ranks(&own, tokenizer, data, &Device::flex(), &world, false, &mut |_: Event<'_>| {}).map(|_| ())
    });
    for found in all {
        let Err(TrainError::Ranks(RankError::Differs { name, what })) = found else { panic!("{found:?}") };
        assert_eq!((name.as_str(), what.as_str()), ("rank 1", "config"));
    }
}
