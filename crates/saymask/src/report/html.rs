//! One HTML page: no script, no network, readable on white and on dark.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const STYLE: &str = "
:root{color-scheme:light dark;--paper:#fafafc;--ink:#1c2128;--quiet:#6c7580;--line:#dde1e6;--card:#fff;--bar:#2f81f7;--soft:#2f81f722;
--good:#1f934d;--fair:#b87412;--bad:#cf3e3e}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e6e9ed;--quiet:#949eaa;--line:#2c323a;--card:#1b1f25;--good:#3fb46c;--fair:#d9962f;--bad:#ef6a6a}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 24px 64px}h1{font-size:28px;line-height:1.2;margin:0 0 4px}h2{font-size:19px;margin:44px 0 10px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:22px 0 8px}p{margin:6px 0}.quiet{color:var(--quiet)}.small{font-size:13px}code{font:13px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th{font-weight:600;color:var(--quiet);font-size:13px;text-align:right;padding:5px 14px 5px 0;border-bottom:1px solid var(--line)}
td{text-align:right;padding:5px 14px 5px 0;border-bottom:1px solid var(--line);white-space:nowrap}th:first-child,td:first-child{text-align:left;white-space:normal}th.left,td.left{text-align:left;white-space:normal;overflow-wrap:anywhere}
.scroll{overflow-x:auto}.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:8px 44px}
.bars td{padding:3px 12px 3px 0}.bar{display:block;position:relative;width:150px;height:14px;background:var(--soft);border-radius:3px}.bar i{position:absolute;left:0;top:0;bottom:0;background:var(--bar);border-radius:3px}
.bar b{position:absolute;top:6px;height:2px;background:var(--ink);opacity:.65}.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:16px}
.cards.wide{grid-template-columns:repeat(auto-fill,minmax(460px,1fr))}.card{background:var(--card);border:1px solid var(--line);border-radius:8px;overflow:hidden}.card .pair{display:flex}.card .pair figure{flex:1 1 0;min-width:0}
.card figure{margin:0}.card img{display:block;width:100%;background:#0003}.card figcaption{font-size:12px;color:var(--quiet);padding:3px 12px 0}.card p{padding:4px 12px 10px;margin:0;overflow-wrap:anywhere}
.big{display:flex;flex-wrap:wrap;gap:12px 44px;margin:22px 0 0}.big div span{display:block;color:var(--quiet);font-size:13px}.big div strong{font-size:30px;font-weight:600;line-height:1.15;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.fair{color:var(--fair)}.bad{color:var(--bad)}svg{max-width:100%;height:auto}.key i{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 14px;vertical-align:-1px}
";

/// A page that grows from the top.
pub(super) struct Html {
    title: String,
    body: String,
    drawings: usize,
}

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Html {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), body: String::new(), drawings: 0 }
    }

    /// Adds HTML as it is.
    pub(super) fn raw(&mut self, html: &str) {
        self.body.push_str(html);
        self.body.push('\n');
    }

    /// A heading of a section.
    pub(super) fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escaped(text));
    }

    /// A line of quiet text.
    pub(super) fn quiet(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"quiet small\">{}</p>", escaped(text));
    }

    /// A drawing. Names inside of it are made its own: a page may hold several.
    pub(super) fn svg(&mut self, svg: &str) {
        self.drawings += 1;
        let own = format!("d{}-panel", self.drawings);
        let svg = svg.replace("id=\"panel", &format!("id=\"{own}")).replace("url(#panel", &format!("url(#{own}"));
        self.raw(&svg);
    }

    /// A table of texts with a head.
    pub(super) fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        let cells = |tag: &str, row: &[String]| row.iter().map(|c| format!("<{tag}>{}</{tag}>", escaped(c))).collect::<String>();
        let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
        let head = cells("th", head);
        let _ = writeln!(self.body, "<div class=\"scroll\"><table><tr>{head}</tr>\n{rows}</table></div>");
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        let title = escaped(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title}</title><style>{STYLE}</style></head><body><main>\n{}</main></body></html>\n",
            self.body
        )
    }
}

/// An image inside of the page.
pub(super) fn picture(bytes: &[u8], kind: &str, alt: &str) -> String {
    format!("<img alt=\"{}\" src=\"data:image/{kind};base64,{}\">", escaped(alt), STANDARD.encode(bytes))
}

/// The class of an IoU: as in figures, good above 0.7 and bad below 0.5.
pub(super) fn grade(iou: f64) -> &'static str {
    match iou {
        v if v > 0.7 => "good",
        v if v >= 0.5 => "fair",
        _ => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays_text() {
        let mut html = Html::new("a <run> & \"more\"");
        html.table(&["<b>".into()], &[vec!["<script>".into()]]);
        html.svg("<clipPath id=\"panel0\"/><g clip-path=\"url(#panel0)\"/>");
        html.svg("<clipPath id=\"panel0\"/>");
        let text = html.finish();
        assert!(!text.contains("<script>") && !text.contains("<run>") && text.contains("&lt;script&gt;"));
        assert!(text.contains("id=\"d1-panel0\"") && text.contains("url(#d1-panel0)") && text.contains("id=\"d2-panel0\""));
    }
}
