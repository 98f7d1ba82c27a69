//! What a checkpoint says about itself: `manifest.json`.
//!
//! The manifest is the last file written and carries the size and SHA-256 of every other file and of itself, so a folder whose
//! manifest verifies is a whole checkpoint.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the manifest in a checkpoint's folder.
pub const MANIFEST: &str = "manifest.json";
/// Layout of checkpoint folders written by this version.
pub const FORMAT: u32 = 1;
/// Stands in the manifest's own hash while that is computed.
const UNSET: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a byte string, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Size and hash of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the contents, in hexadecimal.
    pub sha256: String,
}

impl FileRecord {
    /// Reads the whole file.
    ///
    /// # Errors
    /// The system's, when the file cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        let mut bytes = 0u64;
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hash.update(&buffer[..n]);
            bytes += n as u64;
        }
        Ok(Self { bytes, sha256: hex(&hash.finalize()) })
    }
}

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Metric compared: "miou" or "oiou".
    pub metric: String,
    /// Its value, as text so that it reads back to the last bit.
    #[serde(with = "exact")]
    pub value: f64,
    /// Step of the checkpoint that reached it.
    pub step: u64,
}

/// Steps that were left out because their loss or gradients were not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skips {
    /// Since the run began.
    pub all: u64,
    /// Since the last step that was taken.
    pub in_a_row: u64,
}

impl Skips {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a run stands: everything besides weights and optimiser that resuming needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Optimiser steps done.
    pub step: u64,
    /// Epoch of the next step, from 0.
    pub epoch: u64,
    /// The sampler's cursor, in its own words. Whole numbers and texts keep every bit.
    pub sampler: serde_json::Value,
    /// The random generators' states, in their own words. Whole numbers and texts keep every bit.
    pub rng: serde_json::Value,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Steps left out so far; not written while there are none.
    #[serde(default, skip_serializing_if = "Skips::is_none")]
    pub skips: Skips,
}

/// A checkpoint's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout, [`FORMAT`].
    pub format: u32,
    /// Version of this crate.
    pub version: String,
    /// Where the run stands.
    pub state: RunState,
    /// Hash of the run's config.
    pub config_sha256: String,
    /// The run's resolved config as TOML, so that a checkpoint can be used alone.
    pub config: String,
    /// Every other file of the checkpoint.
    pub files: BTreeMap<String, FileRecord>,
    /// SHA-256 of this file's text with zeros in this place.
    pub manifest_sha256: String,
}

impl Manifest {
    /// A manifest of this version.
    #[must_use]
    pub fn new(state: RunState, config: String, config_sha256: String, files: BTreeMap<String, FileRecord>) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            config_sha256,
            config,
            files,
            manifest_sha256: UNSET.to_owned(),
        }
    }

    /// The text of `manifest.json`, own hash included.
    ///
    /// # Errors
    /// A sentence, when the state cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, String> {
        let blank = Self { manifest_sha256: UNSET.to_owned(), ..self.clone() };
        let text = serde_json::to_string_pretty(&blank).map_err(|error| error.to_string())? + "\n";
        let own = sha256(text.as_bytes());
        // The field is the last one, so its zeros are the last ones in the text.
        match text.rfind(UNSET) {
            Some(at) => Ok(text[..at].to_owned() + &own + &text[at + UNSET.len()..]),
            None => Err("its own hash has no place".to_owned()),
        }
    }

    /// Reads the text of a `manifest.json` and checks its own hash.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let mut manifest: Self = serde_json::from_str(text).map_err(|error| format!("{MANIFEST}: {error}"))?;
        if manifest.format != FORMAT {
            return Err(format!("{MANIFEST}: format is {}; this version reads {FORMAT}", manifest.format));
        }
        let own = std::mem::replace(&mut manifest.manifest_sha256, UNSET.to_owned());
        let blank = match text.rfind(&own) {
            Some(at) if own.len() == UNSET.len() => text[..at].to_owned() + UNSET + &text[at + own.len()..],
            _ => String::new(),
        };
        if sha256(blank.as_bytes()) != own {
            return Err(format!("{MANIFEST}: its text does not have the SHA-256 it names"));
        }
        manifest.manifest_sha256 = own;
        Ok(manifest)
    }

    /// Reads the manifest in the folder `dir` and checks every file that it names.
    ///
    /// # Errors
    /// A sentence that says which file is wrong and how.
    pub fn verify(dir: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(dir.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))?;
        let manifest = Self::from_json(&text)?;
        for (name, want) in &manifest.files {
            let path = dir.join(name);
            let size = std::fs::metadata(&path).map_err(|error| format!("{name}: {error}"))?.len();
            if size != want.bytes {
                return Err(format!("{name}: has {size} bytes instead of {}", want.bytes));
            }
            let got = FileRecord::of(&path).map_err(|error| format!("{name}: {error}"))?;
            if got != *want {
                return Err(format!("{name}: does not have the SHA-256 in {MANIFEST}"));
            }
        }
        Ok(manifest)
    }
}

/// f64 as text: the shortest one that reads back to the same bits.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:?}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a number")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let files = [("model".to_owned(), FileRecord { bytes: 3, sha256: sha256(b"abc") })];
        Manifest::new(
            RunState {
                step: 3,
                epoch: 1,
                sampler: serde_json::json!({"epoch": 1, "at": 2}),
                rng: serde_json::json!([u64::MAX, 0]),
                best: Some(Best { metric: "miou".to_owned(), value: 0.1 + 0.2, step: 2 }),
                skips: Skips { all: 7, in_a_row: 1 },
            },
            "[run]\n".to_owned(),
            sha256(b"config"),
            files.into_iter().collect(),
        )
    }

    #[test]
    fn known_hash() {
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), want);
    }

    #[test]
    fn round_trip_keeps_every_bit() {
        let text = manifest().to_json().unwrap();
        let read = Manifest::from_json(&text).unwrap();
        assert_eq!(read.state, manifest().state);
        assert_eq!(read.to_json().unwrap(), text);
    }

    /// JSON readers may be off by a bit in a long number; the best value must not be.
    #[test]
    fn the_best_value_keeps_every_bit() {
        let mut manifest = manifest();
        let mut bits = 0x3fd5_5555_5555_5555u64;
        for _ in 0..500 {
            bits = bits.wrapping_add(0x0001_9e37_79b9_7f4b) & 0x3fff_ffff_ffff_ffff;
            let value = f64::from_bits(bits);
            if let Some(best) = &mut manifest.state.best {
                best.value = value;
            }
            let read = Manifest::from_json(&manifest.to_json().unwrap()).unwrap();
            assert_eq!(read.state.best.unwrap().value.to_bits(), bits, "{value:?}");
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let text = manifest().to_json().unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8_lossy(&bytes);
            assert!(Manifest::from_json(&changed).is_err(), "byte {at}");
            assert!(Manifest::from_json(&text[..at]).is_err(), "cut at {at}");
        }
    }

    /// As versions before it was counted wrote it.
    #[test]
    fn a_manifest_without_skips_reads_as_none() {
        let mut manifest = manifest();
        manifest.state.skips = Skips::default();
        let text = manifest.to_json().unwrap();
        assert!(!text.contains("skips"), "{text}");
        assert_eq!(Manifest::from_json(&text).unwrap().state.skips, Skips::default());
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let text = manifest().to_json().unwrap().replace("\"format\": 1", "\"format\": 9");
        assert!(Manifest::from_json(&text).unwrap_err().contains("format is 9"));
    }
}
