//! Opening many label maps takes little time and less memory. Alone in its file, so that the process's peak is its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Instant;

use refcoco_data::{Dataset, DatasetSpec, ItemPer, Sampler, SynthConfig, SynthFormat, generate};

/// ADE20K, Mapillary and human parsing together have 60,000.
const MAPS: usize = 50_000;
/// Most seconds for opening them.
const SECONDS: f64 = 5.0;
/// Most memory of the whole process, in MB.
const MEGABYTES: u64 = 300;

/// `VmHWM` of this process in MB, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// Names for one generated map: the pixels of all are the same, the files and their headers are read one by one.
fn names(from: &Path, folder: &Path, name: impl Fn(usize) -> String) {
    let file = std::fs::read_dir(from).unwrap().next().unwrap().unwrap().path();
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..MAPS {
        std::fs::hard_link(&file, folder.join(name(i))).unwrap();
    }
}

#[test]
fn fifty_thousand_label_maps_are_opened_without_being_read() {
    let temp = tempfile::tempdir().unwrap();
    let (few, many) = (temp.path().join("few"), temp.path().join("many"));
    generate(&SynthConfig { images: 4, size: 64, format: SynthFormat::Ade20k, ..SynthConfig::default() }, &few).unwrap();
    let (few, folder) = (few.join("ade20k"), many.join("ade20k"));
    names(&few.join("images/training"), &folder.join("images/training"), |i| format!("ADE_train_{i:08}.jpg"));
    names(&few.join("annotations/training"), &folder.join("annotations/training"), |i| format!("ADE_train_{i:08}.png"));
    std::fs::copy(few.join("ade20k_classes.json"), folder.join("ade20k_classes.json")).unwrap();
    let begun = Instant::now();
    let set = Dataset::open(&DatasetSpec::new(&many, "ade20k"), "train").unwrap();
    let sampler = Sampler::new(&set, ItemPer::Image, 16, 0).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!((set.images.len(), sampler.at(3000).len()), (MAPS, 16));
    assert!(seconds < SECONDS, "{seconds:.1} s");
    if let Some(peak) = peak() {
        assert!(peak < MEGABYTES, "{peak} MB");
    }
}
