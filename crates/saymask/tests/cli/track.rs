//! `track` on a toy EVF-SAM-2 with formula weights, on films of a few frames.

use std::path::Path;

use burn::tensor::Device;
use efficient_sam::EfficientSamConfig;
use fusion_evf::{EvfConfig, VisualKind};
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, RgbImage};
use nn_ops::weights::{export, load_formula};
use sam_vit::Weights;
use sam2::{Naming, Sam2Config};
use serde_json::Value;
use text_encoders::TextTokenizer;
use text_encoders::beit3::Beit3Config;
use text_encoders::tokenizer::WordPiece;

use test_support::{Session, json};

/// A folder of weights that `--weights` takes, on SAM-2 or EfficientSAM.
fn weights(folder: &Path, visual: VisualKind) {
    let words = WordPiece::train(["the red square on the left", "the last blue one"], 60).unwrap();
    let config = EvfConfig {
        visual,
        sam2: Sam2Config::toy(),
        efficient_sam: EfficientSamConfig::toy(),
        beit3: Beit3Config::tiny(words.vocab_size()),
        ..EvfConfig::default()
    };
    let model = load_formula(config.init(&Device::flex()).unwrap(), "track", &config.names()).0;
    let vocabulary = words.vocabulary();
    model.save_pretrained(folder, &[("vocab.txt".to_owned(), vocabulary.into_bytes())], Weights::Single).unwrap();
}

fn frame(number: u32, width: u32) -> RgbImage {
    RgbImage::from_fn(width, 40, |x, y| {
        let inside = (5 + 3 * number..20 + 3 * number).contains(&x) && (10..30).contains(&y);
        image::Rgb(if inside { [220, 40, 40] } else { [(x * 3) as u8, (y * 5) as u8, (number * 9) as u8] })
    })
}

/// A session with weights in `evf` and a film of `numbers` in `film`.
fn session(numbers: &[u32]) -> Session {
    let s = super::session();
    weights(&s.path("evf"), VisualKind::Sam2);
    film(&s, "film", numbers);
    s
}

fn film(s: &Session, name: &str, numbers: &[u32]) {
    std::fs::create_dir_all(s.path(name)).unwrap();
    for (at, number) in numbers.iter().enumerate() {
        frame(at as u32, 60).save(s.path(name).join(format!("{number:04}.png"))).unwrap();
    }
}

const ONE: &str = "the red square";

fn report(s: &Session, out: &str) -> Vec<Value> {
    json(&s.path(out).join("track.json"))["frames"].as_array().unwrap().clone()
}

#[test]
fn films_of_one_and_two_frames_and_two_sentences() {
    for count in [1, 2] {
        let numbers: Vec<u32> = (0..count).collect();
        let s = session(&numbers);
        let said = s.ok(&["track", "film", ONE, "the last blue one", "--weights", "evf", "--strip", "3", "--out", "out"]);
        assert!(image::open(s.path("out").join("strip.png")).unwrap().width() > 200);
        assert!(said.contains(&format!("{count} frames, 2 sentences")), "{said}");
        let frames = report(&s, "out");
        assert_eq!(frames.len(), count as usize);
        for (number, entry) in frames.iter().enumerate() {
            assert_eq!((entry["frame"].as_u64(), entry["name"].as_str()), (Some(number as u64), Some(&*format!("000{number}"))));
            for (at, sentence) in [ONE, "the last blue one"].into_iter().enumerate() {
                let one = &entry["masks"][at];
                assert_eq!(one["sentence"], sentence);
                let size = &one["segmentation"]["size"];
                let counts = one["segmentation"]["counts"].as_str().unwrap();
                let mask = coco_mask::Rle::from_compressed(40, 60, counts).unwrap();
                assert_eq!((size[0].as_u64(), size[1].as_u64(), one["area"].as_u64()), (Some(40), Some(60), Some(mask.area())));
                let file = s.path("out").join(format!("masks/000{number}-{}.png", at + 1));
                let grey = image::open(file).unwrap().to_luma8();
                let want: Vec<u8> = mask.to_row_major().iter().map(|v| v * 255).collect();
                assert_eq!((grey.dimensions(), grey.into_raw()), ((60, 40), want));
            }
        }
        let gif = std::io::BufReader::new(std::fs::File::open(s.path("out").join("film.gif")).unwrap());
        assert_eq!(GifDecoder::new(gif).unwrap().into_frames().count(), count as usize);
    }
}

#[test]
fn an_interrupted_film_goes_on_as_the_unbroken_one() {
    let s = session(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let base = ["track", "film", ONE, "--weights", "evf", "--fps", "0", "--out"];
    let run = |out: &str, more: &[&str]| s.ok(&[&base[..], &[out], more].concat());
    run("whole", &[]);
    run("broken", &["--until", "3"]);
    assert_eq!(report(&s, "broken").len(), 3);
    run("broken", &["--until", "8", "--keep-every", "3"]);
    let said = run("broken", &[]);
    assert!(said.contains("10 frames"), "{said}");
    assert_eq!(report(&s, "broken"), report(&s, "whole"));
    for name in ["masks/0009.png", "overlays/00009.png", "masks/0003.png"] {
        let [a, b] = ["whole", "broken"].map(|out| std::fs::read(s.path(out).join(name)).unwrap());
        assert!(a == b, "{name}");
    }
    // A kill loses what was kept last: the frames behind it are made again.
    run("killed", &["--until", "6"]);
    let state = s.path("killed").join("state.safetensors");
    let kept = std::fs::read(&state).unwrap();
    run("killed", &["--until", "9"]);
    std::fs::write(&state, kept).unwrap();
    run("killed", &[]);
    assert_eq!(report(&s, "killed"), report(&s, "whole"));

    // Another sentence is another film.
    let other = ["track", "film", "the blue one", "--weights", "evf", "--fps", "0", "--out", "whole"];
    let said = s.refused(&other);
    assert!(said.contains("holds masks of other sentences"), "{said}");
    s.ok(&[&other[..], &["--restart", "--until", "2"]].concat());
    assert_eq!(report(&s, "whole").len(), 2);
    assert!(!s.path("whole").join("masks/0009.png").exists());
    // A folder of something else is left alone.
    std::fs::create_dir(s.path("mine")).unwrap();
    std::fs::write(s.path("mine/notes.txt"), "x").unwrap();
    assert!(s.refused(&[&base[..], &["mine"]].concat()).contains("no masks of a film"));
}

/// What `export` writes is a folder that `track` and `predict` take, and says what it is on.
#[test]
fn exported_folders_are_followed_alike() {
    let s = session(&[0, 1, 2]);
    s.ok(&["export", "again/model.safetensors", "--weights", "evf"]);
    let config = json(&s.path("again/config.json"));
    assert_eq!((config["architectures"][0].as_str(), config["saymask"]["visual"].as_str()), (Some("EvfSam2Model"), Some("sam2")));
    for weights in ["evf", "again"] {
        s.ok(&["track", "film", ONE, "--weights", weights, "--fps", "0", "--out", &format!("out-{weights}")]);
    }
    assert_eq!(report(&s, "out-evf"), report(&s, "out-again"));
    s.ok(&["predict", "film/0000.png", ONE, "--weights", "again", "--out", "first"]);
    // The other generation answers a film's first frame otherwise.
    s.ok(&["track", "film", ONE, "--weights", "evf", "--set", "model.evf.generation=first", "--fps", "0", "--out", "older"]);
    assert_ne!(report(&s, "older")[0]["masks"][0]["object_score"], report(&s, "out-evf")[0]["masks"][0]["object_score"]);
}

#[test]
fn gaps_are_said_and_followed_in_order() {
    let s = session(&[3, 4, 9, 10]);
    film(&s, "close", &[0, 1, 2, 3]);
    let run = |film: &str, out: &str| {
        let done = s.run(&["track", film, ONE, "--weights", "evf", "--fps", "0", "--out", out]);
        assert!(done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let said = run("film", "gap");
    assert!(said.contains("4 numbers are missing, the first behind 4, where 9 follows"), "{said}");
    assert!(!run("close", "close-out").contains("missing"));
    let names: Vec<Value> = report(&s, "gap").iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, ["0003", "0004", "0009", "0010"]);
    let masks = |out: &str| report(&s, out).iter().map(|entry| entry["masks"].clone()).collect::<Vec<_>>();
    assert_eq!(masks("gap"), masks("close-out"));
}

#[test]
fn animated_images_are_films() {
    let s = session(&[0, 1, 2]);
    let mut encoder = image::codecs::gif::GifEncoder::new(std::fs::File::create(s.path("film.gif")).unwrap());
    for number in 0..3 {
        let pixels = image::DynamicImage::from(frame(number, 60)).to_rgba8();
        encoder.encode_frame(image::Frame::new(pixels)).unwrap();
    }
    drop(encoder);
    let run = |more: &[&str]| {
        s.ok(&[&["track", "film.gif", ONE, "--weights", "evf", "--fps", "0", "--keep-every", "1", "--out", "gif"], more].concat())
    };
    run(&["--until", "1"]);
    run(&[]);
    let names: Vec<Value> = report(&s, "gif").iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, ["00000", "00001", "00002"]);
}

#[test]
fn what_cannot_be_followed_is_refused_first() {
    let s = session(&[0, 1, 2]);
    let fails = |film: &str, more: &[&str]| s.refused(&[&["track", film, ONE, "--out", "no"], more].concat());
    let evf = ["--weights", "evf"];
    frame(3, 50).save(s.path("film/0003.png")).unwrap();
    let said = fails("film", &evf);
    assert!(said.contains("0003.png is 50 x 40") && said.contains("all frames of a film must have one size"), "{said}");
    std::fs::remove_file(s.path("film/0003.png")).unwrap();
    frame(3, 60).save(s.path("film/00002.png")).unwrap();
    assert!(fails("film", &evf).contains("have one number"));
    std::fs::rename(s.path("film/00002.png"), s.path("film/cover.png")).unwrap();
    assert!(fails("film", &evf).contains("frames are called by their numbers"));
    std::fs::remove_file(s.path("film/cover.png")).unwrap();
    assert!(fails("nowhere", &evf).contains("no such folder or film"));
    assert!(!s.path("no").exists(), "nothing is made before the film is known");
    weights(&s.path("light"), VisualKind::EfficientSam);
    let said = fails("film", &["--weights", "light"]);
    assert!(said.contains("must be \"sam2\" for video"), "{said}");
}

/// Films that only ffmpeg reads: said where it is not there; read through its pipe, here from a stand-in, where it is.
#[cfg(unix)]
#[test]
fn other_films_come_from_ffmpeg() {
    use std::os::unix::fs::PermissionsExt;
    let s = session(&[0, 1, 2]);
    std::fs::write(s.path("film.mp4"), "a film").unwrap();
    let run = |path: &str, out: &str| {
        let args = ["track", "film.mp4", ONE, "--weights", "evf", "--fps", "0", "--out", out];
        s.command(&args).env("PATH", path).output().unwrap()
    };
    let none = run("", "none");
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert_eq!(none.status.code(), Some(2));
    assert!(said.contains("film.mp4") && said.contains("ffmpeg, which is not on this machine"), "{said}");

    let frames: Vec<u8> =
        (0..3).flat_map(|number| [&b"P6\n60 40\n255\n"[..], frame(number, 60).as_raw().as_slice()].concat()).collect();
    std::fs::write(s.path("frames.ppm"), frames).unwrap();
    std::fs::create_dir(s.path("bin")).unwrap();
    let stand_in = |script: String| {
        std::fs::write(s.path("bin/ffmpeg"), script).unwrap();
        std::fs::set_permissions(s.path("bin/ffmpeg"), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:/usr/bin:/bin", s.path("bin").display());
    stand_in(format!("#!/bin/sh\nexec cat '{}'\n", s.path("frames.ppm").display()));
    let done = run(&path, "piped");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    s.ok(&["track", "film", ONE, "--weights", "evf", "--fps", "0", "--out", "files"]);
    let masks = |out: &str| report(&s, out).iter().map(|entry| entry["masks"].clone()).collect::<Vec<_>>();
    assert_eq!(masks("piped"), masks("files"));
    stand_in("#!/bin/sh\necho 'moov atom not found' >&2\nexit 1\n".into());
    let broken = run(&path, "broken");
    let said = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(broken.status.code() == Some(2) && said.contains("moov atom") && said.contains("ffmpeg gave up"), "{said}");
}

fn objects(entry: &Value) -> Vec<u64> {
    entry["masks"].as_array().unwrap().iter().map(|mask| mask["object"].as_u64().unwrap()).collect()
}

/// Points, boxes and masks on any frame: forwards to the end, then back to the beginning; interrupted anywhere, the masks are the same.
#[test]
fn prompts_on_any_frame_are_followed_both_ways() {
    let s = session(&[0, 1, 2, 3, 4, 5, 6]);
    image::GrayImage::from_fn(60, 40, |x, y| image::Luma([if x < 20 && y < 30 { 255 } else { 0 }]))
        .save(s.path("mask.png"))
        .unwrap();
    std::fs::write(
        s.path("prompts.json"),
        r#"[{"object": 1, "frame": 2, "points": [[12, 20, 1], [50, 5, 0]]},
            {"object": 2, "frame": 4, "box": [10, 8, 40, 32]},
            {"object": 3, "frame": 0, "mask": "mask.png"},
            {"object": 1, "frame": 5, "points": [[25, 20, 1]]}]"#,
    )
    .unwrap();
    let base = ["track", "film", "--prompts", "prompts.json", "--weights", "evf", "--fps", "0", "--keep-every", "1"];
    let run = |out: &str, more: &[&str]| s.ok(&[&base[..], &["--out", out], more].concat());
    let said = run("whole", &[]);
    assert!(said.contains("7 frames, 3 objects"), "{said}");
    let whole = report(&s, "whole");
    assert!(whole.iter().all(|entry| objects(entry) == [1, 2, 3]), "{whole:?}");
    let mask = &whole[0]["masks"][2];
    // What is given is kept, on the map of a quarter of the input.
    assert!((540..=660).contains(&mask["area"].as_u64().unwrap()) && mask["present"] == true, "{mask}");
    assert!(s.path("whole").join("masks/0000-2.png").exists());
    // Forwards only, an object is not there before its first frame.
    run("ahead", &["--until", "7"]);
    let ahead = report(&s, "ahead");
    assert_eq!(
        ahead.iter().map(objects).collect::<Vec<_>>(),
        [&[3][..], &[3], &[1, 3], &[1, 3], &[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]
    );
    // The way back changes nothing of the way forward, and goes on from where it was.
    run("ahead", &[]);
    assert_eq!(report(&s, "ahead"), whole);
    // Killed on its way back: it holds the state of an earlier frame.
    run("killed", &["--until", "7"]);
    let state = s.path("killed").join("state.safetensors");
    let kept = std::fs::read(&state).unwrap();
    run("killed", &[]);
    std::fs::write(&state, kept).unwrap();
    run("killed", &[]);
    assert_eq!(report(&s, "killed"), whole);
}

/// Clicks correct what a sentence found, on the first frame and later; a box or SAM-2's own weights need no sentence.
#[test]
fn clicks_beside_a_sentence_and_models_without_text() {
    let s = session(&[0, 1, 2]);
    let track = |out: &str, more: &[&str]| {
        s.ok(&[&["track", "film", "--weights", "evf", "--fps", "0", "--out", out][..], more].concat());
        report(&s, out)
    };
    let said = track("said", &[ONE]);
    let corrected = track("corrected", &[ONE, "--point", "1:30,20", "--point", "1:2,2,0"]);
    assert_eq!(said[0], corrected[0], "what comes before a click does not change");
    assert_ne!(said[1]["masks"][0]["object_score"], corrected[1]["masks"][0]["object_score"]);
    assert_ne!(said[2], corrected[2]);
    let first = track("first", &[ONE, "--point", "30,20"]);
    assert_ne!(said[0]["masks"][0]["object_score"], first[0]["masks"][0]["object_score"]);
}

/// SAM-2's own weights follow what is pointed at; sentences they refuse. Sizes are Hiera tiny's: a file does not say others.
#[test]
fn models_without_text_follow_points() {
    let s = super::session();
    film(&s, "film", &[0, 1]);
    let names = Naming::Meta.names();
    let sam2 = load_formula(Sam2Config::hiera_tiny().init(&Device::flex()), "segment", &names).0;
    export(&sam2, &names, "tiny").save_half(s.path("tiny.safetensors"), &[]).unwrap();
    s.ok(&["track", "film", "--box", "4,8,22,32", "--weights", "tiny.safetensors", "--fps", "0", "--out", "boxed"]);
    let frames = report(&s, "boxed");
    assert_eq!(frames.iter().map(objects).collect::<Vec<_>>(), [[1], [1]]);
    assert_eq!(frames[1]["masks"][0]["sentence"], "object 1");
    let said = s.refused(&["track", "film", ONE, "--weights", "tiny.safetensors", "--out", "no"]);
    assert!(said.contains("--config"), "{said}");
    let box_and_key = ["track", "film", "--box", "4,8,22,32", "--weights", "tiny.safetensors", "--set", "eval.threshold=0.3"];
    assert!(s.refused(&box_and_key).contains("come without a config"));
}

#[test]
fn prompts_that_make_no_sense_are_refused_first() {
    let s = session(&[0, 1, 2]);
    let refused = |more: &[&str], says: &str| {
        let said = s.refused(&[&["track", "film", "--weights", "evf", "--out", "no"][..], more].concat());
        assert!(said.contains(says), "{said}");
    };
    refused(&["--point", "3:5,5"], "has 3 frames, counted from 0, but a prompt is on frame 3");
    for (more, says) in [(["--point", "5"], "a point is X,Y"), (["--box", "1:30,5,10,20"], "is it X,Y,WIDTH,HEIGHT?")] {
        let out = s.run(&[&["track", "film", "--weights", "evf", "--out", "no"][..], &more].concat());
        assert!(out.status.code() == Some(2) && String::from_utf8_lossy(&out.stderr).contains(says), "{more:?}");
    }
    refused(&["a", "b", "--point", "5,5"], "which object it belongs to");
    refused(&["--prompts", "none.json"], "none.json");
    std::fs::write(s.path("bad.json"), r#"{"object": 1}"#).unwrap();
    refused(&["--prompts", "bad.json"], "must be a JSON list of prompts");
    assert!(!s.path("no").exists(), "nothing is made before the prompts are known");
    // On the frame itself it shows that a prompt does not fit; what was done before stays.
    refused(&["--point", "1:70,5"], "outside the frame of 60 x 40");
    frame(0, 60).save(s.path("mask.png")).unwrap();
    image::GrayImage::new(30, 40).save(s.path("small.png")).unwrap();
    refused(&["--mask", "small.png", "--restart"], "is 30 x 40, the frame 60 x 40");
    refused(&["--mask", "mask.png", "--point", "3,3", "--restart"], "a mask says all");
}
