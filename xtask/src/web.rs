//! `cargo xtask web`: the page without a server and the package `saymask-web`, from `web/`.

mod page;
mod toolchain;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::handover::target;
use crate::tidy::root;
use toolchain::Toolchain;

const HELP: &str = "\
Build the page without a server and the package saymask-web.

Usage: cargo xtask web [--model FOLDER] [--out FOLDER] [--no-model]

Options:
  --model FOLDER  Exported model to lay beside the page (`export FOLDER/model.safetensors` writes one); default: crates/models/small
  --no-model      None: people drop their own
  --out FOLDER    Where to: page/ and saymask-web/ in it are replaced; default: target/web
";

/// The model that is shipped, below the root.
const SHIPPED_MODEL: &str = "crates/models/small";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
struct Options {
    model: Option<PathBuf>,
    out: PathBuf,
}

/// Builds both; prints where they are.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let root = root()?;
    let options = parse(&words, &root, &target()?)?;
    let toolchain = Toolchain::find()?;
    let wasm = build(&root, &toolchain)?;
    let package = options.out.join("saymask-web");
    fresh(&package)?;
    bindgen(&root, &wasm, &package)?;
    for name in ["package.json", "node.js", "README.md"] {
        copy(&root.join("web/package").join(name), &package.join(name))?;
    }
    let page = options.out.join("page");
    fresh(&page)?;
    page::assemble(&root, &package, options.model.as_deref(), &page)?;
    println!("{}\n{}", package.display(), page.display());
    Ok(())
}

/// Whether a toolchain is here, for checks that are skipped without one; and the check itself.
pub(crate) fn check(root: &Path) -> Result<Option<bool>> {
    let Ok(toolchain) = Toolchain::find() else { return Ok(None) };
    let status = toolchain.cargo(root, "check")?.status().context("cargo could not be started")?;
    Ok(Some(status.success()))
}

/// Builds with the shipped model, and runs the tests in Node and Chromium against the program; skipped, in words, where the
/// toolchain, the model or node is missing.
pub(crate) fn test(root: &Path) -> Result<()> {
    let model = root.join(SHIPPED_MODEL);
    if let Err(error) = Toolchain::find() {
        eprintln!("skipped: the browser's build; {error}");
        return Ok(());
    }
    if !model.is_dir() {
        eprintln!("skipped: the browser's build; no model is shipped in {SHIPPED_MODEL}");
        return Ok(());
    }
    if !cfg!(unix) || Command::new("node").arg("--version").output().is_err() {
        eprintln!("skipped: the browser's build; its tests need node and sh");
        return Ok(());
    }
    run(&[])?;
    let build = ["build", "--quiet", "--package", "saymask"];
    let program = target()?.join("debug/saymask");
    let (mut cargo, mut tests) = (Command::new("cargo"), Command::new("sh"));
    cargo.args(build).current_dir(root);
    tests.arg(root.join("web/tests/run.sh")).args([&program, &model, &target()?.join("web")]);
    for command in [&mut cargo, &mut tests] {
        if !command.status().context("the browser's tests could not be started")?.success() {
            bail!("the browser's build: see above");
        }
    }
    Ok(())
}

fn parse(words: &[String], root: &Path, target: &Path) -> Result<Options> {
    let shipped = root.join(SHIPPED_MODEL);
    let mut options = Options { model: shipped.is_dir().then_some(shipped), out: target.join("web") };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut folder = || words.next().map(PathBuf::from).with_context(|| format!("web: {word} takes a folder"));
        match word.as_str() {
            "--model" => options.model = Some(folder()?),
            "--out" => options.out = folder()?,
            "--no-model" => options.model = None,
            other => bail!("web: no option {other:?}\n\n{HELP}"),
        }
    }
    Ok(options)
}

/// Compiles the crate; the path of the program.
fn build(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    eprintln!("web: compiling with {} ...", toolchain.name());
    let status = toolchain.cargo(root, "build")?.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("web: the crate does not compile for {}", toolchain::TARGET);
    }
    Ok(toolchain::target_folder()?.join(toolchain::TARGET).join(toolchain::PROFILE).join("saymask_web.wasm"))
}

/// The JavaScript and its declarations, by the version of wasm-bindgen that the crate was compiled with.
fn bindgen(root: &Path, wasm: &Path, package: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked", "--package", "web-bindgen", "--manifest-path"]).arg(root.join("web/Cargo.toml"));
    cargo.arg("--target-dir").arg(toolchain::target_folder()?).arg("--").args([wasm, package]);
    if !cargo.status().context("cargo could not be started")?.success() {
        bail!("web: wasm-bindgen failed on {}", wasm.display());
    }
    Ok(())
}

/// An empty folder in the place of what was there.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        parse(&words, Path::new("/nowhere"), Path::new("/target"))
    }

    #[test]
    fn options_are_read_and_refused() {
        assert_eq!(parsed(&[]).unwrap(), Options { model: None, out: "/target/web".into() });
        let got = parsed(&["--model", "m", "--out", "o"]).unwrap();
        assert_eq!(got, Options { model: Some("m".into()), out: "o".into() });
        assert!(parsed(&["--model"]).unwrap_err().to_string().contains("takes a folder"));
        assert!(parsed(&["--models"]).unwrap_err().to_string().contains("no option"));
    }
}
