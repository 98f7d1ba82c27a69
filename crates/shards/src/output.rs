//! A shard's results, written aside and renamed, and its report, which is written last.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ShardError;

/// Faults that a report names; the others it counts.
const NAMED: usize = 100;

/// A sample that has no results, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The sample.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// What became of a shard. It says nothing about who did it and when, so equal work leaves equal files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The tar.
    pub shard: PathBuf,
    /// What it was asked, so that a folder does not mix answers to different questions.
    pub job: String,
    /// The results' file name.
    pub output: String,
    /// SHA-256 of the results, in hexadecimal.
    pub sha256: String,
    /// Bytes of the results.
    pub bytes: u64,
    /// Samples with results.
    pub samples: u64,
    /// Samples without.
    pub failed: u64,
    /// The first of those.
    pub faults: Vec<Fault>,
}

/// Whether a shard is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its report and its results are there.
    Done(Report),
    /// There is no report, or one of other results or of another job.
    Open,
}

impl State {
    /// Of a shard whose results lie in `folder` under `stem`. With `verify` the results' checksum is taken; without, their size.
    pub fn of(folder: &Path, stem: &str, job: &str, verify: bool) -> Self {
        let report =
            fs::read(folder.join(report_name(stem))).ok().and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
        let Some(report) = report.filter(|report| report.job == job) else { return Self::Open };
        let results = folder.join(&report.output);
        let whole = match verify {
            true => checksum(&results).is_ok_and(|found| found == report.sha256),
            false => results.metadata().is_ok_and(|meta| meta.len() == report.bytes),
        };
        if whole { Self::Done(report) } else { Self::Open }
    }
}

fn report_name(stem: &str) -> String {
    format!("{stem}.report.json")
}

fn checksum(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hash)),
            read => hash.update(&buffer[..read]),
        }
    }
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The results of a shard on their way: one line per sample.
pub struct Output {
    folder: PathBuf,
    stem: String,
    aside: PathBuf,
    file: Option<BufWriter<File>>,
    hash: Sha256,
    report: Report,
}

impl Output {
    /// Begins the results of `shard` in `folder` under `stem`; `worker` is a name that no other worker has
    /// ([`crate::Claim::worker`]). What workers that were killed
    /// have left of this shard is removed, so it must be claimed.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn begin(folder: &Path, stem: &str, shard: &Path, job: &str, worker: &str) -> Result<Self, ShardError> {
        remove_leftovers(folder, stem);
        let aside = folder.join(format!(".{stem}.{worker}.part"));
        let file = File::create(&aside).map_err(ShardError::io(&aside, "create"))?;
        let report = Report {
            shard: shard.to_owned(),
            job: job.to_owned(),
            output: format!("{stem}.jsonl"),
            sha256: String::new(),
            bytes: 0,
            samples: 0,
            failed: 0,
            faults: Vec::new(),
        };
        let file = Some(BufWriter::with_capacity(1 << 18, file));
        Ok(Self { folder: folder.to_owned(), stem: stem.to_owned(), aside, file, hash: Sha256::new(), report })
    }

    /// Writes the line of a sample; the line's end is added.
    ///
    /// # Errors
    /// A disk that takes no more.
    pub fn sample(&mut self, line: &str) -> Result<(), ShardError> {
        for bytes in [line.as_bytes(), b"\n"] {
            if let Some(file) = &mut self.file {
                file.write_all(bytes).map_err(ShardError::io(&self.aside, "write"))?;
            }
            self.hash.update(bytes);
            self.report.bytes += bytes.len() as u64;
        }
        self.report.samples += 1;
        Ok(())
    }

    /// Counts a sample without results.
    pub fn failed(&mut self, fault: Fault) {
        self.report.failed += 1;
        if self.report.faults.len() < NAMED {
            self.report.faults.push(fault);
        }
    }

    /// Renames the results to their name, then writes the report: from then on the shard is done.
    ///
    /// # Errors
    /// A disk that takes no more.
    pub fn finish(mut self) -> Result<Report, ShardError> {
        if let Some(file) = self.file.take() {
            let file = file.into_inner().map_err(|e| ShardError::io(&self.aside, "write")(e.into_error()))?;
            file.sync_all().map_err(ShardError::io(&self.aside, "write"))?;
        }
        let mut report = self.report.clone();
        report.sha256 = hex(std::mem::take(&mut self.hash));
        let results = self.folder.join(&report.output);
        fs::rename(&self.aside, &results).map_err(ShardError::io(&results, "write"))?;
        // Written under the same name aside: it is free again.
        let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
        let path = self.folder.join(report_name(&self.stem));
        let mut file = File::create(&self.aside).map_err(ShardError::io(&self.aside, "create"))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(ShardError::io(&self.aside, "write"))?;
        fs::rename(&self.aside, &path).map_err(ShardError::io(&path, "write"))?;
        Ok(report)
    }
}

fn remove_leftovers(folder: &Path, stem: &str) {
    let begin = format!(".{stem}.");
    let is_left = |name: &str| name.strip_prefix(&begin).is_some_and(|rest| rest.ends_with(".part"));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_left) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Results that were given up; renamed ones are not there any more.
        let _ = fs::remove_file(&self.aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_done_when_its_report_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let begin = || Output::begin(folder, "in-0", Path::new("in-0.tar"), "job", "me").unwrap();
        let mut given_up = begin();
        given_up.sample("{}").unwrap();
        drop(given_up);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);

        fs::write(folder.join(".in-0.killed.part"), "half").unwrap();
        let mut output = begin();
        output.sample("{\"key\": 1}").unwrap();
        (0..150).for_each(|i| output.failed(Fault { key: i.to_string(), what: "no image".into() }));
        assert_eq!(State::of(folder, "in-0", "job", true), State::Open);
        let report = output.finish().unwrap();
        assert_eq!((report.samples, report.failed, report.faults.len(), report.bytes), (1, 150, 100, 11));
        assert_eq!(fs::read_to_string(folder.join("in-0.jsonl")).unwrap(), "{\"key\": 1}\n");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
        for verify in [false, true] {
            assert_eq!(State::of(folder, "in-0", "job", verify), State::Done(report.clone()));
            assert_eq!(State::of(folder, "in-0", "other", verify), State::Open);
        }
        fs::write(folder.join("in-0.jsonl"), "{\"key\": 2}\n").unwrap();
        assert_eq!(State::of(folder, "in-0", "job", true), State::Open);
        fs::write(folder.join("in-0.jsonl"), "short").unwrap();
        assert_eq!(State::of(folder, "in-0", "job", false), State::Open);
    }
}
