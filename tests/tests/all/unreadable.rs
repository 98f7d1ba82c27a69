//! Images that break in the middle of an epoch: replaced, counted and named, up to a limit.

use std::path::Path;
use std::sync::PoisonError;

use burn::tensor::Device;
use models::methods::DitMethod;
use refcoco_data::Dataset;
use run_config::{Method, RunConfig};
use tests::{parts, toy};
use trainer::TrainError;
use trainer::data::open_split;
use trainer::event::Event;
use trainer::run_log::{LogLine, read_log};
use trainer::train::{Summary, train};

use crate::training::{ONE_AT_A_TIME, tensors};

fn run(run_config: &RunConfig, resume: bool, notes: &mut Vec<String>) -> Result<Summary, TrainError> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (data, tokenizer) = parts(run_config);
    let segmenter = DitMethod::new(run_config, tokenizer)?;
    train(&segmenter, run_config, data, &Device::flex(), resume, &mut |event: Event<'_>| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
    })
}

/// Cuts the second half off the `number`-th image that a split shows; its path.
fn damage(set: &Dataset, number: usize) -> String {
    let path = &set.images[set.referents[number].image].path;
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    path.display().to_string()
}

/// What each step's line says could not be read.
fn unreadable(log: &Path) -> Vec<(u64, String)> {
    let lines = read_log(log).unwrap().into_iter();
    let steps = lines.filter_map(|line| if let LogLine::Step(line) = line { Some(line) } else { None });
    steps.flat_map(|line| line.unreadable.into_iter().map(move |fault| (line.step, fault))).collect()
}

#[test]
fn other_samples_take_their_place_also_in_a_resumed_run() {
    let folder = tempfile::tempdir().unwrap();
    let run_config = |name: &str, set: &[&str]| {
        toy(Method::Dit, folder.path(), name, &[&["train.log_every=1000", "eval.figures=0"], set].concat())
    };
    let first = run_config("whole", &[]);
    let set = open_split(&first, "train").unwrap();
    let broken = [damage(&set, 0), damage(&set, set.referents.len() - 1)];
    let mut notes = Vec::new();
    let whole = run(&first, false, &mut notes).unwrap();
    assert_eq!((whole.step, whole.unreadable), (40, 2));
    for path in &broken {
        assert_eq!(notes.iter().filter(|note| note.contains(path.as_str())).count(), 1, "{path} in {notes:?}");
    }
    let logged = unreadable(&whole.dir.log());
    assert!(logged.len() > 2, "an image is met in several epochs: {logged:?}");

    run(&run_config("halves", &["train.stop_after=20"]), false, &mut Vec::new()).unwrap();
    let halves = run(&run_config("halves", &[]), true, &mut Vec::new()).unwrap();
    assert_eq!(logged, unreadable(&halves.dir.log()));
    let model = |run: &Summary| tensors(&run.dir.checkpoint_path(40).join("model.bpk"));
    assert!(model(&whole) == model(&halves), "weights differ");

    let error = run(&run_config("strict", &["data.max_unreadable=1"]), false, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("more than 1 images or masks") && broken.iter().any(|path| error.contains(path)), "{error}");
}

#[test]
fn a_damaged_image_of_the_validation_split_is_named_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let run_config = toy(Method::Dit, folder.path(), "val", &[]);
    let path = damage(&open_split(&run_config, "val").unwrap(), 3);
    let error = run(&run_config, false, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains(&path), "{error}");
    assert!(!folder.path().join("runs/val").exists(), "nothing was begun");
}
