//! A table as text, Markdown, LaTeX or JSON.

use serde_json::{Map, Value, json};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns of equal width, for a terminal.
    Text,
    /// GitHub's tables.
    Markdown,
    /// `tabular` with `booktabs`.
    Latex,
    /// A list of records.
    Json,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A share, written in percent with two decimals; JSON keeps the share.
    Share(f64),
    /// A difference of shares, written in points with its sign.
    Points(f64),
    /// A whole number.
    Count(u64),
    /// Not known.
    None,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Share(value) => format!("{:.2}", 100.0 * value),
            // A difference in the tenth digit has no sign.
            Self::Points(value) => format!("{:+.2}", 100.0 * value).replace("-0.00", "+0.00"),
            Self::Count(count) => count.to_string(),
            Self::None => "-".into(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Share(value) | Self::Points(value) => json!(value),
            Self::Count(count) => json!(count),
            Self::None => Value::Null,
        }
    }
}

impl From<Option<f64>> for Cell {
    fn from(share: Option<f64>) -> Self {
        share.map_or(Self::None, Self::Share)
    }
}

/// A table: the first column holds names, the others figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Column heads.
    pub head: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Whether a column holds words alone, which begin at its left; figures end at its right.
    fn is_words(&self, column: usize) -> bool {
        column == 0 || (!self.rows.is_empty() && self.rows.iter().all(|row| matches!(row.get(column), Some(Cell::Text(_)))))
    }

    /// The table in a format, with a line end behind it.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Markdown => self.markdown(),
            Format::Latex => self.latex(),
            Format::Json => self.json().to_string() + "\n",
        }
    }

    fn text(&self) -> String {
        let cells = |row: &Vec<Cell>| row.iter().map(Cell::text).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = std::iter::once(self.head.clone()).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for row in &rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(width(column) - cell.chars().count());
                let gap = if column == 0 { "" } else { "  " };
                line += &if self.is_words(column) { format!("{gap}{cell}{pad}") } else { format!("{gap}{pad}{cell}") };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let escaped = |text: &str| text.replace('|', "\\|");
        let mut out = line(self.head.iter().map(|h| escaped(h)).collect());
        let rule = (0..self.head.len()).map(|i| if self.is_words(i) { "---" } else { "---:" }).collect::<Vec<_>>();
        out += &format!("|{}|\n", rule.join("|"));
        for row in &self.rows {
            out += &line(row.iter().map(|c| escaped(&c.text())).collect());
        }
        out
    }

    fn latex(&self) -> String {
        let escaped = |text: &str| {
            let mut out = String::new();
            for c in text.chars() {
                match c {
                    '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
                    '\\' => out.push_str("\\textbackslash{}"),
                    '~' => out.push_str("\\textasciitilde{}"),
                    '^' => out.push_str("\\textasciicircum{}"),
                    _ => out.push(c),
                }
            }
            out
        };
        let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
        let columns: String = (0..self.head.len()).map(|i| if self.is_words(i) { 'l' } else { 'r' }).collect();
        let mut out = format!("\\begin{{tabular}}{{{columns}}}\n\\toprule\n");
        out += &line(self.head.iter().map(|h| escaped(h)).collect());
        out += "\\midrule\n";
        for row in &self.rows {
            out += &line(row.iter().map(|c| escaped(&c.text())).collect());
        }
        out + "\\bottomrule\n\\end{tabular}\n"
    }

    /// A record per row, by the heads of the columns.
    #[must_use]
    pub fn json(&self) -> Value {
        let record = |row: &Vec<Cell>| -> Value {
            Value::Object(self.head.iter().cloned().zip(row.iter().map(Cell::json)).collect::<Map<_, _>>())
        };
        self.rows.iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_formats() {
        let mut table = Table::new(["run", "val_x"]);
        table.rows.push(vec![Cell::Text("a & b".into()), Cell::Share(0.71984)]);
        table.rows.push(vec![Cell::Text("c".into()), Cell::None]);
        table.rows.push(vec![Cell::Text("d".into()), Cell::Points(-0.0123)]);
        assert_eq!(table.render(Format::Text), "run    val_x\na & b  71.98\nc          -\nd      -1.23\n");
        assert_eq!(Cell::Points(-1e-9).text(), "+0.00");
        assert_eq!(Cell::Points(-0.1).text(), "-10.00");
        assert_eq!(table.render(Format::Markdown), "| run | val_x |\n|---|---:|\n| a & b | 71.98 |\n| c | - |\n| d | -1.23 |\n");
        let latex = table.render(Format::Latex);
        assert!(latex.starts_with("\\begin{tabular}{lr}\n\\toprule\nrun & val\\_x \\\\\n") && latex.contains("a \\& b & 71.98"));
        let mut words = Table::new(["a", "b"]);
        words.rows.push(vec![Cell::Text("x".into()), Cell::Text("yy".into())]);
        assert_eq!(words.render(Format::Markdown), "| a | b |\n|---|---|\n| x | yy |\n");
        assert_eq!(words.render(Format::Text), "a  b\nx  yy\n");
        let json: Value = serde_json::from_str(&table.render(Format::Json)).unwrap();
        assert_eq!(json[0]["val_x"], 0.71984);
        assert!(json[1]["val_x"].is_null());
    }
}
