//! `AnyModel::from_files`: a model from an exported folder whose files are in memory, told apart by their names.

use burn::tensor::Device;

use crate::{AnyModel, ModelError};

impl AnyModel {
    /// A model whose files are in memory, by name: one that ends in `.safetensors`, `saymask.toml` or `config.json` as `export`
    /// writes them (or a run's `config.toml`), and the tokenizer's. Folders in front of a name do not count.
    ///
    /// # Errors
    /// A file that is missing or there twice; else as [`AnyModel::from_bytes`].
    pub fn from_files(files: Vec<(String, Vec<u8>)>, device: &Device) -> Result<Self, ModelError> {
        let Sorted { config, weights, tokenizer } = sort(files)?;
        match config {
            Config::Json(text) => Self::from_exported(&text, &tokenizer, weights, device),
            Config::Toml(text) => Self::from_bytes(&text, &tokenizer, weights, device),
        }
    }
}

/// The text of a model's config.
#[derive(Debug, PartialEq)]
enum Config {
    Json(String),
    Toml(String),
}

#[derive(Debug, PartialEq)]
struct Sorted {
    config: Config,
    weights: Vec<u8>,
    tokenizer: Vec<(String, Vec<u8>)>,
}

fn sort(files: Vec<(String, Vec<u8>)>) -> Result<Sorted, ModelError> {
    let given = files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let wrong = |name: &str, what: &str| ModelError::File { path: name.into(), what: what.to_owned() };
    let missing = |name: &str| {
        let given = if given.is_empty() { "nothing" } else { &given };
        let what = format!("is missing: given {given}; a model is the folder that `export FOLDER/model.safetensors` writes");
        wrong(name, &what)
    };
    let (mut json, mut toml, mut weights, mut tokenizer) = (None, None, None, Vec::new());
    for (name, bytes) in files {
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let text = |bytes| String::from_utf8(bytes).map_err(|_| wrong(&name, "is no UTF-8 text"));
        if name == "config.json" {
            json = Some(Config::Json(text(bytes)?));
        } else if name == "saymask.toml" || name == "config.toml" {
            toml = Some(Config::Toml(text(bytes)?));
        } else if name.ends_with(".safetensors") {
            if weights.replace(bytes).is_some() {
                return Err(wrong(&name, &format!("is one of several files of weights: give one (given {given})")));
            }
        } else {
            tokenizer.push((name, bytes));
        }
    }
    let weights = weights.ok_or_else(|| missing("model.safetensors"))?;
    // The whole config says more than the model's alone.
    let config = toml.or(json).ok_or_else(|| missing("config.json"))?;
    Ok(Sorted { config, weights, tokenizer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> (String, Vec<u8>) {
        (name.to_owned(), name.as_bytes().to_vec())
    }

    fn refused(files: Vec<(String, Vec<u8>)>) -> String {
        sort(files).unwrap_err().to_string()
    }

    #[test]
    fn files_are_found_by_their_names() {
        let sorted = sort(vec![file("run/vocab.txt"), file("run/small.safetensors"), file("run\\config.json")]).unwrap();
        let config = Config::Json("run\\config.json".into());
        let tokenizer = vec![("vocab.txt".to_owned(), b"run/vocab.txt".to_vec())];
        assert_eq!(sorted, Sorted { config, weights: b"run/small.safetensors".to_vec(), tokenizer });
    }

    #[test]
    fn what_is_missing_or_there_twice_is_named() {
        assert!(refused(vec![file("a.safetensors")]).starts_with("config.json: is missing: given a.safetensors"));
        assert!(refused(Vec::new()).starts_with("model.safetensors: is missing: given nothing"));
        assert!(refused(vec![file("config.json"), file("a.safetensors"), file("b.safetensors")]).contains("give one"));
        assert!(refused(vec![("config.toml".into(), vec![0xff])]).contains("no UTF-8"));
    }

    #[test]
    fn a_config_without_a_tokenizer_says_which_files_would_be_right() {
        let config = ("config.json".to_owned(), br#"{"model_type":"saymask-risam"}"#.to_vec());
        let error = AnyModel::from_files(vec![config, file("a.safetensors")], &Device::flex()).err().unwrap().to_string();
        assert!(error.starts_with("config.json: "), "{error}");
    }
}
