//! TensorBoard's event file of a run: loss and its terms, rate, gradient, and what was judged.
//!
//! A file of TFRecords (length, its masked CRC-32C, a protobuf `Event`, its masked CRC-32C) with scalars only.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use models::run_dir::write_whole;
use trainer::run_log::LogLine;

use super::read::Run;

/// Folder below the run.
const FOLDER: &str = "tensorboard";
/// TensorBoard looks for this beginning.
const NAME: &str = "events.out.tfevents.0.saymask";

/// Writes the run's event file, all of it anew; its path.
pub(super) fn write(run: &Run) -> Result<PathBuf> {
    let folder = run.dir.root().join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    let path = folder.join(NAME);
    write_whole(&path, &bytes(run))?;
    Ok(path)
}

fn bytes(run: &Run) -> Vec<u8> {
    let began = began(run);
    // Field 3: the file's version.
    let mut out = record(&[&double(1, began)[..], &text(3, "brain.Event:2")].concat());
    let seconds = |step: u64| {
        let at = run.timing.iter().take_while(|line| line.step < step).count();
        run.timing.get(at).or(run.timing.last()).map_or(0.0, |line| line.seconds)
    };
    for line in &run.log {
        let scalars: Vec<(String, f64)> = match line {
            LogLine::Step(line) => {
                let terms = line.parts.iter().filter_map(|(name, value)| Some((format!("train/{name}"), (*value)?)));
                let own = [("train/loss", line.loss), ("train/lr", line.lr), ("train/grad_norm", line.grad_norm)];
                own.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(terms).collect()
            }
            LogLine::Eval(line) => {
                line.metrics.iter().map(|(name, value)| (format!("{}/{}", line.split, name.replace('@', "_")), *value)).collect()
            }
        };
        let values: Vec<u8> = scalars.iter().filter(|(_, v)| v.is_finite()).flat_map(|(tag, v)| scalar(tag, *v as f32)).collect();
        let event = [double(1, began + seconds(line.step())), whole(2, line.step()), bytes_field(5, &values)].concat();
        out.extend(record(&event));
    }
    out
}

/// Seconds since 1970 at which the run began: when its config was written.
fn began(run: &Run) -> f64 {
    let time = run.dir.config_path().metadata().and_then(|m| m.modified()).ok();
    time.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |t| t.as_secs_f64())
}

/// Framed and summed.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), event, &masked(event).to_le_bytes()].concat()
}

/// TensorFlow's mask over a CRC-32C: turned by 15 bits, and a constant added.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: i32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn key(field: u64, kind: u64) -> Vec<u8> {
    varint(field << 3 | kind)
}

fn whole(field: u64, value: u64) -> Vec<u8> {
    [key(field, 0), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [key(field, 1), value.to_le_bytes().to_vec()].concat()
}

fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    [key(field, 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    bytes_field(field, value.as_bytes())
}

/// A value of a summary: its tag and a float.
fn scalar(tag: &str, value: f32) -> Vec<u8> {
    let value = [text(1, tag), key(2, 5), value.to_le_bytes().to_vec()].concat();
    bytes_field(1, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C (RFC 3720, B.4).
    #[test]
    fn sums_are_tensorflows() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn numbers_are_protobufs() {
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(whole(2, 1), [0x10, 0x01]);
        assert_eq!(scalar("a", 1.0), [0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]);
    }
}
