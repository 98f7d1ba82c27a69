//! The page about protocols says what the protocols do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use referee::{Format, tables};

#[test]
fn the_page_holds_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/referee.md");
    let page = std::fs::read_to_string(path).unwrap();
    let table = tables::protocols().render(Format::Markdown);
    assert!(page.contains(&table), "docs/referee.md should hold this table:\n{table}");
}
