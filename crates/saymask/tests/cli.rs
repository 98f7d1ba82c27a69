//! Sessions of the command line, as a user would have them.

#[path = "cli/data_masks.rs"]
mod data_masks;
#[path = "cli/device.rs"]
mod device;
#[path = "cli/eval.rs"]
mod eval;
#[cfg(feature = "mpi")]
#[path = "cli/mpi.rs"]
mod mpi;
#[path = "cli/multitask.rs"]
mod multitask;
#[path = "cli/own.rs"]
mod own;
#[path = "cli/photo.rs"]
mod photo;
#[path = "cli/reliability.rs"]
mod reliability;
#[path = "cli/reproduce.rs"]
mod reproduce;
#[path = "cli/segment.rs"]
mod segment;
#[path = "cli/segment_others.rs"]
mod segment_others;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/shards.rs"]
mod shards;
#[path = "cli/shipped.rs"]
mod shipped;
#[path = "cli/track.rs"]
mod track;

use std::process::Stdio;
use std::time::{Duration, Instant};

use test_support::{Session, json};

/// A model small enough for a test, over the built-in demonstration.
const SMALL: &[&str] = &[
    "data.image_size=32",
    "data.synth.images=24",
    "data.synth.size=64",
    "model.dit.text_dim=16",
    "model.dit.sam.decoder_depth=1",
    "model.dit.sam.decoder_heads=2",
    "model.dit.sam.decoder_mlp_dim=16",
    "model.dit.sam.image_encoder.image_size=32",
    "model.dit.sam.image_encoder.embed_dim=16",
    "model.dit.sam.image_encoder.depth=2",
    "model.dit.sam.image_encoder.heads=2",
    "model.dit.sam.image_encoder.out_channels=16",
    "model.dit.sam.image_encoder.global_blocks=[1]",
    "model.dit.bert.hidden=16",
    "model.dit.bert.heads=2",
    "model.dit.bert.ffn=32",
    "schedule.warmup_steps=2",
    "train.batch_size=4",
    "train.steps=12",
    "train.eval_every=6",
    "train.save_every=2",
    "eval.limit=6",
    "eval.figures=3",
];

fn session() -> Session {
    Session::new(env!("CARGO_BIN_EXE_saymask"))
}

/// `train` of the small model with its data and runs in the session's folder.
fn train(more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["train", "data.root=data", "run.dir=runs"].map(str::to_owned).to_vec();
    args.extend(SMALL.iter().chain(more).map(|s| (*s).to_owned()));
    args
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn train_eval_predict_export() {
    let s = session();
    let said = s.ok(&refs(&train(&["run.name=first"])));
    for word in ["mIoU", "text shuffled", "colour", "examples", "Next: saymask predict"] {
        assert!(said.contains(word), "`{word}` is missing in:\n{said}");
    }
    // The command that is suggested works as it is printed.
    let next = said.lines().find_map(|line| line.strip_prefix("Next: saymask ")).unwrap().replace('"', "");
    let (image, rest) = next.strip_prefix("predict ").unwrap().split_once(' ').unwrap();
    let (sentence, run) = rest.split_once(" --run ").unwrap();
    assert!(s.ok(&["predict", image, sentence, "--run", run, "--out", "next"]).contains(sentence));
    let run = s.path("runs/first");
    for file in [
        "config.toml",
        "log.jsonl",
        "curves.svg",
        "eval/refcoco-unc-val.json",
        "eval/refcoco-unc-val-results.json",
        "eval/refcoco-unc-val-shuffled.json",
        "figures/refcoco-unc-val-1.png",
    ] {
        assert!(run.join(file).exists(), "{file} is missing");
    }
    assert_eq!(json(&run.join("eval/refcoco-unc-val-results.json")).as_array().unwrap().len(), 6);

    let report = s.ok(&["data", "verify", "data"]);
    assert!(report.contains("refcoco") && report.contains("testA"), "{report}");

    let table = s.ok(&["eval", "--split", "val,testA", "--shuffled-text", "--set", "eval.profile=dit"]);
    assert!(table.contains("profile dit, threshold 0.35") && table.contains("testA"), "{table}");

    // A setting that a command does not read is refused; the threshold is read by all that answer.
    for (command, key) in [
        (&["predict", "data/images/train2014", "left"][..], "eval.profile=dit"),
        (&["eval"], "optim.lr=1"),
        (&["export", "w.safetensors"], "eval.threshold=0.5"),
    ] {
        let error = s.refused(&[command, &["--set", key]].concat());
        assert!(error.contains(&format!("`{}` does not use {}", command[0], key.split('=').next().unwrap())), "{error}");
    }

    let said = s.ok(&["agree", "--against", "cpu", "--limit", "4", "--json", "agree.json"]);
    assert!(said.contains("mean 1.00000") && said.contains("the devices agree"), "{said}");
    assert_eq!(json(&s.path("agree.json"))["expressions"].as_u64(), Some(4));
    let out = s.run(&["agree", "--limit", "4", "--bound", "1.1"]);
    assert_eq!(out.status.code(), Some(1), "what disagrees is a failure, not an error");

    let image = "data/images/train2014/COCO_train2014_000000000001.jpg";
    s.ok(&["predict", image, "the red circle", "left one", "--out", "found"]);
    let found = json(&s.path("found/COCO_train2014_000000000001.json"));
    let predictions = found["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 2);
    let size = predictions[0]["segmentation"]["size"].as_array().unwrap();
    assert_eq!((size[0].as_u64(), size[1].as_u64()), (found["height"].as_u64(), found["width"].as_u64()));
    let area =
        |folder: &str| json(&s.path(&format!("{folder}/COCO_train2014_000000000001.json")))["predictions"][0]["area"].as_u64();
    s.ok(&["predict", image, "the red circle", "--out", "strict", "--set", "eval.threshold=0.999"]);
    assert!(area("strict").unwrap() < area("found").unwrap(), "a higher threshold leaves fewer pixels");
    let long = s.run(&["predict", image, &format!("left one {}", "and ".repeat(30)), "--out", "long"]);
    let said = String::from_utf8_lossy(&long.stderr).into_owned();
    assert!(long.status.success() && said.contains("tokens are read; not read: \"and"), "{said}");
    let figure = s.path("found/COCO_train2014_000000000001-2.png");
    assert_eq!(&std::fs::read(figure).unwrap()[1..4], b"PNG");

    s.ok(&["export", "weights.safetensors"]);
    assert!(s.path("vocab.txt").exists());
    // Exported weights, read back under their official names, give the same masks.
    let again = s.ok(&[
        "predict",
        image,
        "the red circle",
        "left one",
        "--out",
        "again",
        "--config",
        "runs/first/config.toml",
        "--weights",
        "weights.safetensors",
        "--set",
        "text.vocabulary=vocab.txt",
    ]);
    assert!(again.contains("left one"));
    // So does a folder, which needs no config.
    s.ok(&["export", "folder/model.safetensors"]);
    s.ok(&["predict", image, "the red circle", "left one", "--out", "third", "--weights", "folder"]);
    for out in ["again", "third"] {
        let again = json(&s.path(out).join("COCO_train2014_000000000001.json"));
        for (a, b) in predictions.iter().zip(again["predictions"].as_array().unwrap()) {
            assert_eq!(a["segmentation"], b["segmentation"], "{out}");
        }
    }
    let message = s.refused(&["export", "weights.bin"]);
    assert!(message.contains("weights.bin") && message.contains(".safetensors"), "{message}");

    // Judged all the same where nothing can be kept.
    std::fs::remove_dir_all(run.join("eval")).unwrap();
    std::fs::write(run.join("eval"), "in the way").unwrap();
    let out = s.run(&["eval", "--split", "val"]);
    let (table, message) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(table.contains("mIoU"), "{table}");
    assert!(!out.status.success() && message.contains("could not be kept"), "{message}");
}

/// Short runs of the other methods' demonstrations.
const SHORT: &[&str] = &[
    "data.root=data",
    "run.dir=runs",
    "data.synth.images=24",
    "data.synth.size=64",
    "schedule.warmup_steps=2",
    "train.batch_size=4",
    "train.steps=4",
    "train.eval_every=never",
    "train.save_every=never",
    "eval.limit=6",
    "eval.figures=3",
];

#[test]
fn evf_trains_shows_exports_and_comes_back_from_its_published_layout() {
    let s = session();
    let said = s.ok(&[&["train", "--method", "evf"], SHORT].concat());
    assert!(said.contains("mIoU") && said.contains("text shuffled"), "{said}");
    let image = "data/images/train2014/COCO_train2014_000000000001.jpg";
    s.ok(&["attend", image, "the red circle", "--out", "seen.png"]);
    assert_eq!(&std::fs::read(s.path("seen.png")).unwrap()[1..4], b"PNG");

    s.ok(&["predict", image, "the red circle", "left one", "--out", "found"]);
    let hub = "hub/models--somebody--small-evf";
    let snapshot = format!("{hub}/snapshots/abc");
    s.ok(&["export", &format!("{snapshot}/model.safetensors")]);
    // Its sizes are nobody's, so no published name stands for them; the class is that of the vocabulary's file.
    let config = json(&s.path(&format!("{snapshot}/config.json")));
    assert!(
        config["architectures"][0] == "EvfSamModel" && config["sam_scale"].is_null() && config["mm_extractor_scale"].is_null()
    );
    assert_eq!(json(&s.path(&format!("{snapshot}/tokenizer_config.json")))["tokenizer_class"], "BertTokenizer");
    let message = s.refused(&["export", "--published", "other/model.safetensors"]);
    assert!(message.contains("--published") && message.contains("text.tokenizer"), "{message}");
    assert!(!s.path("other").exists());
    s.ok(&["predict", image, "the red circle", "left one", "--half-weights", "--out", "halved"]);
    std::fs::create_dir_all(s.path(&format!("{hub}/refs"))).unwrap();
    std::fs::write(s.path(&format!("{hub}/refs/main")), "abc").unwrap();
    let name = "COCO_train2014_000000000001.json";
    for (number, weights) in [snapshot.as_str(), "hf:somebody/small-evf"].into_iter().enumerate() {
        let out = format!("again-{number}");
        let mut command = s.command(&["predict", image, "the red circle", "left one", "--weights", weights, "--out", &out]);
        let done = command.env("HF_HOME", s.path("")).env_remove("HF_HUB_CACHE").env("HF_HUB_OFFLINE", "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let [a, b] = ["found", &out].map(|folder| json(&s.path(folder).join(name)));
        for (a, b) in a["predictions"].as_array().unwrap().iter().zip(b["predictions"].as_array().unwrap()) {
            assert_eq!(a["segmentation"], b["segmentation"]);
        }
    }
    let judged = s.ok(&["eval", "--weights", &snapshot, "--set", "data.root=data", "--set", "eval.limit=4"]);
    assert!(judged.contains("profile evf"), "{judged}");
    let mut command = s.command(&["predict", image, "x", "--weights", "hf:somebody/else"]);
    let out = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    let message = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && message.contains("hf:somebody/else") && message.contains("cache"), "{message}");
}

#[test]
fn risam_trains_and_shows() {
    let s = session();
    let said = s.ok(&[&["train", "--method", "risam"], SHORT].concat());
    assert!(said.contains("mIoU") && said.contains("text shuffled"), "{said}");
    let image = "data/images/train2014/COCO_train2014_000000000001.jpg";
    s.ok(&["attend", image, "the red circle", "--word", "red", "--out", "seen.png"]);
    assert_eq!(&std::fs::read(s.path("seen.png")).unwrap()[1..4], b"PNG");
    let message = s.refused(&["attend", image, "the red circle", "--word", "blue"]);
    assert!(message.contains("blue") && message.contains("circle"), "{message}");
    let said = s.ok(&["attend", image, "the red circle", "--region", "30,40", "--out", "region.png"]);
    assert!(said.contains("block 2: the region at 30,40 sees the ") && said.contains("circle 0."), "{said}");
    let message = s.refused(&["attend", image, "the red circle", "--region", "300,40"]);
    assert!(message.contains("300,40") && message.contains("outside"), "{message}");
    let out = s.run(&["attend", image, "the red circle", "--region", "30"]);
    let message = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && message.contains("X,Y in pixels"), "{message}");
    s.ok(&["predict", image, "the red circle", "--out", "found"]);
}

#[test]
fn a_killed_run_resumes_from_its_last_whole_checkpoint() {
    let s = session();
    s.ok(&refs(&train(&["run.name=calm"])));
    let args = train(&["run.name=killed", "train.log_every=1"]);
    let mut child = s.command(&refs(&args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !s.path("runs/killed/checkpoints/step-4").exists() && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The demonstration config by name, with --resume, continues in the same folder.
    let config = "runs/killed/config.toml";
    let said = s.ok(&["train", "--config", config, "--resume"]);
    assert!(said.contains("12 steps"), "{said}");
    let [calm, killed] = ["calm", "killed"].map(|name| json(&s.path(&format!("runs/{name}/eval/refcoco-unc-val.json"))));
    assert_eq!(calm["miou"], killed["miou"]);
}

#[test]
fn wrong_input_is_named() {
    let s = session();
    s.ok(&["data", "synth", "data", "--images", "8", "--size", "64"]);
    let says = |args: &[&str], words: &[&str]| {
        let message = s.refused(args);
        for word in words {
            assert!(message.contains(word), "`{word}` is missing in: {message}");
        }
    };
    says(&["data", "synth", "data"], &["data"]);
    says(&["train", "train.bach_size=3"], &["train.bach_size", "train.batch_size"]);
    says(&["train", "--config", "nope.toml"], &["nope.toml"]);
    says(&["train", "run.device=tpu"], &["tpu", "cpu"]);
    says(&["train", "--device", "cuda"], &["cuda", "feature"]);
    says(&["train", "data.root=elsewhere", "--config", "config.toml"], &["config.toml"]);
    std::fs::write(s.path("config.toml"), "[data]\nroot = \"elsewhere\"\n").unwrap();
    says(&["train", "--config", "config.toml"], &["elsewhere"]);
    std::fs::write(s.path("config.toml"), "[data]\nroot = \"data\"\n[model.dit]\ndeph = 3\n").unwrap();
    says(&["train", "--config", "config.toml"], &["model.dit.deph"]);
    says(&["predict", "nope.jpg", "x"], &["nope.jpg"]);
    std::fs::write(s.path("bad.jpg"), b"not an image").unwrap();
    says(&["predict", "bad.jpg", "the circle"], &["bad.jpg"]);
    says(&["eval", "--run", "data"], &["data"]);
    says(&["check", "nope"], &["nope"]);
    std::fs::write(s.path("cut.safetensors"), [200, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
    says(&["check", "cut.safetensors"], &["cut.safetensors"]);

    // Damaged data: a cut pickle, JSON of the wrong shape.
    let refs = s.path("data/refcoco/refs(unc).p");
    let whole = std::fs::read(&refs).unwrap();
    std::fs::write(&refs, &whole[..whole.len() / 2]).unwrap();
    std::fs::write(s.path("config.toml"), "[data]\nroot = \"data\"\n").unwrap();
    says(&["train", "--config", "config.toml"], &["refs(unc).p"]);
    std::fs::write(&refs, &whole).unwrap();
    std::fs::write(s.path("data/refcoco/instances.json"), "{\"images\": 3}").unwrap();
    says(&["train", "--config", "config.toml"], &["instances.json", "images"]);
    assert!(!s.path("runs").exists(), "a refused run must leave nothing behind");
}

#[test]
fn help_reads_well() {
    let s = session();
    let all = s.ok(&["--help"]);
    let commands = [
        "train", "finetune", "eval", "compare", "report", "predict", "segment", "serve", "export", "data", "devices", "check",
        "agree",
    ];
    for command in commands {
        assert!(all.contains(command), "{command} is missing in:\n{all}");
        let own = s.ok(&[command, "--help"]);
        assert!(own.lines().next().is_some_and(|l| !l.is_empty()), "{own}");
    }
}
