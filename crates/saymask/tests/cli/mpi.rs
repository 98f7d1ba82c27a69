//! Several ranks as processes, where `mpirun` is installed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use burn::store::{BurnpackStore, ModuleStore, bridge};
use test_support::{Session, toy_toml};

/// Sums over the parts of a batch are rounded otherwise than sums over the whole.
const SUMS: f64 = 1e-6;

/// A folder with the toy config of a method, which makes its own data.
struct Toy {
    s: Session,
    method: &'static str,
}

impl Toy {
    fn new(method: &'static str) -> Self {
        let s = super::session();
        let own = match method {
            "dit" => "",
            "evf" => "data.fit = \"top-left\"\ndata.items = \"image\"\ndata.expressions = 2\n",
            _ => "data.fit = \"top-left\"\ndata.items = \"grouped-referent\"\n",
        };
        let data = "run.dir = \"runs\"\ndata.root = \"data\"\ndata.synth = { images = 40, size = 64, seed = 3 }\n";
        std::fs::write(s.path("toy.toml"), format!("{own}{data}{}", dotted(&toy_toml(method)))).unwrap();
        Self { s, method }
    }

    /// The words of `train`: 20 steps with a batch of 5, which two ranks share as 2 and 3.
    fn train(&self, more: &[&str]) -> Vec<String> {
        let common = ["train", "--config", "toy.toml", "train.batch_size=5", "train.steps=20", "optim.eps=1e-3"];
        let own: &[&str] = if self.method == "dit" { &["model.dit.dropout=0", "model.dit.bert.dropout=0"] } else { &[] };
        [&common, own, more].concat().into_iter().map(str::to_owned).collect()
    }

    /// `mpirun -n ranks saymask words`.
    fn mpirun(&self, ranks: usize, words: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut command = Command::new("mpirun");
        command.args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_saymask")]).args(words);
        // Open MPI's words for: as root, and with more processes than cores.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").current_dir(self.s.path(".")).stdin(Stdio::null());
        command
    }

    /// Runs words on one process, or on several ranks; what they say.
    fn ok(&self, ranks: usize, words: &[String]) -> String {
        if ranks == 1 {
            return self.s.ok(&super::refs(words));
        }
        let out = self.mpirun(ranks, words).output().unwrap();
        assert!(out.status.success(), "{ranks} ranks, {words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A run that goes on until it is stopped, once its first steps are done.
    fn endless(&self, ranks: usize, name: &str, more: &[&str]) -> Child {
        let name_key = format!("run.name={name}");
        let words = self.train(&[&ENDLESS[..], &[&name_key[..]], more].concat());
        let child = self.mpirun(ranks, &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = self.s.path(&format!("runs/{name}/log.jsonl"));
        let begun = Instant::now();
        while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 8 {
            assert!(begun.elapsed() < Duration::from_secs(120), "no steps within 120 s");
            std::thread::sleep(Duration::from_millis(50));
        }
        child
    }

    fn steps(&self, run: &str) -> Vec<(u64, PathBuf)> {
        let folders = std::fs::read_dir(self.s.path(&format!("runs/{run}/checkpoints"))).unwrap().map(|e| e.unwrap().path());
        let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok();
        folders.filter_map(|path| Some((step(&path)?, path))).collect()
    }

    fn weights(&self, run: &str, step: u64) -> BTreeMap<String, Vec<u8>> {
        let (_, folder) = self.steps(run).into_iter().find(|(found, _)| *found == step).unwrap();
        let mut store = BurnpackStore::from_file(folder.join("model.bpk"));
        let all = store.get_all_tensors().unwrap();
        all.iter().map(|(name, tensor)| (name.clone(), bridge::to_data(tensor).unwrap().as_bytes().to_vec())).collect()
    }
}

/// A length that no test waits for.
const ENDLESS: [&str; 3] = ["train.steps=100000", "train.save_every=5", "train.eval_every=100000"];

/// Whether there is one; a test that needs it says so and ends.
fn is_installed() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("skipped: mpirun is not installed (Debian: openmpi-bin)");
    }
    found
}

/// Tables of a config as dotted keys, which may follow others of the same table.
fn dotted(toml: &str) -> String {
    let (mut table, mut out) = (String::new(), String::new());
    for line in toml.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => table = format!("{name}."),
            None => out += &format!("{table}{line}\n"),
        }
    }
    out
}

fn worst(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> f64 {
    let floats = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect::<Vec<_>>();
    assert!(a.len() > 20 && a.keys().eq(b.keys()));
    let far = |(name, values): (&String, &Vec<u8>)| {
        floats(values).iter().zip(floats(&b[name])).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
    };
    a.iter().map(far).fold(0.0, f64::max)
}

/// Two processes learn what one with the whole batch learns, repeat themselves to the bit, and judge as one does.
#[test]
fn two_ranks_learn_and_judge_as_one() {
    if !is_installed() {
        return;
    }
    for method in ["dit", "evf", "risam"] {
        let toy = Toy::new(method);
        toy.ok(1, &toy.train(&["run.name=one"]));
        let said = toy.ok(2, &toy.train(&["run.name=two"]));
        assert_eq!(said.matches("weights of step").count(), 1, "one rank speaks for all: {said}");
        toy.ok(2, &toy.train(&["run.name=again"]));
        let [one, two, again] = ["one", "two", "again"].map(|run| toy.weights(run, 20));
        assert!(two == again, "{method}: a repeat differs");
        let off = worst(&one, &two);
        eprintln!("{method}: weights of two ranks and of one process differ by {off:e} at most");
        assert!(off > 0.0 && off <= SUMS, "{method}: {off}");
        judge_as_one(&toy);
    }
}

/// The same files to the last byte, with batches that do not divide the splits.
fn judge_as_one(toy: &Toy) {
    let words = |out: &str| -> Vec<String> {
        let words = "eval --run runs/two --split val,testA --shuffled-text --set eval.batch_size=3 --out";
        words.split(' ').chain([out]).map(str::to_owned).collect()
    };
    toy.ok(1, &words("alone"));
    for ranks in [2, 3] {
        let out = format!("shared-{ranks}");
        toy.ok(ranks, &words(&out));
        for file in ["val", "val-results", "val-shuffled", "testA", "testA-results"] {
            let [a, b] = ["alone", &out].map(|out| std::fs::read(toy.s.path(&format!("{out}/eval/refcoco-unc-{file}.json"))));
            assert!(a.unwrap() == b.unwrap(), "{} on {ranks} ranks: {file} differs", toy.method);
        }
    }
}

/// Sends a signal to a rank of a launcher.
fn signal(launcher: &Child, rank: usize, signal: &str) {
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let is_child = String::from_utf8_lossy(&read("status")).contains(&format!("PPid:\t{}\n", launcher.id()));
        if is_child && read("environ").split(|b| *b == 0).any(|variable| variable == wanted.as_bytes()) {
            assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
            return;
        }
    }
    panic!("rank {rank} was not found");
}

#[test]
fn a_killed_rank_ends_the_run_and_it_goes_on_with_others() {
    if !is_installed() {
        return;
    }
    let toy = Toy::new("dit");
    let launcher = toy.endless(3, "killed", &[]);
    signal(&launcher, 1, "-KILL");
    let begun = Instant::now();
    let out = launcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("process rank 1"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // The same run goes on with two ranks and with one, as if it had never stopped.
    let newest = toy.steps("killed").into_iter().map(|(step, _)| step).max().unwrap();
    let until = |step: u64, run: &str, more: &[&str]| {
        let (stop, name) = (format!("train.stop_after={step}"), format!("run.name={run}"));
        toy.train(&[&ENDLESS[..], &[&stop[..], &name], more].concat())
    };
    toy.ok(2, &until(newest + 10, "killed", &["--resume"]));
    toy.ok(1, &until(newest + 20, "killed", &["--resume"]));
    toy.ok(1, &until(newest + 20, "unbroken", &[]));
    let [resumed, unbroken] = ["killed", "unbroken"].map(|run| toy.weights(run, newest + 20));
    let off = worst(&resumed, &unbroken);
    eprintln!("killed with a checkpoint of step {newest}, resumed on 2 ranks and on 1: weights differ by {off:e} at most");
    assert!(off <= 1e-5, "{off}");
}

#[test]
fn a_rank_that_hangs_is_named_and_ends_the_run() {
    if !is_installed() {
        return;
    }
    let toy = Toy::new("evf");
    let launcher = toy.endless(2, "hung", &["--rank-timeout", "3"]);
    signal(&launcher, 1, "-STOP");
    let begun = Instant::now();
    let out = launcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("error: rank 1 (process ") && said.contains("for 3 s"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// A rank's mistake ends all of them, and is said with its rank.
#[test]
fn an_error_of_a_rank_ends_all() {
    if !is_installed() {
        return;
    }
    let toy = Toy::new("dit");
    let out = toy.mpirun(2, &toy.train(&["train.batch_size=1"])).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    // Both make it; whichever is first ends the other.
    assert!(
        !out.status.success() && ["0", "1"].iter().any(|rank| said.contains(&format!("error: rank {rank} (process "))),
        "{said}"
    );
    assert!(said.contains("train.batch_size") && said.contains("at least the number of ranks, 2"), "{said}");
    let out = toy.mpirun(2, &["finetune", "data"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("`finetune` is not shared by ranks, of which 2 were started"), "{said}");
}
