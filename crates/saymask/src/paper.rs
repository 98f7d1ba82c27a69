//! The figures of papers, from the headers of the configs that repeat their rows.

use std::path::{Path, PathBuf};

/// A row of a paper's table.
#[derive(Debug, Clone, PartialEq)]
pub struct PaperRow {
    /// `dit/table1/layer-wise.toml`.
    pub config: String,
    /// The header's figures, as written.
    pub words: String,
    /// Split and figure in percent, as far as the words give them.
    pub figures: Vec<(String, f64)>,
}

/// The row that a run repeats: its name is `PAPER-TABLE-ROW`, perhaps with a number behind it.
pub fn row(configs: &Path, run_name: &str, dataset: &str, split_by: &str) -> Option<PaperRow> {
    let path = path(configs, run_name)?;
    let words = figures_of_header(&std::fs::read_to_string(&path).ok()?)?;
    let figures = parse(&words, dataset, split_by);
    let config = path.strip_prefix(configs).unwrap_or(&path).display().to_string().replace('\\', "/");
    (!figures.is_empty()).then_some(PaperRow { config, words, figures })
}

fn path(configs: &Path, run_name: &str) -> Option<PathBuf> {
    let of = |name: &str| {
        let (paper, rest) = name.split_once('-')?;
        let (table, row) = rest.split_once('-')?;
        Some(configs.join(paper).join(table).join(format!("{row}.toml"))).filter(|p| p.is_file())
    };
    let without_number = || {
        let (front, number) = run_name.rsplit_once('-')?;
        number.chars().all(|c| c.is_ascii_digit()).then_some(front)
    };
    of(run_name).or_else(|| of(without_number()?))
}

/// What stands behind the first sentence of a config's header.
fn figures_of_header(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map_while(|l| l.strip_prefix('#')).take_while(|l| !l.trim().is_empty()).collect();
    let header = lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ");
    header.split_once(". ").map(|(_, figures)| figures.trim_end_matches('.').to_owned())
}

/// "oIoU 71.98 / 74.51 / 68.77", "cIoU testA 83.7", "IoU 65.48 / 66.60", "IoU 71.27 on RefCOCO val": the figures before the first
/// semicolon or sentence's end, brackets left out, by split.
fn parse(words: &str, dataset: &str, split_by: &str) -> Vec<(String, f64)> {
    let words = words.split(';').next().unwrap_or_default().split(". ").next().unwrap_or_default();
    let mut plain = String::new();
    let mut depth = 0;
    for c in words.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    if !plain.contains("IoU") {
        return Vec::new();
    }
    let plain = of_set(&plain, dataset);
    let numbers: Vec<f64> = plain
        .split(|c: char| c.is_whitespace() || c == '/')
        .filter(|w| w.contains('.'))
        .filter_map(|w| w.trim_matches([',', '.']).parse().ok())
        .collect();
    let columns: &[&str] = match (dataset, split_by) {
        ("refcocog", "google") => &["val"],
        ("refcocog", _) => &["val", "test"],
        ("phrasecut", _) => &["test"],
        _ => &["val", "testA", "testB"],
    };
    let alone = columns.iter().find(|split| plain.split_whitespace().any(|w| w == **split));
    match (numbers.as_slice(), alone) {
        ([figure], Some(split)) => vec![((*split).to_owned(), *figure)],
        (figures, None) if figures.len() == columns.len() => {
            columns.iter().map(|c| (*c).to_owned()).zip(figures.iter().copied()).collect()
        }
        _ => Vec::new(),
    }
}

/// Of "cIoU RefCOCO 81.7 / 83.6 / 80.3, RefCOCO+ 75.4 / 78.4 / 71.3, ..." the part that is about a data set; words that name one
/// set, or none, as they are.
fn of_set<'a>(words: &'a str, dataset: &str) -> &'a str {
    const NAMES: [(&str, &str); 4] =
        [("refcoco", "RefCOCO"), ("refcoco+", "RefCOCO+"), ("refcocog", "RefCOCOg"), ("ade20k", "ADE20K")];
    let named = |part: &&str, name: &str| part.split_whitespace().any(|word| word == name);
    let parts: Vec<&str> = words.split(", ").filter(|part| NAMES.iter().any(|(_, name)| named(part, name))).collect();
    let own = NAMES.iter().find(|(set, _)| *set == dataset);
    match (parts.as_slice(), own) {
        ([_, _, ..], Some((_, name))) => parts.into_iter().find(|part| named(part, name)).unwrap_or_default(),
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_split() {
        let of = |words: &str, set: &str, by: &str| {
            parse(words, set, by).iter().map(|(split, v)| format!("{split} {v}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(of("oIoU 71.98 / 74.51 / 68.77", "refcoco", "unc"), "val 71.98, testA 74.51, testB 68.77");
        assert_eq!(of("cIoU testA 67.9 (table 3 prints 68.9)", "refcoco", "unc"), "testA 67.9");
        assert_eq!(of("cIoU 67.4 / 68.9 (table 1: 67.9) / 64.4", "refcoco", "unc"), "val 67.4, testA 68.9, testB 64.4");
        assert_eq!(of("IoU 65.48 / 66.60", "refcocog", "umd"), "val 65.48, test 66.6");
        assert_eq!(of("IoU 64.78", "refcocog", "google"), "val 64.78");
        assert_eq!(of("IoU 61.83 on RefCOCO+ val", "refcoco+", "unc"), "val 61.83");
        assert_eq!(
            of("cIoU RefCOCO 82.1 / 83.7 / 80.0; judge the others with `eval --on`", "refcoco", "unc"),
            "val 82.1, testA 83.7, testB 80"
        );
        let line = "cIoU RefCOCO 81.7 / 83.6 / 80.3, RefCOCO+ 75.4 / 78.4 / 71.3, RefCOCOg 75.5 / 77.6, ADE20K val 75.9";
        assert_eq!(of(line, "refcoco", "unc"), "val 81.7, testA 83.6, testB 80.3");
        assert_eq!(of(line, "refcocog", "umd"), "val 75.5, test 77.6");
        assert_eq!(of(line, "ade20k", "challenge"), "val 75.9");
        assert_eq!(of("IoU 63.45 on RefCOCO+ val. The paper sends 2.0 of them", "refcoco+", "unc"), "val 63.45");
        assert_eq!(of("11.9 GB at batch 32", "refcoco", "unc"), "");
        assert_eq!(of("The figure is cut off in print (83.)", "refcoco", "unc"), "");
        assert_eq!(of("IoU 65.48", "refcoco", "unc"), "", "one figure for three columns says nothing");
    }

    #[test]
    fn a_run_is_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("dit/table1")).unwrap();
        let text = "# Table 1, \"Layer-wise DIT\". oIoU 71.98 / 74.51 /\n# 68.77.\n\n[run]\n";
        std::fs::write(folder.path().join("dit/table1/layer-wise.toml"), text).unwrap();
        for name in ["dit-table1-layer-wise", "dit-table1-layer-wise-3"] {
            let row = row(folder.path(), name, "refcoco", "unc").unwrap();
            assert_eq!((row.config.as_str(), row.figures.len()), ("dit/table1/layer-wise.toml", 3));
            assert_eq!(row.words, "oIoU 71.98 / 74.51 / 68.77");
        }
        assert_eq!(row(folder.path(), "demo", "refcoco", "unc"), None);
    }

    /// Every config of a table whose header has IoU figures gives them.
    #[test]
    fn the_configs_headers_are_read() {
        let configs = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
        let (mut read, mut silent) = (0, Vec::new());
        let folders = |path: &Path| std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
        let tables = folders(configs).into_iter().filter(|p| p.is_dir()).flat_map(|p| folders(&p)).filter(|p| p.is_dir());
        for path in tables.flat_map(|p| folders(&p)) {
            let words = figures_of_header(&std::fs::read_to_string(&path).unwrap()).unwrap_or_default();
            let config = run_config::RunConfig::from_path(&path).unwrap();
            let row = row(configs, &config.run.name, &config.data.dataset, &config.data.split_by);
            match row {
                Some(_) => read += 1,
                None if words.contains("IoU ") => silent.push(format!("{}: {words}", path.display())),
                None => {}
            }
        }
        assert!(read >= 60, "{read}");
        assert!(silent.is_empty(), "{silent:#?}");
    }
}
