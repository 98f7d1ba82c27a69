//! A run killed at any moment has its older checkpoints, and the new one either whole or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use super::*;
use crate::manifest::{Best, MANIFEST, RunState};

fn make_config(dir: &Path) -> RunConfig {
    let text = format!("[run]\nname = \"test\"\ndir = {:?}", dir.display().to_string());
    RunConfig::from_toml_str(&text).unwrap()
}

fn state(step: u64) -> RunState {
    RunState {
        step,
        epoch: step / 10,
        sampler: serde_json::json!({ "next": step }),
        rng: serde_json::json!([step, u64::MAX]),
        best: Some(Best { metric: "miou".to_owned(), value: 0.1 + 0.2, step }),
        skips: Default::default(),
    }
}

fn save(dir: &RunDir, run_config: &RunConfig, step: u64) -> Checkpoint {
    let mut writer = dir.checkpoint(step).unwrap();
    writer.bytes("model.bpk", format!("model {step}").as_bytes()).unwrap();
    writer
        .stream("optimiser.bpk", |out| {
            for i in 0..1000u32 {
                out.write_all(&i.to_le_bytes())?;
            }
            Ok(())
        })
        .unwrap();
    writer.at_path::<RunDirError>("ema.bpk", |path| fs::write(path, b"ema").map_err(io_error("write", path))).unwrap();
    writer.finish(state(step), run_config).unwrap()
}

fn newest(dir: &RunDir) -> Option<u64> {
    dir.latest_whole().unwrap().checkpoint.map(|c| c.manifest.state.step)
}

fn new_run() -> (tempfile::TempDir, RunConfig, RunDir) {
    let temp = tempfile::tempdir().unwrap();
    let run_config = make_config(temp.path());
    let dir = RunDir::create(&run_config).unwrap();
    (temp, run_config, dir)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_checkpoint_reads_back() {
    let (_temp, run_config, dir) = new_run();
    assert_eq!(newest(&dir), None);
    save(&dir, &run_config, 9);
    let saved = save(&dir, &run_config, 10);
    let found = dir.latest_whole().unwrap();
    assert_eq!(found.checkpoint, Some(saved.clone()));
    assert_eq!(found.damaged, []);
    assert_eq!(saved.manifest.state, state(10));
    assert_eq!(fs::read(saved.file("model.bpk").unwrap()).unwrap(), b"model 10");
    assert!(saved.file("other").unwrap_err().to_string().contains("ema.bpk, model.bpk"));
    saved.check_config(&run_config).unwrap();
    assert_eq!(saved.config().unwrap().hash().unwrap(), saved.manifest.config_sha256);
    assert_eq!(dir.steps().unwrap(), [9, 10]);
}

/// Each state that a kill during the writing of step 20 can leave, from the first byte to the last rename.
#[test]
fn killed_while_writing() {
    let (_temp, run_config, dir) = new_run();
    save(&dir, &run_config, 10);
    let whole = save(&dir, &run_config, 20).path;
    let model = whole.with_file_name("kept");
    fs::rename(&whole, &model).unwrap();

    let partial = whole.with_file_name("step-20.partial");
    let names = ["model.bpk", "optimiser.bpk", "ema.bpk", MANIFEST];
    for (done, name) in names.iter().enumerate() {
        let length = fs::metadata(model.join(name)).unwrap().len();
        for cut in [0, 1, length / 2, length - 1, length] {
            fs::create_dir_all(&partial).unwrap();
            for earlier in &names[..done] {
                fs::copy(model.join(earlier), partial.join(earlier)).unwrap();
            }
            let bytes = fs::read(model.join(name)).unwrap();
            fs::write(partial.join(name), &bytes[..cut as usize]).unwrap();
            let found = dir.latest_whole().unwrap();
            assert_eq!(found.checkpoint.unwrap().manifest.state.step, 10, "{name} cut at {cut}");
            assert_eq!(found.damaged, [], "an unfinished checkpoint is not a damaged one");
            fs::remove_dir_all(&partial).unwrap();
        }
    }
    // The next run writes step 20 over what was left.
    copy(&model, &partial);
    fs::write(partial.join("junk"), b"junk").unwrap();
    let saved = save(&dir, &run_config, 20);
    assert!(!saved.path.join("junk").exists());
    assert_eq!(newest(&dir), Some(20));
}

/// Each state that a kill during the replacement of a whole step 20 can leave.
#[test]
fn killed_while_replacing() {
    let (_temp, run_config, dir) = new_run();
    save(&dir, &run_config, 10);
    let whole = save(&dir, &run_config, 20).path;
    let (old, partial) = (whole.with_file_name("step-20.old"), whole.with_file_name("step-20.partial"));
    copy(&whole, &partial);
    assert_eq!(newest(&dir), Some(20));
    fs::rename(&whole, &old).unwrap();
    assert_eq!(newest(&dir), Some(20));
    // A sweep at this moment must not take the only whole copy.
    dir.prune(20, 5, None).unwrap();
    assert_eq!(newest(&dir), Some(20));
    copy(&old, &whole);
    assert_eq!(dir.latest_whole().unwrap().checkpoint.unwrap().path, whole);
    // A damaged new one beside a whole old one.
    fs::write(whole.join("model.bpk"), b"x").unwrap();
    dir.prune(20, 5, None).unwrap();
    assert_eq!(dir.latest_whole().unwrap().checkpoint.unwrap().path, old);
    let saved = save(&dir, &run_config, 20);
    assert_eq!(saved.path, whole);
    assert!(!old.exists());
    assert_eq!(dir.latest_whole().unwrap().checkpoint, Some(saved));
}

#[test]
fn damage_is_noticed_and_reported() {
    let (_temp, run_config, dir) = new_run();
    save(&dir, &run_config, 10);
    let whole = save(&dir, &run_config, 20).path;
    let kept = whole.with_file_name("kept");
    copy(&whole, &kept);
    for name in ["model.bpk", "optimiser.bpk", "ema.bpk", MANIFEST] {
        let bytes = fs::read(kept.join(name)).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        let damages = [None, Some(Vec::new()), Some(bytes[..bytes.len() - 1].to_vec()), Some(flipped)];
        for damage in damages {
            match &damage {
                None => fs::remove_file(whole.join(name)).unwrap(),
                Some(bytes) => fs::write(whole.join(name), bytes).unwrap(),
            }
            let found = dir.latest_whole().unwrap();
            assert_eq!(found.checkpoint.unwrap().manifest.state.step, 10, "{name}");
            assert_eq!(found.damaged.len(), 1);
            assert!(found.damaged[0].to_string().contains(name), "{}", found.damaged[0]);
            assert!(Checkpoint::open(&whole).unwrap_err().to_string().contains(name));
            fs::write(whole.join(name), &bytes).unwrap();
        }
    }
    assert_eq!(newest(&dir), Some(20));
    fs::write(whole.join("ema.bpk"), b"longer").unwrap();
    let found = dir.latest_whole().unwrap();
    assert_eq!(found.damaged[0].reason, "ema.bpk: has 6 bytes instead of 3");
    fs::write(whole.join("ema.bpk"), b"ema").unwrap();
    fs::rename(&whole, whole.with_file_name("step-30")).unwrap();
    let found = dir.latest_whole().unwrap();
    assert!(found.damaged[0].reason.contains("says step 20, the folder's name says 30"));
}

#[test]
fn pruning_keeps_the_newest_and_the_best() {
    let (_temp, run_config, dir) = new_run();
    for step in [1, 2, 3, 4, 5, 10] {
        save(&dir, &run_config, step);
    }
    dir.checkpoint(11).unwrap();
    assert_eq!(dir.prune(10, 2, Some(2)).unwrap(), [1, 3, 4]);
    assert_eq!(dir.steps().unwrap(), [2, 5, 10]);
    assert_eq!(fs::read_dir(dir.checkpoints()).unwrap().count(), 3);
    // The one just written stays, whatever lies after it.
    save(&dir, &run_config, 6);
    assert_eq!(dir.prune(6, 1, None).unwrap(), [2, 5]);
    assert_eq!(dir.steps().unwrap(), [6, 10]);
    assert_eq!(dir.discard_after(6).unwrap(), [10]);
    assert_eq!(dir.steps().unwrap(), [6]);
    assert!(dir.prune(6, 0, None).unwrap().is_empty());
}

#[test]
fn half_deleted_is_not_damaged() {
    let (_temp, run_config, dir) = new_run();
    let path = save(&dir, &run_config, 1).path;
    save(&dir, &run_config, 2);
    let removed = path.with_file_name("step-1.removed");
    fs::rename(&path, &removed).unwrap();
    fs::remove_file(removed.join(MANIFEST)).unwrap();
    assert_eq!(dir.latest_whole().unwrap().damaged, []);
    dir.prune(2, 3, None).unwrap();
    assert!(!removed.exists());
}

#[test]
fn another_plan_is_refused_with_its_keys() {
    let (_temp, run_config, dir) = new_run();
    let saved = save(&dir, &run_config, 1);
    let other = run_config.with_overrides(&["optim.lr=0.5", "train.batch_size=3"]).unwrap();
    for error in [saved.check_config(&other).unwrap_err(), RunDir::resume(&other).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("optim.lr: 0.5 here, 0.0001 there"), "{text}");
        assert!(text.contains("train.batch_size: 3 here, 8 there"), "{text}");
    }
    let later = run_config.with_overrides(&["train.stop_after=5", "train.keep=1"]).unwrap();
    saved.check_config(&later).unwrap();
    assert_eq!(RunDir::resume(&later).unwrap(), dir);
}

#[test]
fn new_and_resumed_runs_are_not_mixed_up() {
    let (temp, run_config, dir) = new_run();
    assert!(matches!(RunDir::create(&run_config), Err(RunDirError::Exists { .. })));
    assert_eq!(RunDir::free_name(&run_config), "test-2");
    let unborn = run_config.with_overrides(&["run.name=unborn"]).unwrap();
    assert_eq!(RunDir::free_name(&unborn), "unborn");
    assert!(matches!(RunDir::resume(&unborn), Err(RunDirError::NoRun { .. })));
    assert!(!temp.path().join("unborn").exists(), "nothing half-written");
    assert_eq!(dir.config().unwrap().hash().unwrap(), run_config.hash().unwrap());
}

#[test]
fn only_plain_names_and_the_right_step() {
    let (_temp, run_config, dir) = new_run();
    let mut writer = dir.checkpoint(1).unwrap();
    for name in ["", "a/b", "..", ".hidden", MANIFEST] {
        assert!(matches!(writer.bytes(name, b""), Err(RunDirError::FileName { .. })), "{name}");
    }
    writer.bytes("a", b"").unwrap();
    assert!(matches!(writer.bytes("a", b""), Err(RunDirError::FileName { .. })));
    assert!(matches!(writer.finish(state(2), &run_config), Err(RunDirError::Manifest { .. })));
    assert_eq!(newest(&dir), None);
}
