//! What Saymask's commands leave behind when they are killed or the disk is full, tried on a model of a few thousand parameters.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::kill::{Tally, Trial};

/// A small EVF-SAM with kept features: its run writes every kind of file there is.
const CONFIG: &str = r#"
[run]
dir = "runs"
name = "small"
[data]
root = "data"
image_size = 32
fit = "top-left"
items = "image"
prefetch = 1
[text]
max_tokens = 14
[model]
method = "evf"
[model.evf.beit3]
dim = 16
layers = 2
heads = 2
ffn = 32
image_size = 16
patch_size = 8
max_positions = 16
[model.evf.sam]
decoder_depth = 1
decoder_heads = 2
decoder_mlp_dim = 16
[model.evf.sam.image_encoder]
image_size = 32
patch_size = 8
embed_dim = 16
depth = 3
heads = 2
mlp_ratio = 2.0
out_channels = 16
window_size = 2
global_blocks = [1, 2]
[optim]
lr = 1e-3
[schedule]
warmup_steps = 2
[train]
batch_size = 4
steps = 6
log_every = 1
eval_every = 3
save_every = 2
feature_cache = "cache"
[eval]
limit = 4
figures = 2
shuffled_text = true
"#;

const CONFIG_FILE: &str = "small.toml";
const RUN: &str = "runs/small";
const SYNTH: &[&str] = &["data", "synth", "data", "--images", "12", "--size", "64"];
const TRAIN: &[&str] = &["train", "--config", CONFIG_FILE];
const EVAL: &[&str] = &["eval", "--run", RUN, "--split", "val,testA", "--shuffled-text"];
const EXPORT: &[&str] = &["export", "out/model.safetensors", "--run", RUN];
const PREDICT: &[&str] = &["predict", "data/images/train2014", "left one", "--out", "predictions", "--run", RUN];

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// A file that says nothing of the wall clock, nor of what was being written when the process ended. Burn writes an optimiser's
/// tensors in any order, so these files and their checksums are not compared: the weights of later steps are made with them.
fn lasting(path: &Path) -> bool {
    let text = path.to_string_lossy();
    // The last is a folder's list of what was written to it, and when it was written again.
    let clock = ["timing.jsonl", "figures.json", ".saymask-outputs.json"].iter().any(|name| path.ends_with(name));
    let unordered = text.contains("checkpoints/") && (text.contains("optimiser-") || path.ends_with("manifest.json"));
    !clock && !unordered && ![".partial", ".part-", "/.tmp"].iter().any(|part| text.contains(part))
}

/// Folders as they are before each command: with the config, with data, with a finished run.
pub struct Stages {
    program: PathBuf,
    bare: tempfile::TempDir,
    data: tempfile::TempDir,
    run: tempfile::TempDir,
}

impl Stages {
    /// Generates a set and trains on it.
    ///
    /// # Panics
    /// When a command fails.
    pub fn new(program: &Path) -> Self {
        let [bare, data, run] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        for folder in [&bare, &data, &run] {
            std::fs::write(folder.path().join(CONFIG_FILE), CONFIG).unwrap();
        }
        let stages = Self { program: program.to_owned(), bare, data, run };
        for folder in [&stages.data, &stages.run] {
            stages.ok(folder.path(), SYNTH);
        }
        stages.ok(stages.run.path(), TRAIN);
        stages
    }

    fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(folder).env_remove("RUST_BACKTRACE").env_remove("SAYMASK_INVOKED_AS");
        command
    }

    fn ok(&self, folder: &Path, args: &[&str]) {
        let out = self.command(folder, args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Kills every writer at `moments` moments each.
    pub fn kill(&self, moments: usize, every_call: bool) -> Vec<(&'static str, Tally)> {
        let trial = |name, before, args, again| Trial { name, program: &self.program, before, args, again, kept: lasting };
        let resumed = |folder: &Path| {
            let begun = folder.join(RUN).join("config.toml").exists();
            words(&if begun { [TRAIN, &["--resume"]].concat() } else { TRAIN.to_vec() })
        };
        let synth = |folder: &Path| words(if folder.join("data").exists() { &["data", "verify", "data"] } else { SYNTH });
        let trials = [
            trial("train, its feature cache and its final evaluation", self.data.path(), TRAIN, resumed as fn(&Path) -> _),
            trial("data synth", self.bare.path(), SYNTH, synth),
            trial("eval", self.run.path(), EVAL, |_| words(EVAL)),
            trial("export", self.run.path(), EXPORT, |_| words(EXPORT)),
            trial("predict", self.run.path(), PREDICT, |_| words(PREDICT)),
        ];
        trials.iter().map(|trial| (trial.name, trial.run(moments, every_call))).collect()
    }

    fn writers(&self) -> [(&'static str, &tempfile::TempDir, &'static [&'static str]); 5] {
        [
            ("train", &self.data, TRAIN),
            ("data synth", &self.bare, SYNTH),
            ("eval", &self.run, EVAL),
            ("export", &self.run, EXPORT),
            ("predict", &self.run, PREDICT),
        ]
    }

    /// Runs every writer with files that may not grow beyond each limit, in blocks of 512 bytes, and says what is wrong with how
    /// it ended: it must say one error that names a file, and the run must still be read.
    pub fn full(&self, limits: &[u32]) -> Vec<(&'static str, usize, Vec<String>)> {
        let tried = self.writers().into_iter().map(|(name, before, args)| {
            let (mut refused, mut wrong) = (0, Vec::new());
            for limit in limits {
                let folder = crate::kill::copy(before.path());
                let out = self.limited(folder.path(), args, *limit);
                if out.status.success() {
                    continue;
                }
                refused += 1;
                if let Some(what) = badly_told(&out).or_else(|| self.unreadable(folder.path())) {
                    wrong.push(format!("{name}, files of at most {limit} blocks: {what}"));
                }
            }
            (name, refused, wrong)
        });
        tried.collect()
    }

    /// The same on a file system that has so many KiB left; `None` where this process may not mount one.
    pub fn mounted(&self, room: &[u64]) -> Option<Vec<(&'static str, usize, Vec<String>)>> {
        let tried = self.writers().into_iter().map(|(name, before, args)| {
            let (mut refused, mut wrong) = (0, Vec::new());
            for room in room {
                let disk = SmallDisk::new()?;
                crate::kill::copy_into(before.path(), disk.path());
                disk.leave(*room);
                let out = self.command(disk.path(), args).output().unwrap();
                if out.status.success() {
                    continue;
                }
                refused += 1;
                let told = badly_told(&out);
                disk.leave(LARGE_DISK);
                if let Some(what) = told.or_else(|| self.unreadable(disk.path())) {
                    wrong.push(format!("{name}, a disk with {room} KiB left: {what}"));
                }
            }
            Some((name, refused, wrong))
        });
        tried.collect()
    }

    /// The command under a limit of the size of files: the system refuses to write more, as it does where a disk is full.
    fn limited(&self, folder: &Path, args: &[&str], blocks: u32) -> Output {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script]).arg(&self.program).args(args).current_dir(folder);
        shell.env_remove("RUST_BACKTRACE").env_remove("SAYMASK_INVOKED_AS").output().unwrap()
    }

    /// Whether a run that was there before, or its last whole checkpoint, can no longer be used.
    fn unreadable(&self, folder: &Path) -> Option<String> {
        let whole = |name: &str| name.strip_prefix("step-").is_some_and(|step| step.bytes().all(|b| b.is_ascii_digit()));
        let mut there = std::fs::read_dir(folder.join(RUN).join("checkpoints")).ok()?;
        there.find(|entry| entry.as_ref().is_ok_and(|e| whole(&e.file_name().to_string_lossy())))?.unwrap();
        let out = self.command(folder, &["eval", "--run", RUN, "--split", "val"]).output().unwrap();
        (!out.status.success()).then(|| format!("afterwards: {}", String::from_utf8_lossy(&out.stderr)))
    }
}

/// KiB that are more than any command here writes.
const LARGE_DISK: u64 = 1 << 16;

/// A file system in memory, mounted while this lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// An empty one, large at first; `None` where this process may not mount (it is root on Linux that may).
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={LARGE_DISK}k"), "tmpfs"], folder.path()).then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes it so small, or so large, that `room` KiB are left.
    fn leave(&self, room: u64) {
        let out = Command::new("df").args(["-k", "--output=used"]).arg(self.path()).output().unwrap();
        let used: u64 = String::from_utf8_lossy(&out.stdout).lines().nth(1).unwrap().trim().parse().unwrap();
        assert!(mount(&["-o", &format!("remount,size={}k", used + room)], self.path()), "its size could not be changed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn mount(args: &[&str], folder: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(args).arg(folder).stderr(std::process::Stdio::null());
    mount.status().is_ok_and(|status| status.success())
}

/// What is wrong with how a command told that it failed: it says one error, in a sentence, about a file.
fn badly_told(out: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&out.stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let last = *errors.last()?;
    let whole = out.status.code() == Some(2) || out.status.code() == Some(1);
    let named = last.contains("too large") || last.contains("No space") || last.contains("os error");
    let right = whole && named && !text.contains("panicked");
    (!right).then(|| format!("exit {:?}: {text}", out.status.code()))
}
