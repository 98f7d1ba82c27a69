//! The page's folder: the service's page with the engine in `web/page`, the package, a model, and the list that works offline.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::copy;

/// Puts the folder together.
pub(super) fn assemble(root: &Path, package: &Path, model: Option<&Path>, page: &Path) -> Result<()> {
    let scripts = page.join("page");
    let program = page.join("saymask-web");
    for folder in [&scripts, &program] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for (from, to) in
        [(root.join("crates/serve/src/page"), &scripts), (root.join("web/page"), &scripts), (package.to_owned(), &program)]
    {
        for path in files(&from)? {
            let name = path.file_name().context("a file without a name")?;
            if name != "index.html" && name != "sw.js" && name != "node.js" && name != "README.md" {
                copy(&path, &to.join(name))?;
            }
        }
    }
    let index = read(&root.join("crates/serve/src/page/index.html"))?;
    write(&page.join("index.html"), &with_engine(&index)?)?;
    if let Some(model) = model {
        lay_model(model, &page.join("model"))?;
    }
    let listed = below(page, page)?;
    let keeper = read(&root.join("web/page/sw.js"))?;
    write(&page.join("sw.js"), &format!("{}\n{keeper}", list(page, &listed)?))
}

/// The page's head with the name of the engine.
fn with_engine(index: &str) -> Result<String> {
    const BEFORE: &str = "<link rel=\"icon\"";
    if !index.contains(BEFORE) {
        bail!("index.html of the service has no {BEFORE:?} any more: the engine's name goes in front of it");
    }
    Ok(index.replacen(BEFORE, &format!("<meta name=\"saymask-engine\" content=\"page/wasm-engine.js\">\n{BEFORE}"), 1))
}

/// An exported model, with the list of its files that the worker reads.
fn lay_model(model: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let mut listed = Vec::new();
    for path in files(model)? {
        let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
        if name.ends_with(".md") || name == "index.json" {
            continue;
        }
        copy(&path, &to.join(&name))?;
        listed.push(format!("{{\"name\":{name:?},\"size\":{}}}", path.metadata()?.len()));
    }
    if !listed.iter().any(|line| line.contains(".safetensors")) {
        bail!("--model {}: no exported model lies there (`export FOLDER/model.safetensors` writes one)", model.display());
    }
    write(&to.join("index.json"), &format!("{{\"files\":[{}]}}\n", listed.join(",")))
}

/// What the service worker keeps: every file, and a version that changes with any of them.
fn list(page: &Path, names: &[String]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    let mut files = String::from("\"./\"");
    for name in names {
        name.hash(&mut hasher);
        std::fs::read(page.join(name)).with_context(|| name.clone())?.hash(&mut hasher);
        write!(files, ", {name:?}")?;
    }
    Ok(format!("const VERSION = \"{:016x}\";\nconst FILES = [{files}];", hasher.finish()))
}

/// Names of all files below a folder, with `/` between.
fn below(folder: &Path, page: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in sorted(folder)? {
        if entry.is_dir() {
            names.extend(below(&entry, page)?);
        } else {
            names.push(entry.strip_prefix(page)?.display().to_string().replace('\\', "/"));
        }
    }
    Ok(names)
}

/// The files of a folder, not of those in it.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(sorted(folder)?.into_iter().filter(|path| path.is_file()).collect())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::root;

    #[test]
    fn the_page_names_its_engine() {
        let index = read(&root().unwrap().join("crates/serve/src/page/index.html")).unwrap();
        assert!(with_engine(&index).unwrap().contains("content=\"page/wasm-engine.js\""));
        assert!(with_engine("<html>").is_err());
    }
}
