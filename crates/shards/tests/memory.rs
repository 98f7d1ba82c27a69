//! Memory does not grow with a tar.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use shards::{Output, Samples};

/// Resident bytes at their highest, where the system says so.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Reads a tar of `count` tiny images, of which a tenth have faults, and writes a line per image.
fn worked(count: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.tar");
    let mut tar = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(&path).unwrap()));
    for i in 0..count {
        for (ending, bytes) in [("png", &[7_u8; 90] as &[u8]), ("txt", b"the red circle")] {
            if ending == "txt" || i % 10 != 0 {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, format!("{i:06}.{ending}"), bytes).unwrap();
            }
        }
    }
    tar.into_inner().unwrap();
    let mut output = Output::begin(folder.path(), "in", &path, "job", "me").unwrap();
    let write = |sample| {
        match sample {
            Ok(shards::Sample { key, image, .. }) => output.sample(&format!("{key} {}", image.len())).unwrap(),
            Err(fault) => output.failed(fault),
        }
        true
    };
    Samples::read(&path, write).unwrap();
    let report = output.finish().unwrap();
    assert_eq!((report.samples + report.failed, report.faults.len()), (count as u64, 100));
    report.samples
}

#[test]
#[ignore = "writes 200 MB"]
fn a_hundred_thousand_pictures_need_the_memory_of_few() {
    assert_eq!(worked(2_000), 1_800);
    let Some(before) = peak() else { return };
    assert_eq!(worked(100_000), 90_000);
    let grown = peak().unwrap() - before;
    assert!(grown < 4 << 20, "{grown} bytes more");
}
