//! The run's log: `log.jsonl`, one line per logged step and per evaluation.
//!
//! These lines hold nothing of the wall clock, so a run that was interrupted and resumed has the same bytes as one that was not.
//! Seconds and rates go to `timing.jsonl`, which is only ever added to.
//!
//! The order within a step that makes this hold: log the step, evaluate and log that, then [`RunLog::sync`], then save the
//! checkpoint. Resuming from the checkpoint at step N keeps the lines up to and with step N.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::finite::NotFinite;
use models::run_dir::RunDir;

/// A run log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// A line that is not a line of a run log.
    #[error(
        "{} line {line} is not a line of a run log: {reason}; delete it, or the file if the log is not needed",
        path.display()
    )]
    Line {
        /// The run log.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that has no JSON form.
    #[error("a line for {} cannot be written as JSON: {reason}", path.display())]
    Value {
        /// The run log.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { what, path, source }
}

/// A line of the run log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LogLine {
    /// A training step.
    Step(StepLine),
    /// An evaluation.
    Eval(EvalLine),
}

impl LogLine {
    /// Optimiser steps done when the line was written.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(line) => line.step,
            Self::Eval(line) => line.step,
        }
    }
}

/// A training step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Optimiser steps done, this one included.
    pub step: u64,
    /// Epoch of this step, from 0.
    pub epoch: u64,
    /// Loss; `null` in the file when it is not finite.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Learning rate.
    #[serde(deserialize_with = "null_is_nan")]
    pub lr: f64,
    /// Global L2 norm of the gradient before clipping.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Why the step was left out, if it was; such a step has its line whatever `train.log_every` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
    /// Images and masks that could not be read; other samples took their place. Such a step has its line, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// Terms of the loss and other values of the method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Option<f64>>,
}

/// A step that was left out because its loss or gradients were not finite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Steps left out since the run began, this one included.
    pub times: u64,
    /// Tensors that are not finite; absent where the loss alone is not, or only the norm over finite gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<NotFinite>,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    /// Optimiser steps done.
    pub step: u64,
    /// Epoch of the last step, from 0.
    pub epoch: u64,
    /// Split.
    pub split: String,
    /// Evaluation profile.
    pub profile: String,
    /// Expressions judged.
    pub samples: u64,
    /// Metrics from 0 to 1 by name: "miou", "oiou", "p@0.5", ...
    pub metrics: BTreeMap<String, f64>,
}

/// Wall-clock values of a logged step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimingLine {
    /// Optimiser steps done.
    pub step: u64,
    /// Seconds since this process began to train.
    pub seconds: f64,
    /// Training items a second since the last such line.
    pub items_per_second: f64,
    /// Share of that time spent waiting for data, 0 to 1.
    pub waiting: f64,
    /// Main memory that the process holds, in MB of 10^6 bytes, where the system tells it (Linux).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// An open run log.
#[derive(Debug)]
pub struct RunLog {
    log: (PathBuf, File),
    timing: (PathBuf, File),
}

/// What opening a run log for a resumed run found and cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Lines kept.
    pub kept: usize,
    /// Lines after the resumed step, dropped.
    pub dropped: usize,
    /// Whether the last line was torn, and dropped.
    pub torn: bool,
}

impl RunLog {
    /// Begins the run log of a new run.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system refuses.
    pub fn create(dir: &RunDir) -> Result<Self, LogError> {
        for path in [dir.log(), dir.timing()] {
            File::create(&path).map_err(io_error("create", &path))?;
        }
        Self::append(dir)
    }

    /// Continues the run log of a run that goes on from optimiser step `step`: drops a torn last line and all lines of later
    /// steps. A run log that is not there begins anew.
    ///
    /// # Errors
    /// [`LogError::Line`] when a line that is not the last one is damaged, [`LogError::Io`] when the system refuses.
    pub fn resume(dir: &RunDir, step: u64) -> Result<(Self, Cut), LogError> {
        let path = dir.log();
        let text = read_or_empty(&path)?;
        let (lines, torn) = parse(&path, &text)?;
        let kept = lines.iter().take_while(|(_, line)| line.step() <= step).count();
        let last = kept.checked_sub(1).and_then(|last| lines.get(last));
        let end = last.map_or(0, |(range, _)| range.end);
        truncate(&path, end as u64)?;
        let timing = dir.timing();
        let text = read_or_empty(&timing)?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        truncate(&timing, whole as u64)?;
        let cut = Cut { kept, dropped: lines.len() - kept, torn };
        Ok((Self::append(dir)?, cut))
    }

    fn append(dir: &RunDir) -> Result<Self, LogError> {
        let open = |path: PathBuf| {
            OpenOptions::new().create(true).append(true).open(&path).map_err(io_error("open", &path)).map(|file| (path, file))
        };
        Ok(Self { log: open(dir.log())?, timing: open(dir.timing())? })
    }

    /// Adds a training step.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system refuses.
    pub fn step(&mut self, line: StepLine) -> Result<(), LogError> {
        write_line(&mut self.log, &LogLine::Step(line))
    }

    /// Adds an evaluation.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system refuses.
    pub fn eval(&mut self, line: EvalLine) -> Result<(), LogError> {
        write_line(&mut self.log, &LogLine::Eval(line))
    }

    /// Adds wall-clock values.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system refuses.
    pub fn timing(&mut self, line: &TimingLine) -> Result<(), LogError> {
        write_line(&mut self.timing, line)
    }

    /// Makes all lines so far durable.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system refuses.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let (path, file) = &self.log;
        file.sync_data().map_err(io_error("sync", path))
    }
}

/// Main memory that this process holds, in MB of 10^6 bytes; none where `/proc` does not tell it.
#[must_use]
pub fn resident_mb() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Reads the lines of a run log; a torn last line is left out.
///
/// # Errors
/// [`LogError::Line`] when another line is damaged, [`LogError::Io`] when the file cannot be read.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>, LogError> {
    let text = fs::read(path).map_err(io_error("read", path))?;
    let (lines, _) = parse(path, &text)?;
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn read_or_empty(path: &Path) -> Result<Vec<u8>, LogError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(io_error("read", path)),
    }
}

fn truncate(path: &Path, length: u64) -> Result<(), LogError> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .and_then(|file| {
            file.set_len(length)?;
            file.sync_all()
        })
        .map_err(io_error("cut", path))
}

fn write_line<T: Serialize>((path, file): &mut (PathBuf, File), line: &T) -> Result<(), LogError> {
    let mut text =
        serde_json::to_string(line).map_err(|error| LogError::Value { path: path.clone(), reason: error.to_string() })?;
    text.push('\n');
    // One write a line: a kill between lines leaves whole lines.
    file.write_all(text.as_bytes()).map_err(io_error("write", path))
}

type Lines = Vec<(std::ops::Range<usize>, LogLine)>;

/// The whole lines with their places, and whether a torn one follows.
fn parse(path: &Path, text: &[u8]) -> Result<(Lines, bool), LogError> {
    let mut lines: Lines = Vec::new();
    let mut start = 0;
    for (index, piece) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        let range = start..start + piece.len();
        start = range.end;
        let last = range.end == text.len();
        if last && !piece.ends_with(b"\n") {
            return Ok((lines, true));
        }
        match serde_json::from_slice(piece) {
            Ok(line) => lines.push((range, line)),
            // A power cut can leave a block of zeros where the last line should be.
            Err(_) if last => return Ok((lines, true)),
            Err(error) => {
                return Err(LogError::Line { path: path.to_owned(), line: index + 1, reason: error.to_string() });
            }
        }
    }
    Ok((lines, false))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn step(step: u64) -> StepLine {
        let (loss, lr, grad_norm) = (1.0 / step as f64, 1e-4, 0.1 + 0.2);
        StepLine { step, epoch: step / 4, loss, lr, grad_norm, skipped: None, unreadable: Vec::new(), parts: BTreeMap::new() }
    }

    fn eval(step: u64) -> EvalLine {
        EvalLine {
            step,
            epoch: step / 4,
            split: "val".to_owned(),
            profile: "saymask".to_owned(),
            samples: 10,
            metrics: BTreeMap::from([("miou".to_owned(), step as f64 / 100.0)]),
        }
    }

    fn timing(step: u64) -> TimingLine {
        TimingLine { step, seconds: 1.5, items_per_second: 2.5, waiting: 0.0, memory_mb: Some(1.5) }
    }

    fn run(log: &mut RunLog, steps: std::ops::RangeInclusive<u64>) {
        for n in steps {
            log.step(step(n)).unwrap();
            log.timing(&timing(n)).unwrap();
            if n % 4 == 0 {
                log.eval(eval(n)).unwrap();
            }
        }
        log.sync().unwrap();
    }

    /// The run log of steps 1 to 12, never interrupted.
    fn whole() -> Vec<u8> {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        run(&mut RunLog::create(&dir).unwrap(), 1..=12);
        fs::read(dir.log()).unwrap()
    }

    #[test]
    fn a_resumed_log_equals_an_uninterrupted_one_wherever_it_was_cut() {
        let want = whole();
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        // From a checkpoint at step 4, killed after any byte written later.
        let at_4 = want
            .windows(8)
            .position(|w| w == b"\"step\":5")
            .map(|at| want[..at].iter().rposition(|&b| b == b'\n').unwrap() + 1)
            .unwrap();
        for cut in (at_4..=want.len()).rev().step_by(13) {
            fs::write(dir.log(), &want[..cut]).unwrap();
            let (mut log, found) = RunLog::resume(&dir, 4).unwrap();
            assert_eq!(found.kept, 5);
            assert_eq!(found.torn, want[cut - 1] != b'\n');
            run(&mut log, 5..=12);
            assert_eq!(fs::read(dir.log()).unwrap(), want, "cut after {cut} bytes");
        }
    }

    #[test]
    fn timing_is_kept_but_for_a_torn_line() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        run(&mut RunLog::create(&dir).unwrap(), 1..=3);
        let text = fs::read(dir.timing()).unwrap();
        fs::write(dir.timing(), [&text[..], b"{\"step\""].concat()).unwrap();
        let (_, cut) = RunLog::resume(&dir, 1).unwrap();
        assert_eq!(cut, Cut { kept: 1, dropped: 2, torn: false });
        assert_eq!(fs::read(dir.timing()).unwrap(), text);
    }

    #[test]
    fn a_missing_log_begins_anew() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        let (mut log, cut) = RunLog::resume(&dir, 4).unwrap();
        assert_eq!(cut, Cut { kept: 0, dropped: 0, torn: false });
        run(&mut log, 5..=6);
        assert_eq!(read_log(&dir.log()).unwrap().len(), 2);
    }

    #[test]
    fn lines_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        let mut log = RunLog::create(&dir).unwrap();
        let mut odd = step(1);
        odd.loss = f64::NAN;
        odd.parts.insert("bce".to_owned(), Some(0.5));
        log.step(odd).unwrap();
        log.eval(eval(1)).unwrap();
        let text = fs::read_to_string(dir.log()).unwrap();
        assert!(text.starts_with(r#"{"kind":"step","step":1,"epoch":0,"loss":null,"lr":0.0001,"#), "{text}");
        let lines = read_log(&dir.log()).unwrap();
        assert!(matches!(&lines[0], LogLine::Step(line) if line.loss.is_nan()));
        assert_eq!(lines[1], LogLine::Eval(eval(1)));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        run(&mut RunLog::create(&dir).unwrap(), 1..=3);
        let text = fs::read_to_string(dir.log()).unwrap().replacen("\"step\":2", "\"step\":x", 1);
        fs::write(dir.log(), &text).unwrap();
        let error = RunLog::resume(&dir, 3).unwrap_err().to_string();
        assert!(error.contains("log.jsonl line 2 is not a line of a run log"), "{error}");
        assert_eq!(fs::read_to_string(dir.log()).unwrap(), text, "nothing was cut");
    }
}
