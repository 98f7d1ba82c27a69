//! The names of YOLO's classes: `data.yaml`'s `names`, as a list or by number, or the lines of `classes.txt`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::DataError;

/// Files that may hold the names, the first one there counts.
pub(crate) const FILES: [&str; 5] = ["data.yaml", "data.yml", "dataset.yaml", "classes.txt", "labels/classes.txt"];

/// The file and its names by number.
pub(crate) fn read(root: &Path) -> Result<(PathBuf, BTreeMap<usize, String>), DataError> {
    let Some(path) = FILES.iter().map(|name| root.join(name)).find(|path| path.is_file()) else {
        let hint = format!("the names of classes; expected one of {}", FILES.join(", "));
        return Err(DataError::Missing { path: root.join(FILES[0]), what: "class file", hint });
    };
    let text = std::fs::read_to_string(&path).map_err(|e| DataError::io(&path, "read", e))?;
    let names = if path.extension().is_some_and(|e| e == "txt") {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).enumerate().collect()
    } else {
        of_yaml(&path, &text)?
    };
    match names.iter().find(|(_, name)| name.trim().is_empty()) {
        _ if names.is_empty() => Err(DataError::field(&path, "names", "at least one name of a class", "none")),
        Some((number, _)) => Err(DataError::field(&path, format!("names[{number}]"), "a name", "nothing")),
        None => Ok((path, names)),
    }
}

/// The value of `names` at the top of a YAML file: a list or a dictionary by number, over several lines or in brackets. The rest of
/// the file is not looked at.
fn of_yaml(path: &Path, text: &str) -> Result<BTreeMap<usize, String>, DataError> {
    let expected = "names: [cup, plate], or a line `- cup` or `0: cup` per class";
    let wrong = |field: String, found: &str| DataError::field(path, field, expected, format!("\"{}\"", found.trim()));
    let lines: Vec<&str> = text.lines().map(without_comment).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with("names:")) else {
        return Err(DataError::field(path, "names", expected, "nothing (the key is missing)"));
    };
    let first = lines[at]["names:".len()..].trim();
    let below = lines[at + 1..].iter().enumerate().map(|(i, line)| (at + 2 + i, *line));
    if let Some(open) = first.chars().next() {
        let close = match open {
            '[' => ']',
            '{' => '}',
            _ => return Err(wrong("names".into(), first)),
        };
        // Brackets may go over several lines.
        let whole =
            below.fold(first.to_owned(), |all, (_, line)| if all.ends_with(close) { all } else { all + " " + line.trim() });
        let inner = whole[1..].strip_suffix(close).ok_or_else(|| wrong("names".into(), &whole))?;
        let parts = split_outside_quotes(inner, ',').into_iter().filter(|part| !part.trim().is_empty()).enumerate();
        return parts.map(|(i, part)| entry(part, i, open == '{').ok_or_else(|| wrong(format!("names[{i}]"), part))).collect();
    }
    let mut out = BTreeMap::new();
    let block = below.filter(|(_, line)| !line.trim().is_empty()).take_while(|(_, line)| line.starts_with([' ', '\t', '-']));
    for (i, (number, line)) in block.enumerate() {
        let (part, keyed) = match line.trim().strip_prefix('-') {
            Some(item) => (item, false),
            None => (line.trim(), true),
        };
        let (class, name) = entry(part, i, keyed).ok_or_else(|| wrong(format!("line {number}"), line))?;
        out.insert(class, name);
    }
    Ok(out)
}

/// A class's number and name: `0: cup` where entries have keys, else the name alone.
fn entry(part: &str, place: usize, keyed: bool) -> Option<(usize, String)> {
    if !keyed {
        return Some((place, unquoted(part)?));
    }
    let (number, name) = part.split_once(':')?;
    Some((unquoted(number)?.parse().ok()?, unquoted(name)?))
}

fn unquoted(text: &str) -> Option<String> {
    let text = text.trim();
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = text[1..].strip_suffix(quote)?;
            Some(if quote == '\'' { inner.replace("''", "'") } else { inner.replace("\\\"", "\"") })
        }
        // Anchors, tags, block texts and nested values are another YAML than that of class names.
        Some('&' | '*' | '!' | '|' | '>' | '[' | '{') | None => None,
        Some(_) => Some(text.to_owned()),
    }
}

fn split_outside_quotes(text: &str, at: char) -> Vec<&str> {
    let (mut out, mut start, mut quote) = (Vec::new(), 0, None);
    for (i, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == at => {
                out.push(&text[start..i]);
                start = i + c.len_utf8();
            }
            None => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// A line without what follows a `#` that begins a comment.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return line[..i].trim_end(),
            None => {}
        }
        before = c;
    }
    line.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_spelling() {
        let read = |text: &str| of_yaml(Path::new("data.yaml"), text).map_err(|e| e.to_string());
        let want = BTreeMap::from([(0, "cup".to_owned()), (1, "side plate".to_owned())]);
        for text in [
            "path: ../x # where\nnames: [cup, 'side plate']\nnc: 2\n",
            "names:\n  - cup # white\n  - \"side plate\"\nnc: 2",
            "names:\n- cup\n- side plate\n",
            "train: a\nnames:\n  0: cup\n  1: side plate\n\ndownload: |\n  0: no\n",
            "names: {0: cup, 1: 'side plate'}",
            "names: [cup,\n  side plate]\nnc: 2",
        ] {
            assert_eq!(read(text).as_ref(), Ok(&want), "{text}");
        }
        for (text, word) in [
            ("nc: 2", "missing"),
            ("names: cup", "cup"),
            ("names:\n  a: cup", "line 2"),
            ("names: [cup, {a: b}]", "names[1]"),
            ("names:\n  0: *anchor", "line 2"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("data.yaml") && error.contains(word), "{text}: {error}");
        }
        assert_eq!(read("names:\n  0: don't\n").unwrap()[&0], "don't");
    }
}
