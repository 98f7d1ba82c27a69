//! Steps whose loss or gradients are not finite: left out, counted, and named.

use std::path::Path;
use std::sync::PoisonError;

use burn::tensor::{Device, Tensor};
use models::methods::RisamMethod;
use models::run_dir::Checkpoint;
use nn_ops::weights::KeyMap;
use run_config::{Method, RunConfig};
use tests::{parts, toy};
use trainer::TrainError;
use trainer::batch::{HostBatch, Inputs};
use trainer::event::Event;
use trainer::run_log::{LogLine, StepLine, read_log};
use trainer::segmenter::{Loss, Segmenter};
use trainer::train::{Summary, train, train_on_ranks};
use trainer::world::World;

use crate::training::{ONE_AT_A_TIME, tensors};

/// A method that sees no numbers in some training batches, by their sentences.
struct Poisoned<S> {
    inner: S,
    spoils: fn(&HostBatch) -> bool,
}

impl<S: Segmenter> Segmenter for Poisoned<S> {
    type Net = S::Net;

    fn init(&self, device: &Device) -> Result<S::Net, TrainError> {
        self.inner.init(device)
    }
    fn names(&self) -> KeyMap {
        self.inner.names()
    }
    fn inputs(&self) -> Inputs {
        self.inner.inputs()
    }
    fn trains(&self, name: &str) -> bool {
        self.inner.trains(name)
    }
    fn logits(&self, net: &S::Net, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        let mut batch = batch.clone();
        if device.is_autodiff() && (self.spoils)(&batch) {
            batch.images.fill(f32::NAN);
        }
        self.inner.logits(net, &batch, device)
    }
    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError> {
        self.inner.loss(logits, masks, batch)
    }
    fn sharding_blocker(&self) -> Option<&'static str> {
        self.inner.sharding_blocker()
    }
}

/// RISAM, for its batch norms see the spoilt batch before anybody knows.
fn run(run_config: &RunConfig, spoils: fn(&HostBatch) -> bool, resume: bool) -> Result<Summary, TrainError> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (data, tokenizer) = parts(run_config);
    let segmenter = Poisoned { inner: RisamMethod::new(run_config, tokenizer)?, spoils };
    train(&segmenter, run_config, data, &Device::flex(), resume, &mut |_: Event<'_>| {})
}

fn steps(log: &Path) -> Vec<StepLine> {
    let step = |line| match line {
        LogLine::Step(line) => Some(line),
        LogLine::Eval(_) => None,
    };
    read_log(log).unwrap().into_iter().filter_map(step).collect()
}

/// About every fifth batch.
fn some(batch: &HostBatch) -> bool {
    batch.sentences.iter().flat_map(|s| s.bytes()).map(u64::from).sum::<u64>() % 5 == 0
}

#[test]
fn spoilt_steps_are_named_counted_and_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let run_config = |name: &str, set: &[&str]| {
        toy(
            Method::Risam,
            folder.path(),
            name,
            &[&["train.log_every=7", "eval.figures=0", "train.ema.enabled=false"], set].concat(),
        )
    };
    let whole = run(&run_config("whole", &[]), some, false).unwrap();
    let lines = steps(&whole.dir.log());
    let skipped: Vec<&StepLine> = lines.iter().filter(|line| line.skipped.is_some()).collect();
    assert!(skipped.iter().any(|line| line.step % 7 != 0), "a skipped step has its line between the due ones");
    assert!(skipped.len() > 2 && skipped.len() < 20, "{} of 40 steps", skipped.len());
    for (number, line) in skipped.iter().enumerate() {
        let told = line.skipped.as_ref().unwrap();
        assert_eq!(told.times, number as u64 + 1);
        assert!(line.loss.is_nan() && line.grad_norm.is_nan());
        let found = told.found.as_ref().unwrap();
        assert!(found.first.starts_with("fe."), "the first part that is trained, not {}", found.first);
        assert!(found.count > 10 && found.count <= found.of, "{found:?}");
    }
    assert!(lines.iter().filter(|line| line.skipped.is_none()).all(|line| line.loss.is_finite()));

    let last = whole.dir.checkpoint_path(40);
    assert_eq!(Checkpoint::open(&last).unwrap().manifest.state.skips.all, skipped.len() as u64);
    let model = tensors(&last.join("model.bpk"));
    let floats = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<_>>();
    for (name, bytes) in &model {
        assert!(floats(bytes).iter().all(|v| v.is_finite()), "{name} is spoilt");
    }

    let half = run(&run_config("halves", &["train.stop_after=20"]), some, false).unwrap();
    assert_eq!(half.step, 20);
    let halves = run(&run_config("halves", &[]), some, true).unwrap();
    // The stop itself is a line of the log, due or not.
    let without_stop = |log: &Path| steps(log).into_iter().filter(|l| l.step != 20).map(|l| format!("{l:?}")).collect::<Vec<_>>();
    assert_eq!(without_stop(&whole.dir.log()), without_stop(&halves.dir.log()));
    assert!(model == tensors(&halves.dir.checkpoint_path(40).join("model.bpk")), "weights differ");
}

/// What a part of the batch spoils on one rank, no rank learns from: they end with the same weights, which are compared at every
/// checkpoint.
#[test]
fn ranks_skip_together() {
    let folder = tempfile::tempdir().unwrap();
    let run_config = toy(Method::Risam, folder.path(), "ranks", &["eval.figures=0", "train.batch_size=5"]);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let all = ranks::local::run(2, std::time::Duration::from_secs(60), |rank| {
        let (data, tokenizer) = parts(&run_config);
        let segmenter = Poisoned { inner: RisamMethod::new(&run_config, tokenizer).unwrap(), spoils: some };
        let (world, device) = (World::new(std::sync::Arc::new(rank)), Device::flex());
        train_on_ranks(&segmenter, &run_config, data, &device, &world, false, &mut |_: Event<'_>| {}).unwrap()
    });
    let lines = steps(&all[0].dir.log());
    let skipped = lines.iter().filter(|line| line.skipped.is_some()).count();
    assert!(skipped > 2 && skipped < 38 && lines.len() == 40, "{skipped} of {} steps", lines.len());
    assert!(lines.iter().filter(|line| line.skipped.is_none()).all(|line| line.loss.is_finite()));
}

#[test]
fn a_run_that_is_given_up_says_which_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let run_config = toy(Method::Risam, folder.path(), "lost", &["train.log_every=1000"]);
    let error = run(&run_config, |_| true, false).unwrap_err().to_string();
    assert!(
        error.contains("for 20 steps in a row") && error.contains("gradients are not finite, the first is that of fe."),
        "{error}"
    );
    let lines = steps(&models::run_dir::RunDir::at(folder.path().join("runs/lost")).log());
    assert_eq!(lines.len(), 20);
    assert_eq!(lines[19].skipped.as_ref().unwrap().times, 20);
}
