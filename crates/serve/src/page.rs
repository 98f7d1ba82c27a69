//! The page: static files, embedded.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::app::{Answered, text};
use crate::refusal::Refusal;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of each file.
pub(crate) const FILES: [(&str, &str, &str); 8] = [
    ("index.html", HTML, include_str!("page/index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("app.js", SCRIPT, include_str!("page/app.js")),
    ("engine.js", SCRIPT, include_str!("page/engine.js")),
    ("stage.js", SCRIPT, include_str!("page/stage.js")),
    ("masks.js", SCRIPT, include_str!("page/masks.js")),
    ("examples.js", SCRIPT, include_str!("page/examples.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

pub(crate) async fn index() -> Answered {
    content("index.html")
}

pub(crate) async fn file(Path(name): Path<String>) -> Answered {
    content(&name)
}

fn content(name: &str) -> Answered {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, content) = found.ok_or_else(|| Refusal::not_found("the page has no such file"))?;
    let mut response: Response = text(StatusCode::OK, kind, *content);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the whole page.
    const MOST: usize = 120_000;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        let size: usize = FILES.iter().map(|(.., content)| content.len()).sum();
        assert!(size <= MOST, "{size} bytes");
        for (name, _, content) in FILES {
            let outside = content.replace("http://www.w3.org/2000/svg", "").replace("http://localhost", "");
            assert!(!outside.contains("http://") && !outside.contains("https://"), "{name} names another server");
        }
    }

    /// Every file that another names is there.
    #[test]
    fn imports_are_there() {
        for (name, _, content) in FILES {
            for part in content.split("\"page/").skip(1).chain(content.split("from './").skip(1)) {
                let file: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
                assert!(FILES.iter().any(|(known, ..)| *known == file), "{name} names {file}");
            }
        }
    }
}
