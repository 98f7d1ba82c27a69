//! `hf:OWNER/REPO`: a model in the Hugging Face cache, downloaded first where the feature `hub` is built in.

use std::path::{Path, PathBuf};

use super::error::WeightsError;

/// What stands in front of a repository's name.
pub(super) const PREFIX: &str = "hf:";

/// The folder with the newest cached version of a repository: [`PretrainedFolder::find`](super::PretrainedFolder::find).
pub(super) fn folder(repository: &str) -> Result<PathBuf, WeightsError> {
    let fail = |what: String| WeightsError::Hub { repository: repository.to_owned(), what };
    let part =
        |s: &str| !s.is_empty() && !s.starts_with('.') && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let named = repository.split_once('/').filter(|(owner, name)| part(owner) && part(name));
    let Some((owner, name)) = named else {
        return Err(fail(format!("expected {PREFIX}OWNER/REPO, such as {PREFIX}YxZhang/evf-sam")));
    };
    let cache = cache().ok_or_else(|| fail("no Hugging Face cache: set HF_HOME".into()))?;
    let cached = cache.join(format!("models--{owner}--{name}"));
    if offline() || !cfg!(feature = "hub") {
        let hint = if offline() {
            "HF_HUB_OFFLINE forbids downloading it"
        } else {
            "download it with `huggingface-cli download`, or build with the feature `hub`"
        };
        return snapshot(&cached).map_err(|why| fail(format!("not in the Hugging Face cache ({why}); {hint}")));
    }
    download(repository, &cache).map_err(fail)?;
    snapshot(&cached).map_err(|why| fail(format!("the download left nothing usable: {why}")))
}

fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| !matches!(v.to_lowercase().as_str(), "" | "0" | "false" | "no" | "off"))
}

fn cache() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| home.join(".cache/huggingface/hub"));
    variable("HF_HUB_CACHE").or_else(|| variable("HF_HOME").map(|home| home.join("hub"))).or_else(home)
}

/// The version that `refs/main` names.
fn snapshot(cached: &Path) -> Result<PathBuf, String> {
    let main = cached.join("refs/main");
    let commit = std::fs::read_to_string(&main).map_err(|e| format!("{}: {e}", main.display()))?;
    let folder = cached.join("snapshots").join(commit.trim());
    if folder.is_dir() { Ok(folder) } else { Err(format!("{}: no such folder", folder.display())) }
}

/// Fetches what a model folder needs; files that a repository lacks are left out, and whoever reads the folder says so.
#[cfg(feature = "hub")]
fn download(repository: &str, cache: &Path) -> Result<(), String> {
    // Of the variables, the client itself follows HF_HOME and HF_ENDPOINT.
    let api = hf_hub::api::sync::ApiBuilder::from_env().with_cache_dir(cache.to_owned()).build().map_err(|e| e.to_string())?;
    let api = api.model(repository.to_owned());
    let there: Vec<String> = api.info().map_err(|e| e.to_string())?.siblings.into_iter().map(|f| f.rfilename).collect();
    let weights = ["model.safetensors", "pytorch_model.bin"].into_iter().find(|name| there.iter().any(|f| f == name));
    let small = ["config.json", "sentencepiece.bpe.model", "added_tokens.json", "vocab.txt", "merges.txt", "tokenizer.json"];
    for name in small.into_iter().filter(|name| there.iter().any(|f| f == name)).chain(weights) {
        api.get(name).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

#[cfg(not(feature = "hub"))]
fn download(_: &str, _: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        for wrong in ["", "evf-sam", "a/b/c", "../x", "a/..", "a/b c"] {
            assert!(folder(wrong).unwrap_err().to_string().contains("OWNER/REPO"), "{wrong}");
        }
    }

    #[test]
    fn the_newest_version_is_the_one_that_main_names() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--a--b");
        assert!(snapshot(&repository).is_err());
        for name in ["refs", "snapshots/old", "snapshots/new"] {
            std::fs::create_dir_all(repository.join(name)).unwrap();
        }
        std::fs::write(repository.join("refs/main"), "new\n").unwrap();
        assert_eq!(snapshot(&repository).unwrap(), repository.join("snapshots/new"));
        std::fs::write(repository.join("refs/main"), "gone").unwrap();
        assert!(snapshot(&repository).is_err());
    }
}
