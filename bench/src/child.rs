//! A case in a process of its own, whose memory is the case's.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// This program's `bench` commands.
pub(crate) fn this(bench: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
    command.arg(bench);
    Ok(command)
}

/// Runs a program that reads `input` and prints figures as its last line.
///
/// # Errors
/// A program that cannot be started, fails (with the last line that it said) or prints something else.
pub(crate) fn figures<T: DeserializeOwned>(command: &mut Command, input: &str) -> Result<T> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{program} could not be started"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ended without reading says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let out = child.wait_with_output().with_context(|| program.clone())?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let last = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing").trim_start_matches("error: ");
        bail!("{last} ({})", out.status);
    }
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("{program} printed no figures: {text}"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_last_line_and_errors_the_last_thing_said() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            figures::<Vec<f64>>(&mut command, "[1, 2]").map_err(|e| format!("{e:#}"))
        };
        assert_eq!(shell("echo compiled; cat").unwrap(), [1.0, 2.0]);
        let error = shell("echo first >&2; echo 'error: no torch' >&2; echo >&2; exit 3").unwrap_err();
        assert!(error.starts_with("no torch (") && error.contains('3'), "{error}");
        assert!(shell("echo hello").unwrap_err().contains("hello"));
        let missing = figures::<u8>(&mut Command::new("/no/such/python"), "").unwrap_err();
        assert!(format!("{missing:#}").contains("/no/such/python"), "{missing:#}");
    }
}
