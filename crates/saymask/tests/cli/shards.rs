//! Masks of tars: results and reports per tar, what is done is skipped, what is damaged is named.

use std::path::Path;

use test_support::{Session, json};

/// A tar of (name, bytes).
fn tar(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.finish().unwrap();
}

/// The i-th image of the demonstration.
fn image(s: &Session, i: usize) -> Vec<u8> {
    let folder = s.path("data/images/train2014");
    let mut images: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    images.sort();
    std::fs::read(&images[i]).unwrap()
}

/// Three tars: whole; with an image that is none and one without a sentence; cut short.
fn shards(s: &Session) {
    let sample = |i: usize, sentence: &str| {
        let image = (format!("{i:03}.jpg"), image(s, i));
        [image, (format!("{i:03}.txt"), sentence.as_bytes().to_vec())]
    };
    let whole: Vec<_> = (0..4).flat_map(|i| sample(i, "the red circle\nthe star")).collect();
    tar(&s.path("in-0.tar"), &whole);
    let broken = ("008.jpg".to_owned(), b"no image".to_vec());
    let second: Vec<_> =
        sample(4, "the red circle").into_iter().chain(sample(5, "")).chain([broken, ("008.txt".into(), b"x".to_vec())]).collect();
    tar(&s.path("in-1.tar"), &second);
    let bytes = std::fs::read(s.path("in-0.tar")).unwrap();
    std::fs::write(s.path("in-2.tar"), &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn every_tar_has_results_and_a_report() {
    let s = super::session();
    s.ok(&super::refs(&super::train(&["run.name=first", "train.steps=2", "schedule.warmup_steps=1", "train.eval_every=never"])));
    shards(&s);
    let predict = |part: &str, out: &str| s.ok(&["predict", "--shards", "in-{0..2}.tar", "--out", out, "--part", part]);
    predict("0/2", "out");
    assert!(!s.path("out/in-1.report.json").exists());
    predict("all", "out");
    let report = |n: usize| json(&s.path(&format!("out/in-{n}.report.json")));
    let counts = |n: usize| (report(n)["samples"].as_u64().unwrap(), report(n)["failed"].as_u64().unwrap());
    assert_eq!((counts(0), counts(1)), ((4, 0), (1, 2)));
    assert!(counts(2).0 < 4 && report(2)["faults"][0]["what"].as_str().unwrap().contains("damaged"));
    let faults = report(1)["faults"].to_string();
    assert!(faults.contains("\"005\"") && faults.contains("no sentences") && faults.contains("\"008\""), "{faults}");
    let lines = std::fs::read_to_string(s.path("out/in-0.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (first["key"].as_str(), first["predictions"].as_array().unwrap().len(), lines.lines().count()),
        (Some("000"), 2, 4)
    );
    assert!(first["predictions"][0]["segmentation"]["counts"].is_string());

    // The masks are those of `predict` on the image alone.
    std::fs::write(s.path("000.jpg"), image(&s, 0)).unwrap();
    s.ok(&["predict", "000.jpg", "the red circle", "the star", "--out", "alone"]);
    let alone = std::fs::read_dir(s.path("alone")).unwrap().map(|e| e.unwrap().path());
    let alone = json(&alone.into_iter().find(|path| path.extension().is_some_and(|e| e == "json")).unwrap());
    for i in 0..2 {
        for key in ["sentence", "segmentation", "bbox", "score"] {
            assert_eq!(first["predictions"][i][key], alone["predictions"][i][key], "{key}");
        }
    }

    // What is there is not made again; what is lost is, and is the same.
    let before = std::fs::metadata(s.path("out/in-0.jsonl")).unwrap().modified().unwrap();
    std::fs::remove_file(s.path("out/in-1.jsonl")).unwrap();
    let said = predict("all", "out");
    assert!(said.contains("in-1.jsonl") && !said.contains("in-0.jsonl"), "{said}");
    assert_eq!(std::fs::metadata(s.path("out/in-0.jsonl")).unwrap().modified().unwrap(), before);
    predict("all", "again");
    for n in 0..3 {
        for ending in ["jsonl", "report.json"] {
            let read = |folder: &str| std::fs::read(s.path(&format!("{folder}/in-{n}.{ending}"))).unwrap();
            assert!(read("out") == read("again"), "in-{n}.{ending}");
        }
    }
    // Results of the same size are told apart by their checksum, on demand.
    let results = s.path("again/in-1.jsonl");
    let bytes = std::fs::read(&results).unwrap();
    std::fs::write(&results, vec![b' '; bytes.len()]).unwrap();
    predict("all", "again");
    assert!(std::fs::read(&results).unwrap() != bytes);
    s.ok(&["predict", "--shards", "in-{0..2}.tar", "--out", "again", "--verify"]);
    assert!(std::fs::read(&results).unwrap() == bytes);
    // Other sentences are other results, and so are other settings.
    s.ok(&["predict", "grass", "--shards", "in-1.tar", "--out", "again"]);
    assert!(std::fs::read_to_string(s.path("again/in-1.jsonl")).unwrap().contains("grass"));
    assert_eq!(json(&s.path("again/in-1.report.json"))["samples"].as_u64(), Some(2));
    let said = s.ok(&["predict", "--shards", "in-0.tar", "--out", "again", "--set", "eval.threshold=0.4"]);
    assert!(said.contains("in-0.jsonl"), "{said}");
}

#[test]
fn workers_share_a_folder() {
    let s = super::session();
    s.ok(&super::refs(&super::train(&["run.name=first", "train.steps=2", "schedule.warmup_steps=1", "train.eval_every=never"])));
    for shard in 0..8 {
        let sample = |i: usize| {
            [
                (format!("{shard}-{i}.jpg"), image(&s, i)),
                (format!("{shard}-{i}.txt"), b"the red circle\nthe star\ngrass".to_vec()),
            ]
        };
        tar(&s.path(&format!("in-{shard}.tar")), &(0..6).flat_map(sample).collect::<Vec<_>>());
    }
    let args = |out: &'static str| ["predict", "--shards", "in-{0..7}.tar", "--out", out];
    s.ok(&args("one"));
    let read = |out: &str| {
        let files = std::fs::read_dir(s.path(out)).unwrap().map(|e| e.unwrap().path());
        let files = files.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        let named = files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(&path).unwrap()));
        named.collect::<std::collections::BTreeMap<_, _>>()
    };
    let start =
        || s.command(&args("three")).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut killed = start();
    let workers = [start(), start()];
    // In the middle of its work: once results are there.
    while !s.path("three/in-0.report.json").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let said = workers.map(|worker| String::from_utf8(worker.wait_with_output().unwrap().stdout).unwrap());
    assert!(said.iter().all(|said| !said.is_empty()), "one worker did all: {said:?}");
    for shard in 0..8 {
        let makers = said.iter().filter(|said| said.contains(&format!("in-{shard}.jsonl"))).count();
        assert!(makers <= 1, "in-{shard} was made {makers} times: {said:?}");
    }
    assert!(read("one") == read("three"));
}

#[test]
fn what_names_no_shards_is_refused() {
    let s = super::session();
    s.ok(&super::refs(&super::train(&["run.name=first", "train.steps=2", "schedule.warmup_steps=1", "train.eval_every=never"])));
    let refused = |args: &[&str]| s.refused(&[&["predict", "--out", "out"], args].concat());
    assert!(refused(&["--shards", "in-{0..x}.tar"]).contains("between { and } belongs a range"));
    assert!(refused(&["--shards", "in-0.tar", "--part", "4/4"]).contains("i from 0 to n - 1"));
    assert!(refused(&["--shards", "in-0.tar", " "]).contains("a sentence is empty"));
    let message = refused(&["--shards", "in-0.tar"]);
    assert!(message.contains("in-0.tar: cannot open it") && message.contains("1 of 1 shards"), "{message}");
}
