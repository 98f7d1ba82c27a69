//! Damaged files of every format that is read: an answer or an error, no panic, within a second and a stated memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;
use coco_mask::Rle;
use image::{ImageFormat, RgbImage};
use models::manifest::MANIFEST;
use models::run_dir::Checkpoint;
use models::weights::read_record;
use nn_ops::weights::{PretrainedFolder, StateDict};
use pil_ops::Decode;
use refcoco_data::{Dataset, DatasetSpec, SynthConfig, SynthFormat, brush_rle, generate, verify};
use run_config::{Method, RunConfig};
use tests::{parsers, toy};
use trainer::run_log::read_log;

use crate::training::run;

/// Seconds that one file may take.
const SECONDS: f64 = 1.0;
/// Memory that all files of a run may take beyond what the valid ones did, in bytes: an image of the largest size that is
/// decoded, and what its decoder needs beside it.
const MEMORY: u64 = 1 << 30;

/// Reads damaged bytes; whether they were accepted.
type Read = Box<dyn Fn(&[u8]) -> bool>;

/// A format: its valid file and what reads it.
struct Format {
    name: &'static str,
    valid: Vec<u8>,
    read: Read,
}

/// The same numbers on every machine (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Changes bytes, cuts, doubles, moves and fills, once or several times.
fn damage(valid: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=numbers.below(4) {
        let from = numbers.below(bytes.len());
        let to = (from + 1 + numbers.below(64)).min(bytes.len());
        match numbers.below(9) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to)),
            2 => {
                let piece = bytes[from..to].to_vec();
                let at = numbers.below(bytes.len());
                drop(bytes.splice(at..at, piece));
            }
            3 => bytes[from..to].fill([0, 0xFF, b'9', b'"', b'['][numbers.below(5)]),
            4 => {
                let noise: Vec<u8> = (0..numbers.below(16)).map(|_| numbers.next() as u8).collect();
                drop(bytes.splice(from..from, noise));
            }
            5 => bytes[from] ^= 1 << numbers.below(8),
            // Numbers in text become large.
            6 => {
                if let Some(digit) = bytes[from..].iter().position(u8::is_ascii_digit) {
                    drop(bytes.splice(from + digit..from + digit, *b"99999999999"));
                }
            }
            // Little-endian lengths become large.
            7 if from + 8 <= bytes.len() => {
                bytes[from..from + 8].copy_from_slice(&(numbers.next() >> numbers.below(64)).to_le_bytes())
            }
            _ => bytes[from] = numbers.next() as u8,
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// A file at `path` with other bytes while `read` looks at it.
fn on_disk(path: PathBuf, read: impl Fn(&Path) -> bool + 'static) -> (Vec<u8>, Read) {
    let valid = std::fs::read(&path).unwrap();
    let read = move |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    };
    (valid, Box::new(read))
}

fn state_dict(path: &Path) -> bool {
    StateDict::open(path).is_ok_and(|file| parsers::reads(&file))
}

/// Every format, with valid files in `folder`.
fn formats(folder: &Path) -> Vec<Format> {
    let mut all = Vec::new();
    let mut add = |name, (valid, read)| all.push(Format { name, valid, read });
    let synth = SynthConfig { images: 6, size: 48, seed: 5, ..SynthConfig::default() };
    let refer = folder.join("refer");
    generate(&synth, &refer).unwrap();
    let opens = |root: &Path, name: &str, split_by: &str| {
        let spec = DatasetSpec { root: root.to_owned(), name: name.into(), split_by: split_by.into() };
        Dataset::open(&spec, "train").is_ok()
    };
    for (name, file, set, split_by) in [
        ("pickle", "refcoco/refs(unc).p", "refcoco", "unc"),
        ("instances.json", "refcoco+/instances.json", "refcoco+", "unc"),
        ("grefs.json", "grefcoco/grefs(unc).json", "grefcoco", "unc"),
    ] {
        let root = refer.clone();
        add(name, on_disk(refer.join(file), move |_| opens(&root, set, split_by)));
    }
    let root = refer.clone();
    add("pickle, verified", on_disk(refer.join("refcocog/refs(umd).p"), move |_| verify(&root).is_ok()));
    let phrases = folder.join("phrasecut");
    generate(&SynthConfig { format: SynthFormat::Phrasecut, ..synth }, &phrases).unwrap();
    let root = phrases.clone();
    add("phrasecut", on_disk(phrases.join("VGPhraseCut_v0/refer_train.json"), move |_| opens(&root, "phrasecut", "vg")));

    let mask =
        Rle::from_row_major(40, 50, &(0..2000u32).map(|i| u8::from(i % 50 > i / 50 && i % 7 < 5)).collect::<Vec<_>>()).unwrap();
    add("RLE", (mask.to_compressed().into_bytes(), Box::new(parsers::rle)));
    add("brush", (brush_rle(&mask), Box::new(parsers::brush)));

    let weights = folder.join("w.safetensors");
    let mut tensors = StateDict::empty("w");
    tensors.insert("a.weight", &[4, 3], vec![0.5; 12]);
    tensors.insert("b", &[2], vec![1.0, 2.0]);
    tensors.save(&weights, &[("format", "pt")]).unwrap();
    add("safetensors", on_disk(weights, state_dict));
    for name in ["tiny.pth", "nested.pth"] {
        let path = folder.join(name);
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/nn-ops/tests/fixtures").join(name), &path).unwrap();
        add("pth", on_disk(path, state_dict));
    }
    let record = folder.join("model.bpk");
    let layer: Linear = LinearConfig::new(4, 3).init(&Device::flex());
    layer.clone().into_record().save(&record).unwrap();
    add("model.bpk", on_disk(record, move |path| read_record(layer.clone(), path).is_ok()));

    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/text-encoders/tests/data/tokenizers");
    let bytes = |name: &str| std::fs::read(data.join(name)).unwrap();
    add("sentencepiece", (bytes("beit3.spm"), Box::new(parsers::sentencepiece)));
    let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nleft\nze\n##bra\n,\n".to_vec();
    add("vocab.txt", (vocabulary, Box::new(parsers::vocabulary)));
    add("merges.txt", (b"#version: 0.2\nl e\nle f\nlef t</w>\nz e\n".to_vec(), Box::new(parsers::merges)));

    for (name, format) in [("PNG", ImageFormat::Png), ("JPEG", ImageFormat::Jpeg), ("WebP", ImageFormat::WebP)] {
        let mut file = std::io::Cursor::new(Vec::new());
        RgbImage::from_fn(60, 40, |x, y| image::Rgb([x as u8 * 4, y as u8 * 6, (x * y) as u8]))
            .write_to(&mut file, format)
            .unwrap();
        add(name, (file.into_inner(), Box::new(|b| Decode::UPRIGHT.bytes(b).is_ok())));
    }

    let run_config = toy(
        Method::Dit,
        folder,
        "run",
        &["train.steps=2", "schedule.warmup_steps=1", "train.eval_every=never", "train.save_every=never", "eval.figures=0"],
    );
    let dir = run(&run_config, false).dir;
    add(
        "TOML",
        (
            run_config.to_toml().unwrap().into_bytes(),
            Box::new(|b| RunConfig::resolve::<&str>(&String::from_utf8_lossy(b), None, &[]).is_ok()),
        ),
    );
    add("log.jsonl", on_disk(dir.log(), |path| read_log(path).is_ok()));
    let checkpoint = dir.checkpoint_path(2);
    let manifest = checkpoint.join(MANIFEST);
    add("manifest", on_disk(manifest, move |_| Checkpoint::open(&checkpoint).is_ok_and(|c| c.config().is_ok())));
    let pretrained = folder.join("pretrained");
    std::fs::create_dir_all(&pretrained).unwrap();
    std::fs::write(
        pretrained.join("config.json"),
        r#"{"model_type": "evf", "hidden_size": 1024, "out_dim": 256, "sam_scale": "huge"}"#,
    )
    .unwrap();
    add(
        "config.json",
        on_disk(pretrained.join("config.json"), move |_| {
            PretrainedFolder::new(&pretrained).config().is_ok_and(|_| fusion_evf::EvfConfig::from_pretrained(&pretrained).is_ok())
        }),
    );
    all
}

/// A line of Linux's `/proc/self/status`, in bytes.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Tries `count` damaged files, as many of each format.
fn try_all(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let formats = formats(folder.path());
    for format in &formats {
        assert!((format.read)(&format.valid), "{}: the valid file is refused", format.name);
    }
    let before = status("VmHWM:");
    let mut numbers = Numbers(26);
    let (mut refused, each) = (0, count.div_ceil(formats.len()));
    for format in &formats {
        for number in 0..each {
            let bytes = damage(&format.valid, &mut numbers);
            let begun = Instant::now();
            let accepted = catch_unwind(AssertUnwindSafe(|| (format.read)(&bytes)));
            let took = begun.elapsed().as_secs_f64();
            let accepted = accepted.unwrap_or_else(|_| panic!("{} {number} panics; its bytes: {bytes:?}", format.name));
            assert!(took < SECONDS, "{} {number} took {took:.2} s", format.name);
            refused += usize::from(!accepted);
        }
    }
    assert!(refused > count / 3, "only {refused} of {count} were refused: the damage is too small");
    // Where every test has a process of its own, its peak is this test's.
    if let (Some(before), Some(after), Some(_)) = (before, status("VmHWM:"), std::env::var_os("NEXTEST")) {
        assert!(after - before < MEMORY, "{} MB more than the valid files took", (after - before) / 1_000_000);
    }
}

#[test]
fn damaged_files_are_answered_or_refused() {
    try_all(1_000);
}

#[test]
#[ignore = "takes minutes: `cargo xtask test --full`"]
fn ten_thousand_damaged_files_are_answered_or_refused() {
    try_all(10_000);
}
