//! `cargo xtask docs`: the index of `configs/`, from the headers of its files.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tidy::root;

/// The index, relative to the repository.
const INDEX: &str = "configs/README.md";

/// A row that no file has, and why.
type Missing = (&'static str, &'static str);

/// Folder, paper, and the rows of its tables that no file has.
const PAPERS: [(&str, &str, &[Missing]); 3] =
    [("dit", "DIT, deep instruction tuning", &[]), ("evf", "EVF-SAM", &[]), ("risam", "RISAM", &[])];

/// A config's header: what it is, and the paper's figure.
#[derive(Debug, PartialEq)]
struct Header {
    what: String,
    figure: String,
}

/// Writes the index, or with `check` fails where it is not what it would be.
pub(crate) fn run(check: bool) -> Result<()> {
    let (path, text) = (root()?.join(INDEX), index()?);
    if !check {
        return std::fs::write(&path, text).with_context(|| path.display().to_string());
    }
    if std::fs::read_to_string(&path).unwrap_or_default() != text {
        bail!("{INDEX}: not up to date; run `cargo xtask docs`");
    }
    Ok(())
}

fn index() -> Result<String> {
    let mut out = String::from(
        "# Configs\n\nOne folder per paper, one folder per table, one file per row; a file says what differs from the one that it \
         `extends`. Every row builds at toy size, takes two steps and moves the parameters that its table says, in the tests \
         (`tests/tests/all/configs`). None was run on the real data yet. Written by `cargo xtask docs`.\n\n```\ncargo xtask train \
         --config configs/dit/base.toml\n```\n",
    );
    for (folder, paper, missing) in PAPERS {
        write!(out, "\n## {paper}\n\n| table | row | file | paper |\n|---|---|---|---|\n")?;
        for path in files(&root()?.join("configs").join(folder))? {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let Header { what, figure } = header(&text).with_context(|| format!("{}: begins with no comment", path.display()))?;
            let file = path.strip_prefix(root()?.join("configs"))?.display().to_string().replace('\\', "/");
            let (table, row) = table_and_row(&what);
            writeln!(out, "| {table} | {row} | [`{file}`]({file}) | {figure} |")?;
        }
        for (what, why) in missing {
            writeln!(out, "| {what} | | none | {why} |")?;
        }
    }
    Ok(out)
}

/// The configs of a folder: its own first, then those of its tables in the order of their numbers.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    let mut all = Vec::new();
    for path in list(folder)? {
        if path.is_dir() {
            all.extend(list(&path)?);
        } else {
            all.push(path);
        }
    }
    all.sort_by_key(|p| (p.parent() != Some(folder), p.parent().map_or(0, number)));
    Ok(all)
}

/// The number in a name such as `table10`.
fn number(path: &Path) -> u32 {
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    name.chars().filter(char::is_ascii_digit).take(2).collect::<String>().parse().unwrap_or(0)
}

/// The first paragraph of comments, cut where the figures begin.
fn header(text: &str) -> Option<Header> {
    let lines: Vec<&str> = text.lines().map_while(|l| l.strip_prefix('#')).take_while(|l| !l.trim().is_empty()).collect();
    let text = lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        return None;
    }
    let text = text.replace('|', "\\|");
    let (what, figure) = text.split_once(". ").unwrap_or((text.trim_end_matches('.'), ""));
    Some(Header { what: what.to_owned(), figure: figure.trim_end_matches('.').to_owned() })
}

/// "Table 3, BEiT-3" as its two columns.
fn table_and_row(what: &str) -> (&str, &str) {
    match what.split_once(", ") {
        Some((table, row)) if table.starts_with("Table") || table.starts_with("Figure") => (table, row),
        _ => ("", what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_row_and_its_figures() {
        let text = "# Table 3, CLIP, late. cIoU 67.4 / 68.9\n# (table 1: 67.9).\n\nextends = \"x.toml\"\n# not this\n";
        let got = header(text).unwrap();
        assert_eq!(got, Header { what: "Table 3, CLIP, late".into(), figure: "cIoU 67.4 / 68.9 (table 1: 67.9)".into() });
        assert_eq!(table_and_row(&got.what), ("Table 3", "CLIP, late"));
        assert_eq!(table_and_row("the base"), ("", "the base"));
        assert_eq!(header("[run]\n"), None);
    }

    #[test]
    fn tables_come_in_the_order_of_their_numbers() {
        assert!(number(Path::new("table2")) < number(Path::new("table10")));
        assert_eq!(number(Path::new("base.toml")), 0);
    }

    #[test]
    fn the_index_is_up_to_date() {
        run(true).unwrap();
    }
}
