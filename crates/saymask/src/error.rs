//! Errors as one line for people.

use crate::origin::program;
use crate::weights::FILES;

/// An error with its causes, each said once: many of ours already repeat their cause.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    // A published file that is not here: say where it is to be had.
    let missing = FILES.iter().find(|file| text.contains(&format!("{}: No such file", file.path)));
    match missing {
        Some(file) => format!("{text}; it is published at {}: see `{} weights` and docs/weights.md", file.source, program()),
        None => text,
    }
}
