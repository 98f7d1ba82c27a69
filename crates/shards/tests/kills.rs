//! Workers that are killed at random moments lose nothing and double nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shards::{Claim, Fault, Output, Samples, State, expand};

/// Where a worker finds its folder; the test binary calls itself.
const FOLDER: &str = "SHARDS_TEST_FOLDER";
const JOB: &str = "lengths";
const EXPIRY: Duration = Duration::from_secs(60);

fn write_shards(folder: &Path, count: usize, samples: usize) {
    for shard in 0..count {
        let mut tar = tar::Builder::new(Vec::new());
        for i in 0..samples {
            for (ending, bytes) in [("jpg", vec![i as u8; 100 + i]), ("txt", b"the red circle\nthe star".to_vec())] {
                // Every seventh sample has no image.
                if ending == "jpg" && i % 7 == 6 {
                    continue;
                }
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, format!("{shard}-{i}.{ending}"), &*bytes).unwrap();
            }
        }
        std::fs::write(folder.join(format!("in-{shard:02}.tar")), tar.into_inner().unwrap()).unwrap();
    }
}

fn tars(folder: &Path) -> Vec<PathBuf> {
    let count =
        std::fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "tar")).count();
    expand(folder.join(format!("in-{{00..{:02}}}.tar", count - 1)).to_str().unwrap()).unwrap()
}

/// Works on every shard until all are done.
fn work(folder: &Path, pause: Duration) {
    let out = folder.join("out");
    loop {
        let mut open = 0;
        for tar in tars(folder) {
            let stem = tar.file_stem().unwrap().to_str().unwrap().to_owned();
            if State::of(&out, &stem, JOB, false) != State::Open {
                continue;
            }
            open += 1;
            let Some(mut claim) = Claim::take(&out, &stem, EXPIRY).unwrap() else { continue };
            // Another worker may have finished it before the claim.
            if State::of(&out, &stem, JOB, false) != State::Open {
                continue;
            }
            let mut output = Output::begin(&out, &stem, Path::new(&format!("{stem}.tar")), JOB, &claim.worker()).unwrap();
            Samples::read(&tar, |sample| {
                match sample {
                    Ok(sample) => {
                        output.sample(&format!("{} {} {}", sample.key, sample.image.len(), sample.sentences.len())).unwrap()
                    }
                    Err(fault) => output.failed(fault),
                }
                std::thread::sleep(pause);
                claim.renew()
            })
            .unwrap();
            if claim.is_ours() {
                output.finish().unwrap();
            }
        }
        if open == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(p).unwrap())).collect()
}

#[test]
#[ignore = "what a worker process runs"]
fn worker() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        work(Path::new(&folder), Duration::from_micros(300));
    }
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "worker", "--ignored"]).env(FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Whether a process that is gone has left a claim.
fn has_claim(out: &Path, process: u32) -> bool {
    let process = format!(" {process} ");
    let is_claim = |path: &Path| path.extension().is_some_and(|ending| ending == "claim");
    let claims = std::fs::read_dir(out).unwrap().map(|e| e.unwrap().path()).filter(|path| is_claim(path));
    claims.filter_map(|path| std::fs::read_to_string(path).ok()).any(|owner| owner.contains(&process))
}

/// Two workers at a time, each killed at a random moment, until that was done `kills` times; then two that may finish.
fn killed(kills: usize, shards: usize, samples: usize) {
    let (unbroken, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [unbroken.path(), broken.path()] {
        write_shards(folder, shards, samples);
        std::fs::create_dir(folder.join("out")).unwrap();
    }
    work(unbroken.path(), Duration::ZERO);
    let expected = files(&unbroken.path().join("out"));
    assert_eq!(expected.len(), 2 * shards);

    let mut state = 12_345_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let out = broken.path().join("out");
    let mut at_work = 0;
    let mut workers = [spawn(broken.path()), spawn(broken.path())];
    for kill in 0..kills {
        let moment = Instant::now() + Duration::from_micros(u64::from(500 + random(12_000)));
        while Instant::now() < moment {
            std::thread::sleep(Duration::from_micros(100));
        }
        let victim = &mut workers[kill % 2];
        // SIGKILL on Unix.
        let _ = victim.kill();
        victim.wait().unwrap();
        at_work += usize::from(has_claim(&out, victim.id()));
        // Once all is done there is nothing left to kill: shards are lost on purpose.
        if kill % 2 == 0 {
            let stem = format!("in-{:02}", random(shards as u32));
            let _ = std::fs::remove_file(out.join(format!("{stem}.report.json")));
        }
        workers[kill % 2] = spawn(broken.path());
    }
    for worker in &mut workers {
        assert!(worker.wait().unwrap().success());
    }
    assert!(2 * at_work > kills, "{at_work} of {kills} kills met a worker at work");
    let found: BTreeMap<_, _> = files(&out).into_iter().filter(|(name, _)| !name.starts_with('.')).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "results differ from those of an unbroken run");
    for tar in tars(broken.path()) {
        let State::Done(report) = State::of(&out, tar.file_stem().unwrap().to_str().unwrap(), JOB, true) else {
            panic!("{tar:?}")
        };
        assert_eq!(report.samples + report.failed, samples as u64);
        assert!(report.faults.iter().all(|Fault { what, .. }| what.contains("no image")));
    }
}

#[test]
fn forty_kills_lose_and_double_nothing() {
    killed(40, 8, 40);
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_kills_lose_and_double_nothing() {
    killed(1000, 50, 40);
}
