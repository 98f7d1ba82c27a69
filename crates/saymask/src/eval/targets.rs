//! The splits that a call of `eval` is about, opened before anything is judged.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use refcoco_data::{Dataset, DatasetSpec, OwnFormat, SETS};
use run_config::RunConfig;

/// An open split.
pub(super) struct Target {
    pub(super) dataset: Arc<Dataset>,
}

impl Target {
    /// `refcoco (unc) val`.
    pub(super) fn name(&self) -> String {
        let Dataset { spec, split, .. } = &*self.dataset;
        format!("{} ({}) {split}", spec.name, spec.split_by)
    }
}

/// Opens every split of every set.
pub(super) fn open(run_config: &RunConfig, root: Option<&Path>, on: &[String], splits: &[String]) -> Result<Vec<Target>> {
    let named = names(splits);
    if named.is_empty() && !splits.is_empty() {
        bail!("--split: names no split; name one, such as --split val");
    }
    let mut targets = Vec::new();
    for (spec, usual) in specs(run_config, root, on)? {
        let splits = if named.is_empty() { &usual } else { &named };
        if splits.is_empty() {
            bail!("--split: the config names no split to judge; name one, such as --split val");
        }
        for split in splits {
            let dataset = Dataset::open(&spec, split)?.with_masks_read()?;
            dataset.warnings.iter().for_each(|warning| crate::note!("warning: {warning}"));
            targets.push(Target { dataset: Arc::new(dataset) });
        }
    }
    Ok(targets)
}

/// Words without the spaces around them, each once.
pub(super) fn names(words: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in words.iter().map(|w| w.trim()).filter(|w| !w.is_empty()) {
        if !out.iter().any(|known| known == word) {
            out.push(word.to_owned());
        }
    }
    out
}

/// The sets, each with the splits that it is judged on where none are named.
pub(super) fn specs(run_config: &RunConfig, root: Option<&Path>, on: &[String]) -> Result<Vec<(DatasetSpec, Vec<String>)>> {
    let data = &run_config.data;
    let root = root.unwrap_or(&data.root);
    let on = names(on);
    if on.is_empty() {
        let spec = DatasetSpec { root: root.into(), name: data.dataset.clone(), split_by: data.split_by.clone() };
        return Ok(vec![(spec, names(&data.val_splits))]);
    }
    let spec = |word: &String| {
        let (set, by) = word.split_once(':').map_or((word.as_str(), None), |(set, by)| (set, Some(by)));
        if !SETS.contains(&set) && OwnFormat::named(set).is_none() {
            bail!("--on {word}: unknown data set `{set}`: use one of {}, {}", SETS.join(", "), OwnFormat::names());
        }
        let mut spec = DatasetSpec::new(root, set);
        if let Some(by) = by {
            spec.split_by = by.to_owned();
        }
        let splits = published(set, &spec.split_by).iter().map(|s| (*s).to_owned()).collect();
        Ok((spec, splits))
    };
    on.iter().map(spec).collect()
}

/// The splits that tables of papers have columns for.
fn published(set: &str, by: &str) -> &'static [&'static str] {
    match (set, by) {
        ("refcocog", "google") => &["val"],
        ("refcocog", _) | ("refcoco", "google") | ("refclef", "berkeley") => &["val", "test"],
        ("refclef", _) => &["val", "testA", "testB", "testC"],
        ("phrasecut", _) => &["test"],
        (set, _) if OwnFormat::named(set).is_some() => &["val"],
        _ => &["val", "testA", "testB"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_columns_and_googles() {
        let run_config = RunConfig::from_toml_str("").unwrap();
        let words = ["refcoco", "refcoco+", " refcocog:umd ", "refcocog:google"].map(str::to_owned);
        let specs = specs(&run_config, Some(Path::new("x")), &words).unwrap();
        let columns: Vec<String> = specs
            .iter()
            .flat_map(|(s, splits)| splits.iter().map(move |split| format!("{} {} {split}", s.name, s.split_by)))
            .collect();
        assert_eq!(columns.len(), 9);
        assert_eq!(columns[6..], ["refcocog umd val", "refcocog umd test", "refcocog google val"]);
        assert!(super::specs(&run_config, None, &["refcocog+".to_owned()]).unwrap_err().to_string().contains("refcocog+"));
    }

    #[test]
    fn splits_are_trimmed_and_judged_once() {
        let words = ["val", " testA ", "", "val"].map(str::to_owned);
        assert_eq!(names(&words), ["val", "testA"]);
    }
}
