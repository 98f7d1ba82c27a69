//! Walking a JSON file too large to hold: the records of its tables one by one, each with its place in the file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::{DataError, json};

/// Most bytes of one record: the mask of a 2^28 pixel image needs fewer.
const MOST: usize = 1 << 28;

/// A record of a table.
pub(crate) struct Record<'a> {
    /// Its number in the table.
    pub(crate) index: usize,
    /// Where it begins in the file.
    pub(crate) at: u64,
    /// Its text.
    pub(crate) bytes: &'a [u8],
}

/// Hands over the records of the named tables, which are lists in the file's one dictionary, in the order of the file. Everything
/// else is passed over. Returns which tables there were.
///
/// # Errors
/// A file that cannot be read, is cut short, or is no such dictionary; whatever `each` refuses.
pub(crate) fn records<const N: usize>(
    path: &Path,
    tables: [&str; N],
    mut each: impl FnMut(usize, Record<'_>) -> Result<(), DataError>,
) -> Result<[bool; N], DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, "read", e))?;
    let mut text = Scanner { path, reader: BufReader::with_capacity(1 << 20, file), at: 0, place: "(top level)".to_owned() };
    text.begin()?;
    let (mut found, mut bytes) = ([false; N], Vec::new());
    text.expect(b'{', "a dictionary with `images`, `annotations` and `categories`")?;
    if text.peek()? == b'}' {
        return Ok(found);
    }
    loop {
        bytes.clear();
        text.value(Some(&mut bytes))?;
        let key: String = serde_json::from_slice(&bytes).map_err(|_| text.wrong("a key in quotes"))?;
        text.expect(b':', "`:`")?;
        match tables.iter().position(|table| *table == key) {
            Some(table) => {
                found[table] = true;
                text.list(&key, &mut bytes, |record| each(table, record))?;
            }
            None => {
                text.place = format!("`{key}`");
                text.value(None)?;
            }
        }
        match text.peek()? {
            b',' => text.take(),
            b'}' => break,
            _ => return Err(text.wrong("`,` or `}`")),
        }
    }
    text.take();
    text.end()?;
    Ok(found)
}

struct Scanner<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    at: u64,
    /// What is being read, for messages.
    place: String,
}

impl Scanner<'_> {
    fn json(&self, reason: String) -> DataError {
        DataError::Json { path: self.path.into(), reason }
    }

    fn wrong(&self, expected: &str) -> DataError {
        self.json(format!("at byte {}, in {}: expected {expected}", self.at, self.place))
    }

    fn cut(&self) -> DataError {
        self.json(format!("the file is cut short: it ends after {} bytes, in {}", self.at, self.place))
    }

    fn fill(&mut self) -> Result<&[u8], DataError> {
        self.reader.fill_buf().map_err(|e| DataError::io(self.path, "read", e))
    }

    /// Refuses files that are plainly something else, and passes over a byte order mark.
    fn begin(&mut self) -> Result<(), DataError> {
        let start = self.fill()?;
        let other = json::other_kind(start);
        let mark = start.starts_with(&[0xEF, 0xBB, 0xBF]);
        if let Some(what) = other {
            return Err(self.json(what.to_owned()));
        }
        if mark {
            self.skip(3);
        }
        Ok(())
    }

    fn skip(&mut self, count: usize) {
        self.reader.consume(count);
        self.at += count as u64;
    }

    fn take(&mut self) {
        self.skip(1);
    }

    /// The next byte that is no blank, if there is one.
    fn next(&mut self) -> Result<Option<u8>, DataError> {
        loop {
            let buffer = self.fill()?;
            let blanks = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let (next, empty) = (buffer.get(blanks).copied(), buffer.is_empty());
            self.skip(blanks);
            if next.is_some() || empty {
                return Ok(next);
            }
        }
    }

    fn peek(&mut self) -> Result<u8, DataError> {
        self.next()?.ok_or_else(|| self.cut())
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), DataError> {
        if self.peek()? != byte {
            return Err(self.wrong(what));
        }
        self.take();
        Ok(())
    }

    fn end(&mut self) -> Result<(), DataError> {
        match self.next()? {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the file")),
        }
    }

    /// The records of a list.
    fn list(
        &mut self,
        table: &str,
        bytes: &mut Vec<u8>,
        mut each: impl FnMut(Record<'_>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        self.place = format!("`{table}`");
        self.expect(b'[', "a list")?;
        if self.peek()? == b']' {
            self.take();
            return Ok(());
        }
        for index in 0.. {
            self.place = format!("`{table}[{index}]`");
            self.peek()?;
            let at = self.at;
            bytes.clear();
            self.value(Some(bytes))?;
            each(Record { index, at, bytes })?;
            match self.peek()? {
                b',' => self.take(),
                b']' => break,
                _ => return Err(self.wrong("`,` or `]`")),
            }
        }
        self.take();
        Ok(())
    }

    /// One value, brackets and quotes counted; what is in it is not looked at.
    fn value(&mut self, mut keep: Option<&mut Vec<u8>>) -> Result<(), DataError> {
        self.peek()?;
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        loop {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                return Err(self.cut());
            }
            let mut end = None;
            for (i, &byte) in buffer.iter().enumerate() {
                if quoted {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => quoted = false,
                        _ => {}
                    }
                    if !quoted && depth == 0 {
                        end = Some(i + 1);
                        break;
                    }
                    continue;
                }
                match byte {
                    b'"' => quoted = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth > 1 => depth -= 1,
                    b'}' | b']' => end = Some(i + depth),
                    b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => end = Some(i),
                    _ => {}
                }
                if end.is_some() {
                    break;
                }
            }
            let count = end.unwrap_or(buffer.len());
            if let Some(bytes) = &mut keep {
                bytes.extend_from_slice(&buffer[..count]);
                if bytes.len() > MOST {
                    return Err(self.wrong(&format!("a record of at most {MOST} bytes")));
                }
            }
            self.skip(count);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table, number and text of a record.
    type Row = (usize, usize, String);

    fn walk(text: &str) -> Result<(Vec<Row>, [bool; 2]), String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        let mut rows = Vec::new();
        let found = records(&path, ["a", "b"], |table, record| {
            let (at, end) = (record.at as usize, record.at as usize + record.bytes.len());
            assert_eq!(&text.as_bytes()[at..end], record.bytes);
            rows.push((table, record.index, String::from_utf8(record.bytes.to_vec()).unwrap()));
            Ok(())
        });
        found.map(|found| (rows, found)).map_err(|e| e.to_string())
    }

    #[test]
    fn records_come_with_their_places() {
        let text = r#" {"x": [1, {"a": [9]}], "b" : [ {"k": "]} \" \\"} , 12,"s",[ ] ],
            "y": null, "z":-1.5e3, "a": [{"n": {"m": [1, 2]}}], "w": []} "#;
        let (rows, found) = walk(text).unwrap();
        let got: Vec<_> = rows.iter().map(|(t, i, s)| (*t, *i, s.as_str())).collect();
        assert_eq!(
            got,
            [(1, 0, r#"{"k": "]} \" \\"}"#), (1, 1, "12"), (1, 2, r#""s""#), (1, 3, "[ ]"), (0, 0, r#"{"n": {"m": [1, 2]}}"#)]
        );
        assert_eq!(found, [true, true]);
        assert_eq!(walk("\u{feff}{}").unwrap(), (vec![], [false; 2]));
    }

    #[test]
    fn every_cut_is_named() {
        let text = r#"{"x": {"q": "a,b"}, "a": [{"k": 1}, {"k": [2, 3]}]}"#;
        for end in 1..text.len() {
            let error = walk(&text[..end]).unwrap_err();
            assert!(error.contains("cut short"), "{end}: {error}");
        }
        let error = walk(r#"{"a": [{"k": 1}, {"k": ["#).unwrap_err();
        assert!(error.contains("in `a[1]`"), "{error}");
    }

    #[test]
    fn other_shapes_are_named() {
        for (text, part) in [
            ("[1]", "a dictionary with"),
            (r#"{"a": {}}"#, "expected a list"),
            (r#"{a: 1}"#, "a key in quotes"),
            (r#"{"a" 1}"#, "expected `:`"),
            (r#"{"x": 1 "a": 2}"#, "`,` or `}`"),
            (r#"{"a": [1 2]}"#, "`,` or `]`"),
            (r#"{"a": []} more"#, "the end of the file"),
            ("<html>", "HTML"),
            ("", "empty"),
        ] {
            let error = walk(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
