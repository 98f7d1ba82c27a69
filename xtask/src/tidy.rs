//! `cargo xtask tidy`: formatting, lints, docs, file sizes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lines after which a source file should be cut.
const MAX_LINES: usize = 500;
/// Bytes after which a tracked file should not be in the repository.
const MAX_BYTES: u64 = 1 << 20;

/// Runs every check and reports all that fail.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let mut faults = Vec::new();
    let checks: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
        ("docs", &["doc", "--workspace", "--no-deps"]),
    ];
    for (name, args) in checks {
        eprintln!("{name} ...");
        let mut command = Command::new("cargo");
        command.args(args).current_dir(&root);
        if name == "docs" {
            command.env("RUSTDOCFLAGS", "--deny warnings");
        }
        if !command.status().context("cargo could not be started")?.success() {
            faults.push(format!("{name}: see above"));
        }
    }
    for path in tracked(&root)? {
        let full = root.join(&path);
        let Ok(meta) = full.metadata() else { continue };
        if meta.len() > MAX_BYTES {
            faults.push(format!("{}: {} bytes; files over {MAX_BYTES} bytes do not belong here", path.display(), meta.len()));
        }
        if path.extension().is_some_and(|e| e == "rs") {
            let lines = std::fs::read_to_string(&full).map(|t| t.lines().count()).unwrap_or(0);
            if lines > MAX_LINES {
                faults.push(format!("{}: {lines} lines; cut it below {MAX_LINES}", path.display()));
            }
        }
    }
    if faults.is_empty() {
        println!("tidy");
        return Ok(());
    }
    bail!("not tidy:\n  {}", faults.join("\n  "))
}

/// The workspace's root folder.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("the workspace has no root")?.to_owned())
}

fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let out = Command::new("git").arg("ls-files").current_dir(root).output().context("git could not be started")?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().map(PathBuf::from).collect())
}
