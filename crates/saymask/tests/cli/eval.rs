//! `eval` and `compare`: what is judged, kept, refused and laid beside each other.

use serde_json::Value;
use test_support::{Session, json};

use crate::{refs, session, train};

/// A session with a run of the small model.
fn trained(name: &str) -> Session {
    let s = session();
    s.ok(&refs(&train(&[&format!("run.name={name}"), "data.synth.images=40", "eval.limit=1000"])));
    s
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The referee's proof: our own results, read back from their file, give our own figures to the last digit.
#[test]
fn our_results_scored_from_their_file_equal_eval() {
    let s = trained("first");
    for (profile, set) in [
        ("saymask", "refcoco"),
        ("dit", "refcoco"),
        ("evf", "refcoco+"),
        ("risam", "refcocog:umd"),
        ("gres", "grefcoco"),
        ("phrasecut", "refcoco"),
    ] {
        let out = format!("judged-{profile}");
        let own = s.ok(&[
            "eval",
            "--on",
            set,
            "--split",
            "val",
            "--set",
            &format!("eval.profile={profile}"),
            "--out",
            &out,
            "--format",
            "json",
            "--protocol",
            "all",
        ]);
        let all = parsed(&own)["protocols"].clone();
        let own = parsed(&own)["reports"][0].clone();
        let stem = format!("{}-{}-val", own["dataset"].as_str().unwrap(), own["split_by"].as_str().unwrap());
        let results = format!("{out}/eval/{stem}-results.json");
        let from = parsed(&s.ok(&["eval", "--from", &results, "--data", "data", "--format", "json"]));
        // Every protocol: what is scored from memory is what is scored from the file.
        assert_eq!(all.as_array().unwrap().len(), 11, "{all}");
        assert_eq!(from["protocols"], all, "{profile}");
        assert_eq!((&from["missing"], &from["doubled"], &from["unknown"]), (&0.into(), &0.into(), &0.into()));
        // And the protocol that `eval` judged under gives its figures.
        let from = all.as_array().unwrap().iter().find(|r| r["profile"] == profile).unwrap();
        for figure in [
            "profile",
            "dataset",
            "split_by",
            "split",
            "samples",
            "intersection",
            "union",
            "oiou",
            "miou",
            "precision",
            "gres",
            "kinds",
        ] {
            assert_eq!(own[figure], from[figure], "{profile}: {figure}");
        }
        assert!(own["samples"].as_u64().unwrap() > 10 && own["union"].as_u64().unwrap() > 0, "{own}");
        if profile == "saymask" {
            // All protocols side by side; the file's name and the run that it lies in say what it is of.
            s.ok(&["eval", "--split", "val"]);
            let table = s.ok(&["eval", "--from", "runs/first/eval/refcoco-unc-val-results.json"]);
            for word in
                ["saymask", "dit", "evf", "lisa", "risam", "lavt", "cris", "refer", "gres", "rela", "phrasecut", "oIoU +-"]
            {
                assert!(table.contains(word), "`{word}` is missing in:\n{table}");
            }
            let message = s.refused(&["eval", "--from", &results]);
            assert!(message.contains("--data"), "{message}");
            let message = s.refused(&["eval", "--from", &results, "--data", "data", "--on", "refcoco", "--split", "testA"]);
            assert!(message.contains("refcoco (unc) testA") && message.contains("another set"), "{message}");
            let message = s.refused(&["eval", "--from", &results, "--data", "data", "--protocol", "mcn"]);
            assert!(message.contains("mcn") && message.contains("lavt"), "{message}");
        }
    }
}

/// What the network said before any threshold, judged by the protocols that have one: DIT's own figures come back, but for what steps of
/// 1/255 change.
#[test]
fn maps_of_probabilities_are_kept_and_judged() {
    let s = trained("first");
    let own = s.ok(&["eval", "--split", "val", "--maps", "--set", "eval.profile=dit", "--format", "json", "--out", "maps"]);
    let own = parsed(&own)["reports"][0].clone();
    let folder = "maps/eval/refcoco-unc-val-maps";
    let table = s.ok(&["eval", "--from", folder, "--soft", "--data", "data", "--format", "json"]);
    let all = parsed(&table);
    let of = |name: &str| {
        let report = all["protocols"].as_array().unwrap().iter().find(|r| r["profile"] == name);
        report.map(|r| r["oiou"].as_f64().unwrap())
    };
    assert_eq!(all["missing"], 0);
    assert!((of("dit").unwrap() - own["oiou"].as_f64().unwrap()).abs() < 0.01, "{all}");
    assert!(of("dit") != of("saymask") && of("risam") != of("saymask"), "a threshold is worth something: {all}");
    assert!(of("phrasecut").is_none() && all["refused"]["phrasecut"].is_string(), "{all}");
}

#[test]
fn a_whole_line_is_judged_and_laid_beside_the_papers() {
    let s = trained("dit-table1-layer-wise");
    let sets = ["--on", "refcoco", "--on", "refcoco+", "--on", "refcocog:umd", "--on", "refcocog:google"];
    s.ok(&["export", "folder/model.safetensors"]);
    let short = ["--set", "data.root=data", "--set", "eval.limit=4"];
    let judge = |more: &[&str]| s.ok(&[&["eval", "--weights", "folder", "--out", "line"][..], &sets, &short, more].concat());
    let markdown = judge(&["--format", "markdown"]);
    let head = markdown.lines().next().unwrap();
    assert_eq!(
        head,
        "| oIoU | refcoco val | refcoco testA | refcoco testB | refcoco+ val | refcoco+ testA | refcoco+ testB | \
         refcocog val (umd) | refcocog test (umd) | refcocog val (google) | mean |"
    );
    assert!(judge(&["--format", "latex"]).starts_with("\\begin{tabular}{lrrrrrrrrrr}"));
    let all = parsed(&judge(&["--format", "json", "--metric", "miou"]));
    let figures: Vec<f64> = all["reports"].as_array().unwrap().iter().map(|r| r["miou"].as_f64().unwrap()).collect();
    assert_eq!(figures.len(), 9);
    assert!((all["mean"].as_f64().unwrap() - figures.iter().sum::<f64>() / 9.0).abs() < 1e-12);
    // Every set and split has files of its own.
    for stem in ["refcoco-unc-val", "refcoco+-unc-val", "refcocog-umd-val", "refcocog-google-val", "refcocog-umd-test"] {
        for end in [".json", "-results.json"] {
            assert!(s.path(&format!("line/eval/{stem}{end}")).exists(), "{stem}{end}");
        }
    }

    // The run was judged on val when it ended; the paper's row is found by the run's name.
    std::fs::create_dir_all(s.path("configs/dit/table1")).unwrap();
    std::fs::write(s.path("configs/dit/table1/layer-wise.toml"), "# Table 1, L-DIT. oIoU 71.98 / 74.51 / 68.77.\n").unwrap();
    let table = s.ok(&["compare", "runs/dit-table1-layer-wise", "line"]);
    for word in [
        "refcoco val",
        "refcocog test (umd)",
        "paper, dit/table1/layer-wise.toml",
        "71.98",
        "difference",
        "line",
        "Not like for like",
    ] {
        assert!(table.contains(word), "`{word}` is missing in:\n{table}");
    }
    let rows = parsed(&s.ok(&["compare", "line", "--format", "json", "--metric", "miou"]));
    assert_eq!(rows[0]["refcoco val"].as_f64(), Some(figures[0]));
    assert!(s.refused(&["compare", "data"]).contains("no results"));
}

#[test]
fn wrong_splits_and_sets_are_refused_before_anything_is_judged() {
    let s = trained("first");
    let eval = s.path("runs/first/eval");
    std::fs::remove_dir_all(&eval).unwrap();
    std::fs::create_dir(&eval).unwrap();
    let message = s.refused(&["eval", "--split", "val,tesA"]);
    assert!(message.contains("tesA") && message.contains("testA"), "{message}");
    let message = s.refused(&["eval", "--split", " , "]);
    assert!(message.contains("--split"), "{message}");
    let message = s.refused(&["eval", "--on", "refcoco", "--on", "refcocox"]);
    assert!(message.contains("refcocox") && message.contains("refcoco+"), "{message}");
    let message = s.refused(&["eval", "--on", "refcocog:google", "--split", "test"]);
    assert!(message.contains("`test`") || message.contains("test"), "{message}");
    assert_eq!(std::fs::read_dir(&eval).unwrap().count(), 0, "something was judged");
    // Judged all the same where nothing can be kept, and told before it is refused.
    std::fs::write(s.path("blocked"), "a file").unwrap();
    let out = s.run(&["eval", "--split", "val", "--out", "blocked", "--set", "eval.limit=2"]);
    let (table, message) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(table.contains("mIoU") && !out.status.success() && message.contains("blocked"), "{table}{message}");
    // Spaces around names are nobody's intention.
    s.ok(&["eval", "--split", "val, testA ", "--set", "eval.limit=2"]);
    assert!(eval.join("refcoco-unc-testA.json").exists());
}

#[test]
fn words_that_are_exchanged_are_counted() {
    let s = trained("first");
    let said = s.ok(&["eval", "--on", "refcoco", "--split", "train", "--probe", "words", "--set", "eval.limit=60"]);
    for word in ["text shuffled", "words exchanged", "colour", "moved", "all", "With shuffled text"] {
        assert!(said.contains(word), "`{word}` is missing in:\n{said}");
    }
    let kept = json(&s.path("runs/first/eval/refcoco-unc-train-words.json"));
    let outcomes = kept["outcomes"].as_array().unwrap();
    assert_eq!(kept["all"]["probes"].as_u64(), Some(outcomes.len() as u64));
    assert!(outcomes.len() > 3);
    let message = s.refused(&["eval", "--probe", "words", "--set", "eval.prompt=box", "--set", "eval.shuffled_text=false"]);
    assert!(message.contains("eval.prompt=text"), "{message}");
    for outcome in outcomes {
        assert_ne!(outcome["sentence"], outcome["changed"]);
        let iou = |when: &str, which: usize| outcome[when][which].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&iou("before", 0)) && (0.0..=1.0).contains(&iou("after", 1)));
    }
}
