//! Data of one's own: the commands of `docs/finetune.md` as they stand there, and what else may go wrong on the way.

use serde_json::Value;
use test_support::{Session, json};

use crate::{refs, session, train};

/// A session with a small run `runs/base`, pictures `photos` that it does not know, and a folder `new`.
fn prepared() -> Session {
    let s = session();
    s.ok(&refs(&train(&["run.name=base", "train.steps=8"])));
    s.ok(&["data", "synth", "more", "--images", "20", "--size", "64", "--seed", "9"]);
    s.ok(&["data", "convert", "more", "photos", "--to", "jsonl", "--from", "refcoco"]);
    // Nobody has made a split.
    let lines = s.path("photos/data.jsonl");
    let text = std::fs::read_to_string(&lines).unwrap();
    let without = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("split");
        line.to_string() + "\n"
    };
    std::fs::write(&lines, text.lines().map(without).collect::<String>()).unwrap();
    std::fs::create_dir(s.path("new")).unwrap();
    for n in 1..=3 {
        let name = format!("COCO_train2014_{n:012}.jpg");
        std::fs::copy(s.path("more/images/train2014").join(&name), s.path("new").join(&name)).unwrap();
    }
    s
}

/// Words of a command as a shell would cut them.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => out.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    out.push(word);
    out
}

#[test]
fn the_commands_of_the_page_run_as_they_stand() {
    let s = prepared();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/finetune.md")).unwrap();
    let mut said = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                let args = words(line.strip_prefix("saymask ").unwrap());
                said.push((line.to_owned(), s.ok(&refs(&args))));
            }
            _ => {}
        }
    }
    assert!(said.len() >= 14, "{said:?}");
    let of = |begin: &str| said.iter().find(|(line, _)| line.contains(begin)).map(|(_, said)| said.as_str()).unwrap();

    let tuned = of("--out runs/photos");
    for word in ["jsonl", "train.steps = ", "held-out", "before", "after", "gained", "report.html", "Next: saymask predict"] {
        assert!(tuned.contains(word), "`{word}` is missing in:\n{tuned}");
    }
    for file in
        ["report.html", "before/eval/jsonl-own-val.json", "eval/jsonl-own-val-results.json", "figures/jsonl-own-val-1.png"]
    {
        assert!(s.path("runs/photos").join(file).exists(), "{file} is missing");
    }
    // What was said is what was kept.
    let [before, after] = ["before/eval", "eval"].map(|at| json(&s.path("runs/photos").join(at).join("jsonl-own-val.json")));
    let figure = |report: &Value| format!("{:.2}", 100.0 * report["miou"].as_f64().unwrap());
    assert!(tuned.contains(&figure(&before)) && tuned.contains(&figure(&after)), "{tuned}");
    report_is_whole(
        &s,
        "runs/photos/report.html",
        &["mIoU before", "By kind of sentence", "Worst", "Exchanged words", "What changed", "data:image/jpeg;base64,"],
    );
    // Pictures lie beside each other where two runs answer differently, which these few steps need not bring about.
    report_is_whole(&s, "both.html", &["Runs beside each other", "What changed from photos to adapters", "train.lora"]);
    assert!(s.path("runs/photos/tensorboard/events.out.tfevents.0.saymask").exists());

    // Answers: all images, exact masks; polygons that say how good they are.
    let coco = json(&s.path("answers/coco.json"));
    assert_eq!(coco["images"].as_array().unwrap().iter().map(|i| i["id"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(coco["annotations"].as_array().unwrap().len(), 6);
    assert!(of("--format yolo").contains("within 2 pixels"), "{}", of("--format yolo"));
    assert!(std::fs::read_to_string(s.path("for-yolo/data.yaml")).unwrap().contains("0: \"the red circle\""));
    assert!(s.path("for-png/masks/COCO_train2014_000000000001__the square.png").exists());
    assert_eq!(json(&s.path("for-label-studio/label-studio.json")).as_array().unwrap().len(), 3);
    assert_eq!(json(&s.path("for-fiftyone/samples.json"))["samples"].as_array().unwrap().len(), 3);
    // Published and read again, the same masks.
    let card = std::fs::read_to_string(s.path("shared/README.md")).unwrap();
    assert!(card.contains("model-index:") && card.contains(&format!("value: {}", figure(&after))), "{card}");
    let again = json(&s.path("from-shared/COCO_train2014_000000000001.json"));
    assert_eq!(again["predictions"][0]["segmentation"], coco["annotations"][0]["segmentation"]);
}

/// One file without network.
fn report_is_whole(s: &Session, name: &str, words: &[&str]) {
    let html = std::fs::read_to_string(s.path(name)).unwrap();
    for word in words.iter().chain(&["<svg", "</html>"]) {
        assert!(html.contains(word), "`{word}` is missing in {name}");
    }
    let links = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!links.contains("http") && !html.contains("<script") && !html.contains("<link"), "{name} asks for something");
}

#[test]
fn answers_go_on_where_they_were_stopped_and_are_judged() {
    let s = prepared();
    let ask = |out: &str, more: &[&str]| {
        let args = [&["predict", "new", "the red circle", "left one", "--run", "runs/base", "--out", out][..], more].concat();
        args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()
    };
    s.ok(&refs(&ask("whole", &["--format", "coco"])));
    let lines = |out: &str| std::fs::read_to_string(s.path(out).join("predictions.jsonl")).unwrap();
    let whole = lines("whole");
    // Killed in the middle of the second line.
    s.ok(&refs(&ask("torn", &["--format", "coco"])));
    let cut = whole.find('\n').unwrap() + 40;
    std::fs::write(s.path("torn/predictions.jsonl"), &whole[..cut]).unwrap();
    std::fs::remove_file(s.path("torn/coco.json")).unwrap();
    let out = s.run(&refs(&ask("torn", &["--format", "coco"])));
    assert!(out.status.success() && String::from_utf8_lossy(&out.stderr).contains("1 of 3 images are done already"));
    assert_eq!(lines("torn"), whole);
    assert_eq!(json(&s.path("torn/coco.json")), json(&s.path("whole/coco.json")));
    // Other sentences are another question.
    let message = s.refused(&["predict", "new", "the star", "--run", "runs/base", "--out", "whole", "--format", "coco"]);
    assert!(message.contains("the red circle") && message.contains("--out"), "{message}");
    std::fs::write(s.path("mine.txt"), "x").unwrap();
    std::fs::create_dir(s.path("taken")).unwrap();
    std::fs::write(s.path("taken/coco.json"), "mine").unwrap();
    let message = s.refused(&refs(&ask("taken", &["--format", "coco"])));
    assert!(message.contains("coco.json") && message.contains("not as Saymask wrote it"), "{message}");
    assert_eq!(std::fs::read_to_string(s.path("taken/coco.json")).unwrap(), "mine");
    let message = s.refused(&refs(&ask("x", &["--format", "png", "--polygons", "2"])));
    assert!(message.contains("--polygons"), "{message}");

    // A data set of what was asked: lines and COCO's file are both judged.
    let boxes = |n: u32| {
        format!(
            "{{\"image\": \"COCO_train2014_{n:012}.jpg\", \"sentences\": [\"the red circle\", \"left one\"], \"box\": [0, 0, 30, 30], \"split\": \"val\"}}\n"
        )
    };
    std::fs::write(s.path("new/data.jsonl"), (1..=3).map(boxes).collect::<String>()).unwrap();
    let judge = |results: &str| {
        let args = ["eval", "--from", results, "--data", "new", "--on", "jsonl", "--split", "val", "--format", "json"];
        let all: Value = serde_json::from_str(&s.ok(&args)).unwrap();
        assert_eq!((&all["missing"], &all["unknown"]), (&0.into(), &0.into()), "{all}");
        all["protocols"][0]["miou"].as_f64().unwrap()
    };
    assert_eq!(judge("whole/predictions.jsonl"), judge("whole/coco.json"));
}

#[test]
fn folders_that_cannot_be_learned_from_are_refused_before_anything_is_made() {
    let s = session();
    std::fs::create_dir_all(s.path("one")).unwrap();
    image::RgbImage::from_pixel(20, 20, image::Rgb([9, 9, 9])).save(s.path("one/a.png")).unwrap();
    let line = |more: &str| {
        std::fs::write(s.path("one/d.jsonl"), format!("{{\"image\": \"a.png\", \"sentence\": \"it\", {more}}}\n")).unwrap()
    };
    line("\"box\": [0, 0, 5, 5]");
    let message = s.refused(&["finetune", "one"]);
    assert!(message.contains("no image in the split") && message.contains("name a split in every record"), "{message}");
    line("\"box\": [0, 0, 5, 5], \"split\": \"train\"");
    let message = s.refused(&["finetune", "one"]);
    assert!(message.contains("1 in train"), "{message}");
    line("\"mask\": \"../a.png\"");
    let message = s.refused(&["finetune", "one"]);
    assert!(message.contains("inside of the data set's folder") && message.contains("nothing was trained"), "{message}");
    let message = s.refused(&["finetune", "nowhere"]);
    assert!(message.contains("nowhere"), "{message}");
    std::fs::create_dir(s.path("empty")).unwrap();
    let message = s.refused(&["finetune", "empty"]);
    assert!(message.contains("empty") && message.contains("jsonl"), "{message}");
    assert!(!s.path("runs").exists(), "a refused run must leave nothing behind");
}
