//! `cargo xtask tidy`: formatting, clippy, rustdoc, packages, dependency rules, generated docs, file sizes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lines after which a source file should be cut.
const MAX_LINES: usize = 500;
/// Bytes after which a tracked file should not be in the repository.
const MAX_BYTES: u64 = 1 << 20;
/// The same for the weights of the small model.
const MAX_BYTES_OF_WEIGHTS: u64 = 8 << 20;
/// Where they lie.
const SHIPPED: &str = "crates/models/small";

/// Members that are never published.
const UNPUBLISHED: [&str; 5] = ["xtask", "tests", "saymask-bench", "saymask-python", "test-support"];

/// Runs every check and reports all that fail.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let mut faults = Vec::new();
    let mut package = vec!["package", "--workspace", "--no-verify", "--allow-dirty", "--quiet"];
    package.extend(UNPUBLISHED.iter().flat_map(|member| ["--exclude", member]));
    let mut lints = vec!["clippy", "--workspace", "--all-targets", "--quiet"];
    lints.extend(crate::test::mpi_features());
    lints.extend(["--", "--deny", "warnings"]);
    let checks: [(&str, &[&str]); 5] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("formatting of web", &["fmt", "--all", "--check", "--manifest-path", "web/Cargo.toml"]),
        ("lints", &lints),
        ("docs", &["doc", "--workspace", "--no-deps", "--quiet"]),
        ("packages", &package),
    ];
    for (name, args) in checks {
        eprintln!("{name} ...");
        if !cargo(&root, args)?.success() {
            faults.push(format!("{name}: see above"));
        }
    }
    if Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|o| o.status.success()) {
        eprintln!("dependencies ...");
        if !cargo(&root, &["deny", "--offline", "check", "bans", "licenses", "sources"])?.success() {
            faults.push("dependencies: see above (deny.toml)".into());
        }
    } else {
        eprintln!("skipped: dependency rules; cargo-deny is not installed (cargo install cargo-deny)");
    }
    eprintln!("the browser's build ...");
    match crate::web::check(&root)? {
        Some(true) => {}
        Some(false) => faults.push("the browser's build (web/): see above".into()),
        None => eprintln!("skipped: the browser's build; no toolchain for wasm32 (cargo xtask web says what is missing)"),
    }
    if let Err(error) = crate::docs::run(true) {
        faults.push(error.to_string());
    }
    for path in tracked(&root)? {
        let full = root.join(&path);
        let Ok(meta) = full.metadata() else { continue };
        let most = if path.starts_with(SHIPPED) { MAX_BYTES_OF_WEIGHTS } else { MAX_BYTES };
        if meta.len() > most {
            faults.push(format!("{}: {} bytes; files over {most} bytes do not belong here", path.display(), meta.len()));
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

fn cargo(root: &Path, args: &[&str]) -> Result<std::process::ExitStatus> {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root).env("RUSTDOCFLAGS", "--deny warnings");
    command.status().context("cargo could not be started")
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
